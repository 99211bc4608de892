# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Whole settings, as people wrote them, against everything that is checked before a machine is touched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.action.settings_check import Check
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import RENAMED, Renamed

CASES = Path(__file__).parents[3] / "field_cases" / "settings"
ARGUMENTS = "vllm_serve_extra_arguments"
#: What is said of each case, a part of each sentence in order; nothing where the settings are sound.
SAID: dict[str, list[str]] = {
    "environment-null-and-list": [
        "NO_PROXY with a list",
        "HF_HUB_OFFLINE without a value",
        "NCCL_DEBUG: true, expected",
    ],
    "environment-with-token": ["has HF_TOKEN, which looks like a secret"],
    "extra-config-file": ("write its keys as settings", "set vllm_serve_kv_cache_memory_bytes"),
    "extra-map-item": [f"{ARGUMENTS} has the mapping --moe-backend: ..."],
    "extra-number": [f'{ARGUMENTS} has 32, which is no text: put it in quotes, "32"'],
    "extra-one-element-per-line": [
        "--limit-mm-per-prompt and its value in one element",
        "--max-num-seqs, which setting vllm_serve_max_num_seqs renders",
    ],
    "extra-overrides-own-settings": [
        "set vllm_serve_gpu_memory_utilization",
        "set vllm_serve_max_model_len",
        "set spark_api_port",
        "set vllm_serve_tensor_parallel_size",
    ],
    "extra-string": ["--enable-expert-parallel, which setting vllm_serve_expert_parallel renders"],
    "extra-string-key": ["--api-key, which every process list would show: delete it and use spark_api_key"],
    "fabric-interfaces-text": ["fabric_interfaces of spark-1, spark-2 is 'enp1s0f0np0', expected a list"],
    "parser-plugin": [],
    "served-name-changed": [],
    "served-names-list": [],
    "speculative-json-text": ["expected a mapping"],
    "store-path-tilde": ["spark_store_path of spark-1, spark-2 is '~/models', expected an absolute path"],
    "template-override": [],
}


def check(settings: Mapping[str, Any], nodes: int = 2, **hosts: Mapping[str, Any]) -> Check:
    """Return the check of a cluster whose nodes have these settings."""
    names = [f"spark-{number}" for number in range(1, nodes + 1)]
    hostvars = {
        name: {"spark_fabric_address": f"192.168.100.{9 + number}", **settings, **hosts.get(name.replace("-", "_"), {})}
        for number, name in enumerate(names, start=1)
    }
    return Check({"hostvars": hostvars, "groups": {"sparks": names, "head": names[:1], "workers": names[1:]}})


def test_every_case_is_told() -> None:
    assert {path.stem for path in CASES.glob("*.yml")} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_settings_as_people_wrote_them(name: str) -> None:
    problems = check(yaml.safe_load((CASES / f"{name}.yml").read_text(encoding="utf-8"))).problems()
    assert len(problems) == len(SAID[name]), problems
    for problem, words in zip(problems, SAID[name], strict=True):
        assert words in problem
        assert "secret123" not in problem and "hf_0000" not in problem


@pytest.mark.parametrize(
    ("settings", "nodes", "words"),
    [
        (
            {"vllm_serve_pipeline_parallel_size": 0},
            2,
            "vllm_serve_pipeline_parallel_size of spark-1, spark-2 is 0, expected at least 1",
        ),
        (
            {"vllm_serve_tensor_parallel_size": "0"},
            2,
            "vllm_serve_tensor_parallel_size of spark-1, spark-2 is 0, expected at least 1",
        ),
        ({"spark_api_key": "abc"}, 2, "spark_api_key of spark-1, spark-2 has 3 characters, expected at least 8"),
        ({"spark_api_key": "abcdef\nghijkl"}, 2, "that an HTTP header cannot carry"),
        ({"spark_api_key": "abcdef ghijkl"}, 2, "that an HTTP header cannot carry"),
        ({"spark_api_key": ["abcdefgh"]}, 2, "is a value that is not shown, expected a text"),
        ({"cluster_secrets_hf_token": ["abcdefgh"]}, 2, "is a value that is not shown, expected a text"),
        ({"vllm_serve_max_model_len": 1000000}, 2, "but the model knows 262144 positions"),
        ({}, 3, "which 3 ranks cannot share evenly: set vllm_serve_tensor_parallel_size to 1"),
        ({"spark_fabric_address": "192.168.100.0"}, 1, "the network address of 192.168.100.0/24"),
        ({"spark_store_path": "models"}, 2, "is 'models', expected an absolute path"),
        ({"spark_store_path": ""}, 2, "is '', expected an absolute path"),
        ({"vllm_serve_environment": {"API_KEY": "x"}}, 2, "has API_KEY, which looks like a secret"),
        ({"vllm_serve_extra_arguments": ["--hf-token", "x"]}, 2, "use cluster_secrets_hf_token"),
        ({"spark_api_port": True}, 2, "is True, expected a whole number"),
        ({"vllm_serve_port": None}, 2, "is null, expected a value: leave the setting out to keep its default"),
        ({"fabric_mtu": 90000}, 2, "is 90000, expected at most 9978"),
        ({"model_download_repo_id": " "}, 2, "is empty, expected a repository such as"),
        ({"model_download_endpoint": "hub"}, 2, "is 'hub', expected an address that begins with https://"),
        ({"gateway_enabled": True, "gateway_addresses": ["hallo"]}, 2, "has 'hallo', which is no address"),
        ({"chat_ui_address": "hallo"}, 2, "has 'hallo', which is no address"),
        ({"chat_ui_image": ""}, 2, "is empty, expected an image such as"),
        ({"chat_ui_key_name": "Open WebUI"}, 2, "is 'Open WebUI', expected up to 32 of a-z"),
        ({"chat_ui_environment": {"OPENAI_API_KEY": "sk-x"}}, 2, "OPENAI_API_KEY"),
        (
            {"gateway_enabled": True, "gateway_tls": "files", "gateway_tls_key": "k"},
            2,
            "gateway_tls_certificate is empty",
        ),
        ({"node_guard_min_available_gib": 50}, 2, "earlyoom would end a server that works"),
        ({"spark_head_name": "foo"}, 2, "is worked out of the inventory, expected not to be set: delete it"),
        ({"vllm_plan_result": {}}, 2, "is a result of a role, expected not to be set: delete it"),
        ({"serving_image_base": ""}, 2, "name the image, or the base to build it from"),
    ],
)
def test_a_mistake_is_one_sentence(settings: dict[str, Any], nodes: int, words: str) -> None:
    if nodes == 1:
        settings = {"spark_model": "qwen3-4b", **settings}
    (problem,) = check(settings, nodes).problems()
    assert words in problem


