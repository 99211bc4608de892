# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Which mode of CUDA graphs the server runs in: what is tried, in which order, what counts as passed, and what is remembered.

Pure decisions and one small file on the head. Asking the server is graph_probe.py; the restarts are role vllm_graphs. Where an
order or a limit rests on somebody's report, docs/cuda-graphs.md names it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..system.files import read_json, write_atomic

EAGER = "eager"
#: Modes that `auto` tries, the safest first. `decode` captures whole decode steps and needs no compiler: on two Sparks it held where
#: FULL_AND_PIECEWISE hung within twenty requests, at the same speed (vllm#40969). `piecewise` ran where whole steps hung, but compiles.
#: `full` is both at once, compiled, and a few percent faster (docs/gpu-runs.md): between nodes those are not worth its hangs.
ORDER = ("decode", "piecewise")
#: On one node no graph holds a collective between machines: what hung there has no place here, and a trial sees wrong text.
ORDER_ONE_NODE = ("full", "decode", "piecewise")
MODES = (EAGER, *ORDER_ONE_NODE)
SETTINGS = ("auto", "on", "off")

#: States of one mode. A mode that is being tried is written down before anything is restarted.
TRYING, PASSED, FAILED = "trying", "passed", "failed"
#: Ways to fail. Only an interruption says nothing about the mode.
HANG, CRASH, TEXT, START, REBOOT, INTERRUPTED = "hang", "crash", "text", "start", "reboot", "interrupted"
#: A mode whose trial was broken off this often counts as failed.
MOST_INTERRUPTIONS = 2

#: Largest difference in log probability (nats) at which eager itself may be said to have hesitated between two tokens. Logits come as
#: bfloat16, whose steps are 0.125 between 16 and 32; a kernel that adds up in another order moves each by a step or two.
NEAR_TIE = 0.5
#: However much eager differs from itself, a gap above this is another answer.
WIDEST_TIE = 2.0
#: One token this often in a row, where eager wrote none such, is what a broken graph writes ("!!!!!!!!").
REPEATED = 12

FORMAT = 1
RECORD = Path("/var/lib/dgx-spark/graph-trials.json")


class TrialError(Exception):
    """One sentence for the user."""


