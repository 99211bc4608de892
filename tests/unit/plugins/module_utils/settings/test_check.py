# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.check import (
    address_problems,
    extra_vars_problems,
    group_problems,
    image_problems,
    joined_problems,
    limit_problems,
    link_problems,
    model_problems,
    name_problems,
    placeholder_problems,
    relation_problems,
    stranger_problems,
    tag_problems,
)

ROLES = ("vllm_serve", "ray_head", "model_share")
KNOWN = (
    "vllm_serve_port",
    "vllm_serve_cuda_graphs",
    "vllm_plan_cuda_graphs",
    "vllm_serve_max_model_len",
    "ray_head_port",
    "model_share_method",
    "spark_model",
)


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({}, "has no hosts, so there is no group 'sparks'"),
        ({"all": ["a"], "Sparks": ["a"]}, "did you mean your group 'Sparks'? Rename it"),
        ({"all": ["a"], "ungrouped": ["a"]}, "the inventory x, y has no group 'sparks' with hosts: start from"),
        ({"all": ["a"], "web": ["a"]}, "(it has web)"),
        (
            {"sparks": ["a"], "workers": ["a"]},
            "group 'head' has 0 hosts of group 'sparks', expected exactly one: put one of a into it",
        ),
        ({"sparks": ["a"], "head": ["b"]}, "group 'head' has 0 hosts of group 'sparks' (only b)"),
        ({"sparks": ["a", "b"], "spark_head": ["a", "b"], "head": ["a"]}, "group 'spark_head' has 2 hosts (a, b)"),
        ({"sparks": ["a", "b"], "head": ["a", "b"]}, "group 'head' has 2 hosts (a, b)"),
        ({"sparks": ["a", "b"], "head": ["a"], "workers": ["a", "b"]}, "a is in group 'head' and in group 'workers'"),
        ({"sparks": ["a", "b"], "head": ["a"]}, "b is in group 'sparks' but neither"),
    ],
)
def test_odd_groups(groups: dict[str, list[str]], words: str) -> None:
    problems = group_problems(groups, ["x", "y"])
    assert len(problems) == 1
    assert words in problems[0]


def test_sound_groups() -> None:
    assert group_problems({"sparks": ["a", "b"], "head": ["a"], "workers": ["b"]}) == []
    assert group_problems({"sparks": ["a"], "head": ["a"]}) == []
    # Another cluster's hosts in groups of the same names.
    assert group_problems({"sparks": ["a", "b"], "head": ["x", "a"], "workers": ["b", "y"]}) == []
    assert group_problems({"sparks": ["a", "b"], "head": ["a", "b"], "spark_head": ["a"], "spark_workers": ["b"]}) == []


def test_a_host_that_another_clusters_group_brought_along() -> None:
    with_address, groups = {"spark_fabric_address": ""}, {"workers": ["b", "c"]}
    (problem,) = stranger_problems({"a": with_address, "b": with_address, "c": {}}, groups)
    assert "spark_fabric_address of c is missing" in problem
    assert "'spark_head' and 'spark_workers'" in problem
    assert stranger_problems({"a": {}, "b": {}}, groups) == []
    assert stranger_problems({"a": with_address, "b": {}}, {"spark_workers": ["b"]}) == []


@pytest.mark.parametrize(
    ("chosen", "needs_all", "words"),
    [
        (["a", "b", "localhost"], True, ""),
        (["a"], True, "--limit leaves out b, and this playbook works on all nodes"),
        (["a"], False, ""),
        (["localhost"], False, "--limit leaves out every host of group 'sparks' (a, b)"),
        (["localhost"], True, "--limit leaves out every host of group 'sparks' (a, b)"),
    ],
)
def test_limits(chosen: list[str], needs_all: bool, words: str) -> None:
    assert words in "".join(limit_problems(["a", "b"], chosen, needs_all=needs_all))
    assert bool(limit_problems(["a", "b"], chosen, needs_all=needs_all)) == bool(words)


def test_tags() -> None:
    known = ["always", "preflight", "units"]
    assert tag_problems(["all", "units", "never", "untagged"], known) == []
    assert tag_problems(["unit", "x"], known) == [
        "tag 'unit' does not exist: did you mean units? The tags are preflight, units",
        "tag 'x' does not exist: The tags are preflight, units",
    ]
    assert tag_problems(["x"], ["always"]) == [
        "tag 'x' does not exist: This playbook has none, site.yml has one for each step"
    ]


def test_the_shipped_inventory_asks_to_be_edited_in_one_sentence() -> None:
    problems = placeholder_problems(
        {"spark-1": {"ansible_host": "EDIT-ME"}, "spark-2": {"ansible_host": "EDIT-ME", "ansible_user": "me"}}
    )
    assert len(problems) == 1
    assert "inventory/sparks/hosts.yml" in problems[0]
    assert "make demo" in problems[0]
    assert placeholder_problems({"spark-1": {"ansible_host": "10.0.0.1"}}) == []


