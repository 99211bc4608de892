# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The environment that the Ray containers and the vLLM container of a node share."""

from __future__ import annotations

from collections.abc import Mapping

TOKEN_IN_CONTAINER = "/run/secrets/cluster_token"
CACHE_IN_CONTAINER = "/var/cache/dgx-spark"
RAY_IN_CONTAINER = "/tmp/ray"


def serving_environment(
    address: str, interface: str, extra: Mapping[str, str] | None = None, network: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a node's serving containers.

    Args:
        address: fabric address of the node (IPv4).
        interface: network interface that has the address; names differ between nodes, so this is per node.
        extra: what the user sets on top; it wins.
        network: what fabric_info says of the link. It counts where it names RDMA devices; on a link without, the interface is all there is to say.
    """
    environment = {
        # vLLM's executor finds its place in the Ray cluster by this; it must be Ray's own node address.
        "VLLM_HOST_IP": address,
        # Each library has its own name for the interface of its control traffic; vLLM carries none of these to its workers.
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "TP_SOCKET_IFNAME": interface,
        "UCX_NET_DEVICES": interface,
        "OMPI_MCA_btl_tcp_if_include": interface,
        # Ray counts unified memory that the GPU holds as used and would kill its workers while they load.
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": TOKEN_IN_CONTAINER,
        "RAY_USAGE_STATS_ENABLED": "0",
        # The server and the rank beside it talk over sockets in this folder, so both containers mount it.
        "VLLM_RPC_BASE_PATH": RAY_IN_CONTAINER,
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
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
    if (network or {}).get("NCCL_IB_HCA"):
        environment.update({name: str(value) for name, value in (network or {}).items()})
    environment.update({name: str(value) for name, value in (extra or {}).items()})
    return environment