# --- what is remembered -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrialKey:
    """What an outcome holds for. ``nccl`` may be empty where nobody looked: the image decides it anyway."""

    image_id: str
    model_commit: str
    nodes: int
    nccl: str = ""
    executor: str = "ray"

    def __post_init__(self) -> None:
        for name in ("image_id", "model_commit"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: an outcome must be remembered for one image and one model")
        if self.nodes < 1:
            raise ValueError(f"nodes is {self.nodes}, expected at least 1")

    def fits(self, other: Mapping[str, Any]) -> bool:
        """Say whether an entry of the trial record is for this key; an unknown NCCL fits any."""
        if any(other.get(name) != getattr(self, name) for name in ("image_id", "model_commit", "nodes", "executor")):
            return False
        return not self.nccl or not other.get("nccl") or other["nccl"] == self.nccl


def read_record(path: Path) -> dict[str, Any]:
    """Return the trial record; an empty one where there is none, or where it is not usable: its trials are then made again."""
    record = read_json(path)
    if record is None or record.get("format") != FORMAT or not isinstance(record.get("trials"), list):
        return {"format": FORMAT, "trials": []}
    return {"format": FORMAT, "trials": [entry for entry in record["trials"] if _sound(entry)]}


def _sound(entry: Any) -> bool:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("key"), dict)
        or not isinstance(entry.get("modes"), dict)
    ):
        return False
    return all(isinstance(outcome, dict) and outcome.get("state") for outcome in entry["modes"].values())


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the trial record in one step: a run that is killed leaves the old one or the new one."""
    write_atomic(path, json.dumps(record, indent=1, sort_keys=True) + "\n")


def find(record: Mapping[str, Any], key: TrialKey) -> dict[str, Any] | None:
    """Return the newest entry for a key, or None."""
    fitting = [entry for entry in record["trials"] if key.fits(entry["key"])]
    return fitting[-1] if fitting else None


def entry_for(record: dict[str, Any], key: TrialKey) -> dict[str, Any]:
    """Return the entry for a key, a new one at the end of the trial record where there is none. Keeps the twenty newest."""
    entry = find(record, key)
    if entry is None:
        entry = {"key": asdict(key), "modes": {}}
        record["trials"] = [*record["trials"], entry][-20:]
    elif key.nccl and not entry["key"].get("nccl"):
        entry["key"]["nccl"] = key.nccl
    return entry


def begin(entry: dict[str, Any], mode: str, boot_id: str, now: str) -> None:
    """Write down that a mode is about to be tried."""
    if mode not in MODES or mode == EAGER:
        raise TrialError(f"mode is {mode!r}, expected one of {', '.join(MODES[1:])}")
    before = entry["modes"].get(mode, {})
    entry["modes"][mode] = {
        "state": TRYING,
        "boot_id": boot_id,
        "at": now,
        "interruptions": int(before.get("interruptions") or 0),
    }


def end(entry: dict[str, Any], mode: str, now: str, *, kind: str = "", reason: str = "", **figures: Any) -> None:
    """Write down how a trial ended: passed without a ``kind``, else failed for a ``reason``. The first verdict stays."""
    known = entry["modes"].get(mode, {})
    if known.get("state") == FAILED:
        return
    if kind:
        entry["modes"][mode] = {"state": FAILED, "kind": kind, "reason": reason, "at": now, **figures}
    else:
        entry["modes"][mode] = {"state": PASSED, "at": now, **figures}


def heal(entry: dict[str, Any], boot_id: str, now: str) -> list[str]:
    """Close trials that a killed run left open; returns a sentence for each.

    The machine was rebooted in the middle: the mode counts as failed, because graphs were seen to take a node down. The run
    alone ended: that says nothing of the mode, which is tried once more.
    """
    said = []
    for mode, outcome in entry["modes"].items():
        if outcome["state"] != TRYING:
            continue
        interruptions = int(outcome.get("interruptions") or 0) + 1
        if outcome.get("boot_id") != boot_id:
            kind, reason = REBOOT, "the machine was rebooted during the trial"
        else:
            kind, reason = INTERRUPTED, "the run ended during the trial"
        entry["modes"][mode] = {
            "state": FAILED,
            "kind": kind,
            "reason": reason,
            "at": now,
            "interruptions": interruptions,
        }
        said.append(f"{mode}: {reason}")
    return said


def retry(outcome: Mapping[str, Any]) -> bool:
    """Say whether a failed mode may be tried again: it was only interrupted, and not too often."""
    return outcome.get("kind") == INTERRUPTED and int(outcome.get("interruptions") or 0) < MOST_INTERRUPTIONS


# --- the choice ---------------------------------------------------------------------------------------------------


def order_for(nodes: int) -> tuple[str, ...]:
    """Return the modes to try on so many nodes, the first wanted first."""
    return ORDER_ONE_NODE if nodes == 1 else ORDER


@dataclass(frozen=True)
class Choice:
    """The mode that the unit is written with now, the modes to try after the start, and why, in one sentence."""

    mode: str
    candidates: tuple[str, ...] = ()
    reason: str = ""
    warning: str = ""


@dataclass(frozen=True)
class GraphRequest:
    """What is asked for, and what the runtime's policy says (``allowed``, ``try``, ``refused``, ``unknown``)."""

    setting: str = "auto"
    verdict: str = "unknown"
    verdict_reason: str = ""
    order: tuple[str, ...] = ORDER
    pipeline_parallel_size: int = 1

    def __post_init__(self) -> None:
        if self.setting not in SETTINGS:
            raise ValueError(f"CUDA graphs are {self.setting!r}, expected {', '.join(SETTINGS)}")
        for mode in self.order:
            if mode not in MODES or mode == EAGER:
                raise ValueError(f"a mode to try is {mode!r}, expected {', '.join(MODES[1:])}")


