# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The environment that the Ray containers and the vLLM container of a node share."""

from __future__ import annotations

from collections.abc import Mapping

TOKEN_IN_CONTAINER = "/run/secrets/cluster_token"
CACHE_IN_CONTAINER = "/var/cache/dgx-spark"
RAY_IN_CONTAINER = "/tmp/ray"
HOME_IN_CONTAINER = "/tmp"


def serving_environment(network: Mapping[str, str], extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a node's serving containers.

    Args:
        network: what they are told of the network; see fabric/environment.py.
        extra: what the user sets on top; it wins.
    """
    environment = {
        **network,
        # Ray counts unified memory that the GPU holds as used and would kill its workers while they load.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": TOKEN_IN_CONTAINER,
        "RAY_USAGE_STATS_ENABLED": "0",
        # The server and the rank beside it talk over sockets in this folder, so both containers mount it.
        "VLLM_RPC_BASE_PATH": RAY_IN_CONTAINER,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        # The root of the containers is read-only; what is written below a home ends with the container.
        "HOME": HOME_IN_CONTAINER,
        # Compiled kernels stay on the node: shared over NFS these caches break.
        "VLLM_CACHE_ROOT": f"{CACHE_IN_CONTAINER}/vllm",
        "TRITON_CACHE_DIR": f"{CACHE_IN_CONTAINER}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_IN_CONTAINER}/inductor",
        "TORCH_EXTENSIONS_DIR": f"{CACHE_IN_CONTAINER}/torch_extensions",
        "FLASHINFER_WORKSPACE_BASE": f"{CACHE_IN_CONTAINER}/flashinfer",
        # What the driver compiles from PTX; its own default lies in the container and is lost with it.
        "CUDA_CACHE_PATH": f"{CACHE_IN_CONTAINER}/cuda",
        "DG_JIT_CACHE_DIR": f"{CACHE_IN_CONTAINER}/deep_gemm",
        "TILELANG_CACHE_DIR": f"{CACHE_IN_CONTAINER}/tilelang",
    }
    environment.update({name: str(value) for name, value in (extra or {}).items()})
    return environment
