# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What may be used on this machine with this image: AWQ, NVFP4, CUDA graphs. The table ``POLICY`` is the whole policy.

Rules are read from the top, the first that fits a capability decides. What ran decides before what is listed: no wheel lists
sm_121, and code for sm_120 runs on it. Reports that a rule rests on are named in docs/runtime.md, which shows the table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: May be used; may be used in a trial that is watched; must not be used; nothing is known yet.
ALLOWED, TRY, REFUSED, UNKNOWN = "allowed", "try", "refused", "unknown"
#: States of a check in which its kernel was asked and did not give the right answer.
BROKEN = ("wrong", "failed", "crashed", "timed_out")

#: First NCCL with which graphs across two Sparks are reported to run; 2.28.9 hung within three requests.
NCCL_GRAPHS = (2, 30, 4)
#: vLLM whose compiled AWQ experts are known to hold code for sm_120, and the last whose NVFP4 was reported wrong on GB10.
VLLM_AWQ_SM120, VLLM_NVFP4_WRONG = (0, 26), (0, 19)
#: vLLM whose executor over Ray is RayExecutorV2 by default; the one before it hung on two Sparks even without graphs.
VLLM_RAY_V2 = (0, 21)
#: What a trial of graphs starts with: whole decode steps without a compiler (graph_trial.ORDER says why, role vllm_graphs tries it).
TRIAL_ARGUMENTS = ("--compilation-config", '{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY"}')


@dataclass(frozen=True)
class Trial:
    """What a soak with CUDA graphs found, and with which versions: it holds for these alone."""

    passed: bool
    vllm: str
    nccl: str


@dataclass(frozen=True)
class Evidence:
    """What the policy looks at; empty text stands for a version that is not known."""

    states: Mapping[str, str]
    reasons: Mapping[str, str]
    vllm: str = ""
    nccl: str = ""
    nodes: int = 1
    trial: Trial | None = None

    def state(self, check: str) -> str:
        """Return the state of a check; ``not_run`` for one that was not made."""
        return self.states.get(check, "not_run")

    def reason(self, check: str) -> str:
        """Return why a check did not pass."""
        return self.reasons.get(check) or "it was not run"

    def trial_fits(self) -> bool:
        """Say whether the trial was made with this vLLM and this NCCL."""
        return self.trial is not None and (self.trial.vllm, self.trial.nccl) == (self.vllm, self.nccl)


@dataclass(frozen=True)
class Rule:
    """One line of the policy: for which capability, when, which verdict, the reason as a template, and what to do about it."""

    capability: str
    name: str
    when: Callable[[Evidence], bool]
    verdict: str
    reason: str
    remedy: str = ""


