# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.against_flags import (
    SnapshotError,
    is_nvfp4,
    rank_problem,
    read_config,
    read_template,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape

MODELS = Path(__file__).parents[5] / "models"
DATA = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(MODELS.glob("*.yml"))}


def heads(attention: int, key_value: int, layers: int = 48) -> dict[str, Any]:
    return {"num_attention_heads": attention, "num_key_value_heads": key_value, "num_hidden_layers": layers}


@pytest.mark.parametrize(
    ("config", "size", "stages", "words"),
    [
        (heads(64, 4), 4, 1, ""),
        (heads(64, 4), 8, 1, ""),
        (heads(96, 8), 4, 1, ""),
        (heads(14, 2), 4, 1, "set tensor_parallel_size to 2 and pipeline_parallel_size to 2"),
        (heads(25, 5), 2, 1, "set tensor_parallel_size to 1 and pipeline_parallel_size to 2"),
        (heads(64, 4), 3, 1, "which 3 ranks cannot share evenly"),
        (heads(64, 4, layers=2), 1, 4, "2 layers, too few for pipeline_parallel_size 4"),
        ({"text_config": heads(14, 2)}, 4, 1, "14 attention heads"),
        ({}, 4, 1, ""),
    ],
)
def test_ranks_share_heads_evenly(config: dict[str, Any], size: int, stages: int, words: str) -> None:
    said = rank_problem(config, size, stages, size * stages)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_every_shipped_model_divides_among_one_two_and_four(name: str, size: int) -> None:
    assert rank_problem(DATA[name]["config"], size, 1, size) == ""


@pytest.mark.parametrize("name", [name for name in DATA if "parameters_billion" in DATA[name]])
def test_the_sizes_of_every_shipped_model_give_its_published_count(name: str) -> None:
    """Within 0.5 %; a layer for speculative decoding counts where the published figure holds it."""
    shape = ModelShape.from_config(DATA[name]["config"])
    counted = (shape.parameter_count() + shape.draft_parameter_count()) / 1e9
    assert counted == pytest.approx(DATA[name]["parameters_billion"], rel=0.005)


@pytest.mark.parametrize("name", [name for name in DATA if name != "tiny-qwen3-moe"])
def test_what_a_model_says_of_its_weights_is_what_its_config_says(name: str) -> None:
    assert is_nvfp4(DATA[name]["config"]) == (DATA[name]["quantization"] == "nvfp4")
    said = (DATA[name]["config"].get("quantization_config") or {}).get("quant_method", "bf16")
    expected = {"nvfp4": "modelopt"}.get(DATA[name]["quantization"], DATA[name]["quantization"])
    assert said in (expected, "compressed-tensors")


def mixed(layers: dict[str, Any]) -> dict[str, Any]:
    said = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    return {"quantization_config": said}


def groups(*each: dict[str, Any]) -> dict[str, Any]:
    said = {"quant_method": "compressed-tensors", "format": "mixed-precision"}
    return {"quantization_config": {**said, "config_groups": {f"group_{i}": one for i, one in enumerate(each)}}}


@pytest.mark.parametrize(
    ("config", "answer"),
    [
        ({}, False),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, True),
        ({"quantization_config": {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4"}}}, True),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, False),
        ({"quantization_config": {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}}, True),
        ({"text_config": {"quantization_config": {"quant_method": "modelopt_fp4", "quant_algo": "NVFP4"}}}, True),
        ({"quantization_config": {"quant_method": "mxfp4"}}, False),
        ({"compression_config": {"format": "nvfp4-pack-quantized"}}, True),
        ({"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A16_NVFP4"}}, True),
        (mixed({"a": {"quant_algo": "FP8"}, "b": {"quant_algo": "NVFP4"}}), True),
        (mixed({"a": {"quant_algo": "FP8"}}), False),
        (groups({"format": "float-quantized"}, {"format": "nvfp4-pack-quantized"}), True),
        (groups({"weights": {"type": "float", "num_bits": 4, "group_size": 16, "strategy": "tensor_group"}}), True),
        (groups({"weights": {"type": "float", "num_bits": 4, "strategy": "tensor_group"}}), True),
        (groups({"weights": {"type": "float", "num_bits": 4, "group_size": 32, "strategy": "group"}}), False),
        (groups({"weights": {"type": "int", "num_bits": 4, "group_size": 16}}), False),
        ({"quantization_config": {"quant_algo": "FP8", "kv_cache_quant_algo": "NVFP4"}}, False),
        ({"quantization_config": {"kv_cache_scheme": {"format": "nvfp4"}, "ignore": ["lm_head"]}}, False),
        ({"quantization_config": None}, False),
    ],
)
def test_nvfp4_is_told_by_the_config(config: dict[str, Any], answer: bool) -> None:
    assert is_nvfp4(config) is answer


def test_the_template_that_a_server_would_take(tmp_path: Path) -> None:
    assert read_template(tmp_path) == ""
    tokenizer = tmp_path / "tokenizer_config.json"
    tokenizer.write_text(json.dumps({"chat_template": "plain"}), encoding="utf-8")
    assert read_template(tmp_path) == "plain"
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    tokenizer.write_text(json.dumps({"chat_template": named}), encoding="utf-8")
    assert read_template(tmp_path) == "t"
    (tmp_path / "chat_template.json").write_text(json.dumps({"chat_template": "json"}), encoding="utf-8")
    assert read_template(tmp_path) == "json"
    (tmp_path / "chat_template.jinja").write_text("jinja", encoding="utf-8")
    assert read_template(tmp_path) == "jinja"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="run role model_download first"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(SnapshotError, match="is no JSON"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(SnapshotError, match="no mapping"):
        read_config(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(SnapshotError, match="cannot be read"):
        read_template(tmp_path)


def test_quantization_beside_a_config_without_any(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 2}', encoding="utf-8")
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}', encoding="utf-8")
    assert is_nvfp4(read_config(tmp_path))
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_algo": "FP8"}}', encoding="utf-8")
    assert not is_nvfp4(read_config(tmp_path))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.safetensors"], "without which vLLM does not know the model"),
        (["adapter_config.json", "adapter_model.safetensors"], "it is an adapter"),
        (["README.md", "model-Q4_K_M.gguf"], "it holds GGUF files"),
    ],
)
def test_a_repository_without_config_is_no_broken_download(tmp_path: Path, names: list[str], words: str) -> None:
    for name in [".manifest", *names]:
        (tmp_path / name).touch()
    with pytest.raises(SnapshotError, match=words) as caught:
        read_config(tmp_path)
    assert "download" not in str(caught.value)


def test_a_repository_in_mistrals_own_format(tmp_path: Path) -> None:
    own = {
        "dim": 4096,
        "n_layers": 3,
        "n_heads": 6,
        "n_kv_heads": 2,
        "quantization": {"format": "nvfp4-pack-quantized"},
    }
    (tmp_path / "params.json").write_text(json.dumps(own), encoding="utf-8")
    config = read_config(tmp_path)
    assert is_nvfp4(config)
    assert "6 attention heads and 2 KV heads" in rank_problem(config, 4, 1, 4)


def test_values_of_another_type_are_no_traceback() -> None:
    assert (
        rank_problem({"num_attention_heads": 64, "num_key_value_heads": [4, 8], "num_hidden_layers": 2}, 3, 1, 3) == ""
    )
    assert rank_problem({"text_config": "x", "num_attention_heads": "64"}, 3, 1, 3) == ""
    assert not is_nvfp4({"text_config": "x"})
