# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a hub's refusal and a store mean: the code decides what the report says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import HubError, Question, sentence
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.judge import judge_refusal, judge_store
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Inspection
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import StoreError

ASKED = Question("org/model", "main", "https://hub")
WHOLE = Inspection(
    complete=True, stamped=True, running=False, commit="a" * 40, path="/srv/models/x", files=2, bytes=8, bytes_total=8, missing=[],
    corrupt=[], extra=[], rate=0, seconds=0.0, msg="all 2 files are there.",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("repo", "hub.not_there"),
        ("revision", "hub.not_there"),
        ("gated", "hub.refused"),
        ("denied", "hub.refused"),
        ("tls", "hub.certificate"),
        ("unreachable", "hub.unreachable"),
        ("timeout", "hub.unreachable"),
        ("busy", "hub.trouble"),
    ],
)
def test_a_refusal_has_the_code_of_its_kind(kind: str, code: str) -> None:
    found = judge_refusal(HubError(kind, sentence(kind, ASKED, "5")))
    assert (found.code, found.level) == (code, "red")
    assert found.remedy


def test_what_the_store_itself_refuses_is_its_own() -> None:
    found = judge_refusal(StoreError("the store is '/'."))
    assert (found.code, found.found) == ("hub.store", "the store is '/'")


@pytest.mark.parametrize(
    ("seen", "failed", "codes"),
    [
        (WHOLE, "", ["hub.ok"]),
        (replace(WHOLE, complete=False, running=True), "", ["hub.download_runs"]),
        (replace(WHOLE, complete=False, corrupt=["a"]), "", ["hub.damaged"]),
        (replace(WHOLE, complete=False, missing=["a"]), "", ["hub.incomplete"]),
        (replace(WHOLE, complete=False, missing=["a"]), "the disk is full.", ["hub.download_failed"]),
        (
            replace(WHOLE, complete=False, running=True),
            "the disk is full.",
            ["hub.download_failed", "hub.download_runs"],
        ),
    ],
)
def test_what_the_store_holds(seen: Inspection, failed: str, codes: list[str]) -> None:
    assert [found.code for found in judge_store(seen, failed)] == codes
