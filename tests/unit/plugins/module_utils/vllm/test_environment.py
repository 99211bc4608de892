# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the serving containers of a node find in their environment."""

from __future__ import annotations

from ansible_collections.dgx_spark.vllm.plugins.filter.cluster import serving_environment_filter as serving_environment
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.environment import network_environment


def test_every_cache_is_on_the_node_and_none_on_the_share() -> None:
    found = serving_environment("192.168.100.11", "enp1s0f1np1")
    caches = {
        name: path for name, path in found.items() if "CACHE" in name or name.endswith(("_BASE", "EXTENSIONS_DIR"))
    }
    assert len(caches) == 8
    assert all(path.startswith("/var/cache/dgx-spark/") for path in caches.values())
    assert not any(value.startswith("/srv/models") for value in found.values())


def test_all_libraries_talk_over_the_fabric_and_a_users_word_wins() -> None:
    found = serving_environment("192.168.100.11", "enp1s0f1np1", {"NCCL_DEBUG": "INFO", "UCX_NET_DEVICES": "all"})
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "OMPI_MCA_btl_tcp_if_include")
    assert {found[name] for name in names} == {"enp1s0f1np1"}
    assert (found["VLLM_HOST_IP"], found["UCX_NET_DEVICES"], found["NCCL_DEBUG"]) == ("192.168.100.11", "all", "INFO")


def test_the_link_counts_where_it_has_rdma() -> None:
    """NVIDIA's names of a Spark's twins; without RDMA the interface is all there is to say."""
    plain = serving_environment("192.168.100.11", "enp1s0f1np1")
    link = network_environment("192.168.100.11", "enp1s0f1np1", ["rocep1s0f1", "roceP2p1s0f1"])
    found = serving_environment("192.168.100.11", "another", {"NCCL_SOCKET_IFNAME": "mine"}, link)
    assert found == plain | {
        "NCCL_IB_HCA": "rocep1s0f1,roceP2p1s0f1",
        "NCCL_IB_DISABLE": "0",
        "NCCL_IB_SUBNET_AWARE_ROUTING": "1",
        "NCCL_SOCKET_IFNAME": "mine",
    }
    without = network_environment("192.168.100.11", "another")
    assert serving_environment("192.168.100.11", "enp1s0f1np1", None, without) == plain


def test_ray_finds_the_node_by_its_fabric_address_with_and_without_rdma() -> None:
    for network in (None, network_environment("192.168.100.11", "enp1s0f1np1", ["rocep1s0f1"])):
        found = serving_environment("192.168.100.11", "enp1s0f1np1", None, network)
        assert found["RAY_OVERRIDE_NODE_IP_ADDRESS"] == found["VLLM_HOST_IP"] == "192.168.100.11"
