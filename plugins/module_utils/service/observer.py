# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the watchdog sees of the server on its own node: unit, figures, a completion of its own, the log of a start, power."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..docker.service import HOLDS, STOP_FLAG
from ..system.http_json import HttpClient, HttpError, read_secret_file
from ..system.run import Runner
from ..vllm.health import parse_metrics, summarize_metrics
from .verdict import Sample

#: Seconds for one answer of the page of figures.
_PAGE_S = 5.0
#: Seconds that a completion of the watchdog may stay out; the judge says much earlier that it is mute.
_PROBE_S = 900.0
#: Seconds after which a server that had requests and has none is asked at once: an engine that stops right then reports no request that comes later.
_SETTLED_S = 4.0
#: More than one token: vLLM for CPU makes AMX ready only for such a prompt (service/gates.py).
PROMPT = "The capital of France is"
#: Tokens of the prompt that measures prefill once after each start, and the ids that it is made of: never special tokens of a vocabulary.
_MEASURED_TOKENS, _IDS = 4096, (300, 900)
_WAITING = "waiting: "
#: Figures that grow while somebody is served.
_COUNTS = ("generation_tokens_total", "request_success_total")
#: What vLLM's log says of a start's progress, the last fitting line counts; source: vllm 0.20 to 0.33 and tqdm's form.
_PROGRESS = (
    (
        re.compile(r"Loading safetensors checkpoint shards:\s+(\d+)% Completed \| (\d+/\d+)"),
        "weights read: {0} % ({1} files)",
    ),
    (re.compile(r"Capturing CUDA graphs[^:]*:\s+(\d+)%"), "CUDA graphs captured: {0} %"),
    (re.compile(r"torch\.compile (?:takes|took) ([\d.]+)"), "compiled in {0} s"),
    (re.compile(r"Model loading took ([\d.]+) ?GiB"), "weights loaded: {0} GiB a rank; measuring memory"),
    (re.compile(r"GPU KV cache size: ([\d,]+) tokens"), "KV cache of {0} tokens made; warming up"),
    (re.compile(r"Initializing a V1 LLM engine"), "the engine starts"),
)


def progress(log: str) -> str:
    """Return what a start's log says last of its progress; an empty text where it says nothing yet."""
    for line in reversed(log.splitlines()):
        for pattern, text in _PROGRESS:
            if match := pattern.search(line):
                return text.format(*match.groups())
    return ""


