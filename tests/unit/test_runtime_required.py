# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What role runtime_check asks of a node for a model, from the default of its setting."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

DEFAULTS = Path(__file__).parents[2] / "roles" / "runtime_check" / "defaults" / "main.yml"


@pytest.mark.parametrize(
    ("model", "required"),
    [
        ({"repo_id": "a/b", "quantization": "awq"}, ["awq"]),
        ({"repo_id": "a/b", "quantization": "nvfp4"}, ["nvfp4"]),
        ({"repo_id": "a/b-FP4", "quantization": "mxfp4"}, []),
        ({"repo_id": "a/b-AWQ", "quantization": "gptq"}, []),
        ({"repo_id": "a/b-AWQ"}, ["awq"]),
        ({"repo_id": "a/b-FP4"}, ["nvfp4"]),
        ({"repo_id": "a/b-MXFP4"}, []),
        ({"repo_id": "a/b"}, []),
    ],
)
def test_the_models_file_says_and_its_name_only_where_it_does_not(model: dict[str, str], required: list[str]) -> None:
    text = yaml.safe_load(DEFAULTS.read_text(encoding="utf-8"))["runtime_check_required"]
    # A templar without Ansible's finder of collections knows no lookup of ours.
    asked = "lookup('dgx_spark.vllm.setting', 'vllm_serve_cuda_graphs')"
    assert asked in text
    text = text.replace(asked, "graphs")
    templar = Templar(loader=DataLoader(), variables={"__runtime_check_model": model, "graphs": "auto"})
    assert templar.template(trust_as_template(text)) == required
