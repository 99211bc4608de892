# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The network's variables of a serving container; what is around them is in vllm/test_environment.py."""

from __future__ import annotations

from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.environment import network_environment


def test_without_rdma_nothing_of_it_is_said() -> None:
    plain = network_environment("192.168.100.10", "enp1s0f0np0")
    assert not any(name.startswith("NCCL_IB") for name in plain)
    assert {plain["VLLM_HOST_IP"], plain["RAY_OVERRIDE_NODE_IP_ADDRESS"]} == {"192.168.100.10"}


def test_both_twins_are_named_and_no_index_of_an_address_table() -> None:
    both = network_environment("192.168.100.10", "enp1s0f0np0", ["rocep1s0f0", "roceP2p1s0f0"])
    assert both["NCCL_IB_HCA"] == "rocep1s0f0,roceP2p1s0f0"
    assert both["NCCL_IB_DISABLE"] == "0"
    assert "NCCL_IB_GID_INDEX" not in both
