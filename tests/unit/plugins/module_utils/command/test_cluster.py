# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node knows of its cluster without the controller."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import CommandError, load


def test_what_is_recorded_is_read_and_what_a_newer_release_adds_is_passed_over(tmp_path: Path) -> None:
    record = tmp_path / "cluster.json"
    record.write_text(json.dumps({"node": "b", "head": "a", "addresses": {"a": "1", "b": "2"}, "colour": "red"}))
    found = load(record)
    assert (found.on_head, found.others) == (False, ["a"])


@pytest.mark.parametrize(
    ("text", "said"), [("", "missing or no JSON"), ("[]", "missing or no JSON"), ("{}", "does not name node and head")]
)
def test_what_is_no_record_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    record = tmp_path / "cluster.json"
    if text:
        record.write_text(text)
    with pytest.raises(CommandError, match=said):
        load(record)