def version(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``0.31.0+cu134`` is (0, 31, 0). Empty for text that starts with none.

    A release candidate or a development build counts as its release: images carry such builds.
    """
    match = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def _below(text: str, limit: tuple[int, ...]) -> bool:
    return bool(version(text)) and version(text)[: len(limit)] < limit


def _up_to(text: str, limit: tuple[int, ...]) -> bool:
    return bool(version(text)) and version(text)[: len(limit)] <= limit


POLICY: tuple[Rule, ...] = (
    # --- AWQ: Marlin's layer of experts gives right results, or it does not ---
    Rule(
        "awq",
        "broken",
        lambda seen: seen.state("awq_marlin_moe") in BROKEN,
        REFUSED,
        "Marlin's kernel for experts with AWQ weights does not work here: {awq_marlin_moe}",
        "take another serving image, or a model whose weights are not AWQ",
    ),
    Rule(
        "awq",
        "not run",
        lambda seen: seen.state("awq_marlin_moe") != "passed",
        UNKNOWN,
        "whether Marlin's kernel for experts with AWQ weights works here is not known: {awq_marlin_moe}",
        "see the findings of the checks before it, and run the kernel check again",
    ),
    Rule(
        "awq",
        "right, old build",
        lambda seen: _below(seen.vllm, VLLM_AWQ_SM120),
        TRY,
        "Marlin's kernel gave right results, but vLLM {vllm} is older than 0.26, whose builds are known to hold code for GB10: "
        "older ones were reported to silently write gibberish",
        "check an answer before you trust it",
    ),
    Rule(
        "awq", "right", lambda _seen: True, ALLOWED, "Marlin's kernel for experts with AWQ weights gave right results"
    ),
    # --- NVFP4: refused where its kernels fail, with what is known from GB10 ---
    Rule(
        "nvfp4",
        "broken",
        lambda seen: seen.state("nvfp4_gemm") in BROKEN,
        REFUSED,
        "the NVFP4 kernels do not work here ({nvfp4_gemm}); on GB10 CUTLASS kernels were not fully compiled for sm_121a, and "
        "FlashInfer's fallback fails with 'FP4 gemm Runner'",
        "take the AWQ model",
    ),
    Rule(
        "nvfp4",
        "not compiled",
        lambda seen: seen.state("nvfp4_gemm") == "unsupported",
        REFUSED,
        "{nvfp4_gemm}",
        "take the AWQ model",
    ),
    Rule(
        "nvfp4",
        "not run",
        lambda seen: seen.state("nvfp4_gemm") != "passed",
        UNKNOWN,
        "whether the NVFP4 kernels work here is not known: {nvfp4_gemm}",
        "see the findings of the checks before it, and run the kernel check again",
    ),
    Rule(
        "nvfp4",
        "right, old vLLM",
        lambda seen: _up_to(seen.vllm, VLLM_NVFP4_WRONG),
        REFUSED,
        "one NVFP4 product was right, but with vLLM up to 0.19 (here {vllm}) others were reported wrong or slow on GB10",
        "take a newer image, or the AWQ model",
    ),
    Rule(
        "nvfp4",
        "right",
        lambda _seen: True,
        TRY,
        "an NVFP4 product was right; the layer of experts has kernels of its own that this check does not run, and recipes for "
        "GB10 still give `--moe-backend marlin`",
        "try it, and compare answers with the AWQ model's",
    ),
    # --- CUDA graphs: the kernel on one node; NCCL, vLLM and a trial where a graph holds a collective between machines ---
    Rule(
        "cuda_graphs",
        "broken",
        lambda seen: seen.state("cuda_graph") in BROKEN,
        REFUSED,
        "a captured graph does not replay correctly on this GPU: {cuda_graph}",
        "stay eager, or take another serving image",
    ),
    Rule(
        "cuda_graphs",
        "not run",
        lambda seen: seen.state("cuda_graph") != "passed",
        UNKNOWN,
        "whether CUDA graphs work here is not known ({cuda_graph})",
        "stay eager until it is",
    ),
    Rule(
        "cuda_graphs",
        "one node",
        lambda seen: seen.nodes < 2,
        ALLOWED,
        "captured graphs replay correctly, and on one node no graph holds a collective between machines",
    ),
    Rule(
        "cuda_graphs",
        "trial failed",
        lambda seen: seen.trial_fits() and seen.trial is not None and not seen.trial.passed,
        REFUSED,
        "the trial of graphs with vLLM {vllm} and NCCL {nccl} failed",
        "stay eager, or take another serving image",
    ),
    Rule(
        "cuda_graphs",
        "trial passed",
        lambda seen: seen.trial_fits(),
        ALLOWED,
        "captured graphs replay correctly, and the trial between the nodes with vLLM {vllm} and NCCL {nccl} passed",
    ),
    Rule(
        "cuda_graphs",
        "NCCL unknown",
        lambda seen: not version(seen.nccl),
        UNKNOWN,
        "the image does not say which NCCL it loads, and graphs between two Sparks depend on it",
        "stay eager, or take another serving image",
    ),
    Rule(
        "cuda_graphs",
        "NCCL too old",
        lambda seen: _below(seen.nccl, NCCL_GRAPHS),
        REFUSED,
        "NCCL {nccl} is older than 2.30.4: graphs that hold a collective between two Sparks were reported to hang with 2.28.9 "
        "and to run with 2.30.4",
        "take an image with a newer NCCL, or stay eager",
    ),
    Rule(
        "cuda_graphs",
        "executor too old",
        lambda seen: _below(seen.vllm, VLLM_RAY_V2),
        REFUSED,
        "vLLM {vllm} runs over Ray's compiled graphs by default (before 0.21), which were reported to hang on two Sparks",
        "take a newer image, or stay eager",
    ),
    Rule(
        "cuda_graphs",
        "to be tried",
        lambda _seen: True,
        TRY,
        "captured graphs replay correctly and NCCL {nccl} is new enough, but between these nodes they have not been tried",
        "site.yml tries them where vllm_serve_cuda_graphs is auto",
    ),
)

CAPABILITIES = tuple(dict.fromkeys(rule.capability for rule in POLICY))


def verdicts(seen: Evidence) -> dict[str, dict[str, str]]:
    """Return for each capability ``verdict``, ``reason``, ``remedy`` (empty for none) and the ``rule`` that decided."""
    words = {check: seen.reason(check) for check in ("awq_marlin_moe", "nvfp4_gemm", "cuda_graph")}
    words |= {"vllm": seen.vllm or "of unknown version", "nccl": seen.nccl or "of unknown version"}
    found: dict[str, dict[str, str]] = {}
    for rule in POLICY:
        if rule.capability not in found and rule.when(seen):
            found[rule.capability] = {
                "verdict": rule.verdict,
                "reason": rule.reason.format(**words),
                "remedy": rule.remedy,
                "rule": rule.name,
            }
    return found


def serving_choice(decided: Mapping[str, Mapping[str, str]], setting: str = "auto") -> dict[str, Any]:
    """Return what follows for the server's command line.

    Args:
        decided: what :func:`verdicts` returned.
        setting: ``auto`` takes graphs where they are allowed; ``try`` also where they are to be tried; ``never`` stays eager.

    Returns:
        ``enforce_eager``, further ``arguments`` of ``vllm serve``, and the ``reason``.

    Raises:
        ValueError: another setting.
    """
    if setting not in ("auto", "try", "never"):
        raise ValueError(f"CUDA graphs are {setting!r}, expected auto, try or never")
    graphs = decided["cuda_graphs"]
    if setting == "never":
        return {"enforce_eager": True, "arguments": [], "reason": "eager, as set"}
    if graphs["verdict"] == ALLOWED:
        return {"enforce_eager": False, "arguments": [], "reason": graphs["reason"]}
    if graphs["verdict"] == TRY and setting == "try":
        return {"enforce_eager": False, "arguments": list(TRIAL_ARGUMENTS), "reason": graphs["reason"]}
    return {"enforce_eager": True, "arguments": [], "reason": graphs["reason"]}


def trial_from(document: Mapping[str, Any] | None) -> Trial | None:
    """Return a trial from settings or a record: ``passed``, ``vllm``, ``nccl``; None for none.

    Raises:
        ValueError: a part is missing or of another type.
    """
    if not document:
        return None
    if not isinstance(document.get("passed"), bool):
        raise ValueError(f"trial: passed is {document.get('passed')!r}, expected true or false")
    for name in ("vllm", "nccl"):
        if not version(str(document.get(name) or "")):
            raise ValueError(
                f"trial: {name} is {document.get(name)!r}, expected the version that the trial was made with, such as 2.30.7"
            )
    return Trial(document["passed"], str(document["vllm"]), str(document["nccl"]))