@pytest.mark.parametrize(
    ("addresses", "words"),
    [
        ({"a": "192.168.100.300"}, "spark_fabric_address of a is '192.168.100.300'"),
        ({"a": None}, "is None"),
        ({"a": "192.168.100.10", "b": "192.168.100.10"}, "given to a and to b"),
    ],
)
def test_bad_addresses(addresses: dict[str, Any], words: str) -> None:
    assert words in address_problems(addresses)[0]


def test_good_addresses() -> None:
    assert address_problems({"a": "192.168.100.10", "b": "192.168.100.11"}) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vllm_serve_prot", "did you mean vllm_serve_port?"),
        ("vllm_sevre_port", "did you mean vllm_serve_port?"),
        ("spark_modell", "did you mean spark_model?"),
        ("vllm_serve_swap_space", "removed --swap-space in 0.18.0"),
        ("vllm_executor", "the setting is vllm_serve_executor"),
        ("vllm_cuda_graphs", "the setting is vllm_serve_cuda_graphs: rename it"),
        ("ray_head_qqqqqqqqqqqqqqqqqqqqqqq", "does not exist: see docs/settings.md"),
    ],
)
def test_a_name_that_is_no_setting(name: str, words: str) -> None:
    problems = name_problems([name], KNOWN, ROLES)
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    "name", ["vllm_serve_port", "spark_model", "ansible_host", "my_variable", "vllm_notes", "rayon_size"]
)
def test_a_name_that_may_be_there(name: str) -> None:
    assert name_problems([name], KNOWN, ROLES) == []


def test_a_tensor_parallel_size_that_the_gpus_do_not_give() -> None:
    problems = relation_problems(nodes=2, gpus_per_node=1, tensor_parallel_size=4)
    assert problems == [
        "vllm_serve_tensor_parallel_size is 4, but 2 nodes with 1 GPU each give 2: set it to 2 or add nodes to group 'workers'"
    ]
    assert relation_problems(nodes=2, gpus_per_node=1, tensor_parallel_size=2) == []


def test_a_pipeline_must_divide_the_gpus_and_the_nodes_share_the_ranks() -> None:
    assert (
        "does not divide the 4 GPUs"
        in relation_problems(nodes=4, gpus_per_node=1, tensor_parallel_size=None, pipeline_parallel_size=3)[0]
    )
    assert (
        "does not spread evenly over 4 nodes"
        in relation_problems(nodes=4, gpus_per_node=1, tensor_parallel_size=1, pipeline_parallel_size=2)[0]
    )
    assert not relation_problems(nodes=4, gpus_per_node=1, tensor_parallel_size=2, pipeline_parallel_size=2)


NVIDIA = "nvcr.io/nvidia/vllm:26.10-py3"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"fabric_prefix": 31}, "fabric_prefix of spark-1 is 31, expected 8 to 30"),
        (
            {"fabric_addresses": {"enp1s0f1np1": "192.168.100.10/24", "enP2p1s0f1np1": "192.168.100.110/24"}},
            "puts enp1s0f1np1 and enP2p1s0f1np1 into one subnet (192.168.100.0/24)",
        ),
        (
            {"fabric_addresses": {"enp1s0f1np1": "192.168.100.10"}, "spark_fabric_address": "192.168.100.10"},
            "expected an IPv4 address with prefix",
        ),
        (
            {"fabric_addresses": {"enp1s0f1np1": "192.168.100.300/24"}},
            "gives enp1s0f1np1 '192.168.100.300/24', expected",
        ),
        ({"fabric_interfaces": ["enp1s0f1np1", "enp1s0f1np1"]}, "names an interface twice"),
        (
            {"fabric_interfaces": ["enp1s0f0np0"], "fabric_addresses": {"enp1s0f1np1": "192.168.100.10/24"}},
            "names enp1s0f1np1 and fabric_interfaces names enp1s0f0np0",
        ),
        ({"fabric_rdma": True, "spark_devices": ["nvidia.com/gpu=all"]}, "spark_devices has no /dev/infiniband"),
    ],
)
def test_a_link_that_cannot_be(values: dict[str, Any], words: str) -> None:
    (problem,) = link_problems({"spark-1": values, "spark-2": {}})
    assert words in problem


