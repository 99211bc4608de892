# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a serving container is told of the network: the one place that names these variables."""

from __future__ import annotations

from collections.abc import Sequence


def network_environment(address: str, interface: str, devices: Sequence[str] = ()) -> dict[str, str]:
    """Return the network's part of a serving container's environment.

    Args:
        address: fabric address of the node (IPv4, without prefix); Ray and vLLM know the node by it.
        interface: network interface that has the address; names differ between nodes, so this is per node.
        devices: RDMA devices of the link; none where TCP is all there is.
    """
    environment = {
        # vLLM's executor finds its place in the Ray cluster by this; it must be Ray's own node address.
        "VLLM_HOST_IP": address,
        # From eugr/spark-vllm-docker: Ray must not find the node by another of its addresses.
        "RAY_OVERRIDE_NODE_IP_ADDRESS": address,
        # One name a library for its control traffic: NVIDIA/dgx-spark-playbooks @0db7c14, nvidia/vllm. vLLM carries none of these to its workers.
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "TP_SOCKET_IFNAME": interface,
        "UCX_NET_DEVICES": interface,
        "OMPI_MCA_btl_tcp_if_include": interface,
    }
    if devices:
        # Both twins, or half of the cable stays idle. NCCL_IB_GID_INDEX is left out on purpose: since 2.21 NCCL finds the RoCE v2 entry of each device,
        # and the index may differ between twins.
        environment["NCCL_IB_HCA"] = ",".join(devices)
        environment["NCCL_IB_DISABLE"] = "0"
        # The twins are in subnets of their own, so that a device reaches only its counterpart; NVIDIA's spark_cluster_setup.py sets it (@0db7c14).
        environment["NCCL_IB_SUBNET_AWARE_ROUTING"] = "1"
    return environment
