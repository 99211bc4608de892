# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The steps of a trial of CUDA graphs on a node, each noted in the trial record before the next may begin."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..docker.cli import DockerError, image_id
from ..system.http_json import HttpClient, read_secret_file
from ..system.run import Runner
from .graph_probe import COMPARED_TOKENS, PROMPTS, GraphProbe, Pace, ProbeFailed
from .graph_trial import (
    NEAR_TIE,
    START,
    TEXT,
    Answer,
    GraphRequest,
    TrialError,
    TrialKey,
    begin,
    choose,
    compare,
    end,
    entry_for,
    find,
    heal,
    order_for,
    own_tie,
    read_record,
    write_record,
)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ModeFailed(Exception):
    """A mode did not pass; ``kind`` says how, ``outcomes`` what is remembered of all modes now."""

    def __init__(self, sentence: str, kind: str, outcomes: dict[str, Any]) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.outcomes = outcomes


class GraphTrial:
    """One step of a trial."""

    def __init__(self, params: Mapping[str, Any], run: Runner, check: bool) -> None:
        self.params = params
        self.run = run
        self.check = check
        self.path = Path(self.params["record"])
        self.record = read_record(self.path)

    @property
    def now(self) -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def boot_id(self) -> str:
        return BOOT_ID.read_text(encoding="ascii").strip()

    def key(self) -> TrialKey:
        return TrialKey(
            image_id(self.run, self.params["image"]),
            self.params["model_commit"],
            self.params["nodes"],
            self.params["nccl"],
            self.params["executor"],
        )

    def entry(self) -> dict[str, Any]:
        return entry_for(self.record, self.key())

    def save(self) -> None:
        write_record(self.path, self.record)

    def choose(self) -> dict[str, Any]:
        request = GraphRequest(
            self.params["setting"],
            self.params["verdict"],
            self.params["verdict_reason"],
            tuple(self.params["order"]) or order_for(self.params["nodes"]),
            self.params["pipeline_parallel_size"],
        )
        try:
            entry = find(self.record, self.key())
        except (DockerError, ValueError):
            if not self.check:
                raise
            # A first run in check mode: image and model are still to come, so nothing can be known of them.
            entry = None
        healed = heal(entry, self.boot_id, self.now) if entry else []
        if healed and not self.check:
            self.save()
        choice = choose(request, entry)
        return {
            "changed": bool(healed),
            "mode": choice.mode,
            "candidates": list(choice.candidates),
            "nccl": self.params["nccl"],
            "warning": choice.warning,
            "healed": healed,
            "outcomes": entry["modes"] if entry else {},
            "msg": "; ".join([*(f"an earlier trial was left open ({text})" for text in healed), choice.reason]),
        }

    def probe(self) -> GraphProbe:
        if not self.params["base_url"] or not self.params["model"]:
            raise TrialError(f"base_url and model are needed for step {self.params['step']}: give both")
        key = read_secret_file(self.params["api_key_file"]) if self.params["api_key_file"] else None
        pace = Pace(
            answer_s=self.params["answer_seconds"],
            stall_s=self.params["stall_seconds"],
            soak_s=self.params["soak_seconds"],
            concurrency=self.params["soak_concurrency"],
            longest_answer=self.params["soak_tokens"],
        )
        return GraphProbe(HttpClient(self.params["base_url"], token=key), self.params["model"], pace)

    def asked_alone(self, probe: GraphProbe) -> tuple[list[Answer], float]:
        """Return the answers, asked one by one, and the tokens a second."""
        started = time.monotonic()
        answers = probe.alone()
        return answers, round(len(PROMPTS) * COMPARED_TOKENS / max(time.monotonic() - started, 0.001), 1)

    def reference(self) -> dict[str, Any]:
        entry = self.entry()
        probe = self.probe()
        try:
            # Several at once first: what is slow in the first answers after a start is not to count.
            together = probe.together()
            alone, rate = self.asked_alone(probe)
        except ProbeFailed as error:
            raise TrialError(f"the eager server fails before anything is tried: {error}") from None
        tie = own_tie(alone, together)
        entry["reference"] = {
            "answers": [answer.as_dict() for answer in alone],
            "tie": round(tie, 3),
            "tokens_per_s": rate,
            "at": self.now,
        }
        self.save()
        return {
            "changed": True,
            "outcomes": entry["modes"],
            "msg": f"{len(alone)} answers of eager at {rate:g} tokens/s; ties up to {tie:.2f} nats count as rounding",
        }

    def begin(self) -> dict[str, Any]:
        entry = self.entry()
        begin(entry, self.params["mode"], self.boot_id, self.now)
        self.save()
        return {"changed": True, "outcomes": entry["modes"], "msg": f"{self.params['mode']} is tried"}

    def judge(self) -> dict[str, Any]:
        mode = self.params["mode"]
        entry = self.entry()
        reference = entry.get("reference")
        if not reference:
            raise TrialError("there are no answers of eager to compare with: run step reference first")
        eager = [Answer.from_dict(answer) for answer in reference["answers"]]
        tie = float(reference.get("tie") or NEAR_TIE)
        probe = self.probe()
        try:
            problems = compare(eager, probe.together(), tie).problems
            alone, rate = self.asked_alone(probe)
            compared = compare(eager, alone, tie)
            problems += compared.problems
            if problems:
                raise ProbeFailed(TEXT, f"text that differs from eager's: {'; '.join(dict.fromkeys(problems))}")
            soak = probe.soak()
            # A graph that went wrong under load must not go unseen.
            after = compare(eager, probe.together(), tie)
            if after.problems:
                raise ProbeFailed(TEXT, f"text that differs from eager's after the soak: {'; '.join(after.problems)}")
        except ProbeFailed as error:
            end(entry, mode, self.now, kind=error.kind, reason=str(error))
            self.save()
            raise ModeFailed(f"{mode} failed its trial: {error}", error.kind, entry["modes"]) from None
        end(
            entry,
            mode,
            self.now,
            tokens_per_s=rate,
            eager_tokens_per_s=reference["tokens_per_s"],
            equal=compared.equal,
            ties=compared.ties,
            soak={
                "seconds": soak.seconds,
                "requests": soak.requests,
                "tokens": soak.tokens,
                "tokens_per_s": round(soak.tokens_per_s, 1),
            },
        )
        self.save()
        return {
            "changed": True,
            "outcomes": entry["modes"],
            "msg": f"{mode} passed: {compared.equal} of {len(eager)} answers are equal to eager's, {compared.ties} differ only at a tie; "
            f"{soak.requests} requests with {soak.tokens} tokens in {soak.seconds:g} s; one request at a time {rate:g} tokens/s, "
            f"eager {reference['tokens_per_s']:g}",
        }

    def fail(self) -> dict[str, Any]:
        entry = self.entry()
        end(entry, self.params["mode"], self.now, kind=START, reason=self.params["reason"])
        self.save()
        outcome = entry["modes"][self.params["mode"]]
        return {
            "changed": True,
            "outcomes": entry["modes"],
            "msg": f"{self.params['mode']} failed: {outcome['reason']}",
        }