class Probe:
    """Asks for one token whenever nobody else does, in a thread: an answer that never comes must not hold the watchdog.

    Args:
        url, model, key_file: of the server.
        every_s: seconds between two completions of an idle server.
        context: most tokens of a prompt and its answer; 0 where it is not known.
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_file: str,
        every_s: float,
        context: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self.model = model
        self.key_file = key_file
        self.every_s = every_s
        self.context = context
        self.clock = clock
        self.refused = ""
        self.prefill: float | None = None
        self.answered = 0
        self._measured = False
        self._sent: float | None = None
        self._ended = float("-inf")
        self._worked = False
        self._idle_since: float | None = None
        self._failures = 0
        self._round = 0

    def reset(self) -> None:
        """Forget what was asked of a server that is gone."""
        self._round += 1
        # The rate of prefill stays: it is the machine's, and is measured again.
        self.refused, self.answered, self._failures, self._measured = "", 0, 0, False
        self._sent, self._ended = None, float("-inf")
        self._worked, self._idle_since = False, None

    @property
    def asked(self) -> float | None:
        """Seconds since the completion that is out was sent; None when none is."""
        sent = self._sent
        return None if sent is None else self.clock() - sent

    def busy(self) -> None:
        """Take note that requests run; one that may be the watchdog's own does not count."""
        self._idle_since = None
        if self._sent is None and self.clock() - self._ended >= _SETTLED_S:
            self._worked = True

    def idle(self) -> None:
        """Take note that no request runs: send the next completion when it is due."""
        now = self.clock()
        self._idle_since = now if self._idle_since is None else self._idle_since
        stopped = self._worked and now - self._idle_since >= _SETTLED_S
        if self._sent is not None or (now - self._ended < self.every_s and not stopped):
            return
        self._sent, self._worked = now, False
        # The second completion measures prefill; the first pays for whatever is made ready by it.
        tokens = min(_MEASURED_TOKENS, (self.context or 2048) // 2) if self.answered and not self._measured else 0
        threading.Thread(target=self._ask, args=(self._round, tokens), daemon=True).start()

    def _ask(self, this_round: int, tokens: int) -> None:
        refused, rate = "", None
        try:
            client = HttpClient(self.url, token=read_secret_file(self.key_file), timeout=_PROBE_S)
            prompt: Any = PROMPT
            if tokens:
                prompt = [random.randrange(*_IDS) for _token in range(tokens)]
            begun = self.clock()
            answer = client.post_json(
                "/v1/completions", {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0}
            )
            if tokens:
                rate = tokens / max(self.clock() - begun, 1e-3)
            if not answer.get("choices"):
                refused = "the answer holds no choice"
        except HttpError as error:
            # A prompt that this model does not take, or a key that was changed, says nothing of the engine.
            refused = str(error) if error.status is None or error.status >= 500 else ""
        except (OSError, ValueError) as error:
            refused = str(error)
        if this_round != self._round:
            return
        self._failures = self._failures + 1 if refused else 0
        # One may meet the moment of a stop; two in a row do not.
        self.refused = refused if self._failures > 1 else ""
        self.answered += not refused
        if tokens:
            # A model that refuses the ids is not asked again.
            self.prefill, self._measured = rate or self.prefill, True
        self._ended, self._sent = self.clock(), None


class Observer:
    """Looks at one server.

    Args:
        unit: name of its unit, without ``.service``.
        url: of the server, on this node.
        probe: what asks for completions.
        step_tokens: most tokens of prefill in one step; 0 where it was left to vLLM.
    """

    def __init__(
        self,
        unit: str,
        url: str,
        probe: Probe,
        run: Runner,
        step_tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.unit = unit
        self.url = url
        self.probe = probe
        self.run = run
        self.step_tokens = step_tokens
        self.clock = clock
        self.result = ""
        self.up_s = 0.0
        self.start, self.restarts = "", 0
        self.metrics: Mapping[str, Any] | None = None

    def look(self, compiling: bool) -> Sample:
        """Return what there is to see now."""
        at = self.clock()
        active, sub = self._unit()
        waits_for = loading = ""
        if active == "activating":
            log = self.log(60)
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
            waits_for = last.partition(_WAITING)[2] if last.startswith(_WAITING) else ""
            # What stands before systemd's line on this start is of an earlier one.
            loading = progress(log.rpartition(f"Starting {self.unit}")[2])
        before, self.metrics = self.metrics, self._figures() if active == "active" else None
        if active != "active":
            self.probe.reset()
        kv_tokens = self._kv_tokens()
        if self.metrics is not None:
            # Short requests come and go between two looks: then only the counts tell of them.
            if self._works() or (
                before is not None and any(before.get(name) != self.metrics.get(name) for name in _COUNTS)
            ):
                self.probe.busy()
            else:
                self.probe.idle()
        return Sample(
            at=at,
            active=active,
            sub=sub,
            result=self.result,
            up_s=self.up_s,
            start=self.start,
            restarts=self.restarts,
            stop_flag=Path(STOP_FLAG).exists(),
            held=self.hold(),
            waits_for=waits_for,
            progress=loading,
            metrics=self.metrics,
            asked=self.probe.asked,
            refused=self.probe.refused,
            prefill=self.probe.prefill,
            step_tokens=self.step_tokens,
            kv_tokens=kv_tokens,
            watts=self._watts() if self._works() else None,
            compiling=compiling,
        )

    def hold(self) -> str:
        """Return why the watchdog stopped the unit, or an empty text."""
        try:
            return Path(HOLDS, self.unit).read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def log(self, lines: int) -> str:
        """Return the last lines of the unit's journal."""
        _status, out, _err = self.run(
            ["journalctl", "--unit", self.unit, "--lines", str(lines), "--output", "cat", "--no-pager"], 10
        )
        return out

    def _unit(self) -> tuple[str, str]:
        status, out, _err = self.run(
            [
                "systemctl",
                "show",
                f"{self.unit}.service",
                "--property=ActiveState,SubState,Result,ActiveEnterTimestampMonotonic,InvocationID,NRestarts",
            ],
            10,
        )
        values = dict(line.partition("=")[::2] for line in out.splitlines())
        if status != 0 or "ActiveState" not in values:
            # systemd itself gives no answer: nothing is known, and nothing is to be done about it.
            return "unknown", ""
        self.result = values.get("Result", "")
        self.start, self.restarts = values.get("InvocationID", ""), int(values.get("NRestarts") or 0)
        # Microseconds of the clock that time.monotonic() reads (systemd.unit(5), clock_gettime(2)).
        self.up_s = max(0.0, self.clock() - int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6)
        return values["ActiveState"], values.get("SubState", "")

    def _figures(self) -> Mapping[str, Any] | None:
        try:
            return summarize_metrics(parse_metrics(HttpClient(self.url, timeout=_PAGE_S).get("/metrics").text))
        except (HttpError, ValueError):
            return None

    def _works(self) -> bool:
        figures = self.metrics or {}
        return bool(figures.get("num_requests_running") or figures.get("num_requests_waiting"))

    def _kv_tokens(self) -> int:
        cache = (self.metrics or {}).get("cache_config") or {}
        try:
            return int(cache["num_gpu_blocks"]) * int(cache["block_size"])
        except (KeyError, TypeError, ValueError):
            return 0

    def _watts(self) -> float | None:
        status, out, _err = self.run(["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"], 5)
        try:
            return max(float(line) for line in out.split()) if status == 0 and out.strip() else None
        except ValueError:
            return None