def test_addresses_in_different_subnets() -> None:
    (problem,) = check({}, spark_2={"spark_fabric_address": "192.168.101.11"}).problems()
    assert "different subnets" in problem


def test_the_first_served_name_is_the_one_that_is_asked_for() -> None:
    assert check({}).served_name("spark-1") == "qwen3-235b-awq"
    assert check({"vllm_serve_served_model_name": "my-name"}).served_name("spark-1") == "my-name"
    assert check({"vllm_serve_served_model_name": ["a", "b"]}).served_name("spark-1") == "a"


def test_a_models_own_arguments_are_judged_too(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    model = {"repo_id": "a/b", "revision": "0" * 40, "served_name": "m", "extra_arguments": ["--port", "80"]}
    (tmp_path / "models" / "mine.yml").write_text(yaml.safe_dump(model))
    (problem,) = check({"spark_model": "mine", "inventory_dir": str(tmp_path)}).problems()
    assert problem.endswith(
        "mine.yml: extra_arguments has --port, which setting spark_api_port renders: delete it there and set spark_api_port"
    )


@pytest.fixture
def renamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "vllm_serve_window", Renamed("vllm_serve_max_model_len", "0.3.0"))


@pytest.mark.usefixtures("renamed")
def test_an_old_name_is_judged_as_the_new_one() -> None:
    assert check({"vllm_serve_window": 32768}).problems() == []
    (problem,) = check({"vllm_serve_window": "8k"}).problems()
    assert problem.startswith("vllm_serve_window of spark-1, spark-2 is '8k', expected a whole number")
    (problem,) = check({"vllm_serve_window": 1000000}).problems()
    assert "the model knows 262144 positions" in problem
    (problem,) = check({"vllm_serve_window": 8192, "vllm_serve_max_model_len": 8192}).problems()
    assert "vllm_serve_window of spark-1, spark-2 is the old name of vllm_serve_max_model_len" in problem


@pytest.mark.usefixtures("renamed")
def test_an_old_name_reaches_the_roles_with_a_notice() -> None:
    result = check({"spark_model": "qwen3-4b", "vllm_serve_window": 4096}, 1).answer()
    assert result["facts"]["spark-1"]["vllm_serve_max_model_len"] == 4096
    assert result["warnings"] == [
        "setting vllm_serve_window is called vllm_serve_max_model_len now; the old name works until release 0.3.0: rename it where you set it"
    ]
    assert result["_ansible_no_log"] is False


def test_a_secret_under_an_old_name_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RENAMED, "spark_key", Renamed("spark_api_key", "0.3.0"))
    result = check({"spark_key": "abcdefghijkl"}).answer()
    assert result["facts"]["spark-1"]["spark_api_key"] == "abcdefghijkl"
    assert result["_ansible_no_log"] is True
    assert "spark_api_key" in result["secret"]


def test_what_roles_need_of_the_inventory() -> None:
    result = check({"spark_gpus_per_node": 1}).answer()
    assert result["head_name"] == "spark-1"
    assert result["node_addresses"] == ["192.168.100.10", "192.168.100.11"]
    assert (result["gpu_count"], result["served_name"]) == (2, "qwen3-235b-awq")
    assert "spark_gpus_per_node" not in result["facts"]["spark-1"]
    assert result["facts"]["spark-2"]["spark_api_port"] == 8235
