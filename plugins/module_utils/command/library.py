# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the programs on a node consist of: module node_tools installs it there, with the same package paths.

Everything that one of them imports must be in the list, with the rooms that it lies in (tests/unit/plugins/module_utils/test_rooms.py).
"""

from __future__ import annotations

from types import ModuleType

from .. import benchmark, docker, fabric, gateway, gpu, hub, nfs, node, peer, ray, report, service, system, vllm
from ..benchmark import result as benchmark_result
from ..docker import cli as docker_cli
from ..docker import image_digest as docker_image_digest
from ..docker import service as docker_service
from ..docker import service_snapshot as docker_service_snapshot
from ..docker import service_state as docker_service_state
from ..docker import service_unit as docker_service_unit
from ..fabric import environment as fabric_environment
from ..fabric import host as fabric_host
from ..fabric import link as fabric_link
from ..gateway import keys as gateway_keys
from ..gpu import runtime as gpu_runtime
from ..hub import client as hub_client
from ..hub import fetch as hub_fetch
from ..hub import judge as hub_judge
from ..hub import parts as hub_parts
from ..hub import progress as hub_progress
from ..hub import queue as hub_queue
from ..hub import reuse as hub_reuse
from ..hub import served as hub_served
from ..hub import snapshot as hub_snapshot
from ..hub import store as hub_store
from ..nfs import share as nfs_share
from ..node import bundle as node_bundle
from ..node import diagnosis as node_diagnosis
from ..node import guard as node_guard
from ..node import packages as node_packages
from ..node import requirements as node_requirements
from ..node import run_lock as node_run_lock
from ..peer import share as peer_share
from ..ray import cluster as ray_cluster
from ..report import finding as report_finding
from ..report import report as report_report
from ..report import status as report_status
from ..service import budget as service_budget
from ..service import chat_start as service_chat_start
from ..service import evidence as service_evidence
from ..service import follower as service_follower
from ..service import freeze as service_freeze
from ..service import gates as service_gates
from ..service import metrics as service_metrics
from ..service import node_state as service_node_state
from ..service import observer as service_observer
from ..service import pulse as service_pulse
from ..service import rank_watch as service_rank_watch
from ..service import restart_plan as service_restart_plan
from ..service import token_rate as service_token_rate
from ..service import unit_logs as service_unit_logs
from ..service import unit_states as service_unit_states
from ..service import verdict as service_verdict
from ..service import watchdog as service_watchdog
from ..service import watchdog_report as service_watchdog_report
from ..system import files as system_files
from ..system import http_json as system_http_json
from ..system import kernel_log as system_kernel_log
from ..system import notify as system_notify
from ..system import page_cache as system_page_cache
from ..system import progress as system_progress
from ..system import redact as system_redact
from ..system import run as system_run
from ..system import systemd_unit as system_systemd_unit
from ..system import units as system_units
from ..vllm import health as vllm_health
from ..vllm import load_strategy as vllm_load_strategy
from ..vllm import ray_sigterm as vllm_ray_sigterm
from ..vllm import serving as vllm_serving
from ..vllm import start_causes as vllm_start_causes
from ..vllm import startup_phases as vllm_startup_phases
from . import benchmark as command_benchmark
from . import cluster as command_cluster
from . import diagnose as command_diagnose
from . import keys as command_keys
from . import logs as command_logs
from . import looks as command_looks
from . import main as command_main
from . import order as command_order
from . import status as command_status
from . import terminal as command_terminal

ROOMS: tuple[ModuleType, ...] = (
    benchmark,
    docker,
    fabric,
    gateway,
    gpu,
    hub,
    nfs,
    node,
    peer,
    ray,
    report,
    service,
    system,
    vllm,
)
LIBRARY: tuple[ModuleType, ...] = (
    *ROOMS,
    benchmark_result,
    command_benchmark,
    command_cluster,
    command_diagnose,
    command_keys,
    command_logs,
    command_looks,
    command_main,
    command_order,
    command_status,
    command_terminal,
    docker_cli,
    docker_image_digest,
    docker_service,
    docker_service_snapshot,
    docker_service_state,
    docker_service_unit,
    fabric_environment,
    fabric_host,
    fabric_link,
    gateway_keys,
    gpu_runtime,
    hub_client,
    hub_fetch,
    hub_judge,
    hub_parts,
    hub_progress,
    hub_queue,
    hub_reuse,
    hub_served,
    hub_snapshot,
    hub_store,
    nfs_share,
    node_bundle,
    node_diagnosis,
    node_guard,
    node_packages,
    node_requirements,
    node_run_lock,
    peer_share,
    ray_cluster,
    report_finding,
    report_report,
    report_status,
    service_budget,
    service_chat_start,
    service_evidence,
    service_follower,
    service_freeze,
    service_gates,
    service_metrics,
    service_node_state,
    service_observer,
    service_pulse,
    # In front of the ranks under mp, run by its path.
    service_rank_watch,
    service_restart_plan,
    service_token_rate,
    service_unit_logs,
    service_unit_states,
    service_verdict,
    service_watchdog,
    service_watchdog_report,
    system_files,
    system_http_json,
    system_kernel_log,
    system_notify,
    system_page_cache,
    system_progress,
    system_redact,
    system_run,
    system_systemd_unit,
    system_units,
    vllm_health,
    vllm_load_strategy,
    vllm_ray_sigterm,
    vllm_serving,
    vllm_start_causes,
    vllm_startup_phases,
)
