# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import (
    FlagError,
    ParserOptions,
    ServeIntents,
    check_version,
    commands,
    render,
    version_tuple,
)

from tests.unit.plugins.module_utils.vllm.flag_cases import CASES

SNAPSHOTS = sorted(
    (Path(__file__).parents[1] / "fixtures" / "vllm_parsers").glob("*.json"), key=lambda path: version_tuple(path.stem)
)


def intents(**changes: Any) -> ServeIntents:
    return ServeIntents(
        **{
            "model_path": "/srv/models/m",
            "served_model_name": "qwen3-235b-awq",
            "tensor_parallel_size": 2,
            "port": 8235,
            **changes,
        }
    )


def test_the_executor_is_always_named() -> None:
    command = render(intents()).command
    assert command[:3] == ["vllm", "serve", "/srv/models/m"]
    assert "--distributed-executor-backend ray" in " ".join(command)


def test_the_seeds_settings_become_flags() -> None:
    wanted = intents(
        max_model_len=8192,
        gpu_memory_utilization=0.75,
        enforce_eager=True,
        trust_remote_code=True,
        tool_call_parser="hermes",
    )
    command = " ".join(render(wanted).command)
    for flag in (
        "--port 8235",
        "--max-model-len 8192",
        "--gpu-memory-utilization 0.75",
        "--enforce-eager",
        "--trust-remote-code",
        "--enable-auto-tool-choice --tool-call-parser hermes",
    ):
        assert flag in command
    assert "swap" not in command


def test_a_context_that_the_server_finds() -> None:
    assert "--max-model-len auto" in " ".join(render(intents(max_model_len="auto")).command)


