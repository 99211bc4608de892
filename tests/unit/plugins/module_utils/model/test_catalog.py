# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.catalog import (
    ModelDataError,
    check_model,
    find_model,
    node_problem,
)

MODELS = Path(__file__).parents[5] / "models"
GOOD = {"repo_id": "a/b", "revision": "main", "served_name": "b"}


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yml")), ids=lambda path: path.stem)
def test_every_shipped_model_is_sound(path: Path) -> None:
    check_model(yaml.safe_load(path.read_text()), path)


#: Types that vLLM 0.32.0 has a class for and transformers 5.19.0 a configuration, so that nothing of the repository need run: asked of both in
#: the simulation's image, by ModelRegistry.get_supported_archs() and CONFIG_MAPPING_NAMES.
NATIVE = {"glm4_moe", "gpt_oss", "minimax_m2", "qwen3", "qwen3_moe", "qwen3_vl_moe"}


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yml")), ids=lambda path: path.stem)
def test_no_code_of_a_repository_runs_where_vllm_has_the_class(path: Path) -> None:
    data = yaml.safe_load(path.read_text())
    assert data["config"]["model_type"] in NATIVE
    assert not data.get("trust_remote_code")


@pytest.mark.parametrize(
    "path", sorted(set(MODELS.glob("*.yml")) - {MODELS / "tiny-qwen3-moe.yml"}), ids=lambda path: path.stem
)
def test_a_model_is_at_a_commit_or_says_why_not(path: Path) -> None:
    text = path.read_text()
    commit = re.fullmatch(r"[0-9a-f]{40}", yaml.safe_load(text)["revision"])
    assert bool(commit) != ("No commit of this build is known here" in text)


def test_the_first_folder_wins(tmp_path: Path) -> None:
    own = tmp_path / "qwen3-235b-awq.yml"
    own.write_text("x")
    assert find_model("qwen3-235b-awq", [tmp_path, MODELS]) == own


@pytest.mark.parametrize(
    ("name", "words"),
    [("qwen3-235b-awk", "did you mean 'qwen3-235b-awq'?"), ("../etc/passwd", "there is no such model")],
)
def test_an_unknown_model_names_the_known(name: str, words: str) -> None:
    with pytest.raises(ModelDataError) as caught:
        find_model(name, [MODELS])
    assert words in str(caught.value)
    assert "tiny-qwen3-moe" in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no mapping"),
        ({**GOOD, "revison": "x"}, "did you mean 'revision'"),
        ({**GOOD, "max_model_len": "8192"}, "max_model_len is '8192', expected a whole number"),
        ({**GOOD, "max_model_len": True}, "expected a whole number"),
        ({"repo_id": "a/b"}, "revision is missing"),
        ({**GOOD, "quantization": "awk"}, "quantization is 'awk', expected one of bf16"),
        ({**GOOD, "min_vllm": "latest"}, "expected a version such as 0.20.0"),
        ({**GOOD, "nodes": 0}, "nodes is 0, expected at least 1"),
        ({**GOOD, "config": {"hidden_size": 1}}, "config has no model_type"),
        ({**GOOD, "config": "x"}, "expected a mapping"),
        ({**GOOD, "extra_arguments": [1]}, "quote each entry"),
    ],
)
def test_a_bad_file_names_the_key(data: Any, words: str) -> None:
    with pytest.raises(ModelDataError) as caught:
        check_model(data, Path("m.yml"))
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["qwen-nope", "qwen3-max", "kimi-k2-awq", "tiny-qwen3-mo"])
def test_a_guess_is_near_and_never_the_simulations_model(name: str) -> None:
    with pytest.raises(ModelDataError) as caught:
        find_model(name, [MODELS])
    assert "did you mean" not in str(caught.value)
    assert "known are glm-4.6-awq" in str(caught.value)


def test_a_model_for_two_is_not_served_by_one() -> None:
    assert "take 2 Sparks, and the inventory has 1" in node_problem("m", {"nodes": 2}, 1)
    assert node_problem("m", {"nodes": 2}, 2) == node_problem("m", {}, 1) == ""