def choose(request: GraphRequest, entry: Mapping[str, Any] | None) -> Choice:
    """Return the mode for now and what is to be tried.

    A mode that passed is kept whatever the policy says today: after a boot it has not looked again, and a cluster that serves
    must not be restarted for that. A refusal alone takes it back.
    """
    outcomes: Mapping[str, Mapping[str, Any]] = entry["modes"] if entry else {}
    if request.setting == "off":
        return Choice(EAGER, reason="eager, as set")
    usable = [mode for mode in request.order if request.pipeline_parallel_size == 1 or mode == "piecewise"]
    if not usable:
        return Choice(
            EAGER,
            reason="eager: with stages on several nodes whole steps cannot be captured (they wait for the other stage in Python)",
        )
    failed = {mode: outcome for mode, outcome in outcomes.items() if outcome["state"] == FAILED and not retry(outcome)}
    passed = next((mode for mode in usable if outcomes.get(mode, {}).get("state") == PASSED), "")
    open_modes = tuple(mode for mode in usable if mode not in failed and mode != passed)
    words = "; ".join(f"{mode} {outcome.get('reason', 'failed')}" for mode, outcome in failed.items())
    if request.verdict == "refused":
        return Choice(
            EAGER,
            reason=f"eager: {request.verdict_reason}",
            warning=f"graphs are set to on and are refused: {request.verdict_reason}"
            if request.setting == "on"
            else "",
        )
    if passed:
        return Choice(passed, reason=f"{passed}: its trial passed on {outcomes[passed].get('at', 'an earlier run')}")
    if any(outcome.get("kind") == REBOOT for outcome in failed.values()):
        return Choice(EAGER, reason=f"eager: {words}; no further mode is tried after that")
    if request.setting == "on":
        if not open_modes:
            return Choice(
                EAGER, reason=f"eager: {words}", warning=f"graphs are set to on, and every mode failed: {words}"
            )
        doubt = (
            "" if request.verdict == "allowed" else f" ({request.verdict_reason or 'nothing is known of them here'})"
        )
        return Choice(
            open_modes[0],
            reason=f"{open_modes[0]}: set to on",
            warning=f"graphs are on without a trial{doubt}: wrong text or a hang would go unnoticed; auto tries them first",
        )
    if not open_modes:
        return Choice(EAGER, reason=f"eager: {words}")
    if request.verdict not in ("allowed", "try"):
        return Choice(EAGER, reason=f"eager: {request.verdict_reason or 'nothing is known of CUDA graphs here'}")
    return Choice(EAGER, open_modes, f"eager until {' or '.join(open_modes)} passed a trial")


