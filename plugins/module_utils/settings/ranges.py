# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Least and greatest value of every setting that is a number, or a list of numbers; a test holds that none is missing.

A bound is where the program that gets the value refuses it, or where it can only be a slip; it is no advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PORT = (1, 65535)
#: Bounds that many settings share: seconds of a wait, of a day at most; a count; an amount of memory in GiB; bytes.
_SECONDS, _WAIT = (0, 86400), (1, 86400)
_COUNT, _SOME = (0, 100_000), (1, 100_000)
_GIB, _BYTES = (0, 100_000), (0, 2**50)

#: Least and greatest value, both of them allowed.
RANGES: dict[str, tuple[float, float]] = {
    "spark_api_port": _PORT,
    "spark_gpus_per_node": (1, 64),
    "chat_ui_port": _PORT,
    # The page alone takes about 800 MiB (docs/chat.md).
    "chat_ui_memory_mib": (1024, 2**20),
    "cluster_restart_timeout": _WAIT,
    "fabric_prefix": (8, 30),
    # IPv6 asks for 1280; the kernel's driver of a ConnectX-7 takes 9978.
    "fabric_mtu": (1280, 9978),
    "fabric_accept_gbits": (1, 800),
    "fabric_confirm_seconds": (10, 3600),
    "gateway_server_port": _PORT,
    "gateway_max_requests": _SOME,
    "gateway_max_connections": (1, 1_000_000),
    "gateway_max_connections_each": (1, 1_000_000),
    # HAProxy compares the length of a body in 32 bits, and the gateway lets lengths of nine digits through to that.
    "gateway_max_body_mib": (1, 953),
    "gateway_max_header_kib": (1, 1024),
    "gateway_client_timeout": _WAIT,
    "gateway_hold_seconds": _SECONDS,
    "gateway_retry_after": _WAIT,
    "model_download_max_workers": (1, 64),
    "model_download_poll_s": (1, 3600),
    "model_share_nfs_threads": (1, 1024),
    # As the kernel takes them (fs/nfsd/nfsctl.c): 10 to 3600.
    "model_share_nfs_grace_seconds": (10, 3600),
    "model_share_nfs_read_ahead_kib": (0, 2**20),
    "model_share_port": _PORT,
    "model_share_streams": (1, 64),
    "monitoring_exporter_port": _PORT,
    "monitoring_prometheus_port": _PORT,
    "monitoring_gateway_port": _PORT,
    "monitoring_interval_seconds": (5, 3600),
    "monitoring_retention_days": (1, 3650),
    "monitoring_retention_gib": (1, 100_000),
    "monitoring_memory_mib": (128, 2**20),
    "monitoring_reserve_gib": _GIB,
    "node_diagnosis_journal_lines": (0, 1_000_000),
    "node_guard_journal_days": (0, 3650),
    "node_guard_journal_gib": _GIB,
    "node_guard_min_available_gib": _GIB,
    "node_guard_min_free_mib": (0, 2**20),
    "node_guard_watchdog_seconds": (0, 3600),
    "node_report_min_available_gib": _GIB,
    "node_report_min_memory_gib": _GIB,
    "node_report_image_gib": _GIB,
    "packet_filter_open_ports": _PORT,
    "packet_filter_confirm_seconds": (10, 3600),
    "port_scan_seconds": (0.05, 60),
    "ray_head_port": _PORT,
    "ray_head_dashboard_port": _PORT,
    "ray_head_gpus": (0, 64),
    "ray_head_cpus": (1, 4096),
    # Ray refuses a store of less than 75 MiB (ray/_private/ray_constants.py, OBJECT_STORE_MINIMUM_MEMORY_BYTES).
    "ray_head_object_store_bytes": (78_643_200, 2**50),
    "ray_worker_head_port": _PORT,
    "ray_worker_gpus": (0, 64),
    "ray_worker_cpus": (1, 4096),
    "ray_worker_object_store_bytes": (78_643_200, 2**50),
    "ray_worker_min_available_gib": _GIB,
    "ray_worker_memory_share": (0, 1),
    "runtime_check_seconds": _WAIT,
    "serving_image_share_port": _PORT,
    "vllm_benchmark_concurrency": (1, 10_000),
    "vllm_benchmark_prompt_tokens": (1, 10_000_000),
    "vllm_benchmark_output_tokens": (1, 10_000_000),
    "vllm_benchmark_requests": _COUNT,
    "vllm_benchmark_timeout": _WAIT,
    "vllm_benchmark_source_gib_s": (0, 10_000),
    "vllm_graphs_nodes": _SOME,
    "vllm_graphs_soak_seconds": (0.1, 86400),
    "vllm_graphs_soak_concurrency": (1, 10_000),
    "vllm_graphs_soak_tokens": (1, 10_000_000),
    "vllm_graphs_stall_seconds": (0.1, 86400),
    "vllm_plan_weights_bytes": _BYTES,
    "vllm_plan_memory_gib": _GIB,
    "vllm_plan_memory_bandwidth_gb_s": (1, 1_000_000),
    "vllm_plan_allreduce_us": (0, 1_000_000),
    "vllm_plan_host_gib": _GIB,
    "vllm_plan_min_headroom_gib": _GIB,
    "vllm_plan_cpu_kv_gib": _GIB,
    "vllm_plan_contexts": (1, 100_000_000),
    "vllm_serve_port": _PORT,
    "vllm_serve_pipeline_parallel_size": (1, 1024),
    "vllm_serve_tensor_parallel_size": (1, 1024),
    "vllm_serve_master_port": _PORT,
    "vllm_serve_watch_port": _PORT,
    # As the planner takes it too.
    "vllm_serve_gpu_memory_utilization": (0.1, 0.98),
    "vllm_serve_max_num_seqs": _COUNT,
    "vllm_serve_max_num_batched_tokens": (0, 100_000_000),
    "vllm_serve_kv_cache_memory_bytes": _BYTES,
    "vllm_serve_load_available_gib": _GIB,
    "vllm_serve_cpu_offload_gib": _GIB,
    "vllm_serve_drain_timeout": _SECONDS,
    "vllm_serve_ray_gpus": (0, 1024),
    "vllm_serve_min_available_gib": _GIB,
    "vllm_serve_start_timeout": _WAIT,
    "vllm_serve_trial_timeout": _WAIT,
    "vllm_serve_start_limit": (1, 1000),
    "vllm_verify_timeout": _WAIT,
    "vllm_verify_request_timeout": _WAIT,
    "vllm_verify_max_tokens": (1, 10_000_000),
    "vllm_watchdog_port": _PORT,
    "vllm_watchdog_hung_after": (1, 3600),
    "vllm_watchdog_probe_every": (1, 3600),
    "vllm_watchdog_leave_after": (1, 3600),
    "vllm_worker_watch_port": _PORT,
    "vllm_worker_min_available_gib": _GIB,
    "vllm_worker_memory_share": (0, 1),
    "vllm_worker_start_timeout": _WAIT,
    "vllm_worker_start_limit": (1, 1000),
}
#: What is to be said behind the bounds.
_HINTS = {"vllm_serve_gpu_memory_utilization": "it is a part of the memory, 0.75 for three quarters"}


def number_problems(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and sentence of each setting of a host that is out of its range; values are of their type already."""
    problems = []
    for name, (least, most) in RANGES.items():
        given = values.get(name)
        for value in given if isinstance(given, (list, tuple)) else [given]:
            # Written so that nan, which is greater and less than nothing, is out of every range.
            if value is not None and not least <= float(value) <= most:
                holds = "holds" if isinstance(given, (list, tuple)) else "is"
                wanted = f"at most {most:.12g}" if float(value) > most else f"at least {least:.12g}"
                if name in _HINTS:
                    wanted = f"{least:.12g} to {most:.12g}"
                hint = _HINTS.get(name, "correct it where you set it")
                problems.append((name, f"{holds} {value}, expected {wanted}: {hint}"))
    return problems
