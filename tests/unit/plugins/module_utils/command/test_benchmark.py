# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark benchmark`: what was measured last, and where one measures anew."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import benchmark
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import CommandError

from tests.unit.plugins.module_utils.command.world import PAIR, paper


def said(folder: Path, count: int = 1) -> str:
    terminal, out = paper()
    assert benchmark.run(PAIR, terminal, count, folder) == 0
    return out.getvalue()


def test_nothing_was_measured_yet(tmp_path: Path) -> None:
    assert said(tmp_path).startswith(
        "nothing was measured yet; to measure anew: `ansible-playbook playbooks/benchmark.yml`"
    )


def test_a_file_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.json").write_text("{}")
    said(tmp_path)
    assert "is left out: it is no benchmark of this collection" in capsys.readouterr().err


def test_results_are_on_the_head(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="run `sudo spark benchmark` on spark-1"):
        benchmark.run(dataclasses.replace(PAIR, node="spark-2"), paper()[0], 1, tmp_path)