def test_no_parser_no_tool_choice() -> None:
    assert "--enable-auto-tool-choice" not in render(intents()).command


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size"),
        ({"gpu_memory_utilization": 75}, "between 0.1 and 0.98"),
        ({"max_model_len": 0}, "at least 1"),
        ({"max_model_len": "long"}, "max_model_len is 'long', expected a whole number or auto"),
        ({"executor": "k8s"}, "one of ray, mp"),
        ({"cuda_graphs": "on"}, "one of eager, piecewise, decode, full"),
        ({"nodes": 4}, "4 nodes cannot hold 2 x 1 ranks"),
        ({"executor": "mp", "nodes": 2}, "master_address"),
        ({"nodes": 2, "node_rank": 2}, "node_rank is 2, expected 0 to 1"),
    ],
)
def test_bad_intents(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        intents(**change)


@pytest.mark.parametrize(
    ("given", "mode", "flag"),
    [
        ({}, "eager", "--enforce-eager"),
        ({"enforce_eager": True, "cuda_graphs": "full"}, "eager", "--enforce-eager"),
        ({"enforce_eager": False}, "full", '{"cudagraph_mode":"FULL_AND_PIECEWISE"}'),
        ({"cuda_graphs": "decode"}, "decode", '{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY"}'),
        ({"enforce_eager": False, "cuda_graphs": "piecewise"}, "piecewise", '{"cudagraph_mode":"PIECEWISE"}'),
    ],
)
def test_graph_modes(given: dict[str, Any], mode: str, flag: str) -> None:
    wanted = intents(**given)
    assert wanted.cuda_graphs == mode
    assert flag in render(wanted).command


def snapshot(version: str) -> dict[str, Any]:
    path = next(path for path in SNAPSHOTS if path.stem == version)
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def options(version: str) -> ParserOptions:
    return ParserOptions.from_json(snapshot(version))


SUPPORTED = [path.stem for path in SNAPSHOTS if version_tuple(path.stem) >= (0, 20)]


def test_every_minor_release_is_there() -> None:
    assert [version_tuple(version)[:2] for version in SUPPORTED] == [(0, minor) for minor in range(20, 34)]


@pytest.mark.parametrize("version", SUPPORTED)
@pytest.mark.parametrize("case", CASES)
def test_the_real_parser_took_what_is_rendered_today(version: str, case: str) -> None:
    """When this fails the command lines changed: run fixtures/vllm_parsers/make.py, which shows them to the parsers again."""
    said = snapshot(version)["said"]
    for rank, line in enumerate(commands(CASES[case], options(version))[0]):
        assert said[f"{case} {rank}"] == {"line": line, "refused": ""}


@pytest.mark.parametrize("version", [path.stem for path in SNAPSHOTS])
def test_the_real_parser_refuses_what_is_gone(version: str) -> None:
    assert snapshot(version)["said"]["gone flag"]["refused"].startswith("unrecognized arguments: --swap-space")


def test_swap_space_is_dropped_with_the_reason() -> None:
    found = render(intents(swap_space_gib=16), options("0.33.0"))
    assert "--swap-space" not in found.command
    assert found.notes[0].startswith(
        "swap_space_gib is dropped, vLLM 0.33.0 has no --swap-space: the flag is gone since 0.18.0"
    )


def test_a_drain_is_asked_for_where_the_parser_knows_it_and_of_the_server_alone() -> None:
    wanted = intents(drain_timeout=30, executor="mp", master_address="192.168.100.10", nodes=2)
    lines = commands(wanted, options("0.33.0"))[0]
    assert [line.count("--shutdown-timeout") for line in lines] == [1, 0]
    assert render(wanted).command[-2:] == ["--shutdown-timeout", "30"]
    assert "--shutdown-timeout" not in render(intents(drain_timeout=0), options("0.33.0")).command
    old = options("0.33.0")
    unknown = replace(
        old, options={name: option for name, option in old.options.items() if name != "--shutdown-timeout"}
    )
    found = render(wanted, unknown)
    assert "--shutdown-timeout" not in found.command
    assert found.notes == [
        "drain_timeout is dropped, vLLM 0.33.0 has no --shutdown-timeout: a stop cuts the requests that run"
    ]
    with pytest.raises(ValueError, match="drain_timeout is -1, expected 0 or more seconds"):
        intents(drain_timeout=-1)


@pytest.mark.parametrize(
    ("version", "wanted", "words"),
    [
        (
            "0.31.0",
            {"tool_call_parser": "qwen3_cod"},
            "vLLM 0.31.0 in this image does not know: nearest are qwen3_coder",
        ),
        ("0.23.0", {"tool_call_parser": "minimax_m3"}, "nearest are minimax_m2"),
        ("0.33.0", {"reasoning_parser": "gpt"}, "nearest are"),
        ("0.33.0", {"kv_cache_dtype": "fp9"}, "nearest are fp8"),
        ("0.20.0", {"load_format": "modelexpres"}, "which vLLM 0.20.0"),
        ("0.20.0", {"safetensors_load_strategy": "mmap"}, "it knows lazy, eager, prefetch, torchao"),
        ("0.33.0", {"quantization": "gguf"}, "quantization is 'gguf'"),
    ],
)
def test_what_a_release_does_not_know_is_one_sentence(version: str, wanted: dict[str, Any], words: str) -> None:
    with pytest.raises(FlagError) as caught:
        render(intents(**wanted), options(version))
    assert words in str(caught.value)


def test_extra_arguments_are_left_to_the_parser_itself() -> None:
    extra = ["--moe-backend", "marlin", "--compilation-config.mode=0", "-O3", "--no-enable-prefix-caching"]
    assert render(intents(extra_arguments=extra), options("0.32.0")).command[-5:] == extra


def test_old_releases_are_refused() -> None:
    with pytest.raises(FlagError, match=r"older than 0\.20"):
        render(intents(), options("0.19.1"))
    with pytest.raises(FlagError, match=r"needs vLLM 0\.24\.0 and the image holds 0\.20\.0"):
        check_version(options("0.20.0"), "0.24.0")
    check_version(options("0.24.0"), "0.24.0")


@pytest.mark.parametrize(
    ("version", "parts"), [("0.31.0+cu134.nv26.10", (0, 31, 0)), ("0.20.0rc1", (0, 20, 0)), ("dev", ())]
)
def test_versions(version: str, parts: tuple[int, ...]) -> None:
    assert version_tuple(version) == parts


def test_four_nodes_without_ray() -> None:
    lines, _notes = commands(CASES["mp four"], options("0.33.0"))
    assert len(lines) == 4
    for rank, line in enumerate(lines):
        text = " ".join(line)
        assert f"--distributed-executor-backend mp --nnodes 4 --node-rank {rank} --master-addr 192.168.100.10" in text
        assert ("--headless" in line, "--port" in line) == (rank > 0, rank == 0)


def test_one_node_without_ray_needs_no_peers() -> None:
    lines, _notes = commands(CASES["one node"], options("0.33.0"))
    assert len(lines) == 1
    assert "--nnodes" not in lines[0]
    assert "--distributed-executor-backend mp" in " ".join(lines[0])


def test_what_was_renamed_is_mapped_and_said() -> None:
    found = render(intents(tool_call_parser="qwen3_json"), options("0.31.0"))
    assert found.command[-1] == "hermes"
    assert found.notes == ["tool_call_parser qwen3_json is called hermes in vLLM 0.31.0"]
    assert render(intents(tool_call_parser="qwen3_json"), options("0.32.0")).command[-1] == "qwen3_json"


def test_a_pool_of_stated_size() -> None:
    for path in (path for path in SNAPSHOTS if version_tuple(path.stem) >= (0, 20)):
        options = ParserOptions.from_json(json.loads(path.read_text()))
        command = render(intents(kv_cache_memory_bytes=12 * 1024**3), options).command
        assert command[command.index("--kv-cache-memory-bytes") + 1] == "12884901888"
    assert "--kv-cache-memory-bytes" not in render(intents()).command
    with pytest.raises(ValueError, match="kv_cache_memory_bytes is 0, expected at least 1 byte"):
        intents(kv_cache_memory_bytes=0)
