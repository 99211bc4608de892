# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.arguments import (
    CONTRARY,
    GONE,
    RENDERED,
    SECRET,
    argument_problems,
    lifts_context,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import GRAPH_MODES, ServeIntents, commands

PARSERS = sorted((Path(__file__).parents[1] / "fixtures" / "vllm_parsers").glob("*.json"))


def options(path: Path) -> list[set[str]]:
    """Return all spellings of each option of one release."""
    document = json.loads(path.read_text())
    return [{name, *option.get("aliases", ())} for name, option in document["options"].items()]


@pytest.mark.parametrize("path", PARSERS, ids=lambda path: path.stem)
def test_every_spelling_of_a_rendered_flag_is_known(path: Path) -> None:
    for spellings in options(path):
        if spellings & {*RENDERED, *SECRET, *CONTRARY}:
            assert all(argument_problems([flag]) for flag in spellings), spellings


@pytest.mark.parametrize("path", PARSERS, ids=lambda path: path.stem)
def test_no_other_flag_is_taken_for_one(path: Path) -> None:
    for spellings in options(path):
        if not spellings & {*RENDERED, *SECRET, *CONTRARY} and not any(
            word.lstrip("-").replace("-", "_") in GONE for word in spellings
        ):
            assert argument_problems(sorted(spellings)) == []


def test_every_flag_that_is_rendered_is_in_the_table() -> None:
    rendered = set()
    for graphs in GRAPH_MODES:
        intents = ServeIntents(
            model_path="/m",
            port=8235,
            served_model_name=["m", "n"],
            tensor_parallel_size=2,
            pipeline_parallel_size=2,
            nodes=2,
            executor="mp",
            master_address="192.168.100.10",
            max_model_len=1,
            gpu_memory_utilization=0.5,
            max_num_seqs=1,
            max_num_batched_tokens=1,
            kv_cache_dtype="fp8",
            cuda_graphs=graphs,
            load_format="safetensors",
            safetensors_load_strategy="lazy",
            expert_parallel=True,
            speculative={"method": "mtp"},
            cpu_offload_gib=1,
            kv_cache_memory_bytes=1,
            trust_remote_code=True,
            reasoning_parser="qwen3",
            tool_call_parser="hermes",
        )
        rendered |= {word for line in commands(intents)[0] for word in line if word.startswith("--")}
    assert rendered <= set(RENDERED)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--swap-space", "16"], "0.18.0"),
        (["--swap_space=16"], "0.18.0"),
        (["--api-key=x"], "use spark_api_key"),
        (["--api-key x"], "use spark_api_key"),
        (["--hf-token", "x"], "use cluster_secrets_hf_token"),
        (["--gpu-memory-utilization", "0.95"], "set vllm_serve_gpu_memory_utilization"),
        (["--gpu_memory_utilization=0.95"], "set vllm_serve_gpu_memory_utilization"),
        (["--gpu-mem", "0.95"], "set vllm_serve_gpu_memory_utilization"),
        (["-tp", "4"], "set vllm_serve_tensor_parallel_size"),
        (["-tp=4"], "set vllm_serve_tensor_parallel_size"),
        (["-n2"], "set vllm_serve_nodes"),
        (["--compilation-config.cudagraph_mode=NONE"], "set vllm_serve_cuda_graphs"),
        (["--kv-cache-memory-bytes", "1"], "set vllm_serve_kv_cache_memory_bytes"),
        (["--spec-method=ngram"], "set vllm_serve_speculative"),
        (["-t", "4"], "set vllm_serve_tensor_parallel_size"),
        (["-c.mode=3"], "set vllm_serve_cuda_graphs"),
        (["--config", "x.yaml"], "write its keys as settings"),
        (["--config=x.yaml"], "write its keys as settings"),
        (["--conf", "x.yaml"], "write its keys as settings"),
        ("--config x.yaml", "write its keys as settings"),
        ([{"--config": "x.yaml"}], "write its keys as settings"),
        (["-O3"], "set vllm_serve_cuda_graphs"),
        (["-O", "0"], "set vllm_serve_cuda_graphs"),
        (["--optimization-level=0"], "set vllm_serve_cuda_graphs"),
        (["-dp", "2"], "more GPUs than the plan"),
        (["--data_parallel_size=2"], "more GPUs than the plan"),
        (["--num-gpu-blocks-override", "1000"], "set vllm_serve_kv_cache_memory_bytes"),
        (["--uds", "/run/vllm.sock"], "not on spark_api_port"),
        (["--grpc"], "no HTTP"),
        (["--ssl_keyfile=/k", "8"], "HTTPS"),
        ([" --seed", "1"], "write --seed"),
        (['"--seed"', "1"], "write --seed"),
        (["--seed", "hf_0000000000000000000000000000000000"], "looks like a secret"),
        (["\u2013port", "8000"], "write --port with two hyphens"),
        (["\u2014tensor-parallel-size 2"], "write --tensor-parallel-size with two hyphens"),
        ([{"--moe-backend": "marlin"}], "two elements, without the colon"),
        ([{"--api-key": "secret123"}], "use spark_api_key"),
        ([32], 'put it in quotes, "32"'),
        (['--limit-mm-per-prompt {"image":4}'], "--limit-mm-per-prompt and its value in one element"),
        ("--enable-sleep-mode", "is a text, expected a list"),
        ("--api-key secret123", "use spark_api_key"),
        (5, "is no list"),
    ],
)
def test_arguments_that_must_not_be_there(arguments: Any, words: str) -> None:
    (said,) = argument_problems(arguments)
    assert words in said
    assert "secret123" not in said
    assert "hf_0000" not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--chat-template", "/srv/models/templates/qwen3coder.jinja"],
        ["--reasoning-parser-plugin", "/srv/models/plugins/nano.py"],
        ["--max-cudagraph-capture-size", "32"],
        ['--limit-mm-per-prompt={"image": 4}'],
        ["--config-format", "mistral"],
        ["--grpc-port", "50051"],
        ["--ssl-ca-certs", "/ca"],
        ["--override-generation-config.temperature", "0.6"],
        ["--hf-overrides.rope_scaling.factor=4"],
        ["--limit-mm-per-prompt", '{"image": 4}'],
        [],
    ],
)
def test_other_arguments_pass(arguments: list[str]) -> None:
    assert argument_problems(arguments) == []


def test_what_lifts_the_context() -> None:
    assert lifts_context(["--hf-overrides", '{"rope_scaling": {"factor": 4}}'])
    assert not lifts_context(["--hf-overrides", '{"architectures": ["X"]}'])