# --- comparing answers --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """One greedy answer: tokens, and for each the log probabilities (natural) of the likeliest ones by token."""

    tokens: tuple[str, ...]
    likeliest: tuple[Mapping[str, float], ...] = ()
    text: str = ""

    def gap(self, place: int, token: str) -> float:
        """Return by how much this answer's model preferred its own token there; infinite for one that it did not consider."""
        if place >= len(self.likeliest) or not self.likeliest[place]:
            return math.inf
        best = max(self.likeliest[place].values())
        return best - self.likeliest[place].get(token, -math.inf)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for the trial record."""
        return {"tokens": list(self.tokens), "likeliest": [dict(row) for row in self.likeliest], "text": self.text}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Answer:
        """Read what :meth:`as_dict` wrote."""
        return cls(tuple(data["tokens"]), tuple(data["likeliest"]), str(data.get("text", "")))


@dataclass
class Comparison:
    """How answers differ from those of eager. ``problems`` empty: what differs is what rounding may change."""

    equal: int = 0
    ties: int = 0
    widest: float = 0.0
    problems: list[str] = field(default_factory=list)


def first_difference(left: Answer, right: Answer) -> int | None:
    """Return the first place at which two answers of one length part; None for equal ones."""
    return next(
        (place for place, pair in enumerate(zip(left.tokens, right.tokens, strict=True)) if pair[0] != pair[1]), None
    )


def compare(eager: Sequence[Answer], graphs: Sequence[Answer], tie: float = NEAR_TIE) -> Comparison:
    """Compare greedy answers to the same prompts.

    Eager and graphs run the same mathematics in other kernels and other batch sizes, so their last bits differ. Greedy decoding
    turns such a bit into another token only where two tokens were nearly as likely, and everything after that token may differ
    rightly. So each answer is looked at up to its first difference, and there eager's own preference for its token must be at
    most ``tie`` nats. A broken graph writes tokens that eager did not consider at all.
    """
    found = Comparison()
    if len(eager) != len(graphs):
        found.problems.append(f"{len(graphs)} answers to {len(eager)} prompts")
        return found
    for number, (before, after) in enumerate(zip(eager, graphs, strict=True), 1):
        if not after.tokens:
            found.problems.append(f"prompt {number}: no token came")
            continue
        if _stutters(after) and not _stutters(before):
            found.problems.append(f"prompt {number}: one token {REPEATED} times in a row, where eager wrote text")
            continue
        if len(after.tokens) != len(before.tokens):
            found.problems.append(f"prompt {number}: {len(after.tokens)} tokens came, eager gave {len(before.tokens)}")
            continue
        place = first_difference(before, after)
        if place is None:
            found.equal += 1
            continue
        gap = before.gap(place, after.tokens[place])
        what = f"token {place + 1} differs"
        if gap <= tie:
            found.ties += 1
            found.widest = max(found.widest, gap)
        elif math.isinf(gap):
            found.problems.append(f"prompt {number}: {what}, one that eager did not consider")
        else:
            found.problems.append(f"prompt {number}: {what}, which eager found less likely by {gap:.1f} nats")
    return found


def _stutters(answer: Answer) -> bool:
    run, last = 0, ""
    for token in answer.tokens:
        run = run + 1 if token == last else 1
        last = token
        if run >= REPEATED:
            return True
    return False


def own_tie(alone: Sequence[Answer], together: Sequence[Answer]) -> float:
    """Return the tie to allow, from how much eager differs from itself between one request and several at once."""
    widest = compare(alone, together, WIDEST_TIE).widest
    return min(max(NEAR_TIE, 1.5 * widest), WIDEST_TIE)


# --- the runtime's verdict ----------------------------------------------------------------------------------------

#: From worst to best.
VERDICTS = ("refused", "unknown", "try", "allowed")


def verdict_of(checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the worst verdict on CUDA graphs of all nodes, its reason, and the version of NCCL.

    Args:
        checks: results of ``gb10_kernel_check``, one for each node; one that did not run says nothing.

    Returns:
        ``verdict``, ``reason``, ``nccl`` (empty where nobody looked). Nodes with different versions are refused: ranks that talk
        through different NCCLs are not what any trial would stand for.
    """
    worst = {"verdict": "unknown", "reason": "the kernels were not checked in this run"}
    if checks:
        said = [(check.get("capabilities") or {}).get("cuda_graphs") or worst for check in checks]
        first = min(said, key=lambda entry: VERDICTS.index(entry["verdict"]))
        worst = {"verdict": first["verdict"], "reason": first["reason"]}
    found = []
    for check in checks:
        named = (entry for entry in check.get("checks") or [] if entry.get("name") == "versions")
        versions: Mapping[str, Any] = next(named, {})
        found.append(str((versions.get("details") or {}).get("nccl") or ""))
    known = list(dict.fromkeys(version for version in found if version))
    if len(known) > 1:
        return {"verdict": "refused", "reason": f"the nodes load different NCCLs ({', '.join(known)})", "nccl": ""}
    return {**worst, "nccl": known[0] if known else ""}
