# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.values import (
    choice_problem,
    environment_problems,
    key_problem,
    kind_problem,
    length_problem,
    plain_words,
    range_problems,
    raw_problem,
    served_name_problem,
    served_names,
    speculative_problem,
)


@pytest.mark.parametrize(
    ("option", "value", "elements", "said"),
    [
        ({"type": "float"}, "abc", False, "is 'abc', expected a number: correct it where you set it"),
        ({"type": "int"}, 1.5, False, "is 1.5, expected a whole number: correct it where you set it"),
        ({"type": "bool"}, "maybe", False, "is 'maybe', expected true or false: correct it where you set it"),
        (
            {"type": "list", "elements": "int"},
            ["x"],
            True,
            "is ['x'], expected a list of whole numbers: correct it where you set it",
        ),
        (
            {"type": "int", "no_log": True},
            "abc",
            False,
            "is a value that is not shown, expected a whole number: correct it where you set it",
        ),
    ],
)
def test_a_value_of_the_wrong_type(option: dict[str, Any], value: Any, elements: bool, said: str) -> None:
    assert kind_problem(option, value, elements=elements) == said


def test_a_value_that_is_no_choice() -> None:
    said = choice_problem({"choices": ["auto", "on"]}, "yes")
    assert said == "is 'yes', expected one of auto, on: correct it where you set it"


def test_classes_of_python_are_no_words_for_a_user() -> None:
    tagged = "<class 'ansible.module_utils._internal._datatag._AnsibleTaggedStr'>"
    assert plain_words(f"argument is of type {tagged} in it") == "argument is of type a text in it"
    assert plain_words("argument is of type <class 'float'>") == "argument is of type a number"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vllm_serve_gpu_memory_utilization", 1.5, "is 1.5, expected 0.1 to 0.98"),
        ("vllm_serve_gpu_memory_utilization", "0.05", "is 0.05, expected 0.1 to 0.98"),
        ("vllm_serve_gpu_memory_utilization", float("nan"), "is nan, expected 0.1 to 0.98"),
        ("vllm_serve_kv_cache_dtype", "fp8 e4m3", "is 'fp8 e4m3', expected one word"),
    ],
)
def test_a_value_out_of_range(name: str, value: Any, words: str) -> None:
    ((of, said),) = range_problems({name: value})
    assert of == name
    assert words in said


def test_values_in_range() -> None:
    for part in (0.1, 0.75, "0.98", None):
        assert range_problems({"vllm_serve_gpu_memory_utilization": part}) == []
    for word in ("", "auto", "fp8_e4m3", None):
        assert range_problems({"vllm_serve_kv_cache_dtype": word}) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("vllm_serve_pipeline_parallel_size", 0, "is 0, expected at least 1"),
        ("vllm_serve_tensor_parallel_size", 0, "is 0, expected at least 1"),
        ("spark_gpus_per_node", "0", "is 0, expected at least 1"),
        ("vllm_serve_max_num_seqs", -1, "is -1, expected at least 0"),
        ("spark_store_path", "", "is '', expected an absolute path"),
        ("spark_store_path", "~/models", "is '~/models', expected an absolute path"),
        ("spark_store_path", "models", "is 'models', expected an absolute path"),
        ("spark_store_path", "/srv/../models", "expected an absolute path"),
        ("spark_store_path", "//srv//models", "expected an absolute path"),
        ("vllm_serve_kv_cache_memory_bytes", -1, "is -1, expected at least 0"),
        ("spark_store_path", "/", "expected an absolute path"),
        ("spark_ca_bundle", "certs.pem", "is 'certs.pem', expected an absolute path"),
    ],
)
def test_a_value_that_cannot_be(name: str, value: Any, words: str) -> None:
    ((of, said),) = range_problems({name: value})
    assert of == name
    assert words in said


def test_zero_means_the_servers_own_choice_where_it_does() -> None:
    assert (
        range_problems({"vllm_serve_max_num_seqs": 0, "spark_store_path": "/srv/models", "spark_ca_bundle": ""}) == []
    )


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ({"type": "list", "elements": "str"}, "enp1s0f0np0", "is 'enp1s0f0np0', expected a list"),
        ({"type": "list", "elements": "str"}, [32], "holds 32, expected texts alone: put it in quotes"),
        ({"type": "list", "elements": "str"}, [{"a": "b"}], "holds {'a': 'b'}, expected texts alone: correct it"),
        ({"type": "dict"}, '{"method":"mtp"}', "expected a mapping"),
        ({"type": "str"}, 3.10, "is 3.1, expected a text: put it in quotes"),
        ({"type": "str", "no_log": True}, ["secret-words"], "is a value that is not shown, expected a text"),
        ({"type": "str", "choices": ["auto", "lazy"]}, True, "is True, expected a text"),
        ({"type": "path"}, ["/srv"], "is ['/srv'], expected a path"),
    ],
)
def test_what_ansible_would_turn_into_another_type(option: dict[str, Any], value: Any, words: str) -> None:
    said = raw_problem("a_setting", option, value)
    assert words in said
    assert "secret-words" not in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ({"type": "int"}, "8235"),
        ({"type": "bool"}, "yes"),
        ({"type": "float"}, 1),
        ({"type": "str", "choices": ["auto", "on", "off"]}, False),
        ({"type": "list", "elements": "int"}, [1, "2"]),
        ({"type": "list", "elements": "str"}, []),
        ({"type": "raw"}, 5),
    ],
)
def test_what_roles_convert_themselves(option: dict[str, Any], value: Any) -> None:
    assert raw_problem("a_setting", option, value) == ""


