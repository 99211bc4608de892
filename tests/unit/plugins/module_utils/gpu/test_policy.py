# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The policy in tables: what was seen, and what may be used then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.policy import (
    BROKEN,
    CAPABILITIES,
    POLICY,
    TRIAL_ARGUMENTS,
    Evidence,
    Trial,
    serving_choice,
    trial_from,
    verdicts,
    version,
)

GOOD = {"awq_marlin_moe": "passed", "nvfp4_gemm": "passed", "cuda_graph": "passed"}
DOCS = Path(__file__).parents[5] / "docs" / "runtime.md"


def seen(
    vllm: str = "0.33.0", nccl: str = "2.30.7", nodes: int = 2, trial: Trial | None = None, **states: str
) -> Evidence:
    reasons = {name: f"{name} said why" for name, state in states.items() if state != "passed"}
    return Evidence({**GOOD, **states}, reasons, vllm, nccl, nodes, trial)


@pytest.mark.parametrize(
    ("evidence", "capability", "verdict", "rule"),
    [
        (seen(), "awq", "allowed", "right"),
        (seen(vllm=""), "awq", "allowed", "right"),
        (seen(vllm="0.26.0"), "awq", "allowed", "right"),
        (seen(vllm="0.20.1"), "awq", "try", "right, old build"),
        (seen(awq_marlin_moe="wrong"), "awq", "refused", "broken"),
        (seen(awq_marlin_moe="crashed"), "awq", "refused", "broken"),
        (seen(awq_marlin_moe="unavailable"), "awq", "unknown", "not run"),
        (Evidence({}, {}), "awq", "unknown", "not run"),
        (seen(), "nvfp4", "try", "right"),
        (seen(vllm="0.19.1"), "nvfp4", "refused", "right, old vLLM"),
        (seen(vllm="0.20.0"), "nvfp4", "try", "right"),
        (seen(nvfp4_gemm="failed"), "nvfp4", "refused", "broken"),
        (seen(nvfp4_gemm="timed_out"), "nvfp4", "refused", "broken"),
        (seen(nvfp4_gemm="unavailable"), "nvfp4", "unknown", "not run"),
        (seen(nvfp4_gemm="unsupported"), "nvfp4", "refused", "not compiled"),
        (seen(), "cuda_graphs", "try", "to be tried"),
        (seen(nccl="2.30.4"), "cuda_graphs", "try", "to be tried"),
        (seen(nccl="2.28.9"), "cuda_graphs", "refused", "NCCL too old"),
        (seen(nccl="2.29.7"), "cuda_graphs", "refused", "NCCL too old"),
        (seen(nccl="2.9.9"), "cuda_graphs", "refused", "NCCL too old"),
        (seen(nccl=""), "cuda_graphs", "unknown", "NCCL unknown"),
        (seen(nccl="2.28.9", nodes=1), "cuda_graphs", "allowed", "one node"),
        (seen(vllm="0.20.1"), "cuda_graphs", "refused", "executor too old"),
        (seen(vllm="0.21.0"), "cuda_graphs", "try", "to be tried"),
        (seen(cuda_graph="wrong", nodes=1), "cuda_graphs", "refused", "broken"),
        (seen(cuda_graph="unavailable"), "cuda_graphs", "unknown", "not run"),
        (seen(trial=Trial(True, "0.33.0", "2.30.7")), "cuda_graphs", "allowed", "trial passed"),
        (seen(trial=Trial(False, "0.33.0", "2.30.7")), "cuda_graphs", "refused", "trial failed"),
        # A trial with other versions says nothing about these.
        (seen(trial=Trial(True, "0.32.0", "2.30.7")), "cuda_graphs", "try", "to be tried"),
        (seen(nccl="2.28.9", trial=Trial(True, "0.33.0", "2.30.7")), "cuda_graphs", "refused", "NCCL too old"),
        # One that passed with these very versions counts for more than what others report.
        (seen(nccl="2.29.7", trial=Trial(True, "0.33.0", "2.29.7")), "cuda_graphs", "allowed", "trial passed"),
        (seen(trial=Trial(True, "0.33.0", "2.30.7"), cuda_graph="failed"), "cuda_graphs", "refused", "broken"),
    ],
)
def test_verdicts(evidence: Evidence, capability: str, verdict: str, rule: str) -> None:
    found = verdicts(evidence)
    assert set(found) == set(CAPABILITIES) == {"awq", "nvfp4", "cuda_graphs"}
    assert (found[capability]["verdict"], found[capability]["rule"]) == (verdict, rule)
    for said in found.values():
        assert "{" not in said["reason"]
        assert "\n" not in said["reason"]


@pytest.mark.parametrize("state", BROKEN)
def test_a_refusal_says_what_the_kernel_said(state: str) -> None:
    found = verdicts(seen(awq_marlin_moe=state, nvfp4_gemm=state, cuda_graph=state))
    assert {said["verdict"] for said in found.values()} == {"refused"}
    assert "awq_marlin_moe said why" in found["awq"]["reason"]
    assert "FP4 gemm Runner" in found["nvfp4"]["reason"]


def test_every_rule_can_be_reached_and_is_documented() -> None:
    page = DOCS.read_text(encoding="utf-8")
    for rule in POLICY:
        assert f"| {rule.capability} | {rule.name} | {rule.verdict} |" in page, f"docs/runtime.md lacks {rule.name}"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("0.31.0+cu134", (0, 31, 0)),
        ("0.19.0rc1.dev2", (0, 19, 0)),
        ("v2.30.4", (2, 30, 4)),
        ("", ()),
        ("nightly", ()),
    ],
)
def test_version(text: str, numbers: tuple[int, ...]) -> None:
    assert version(text) == numbers


@pytest.mark.parametrize(
    ("evidence", "setting", "eager", "arguments"),
    [
        (seen(), "auto", True, []),
        (seen(), "try", False, list(TRIAL_ARGUMENTS)),
        (seen(nodes=1), "auto", False, []),
        (seen(nodes=1), "never", True, []),
        (seen(nccl="2.28.9"), "try", True, []),
        (seen(cuda_graph="unavailable"), "try", True, []),
    ],
)
def test_what_follows_for_the_server(evidence: Evidence, setting: str, eager: bool, arguments: list[str]) -> None:
    choice = serving_choice(verdicts(evidence), setting)
    assert (choice["enforce_eager"], choice["arguments"]) == (eager, arguments)
    assert choice["reason"]


def test_a_setting_that_is_none() -> None:
    with pytest.raises(ValueError, match="expected auto, try or never"):
        serving_choice(verdicts(seen()), "always")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"passed": "yes", "vllm": "0.33.0", "nccl": "2.30.7"}, "passed is 'yes'"),
        ({"passed": True, "nccl": "2.30.7"}, "vllm is None"),
        ({"passed": True, "vllm": "0.33.0", "nccl": "new"}, "nccl is 'new'"),
    ],
)
def test_a_trial_that_is_not_usable(document: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        trial_from(document)


def test_a_trial() -> None:
    assert trial_from({}) is None
    assert trial_from(None) is None
    assert trial_from({"passed": True, "vllm": "0.33.0", "nccl": "2.30.7"}) == Trial(True, "0.33.0", "2.30.7")
