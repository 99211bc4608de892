# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a server does, judged by what it does for a client: pure, one sample after the other, no clock of its own.

``/health`` stays 200 and the GPU's utilization reads 96 % while ranks wait for each other for ever, so neither is evidence. Evidence is
that requests run and figures move: tokens out, prompts read, blocks of the KV cache. vLLM's scheduler reports them after every step
(vllm/v1/core/sched/scheduler.py, ``make_stats``), a chunk of a long prefill included. So the longest silence of a working engine is one
step: ``max_num_batched_tokens`` of prefill. :func:`patience` is that time with a margin; false alarms are the worse fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

STOPPED, WAITING, LOADING, SERVING, BUSY, SATURATED, DRAINING, HUNG, MUTE, DEAD, HELD = (
    "stopped",
    "waiting",
    "loading",
    "serving",
    "busy",
    "saturated",
    "draining",
    "hung",
    "mute",
    "dead",
    "held",
)
#: States that somebody has to act on.
SICK = frozenset({HUNG, MUTE})
#: States in which clients get tokens.
ALIVE = frozenset({SERVING, BUSY, SATURATED})

#: Figures that move while the engine works. Requests that run or wait are no progress: they change when clients come and go.
PROGRESS = (
    "generation_tokens_total",
    "prompt_tokens_total",
    "kv_cache_usage_perc",
    "request_success_total",
    "num_preemptions_total",
)
#: Tokens of prefill a second that are taken until this machine was seen: a sixth of the slowest measured on two hosts (1,746, docs/gpu-runs.md).
UNSEEN_PREFILL = 250.0
#: Tokens of prefill in one step where the server does not say (vLLM's largest default, vllm/engine/arg_utils.py).
STEP_TOKENS = 8192
#: A step deep in a long context costs more: attention over this many tokens is about as dear as the rest of a layer's work.
CONTEXT_TOKENS = 16384
#: How often a step may last what it is expected to last.
MARGIN = 3.0
#: Watts from which a GPU computes rather than spins: a deadlock was seen at 22 W with 96 % utilization, work at 60 to 100 W.
WORKING_WATTS = 45.0
#: Seconds between samples beyond which nobody can say what happened: the machine, or this program, did not run.
GAP_S = 20.0
#: Seconds after a start in which the first requests may take long; it ends early once so many were answered.
GRACE_S, GRACE_REQUESTS, GRACE_PATIENCE_S = 300.0, 10, 120.0
#: While kernels are compiled, the first step of a shape takes long.
COMPILING_PATIENCE_S = 900.0
#: The page of figures is served by the process that also reads prompts: a storm of requests keeps it busy for seconds.
PAGE_PATIENCE_S = 45.0


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment.

    Attributes:
        at: seconds of a clock that does not jump (``time.monotonic``).
        active, sub, result: systemd's ActiveState, SubState and Result of the server's unit.
        up_s: seconds since the unit became active.
        start: systemd's id of the unit's last start (InvocationID); empty before the first since the boot.
        restarts: how often systemd started it again by itself since somebody else did (NRestarts).
        stop_flag: the operator stopped the cluster.
        held: why the watchdog itself stopped it; empty where it did not.
        waits_for: what a gate waits for; empty behind the gates.
        progress: what the log says of loading.
        metrics: figures of ``/metrics`` by the names of vllm/health.py; None when the page did not answer.
        asked: seconds since an unanswered completion of the watchdog was sent; None when none is out.
        refused: why the last completion failed at once; empty when it was answered.
        prefill: tokens of prefill a second that this machine was seen to do; None before.
        step_tokens, kv_tokens: most tokens of prefill in one step; tokens that the KV cache holds. 0 where unknown.
        watts: power draw of the GPU; None where it cannot be read.
        compiling: a compiler of kernels runs on a node.
    """

    at: float
    active: str
    sub: str = ""
    result: str = ""
    up_s: float = 0.0
    start: str = ""
    restarts: int = 0
    stop_flag: bool = False
    held: str = ""
    waits_for: str = ""
    progress: str = ""
    metrics: Mapping[str, Any] | None = None
    asked: float | None = None
    refused: str = ""
    prefill: float | None = None
    step_tokens: int = 0
    kv_tokens: int = 0
    watts: float | None = None
    compiling: bool = False

    @property
    def running(self) -> float:
        """Requests that the engine works on."""
        return float((self.metrics or {}).get("num_requests_running", 0))

    @property
    def queued(self) -> float:
        """Requests that wait for room."""
        return float((self.metrics or {}).get("num_requests_waiting", 0))


@dataclass(frozen=True)
class Verdict:
    """A state, one sentence why, and the figures that it rests on."""

    state: str
    reason: str
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def sick(self) -> bool:
        """Whether somebody has to act."""
        return self.state in SICK

    def line(self) -> str:
        """Return it as one line of the journal."""
        figures = ", ".join(f"{name} {_number(value)}" for name, value in self.figures.items())
        return f"{self.state}: {self.reason}" + (f" [{figures}]" if figures else "")

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def patience(sample: Sample, floor_s: float) -> float:
    """Return the seconds without any progress that a working engine can explain.

    One step of prefill at the rate that this machine was seen to do, dearer by the context that lies in the KV cache, times MARGIN; never
    less than ``floor_s``. Longer in the first minutes after a start, while kernels are compiled, and while the GPU draws the power of work.
    """
    tokens = sample.step_tokens or STEP_TOKENS
    used = float((sample.metrics or {}).get("kv_cache_usage_perc", 0.0)) * sample.kv_tokens
    step = tokens / (sample.prefill or UNSEEN_PREFILL) * (1 + used / CONTEXT_TOKENS)
    seconds = max(floor_s, MARGIN * step)
    if sample.watts is not None and sample.watts >= WORKING_WATTS:
        seconds *= 2
    answered = (sample.metrics or {}).get("request_success_total", 0)
    if sample.up_s < GRACE_S and answered < GRACE_REQUESTS:
        seconds = max(seconds, GRACE_PATIENCE_S)
    if sample.compiling:
        seconds = max(seconds, COMPILING_PATIENCE_S)
    return seconds


class Judge:
    """Takes samples in the order of time and says what the server does.

    Args:
        floor_s: seconds without progress below which nothing is called hung.
    """

    def __init__(self, floor_s: float) -> None:
        self.floor_s = floor_s
        self._last: Sample | None = None
        self._progress: tuple[Any, ...] | None = None
        self._moved_at = 0.0
        self._page_at = 0.0
        self._serves = False
        self._saturated_since: float | None = None

    def judge(self, sample: Sample) -> Verdict:
        """Return what the server does at the moment of ``sample``."""
        if self._last is not None and sample.at - self._last.at > GAP_S:
            # The machine slept, or this program did not run: what was frozen meanwhile says nothing.
            self._restart(sample.at)
        self._last = sample
        asleep = self._not_serving(sample)
        if asleep is not None:
            self._serves, self._saturated_since = False, None
            return asleep
        if not self._serves:
            self._serves = True
            self._restart(sample.at)
        return self._serving(sample)

    def _restart(self, at: float) -> None:
        self._moved_at = self._page_at = at
        self._progress = None

    @staticmethod
    def _not_serving(sample: Sample) -> Verdict | None:
        if sample.held and sample.active != "active":
            return Verdict(HELD, sample.held)
        if sample.stop_flag and sample.active in ("inactive", "failed"):
            return Verdict(STOPPED, "stopped by the operator: playbooks/start.yml starts it")
        if sample.active == "deactivating" and sample.sub.startswith("stop"):
            return Verdict(DRAINING, "requests that run are finished, new ones are refused")
        if sample.active == "activating" and sample.waits_for:
            return Verdict(WAITING, sample.waits_for)
        if sample.active in ("activating", "reloading") and sample.sub in ("start", "start-post", "start-pre"):
            return Verdict(LOADING, sample.progress or "starting")
        if sample.sub.startswith("auto-restart"):
            return Verdict(DEAD, "the server ended; its unit starts it again")
        if sample.active != "active":
            return Verdict(DEAD, f"the unit is {sample.active}" + (f" ({sample.sub})" if sample.sub else ""))
        return None

    def _serving(self, sample: Sample) -> Verdict:
        if sample.metrics is None:
            silent = sample.at - self._page_at
            if silent > max(PAGE_PATIENCE_S, self.floor_s):
                return Verdict(
                    HUNG, "the server does not answer at all, not even for its figures", {"silent_s": round(silent, 1)}
                )
            return Verdict(BUSY, "the server is slow to tell its figures", {"silent_s": round(silent, 1)})
        self._page_at = sample.at
        progress = tuple(sample.metrics.get(name) for name in PROGRESS)
        if progress != self._progress:
            self._progress, self._moved_at = progress, sample.at
        frozen = sample.at - self._moved_at
        allowed = patience(sample, self.floor_s)
        if sample.running or sample.queued:
            return self._working(sample, frozen, allowed)
        self._moved_at = sample.at
        self._saturated_since = None
        # The watchdog's own completion shows as a running request, unless the engine stopped before it could report.
        if sample.asked is not None and sample.asked > allowed:
            return Verdict(
                MUTE,
                "no request runs, and a completion of one token does not come back",
                {"asked_s": round(sample.asked, 1), "allowed_s": round(allowed, 1)},
            )
        if sample.refused:
            return Verdict(MUTE, f"a completion of one token fails: {sample.refused}")
        return Verdict(SERVING, "idle")

    def _working(self, sample: Sample, frozen: float, allowed: float) -> Verdict:
        figures: dict[str, Any] = {
            "running": sample.running,
            "waiting": sample.queued,
            "generated": (sample.metrics or {}).get("generation_tokens_total", 0),
            "frozen_s": round(frozen, 1),
            "allowed_s": round(allowed, 1),
        }
        if sample.prefill:
            figures["prefill_tok_s"] = round(sample.prefill)
        if sample.watts is not None:
            figures["watts"] = sample.watts
        if frozen > allowed:
            return Verdict(
                HUNG, "requests run and nothing moves, for longer than a step of prefill takes here", figures
            )
        if not sample.queued:
            self._saturated_since = None
            return Verdict(BUSY, f"{sample.running:g} requests run", figures)
        if self._saturated_since is None:
            self._saturated_since = sample.at
        return Verdict(
            SATURATED,
            f"{sample.running:g} requests run and {sample.queued:g} wait, since {sample.at - self._saturated_since:.0f} s: tokens flow",
            figures,
        )