def test_a_list_as_text_is_told_how_to_write_it_on_the_command_line() -> None:
    said = raw_problem("fabric_interfaces", {"type": "list", "elements": "str"}, "a,b")
    assert """-e '{"fabric_interfaces": [...]}'""" in said


@pytest.mark.parametrize(
    ("value", "words"),
    [("abc", "has 3 characters, expected at least 8"), ("abcd\nefgh", "HTTP header"), ("abcd efgh", "HTTP header")],
)
def test_a_key_that_no_header_can_carry(value: str, words: str) -> None:
    said = key_problem(value)
    assert words in said
    assert value not in said


@pytest.mark.parametrize("value", ["", "abcdefgh", "abcdefgh\n"])
def test_a_key_that_may_be(value: str) -> None:
    assert key_problem(value) == ""


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_TOKEN": "hf_0000000000000000000000000000000000"}, "use cluster_secrets_hf_token"),
        ({"HUGGING_FACE_HUB_TOKEN": "{{ vault }}"}, "use cluster_secrets_hf_token"),
        ({"VLLM_API_KEY": "sk-aaaaaaaaaaaa"}, "use spark_api_key"),
        ({"AWS_SECRET_ACCESS_KEY": "x"}, "looks like a secret"),
        ({"EXTRA": "hf_0000000000000000000000000000000000"}, "use cluster_secrets_hf_token"),
        ({"NO_PROXY": ["a", "b"]}, "NO_PROXY with a list"),
        ({"HF_HUB_OFFLINE": None}, "HF_HUB_OFFLINE without a value"),
        ({"NCCL_DEBUG": True}, "NCCL_DEBUG: true, expected a text or a number"),
        ({"A-B": "x"}, "the variable 'A-B'"),
        ({"A": "x\ny"}, "a line break"),
        ({"HTTPS_PROXY": "http://me:sk-aaa1@proxy:3128"}, "a password in its address"),
    ],
)
def test_an_environment_that_cannot_be(environment: dict[str, Any], words: str) -> None:
    (said,) = environment_problems(environment)
    assert words in said
    assert "hf_0000" not in said
    assert "sk-aaa" not in said


def test_an_environment_that_can_be() -> None:
    environment = {
        "OMP_NUM_THREADS": 4,
        "NCCL_DEBUG": "INFO",
        "VLLM_MAX_TOKENS": "5",
        "RAY_AUTH_TOKEN_PATH": "/x",
        "HTTPS_PROXY": "http://proxy:3128",
    }
    assert environment_problems(environment) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "empty list"),
        (5, "is 5"),
        (["a", 5], "holds 5"),
        ("two words", "without blanks"),
        ("", "without blanks"),
        ("--x", "'--x'"),
    ],
)
def test_served_names_that_cannot_be(value: Any, words: str) -> None:
    assert words in served_name_problem(value)


def test_served_names() -> None:
    assert served_name_problem("org/my-name:1") == served_name_problem(["qwen3-235b", "gpt-4o"]) == ""
    assert served_names("a") == ["a"]
    assert served_names(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (-5, "is -5, expected a whole number of tokens from 1 on, or auto"),
        (0, "is 0, expected"),
        ("0", "is '0', expected"),
        ("8k", "is '8k', expected"),
        ("8192.0", "expected"),
        (8192.5, "expected"),
        (True, "is True, expected"),
        ([8192], "expected"),
        (-1, "write auto for the longest"),
        ("-1", "write auto"),
        ("Auto", "write auto"),
        ("", "expected"),
    ],
)
def test_a_context_length_that_cannot_be(value: Any, words: str) -> None:
    assert words in length_problem(value)


@pytest.mark.parametrize("value", [1, 8192, "32768", "auto"])
def test_a_context_length(value: Any) -> None:
    assert length_problem(value) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"method": "mtp", "num_speculative_tokens": "two"}, "num_speculative_tokens: 'two', expected a whole number"),
        ({"method": "mtp", "num_speculative_tokens": 0}, "from 1 on"),
        ({"method": ["mtp"], "num_speculative_tokens": 1}, "expected a text such as mtp"),
    ],
)
def test_speculative_decoding_that_cannot_be(value: Any, words: str) -> None:
    assert words in speculative_problem(value)


@pytest.mark.parametrize("value", [{}, {"method": "mtp", "num_speculative_tokens": 2}, {"model": "x"}])
def test_speculative_decoding_that_can_be(value: Any) -> None:
    assert speculative_problem(value) == ""