def test_a_link_that_can_be() -> None:
    addresses = {"enp1s0f1np1": "192.168.100.10/24", "enP2p1s0f1np1": "192.168.101.10/24"}
    assert link_problems({"spark-1": {"fabric_addresses": addresses, "fabric_prefix": 24}, "spark-2": {}}) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"spark_serving_image": "Serving Image"}, "spark_serving_image: image 'Serving Image' is no image name"),
        ({"serving_image_base": "https://nvcr.io/nvidia/vllm"}, "serving_image_base: image 'https://"),
        ({"serving_image_base": "nvcr.io/nvidia/vllm"}, "has neither tag nor digest"),
        ({"spark_serving_image": NVIDIA, "serving_image_base": NVIDIA}, "needs a name of its own"),
        (
            {"serving_image_base": NVIDIA, "serving_image_mirror": "https://mirror.example"},
            "serving_image_mirror: mirror",
        ),
    ],
)
def test_an_image_that_cannot_be(values: dict[str, str], words: str) -> None:
    (problem,) = image_problems({"spark_serving_image": "dgx-spark/serving:26.10", **values})
    assert words in problem


def test_images_that_can_be() -> None:
    digest = f"nvcr.io/nvidia/vllm@sha256:{'0' * 64}"
    for base in ("", NVIDIA, digest):
        assert image_problems({"spark_serving_image": "dgx-spark/serving:x", "serving_image_base": base}) == []


def test_hosts_with_the_same_problem_are_named_together() -> None:
    same = ("ray_head_port", "is 'x', expected a whole number")
    found = joined_problems({"spark-1": [same], "spark-2": [same, ("spark_model", "is missing")], "spark-3": []})
    assert found == [
        "ray_head_port of spark-1, spark-2 is 'x', expected a whole number",
        "spark_model of spark-2 is missing",
    ]


SHAPE = {
    "model_type": "qwen3",
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "num_hidden_layers": 4,
    "hidden_size": 256,
    "head_dim": 64,
    "intermediate_size": 512,
    "vocab_size": 1000,
    "max_position_embeddings": 262144,
}


@pytest.mark.parametrize(
    ("context", "arguments", "ranks", "words"),
    [
        (300000, [], (2, 1), "vllm_serve_max_model_len is 300000, but the model knows 262144 positions"),
        (
            8192,
            [],
            (3, 1),
            "3 ranks cannot share evenly: set vllm_serve_tensor_parallel_size to 1 and vllm_serve_pipeline_parallel_size to 3",
        ),
    ],
)
def test_what_a_model_cannot_be_asked_for(
    context: int, arguments: list[str], ranks: tuple[int, int], words: str
) -> None:
    (said,) = model_problems(
        {"config": SHAPE}, max_model_len=context, arguments=arguments, ranks=ranks, gpus=ranks[0] * ranks[1]
    )
    assert words in said


def test_what_a_model_can_be_asked_for() -> None:
    assert model_problems({"config": SHAPE}, max_model_len="auto", arguments=[], ranks=(2, 1), gpus=2) == []
    assert model_problems({"config": SHAPE}, max_model_len="300000", arguments=[], ranks=(2, 1), gpus=2)
    lifted = ["--hf-overrides", '{"rope_scaling": {"factor": 4}}']
    assert model_problems({"config": SHAPE}, max_model_len=300000, arguments=lifted, ranks=(2, 1), gpus=2) == []
    assert (
        model_problems({"config": SHAPE, "max_model_len": 8192}, max_model_len=None, arguments=[], ranks=(2, 1), gpus=2)
        == []
    )
    assert model_problems({}, max_model_len=10**9, arguments=[], ranks=(3, 1), gpus=3) == []


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        (
            {"a": {"spark_fabric_address": "192.168.100.10"}, "b": {"spark_fabric_address": "192.168.101.11"}},
            "different subnets (a 192.168.100.10/24, b 192.168.101.11/24)",
        ),
        (
            {"a": {"spark_fabric_address": "192.168.100.0"}, "b": {"spark_fabric_address": "192.168.100.11"}},
            "of a is 192.168.100.0, the network address of 192.168.100.0/24: give the node an address from 192.168.100.1 to 192.168.100.254",
        ),
        ({"a": {"spark_fabric_address": "192.168.100.255"}}, "the broadcast address of 192.168.100.0/24"),
    ],
)
def test_addresses_that_are_no_neighbours(hosts: dict[str, Any], words: str) -> None:
    (said,) = link_problems(hosts)
    assert words in said


def test_a_stated_prefix_counts_and_a_link_that_is_not_ours_may_be_routed() -> None:
    wide = {"fabric_addresses": {"enp1s0f1np1": "192.168.100.10/16"}, "spark_fabric_address": "192.168.100.10"}
    assert link_problems({"a": wide, "b": {"spark_fabric_address": "192.168.101.11", "fabric_prefix": 16}}) == []
    apart = {host: {"spark_fabric_address": f"10.0.{host}.2", "fabric_manage": False} for host in "12"}
    assert link_problems(apart) == []


def test_words_behind_e_that_set_nothing_are_told() -> None:
    (said,) = extra_vars_problems({"_raw_params": '{"a": 1'})
    assert "neither name=value" in said
    assert extra_vars_problems({"a": 1}) == []
