#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Trials of CUDA graphs: what to run in, what to try, how it went."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_graph_trial
short_description: Choose and try modes of CUDA graphs, and remember how it went
version_added: 0.2.0
description:
  - Keeps one file on the head with the outcome of each mode for an image, a model, a number of nodes and a version of NCCL.
  - V(choose) reads it and says which mode the unit is to be written with and which modes have yet to be tried. It asks no server.
  - V(reference) takes greedy answers to fixed prompts from the running eager server. V(begin) writes down that a mode is about to be
    tried, before anything is restarted. V(judge) compares the answers of the server that now runs in it with those of eager, loads it
    for a while, and writes down how it ended. V(fail) writes down that the mode did not even start.
  - Restarts are not its business; role vllm_graphs makes them in the cluster's order.
  - A trial that a killed run left open is closed by the next V(choose). It fails where the machine was booted in between.
options:
  step:
    description: What to do.
    type: str
    choices: [choose, reference, begin, judge, fail]
    required: true
  image:
    description: Name or id of the serving image on this node; outcomes are kept by its id.
    type: str
    required: true
  model_commit:
    description: Commit of the model, or another text that stands for its content.
    type: str
    required: true
  nodes:
    description: Nodes that the model is spread over.
    type: int
    default: 1
  nccl:
    description: Version of NCCL in the image. Empty where nobody looked; any remembered one fits then.
    type: str
    default: ""
  executor:
    description: How vLLM reaches its ranks.
    type: str
    choices: [ray, mp]
    default: ray
  pipeline_parallel_size:
    description: Stages of the model. With more than one, whole steps are not captured.
    type: int
    default: 1
  setting:
    description: V(auto) tries, V(on) takes the best mode that is not refused without a trial, V(off) stays eager.
    type: str
    choices: [auto, "on", "off"]
    default: auto
  verdict:
    description: What the runtime's policy says of graphs here.
    type: str
    choices: [allowed, try, refused, unknown]
    default: unknown
  verdict_reason:
    description: Why.
    type: str
    default: ""
  order:
    description:
      - Modes to try, the first wanted first.
      - Empty, V(full), V(decode), V(piecewise) on one node, V(decode), V(piecewise) on several.
    type: list
    elements: str
    choices: [decode, piecewise, full]
    default: []
  mode:
    description: Mode that is tried. Needed for V(begin), V(judge) and V(fail).
    type: str
    choices: [decode, piecewise, full]
  reason:
    description: With O(step=fail), why it did not start.
    type: str
    default: it did not start
  base_url:
    description: Address of the server, without C(/v1). Needed for V(reference) and V(judge).
    type: str
  model:
    description: Served model name.
    type: str
  api_key_file:
    description: File on the node that holds the API key.
    type: path
  soak_seconds:
    description: Seconds of load by several requests at once.
    type: float
    default: 180
  soak_concurrency:
    description: Requests at once.
    type: int
    default: 4
  soak_tokens:
    description: Tokens of the longest answer in the soak.
    type: int
    default: 1024
  stall_seconds:
    description: Seconds without any token, with requests open, after which the server counts as hung.
    type: float
    default: 90
  answer_seconds:
    description: Longest seconds for one compared answer; the first after a start may compile kernels.
    type: float
    default: 600
  book:
    description: File with the outcomes.
    type: path
    default: /var/lib/dgx-spark/graph-trials.json
attributes:
  check_mode:
    description: V(choose) can run in check mode; the others are skipped, because they load the server or note what did not happen.
    support: full
  diff_mode:
    description: Returns what changed, or would change, in diff mode.
    support: none
  platform:
    description: The operating systems it runs on.
    platforms: linux
    support: full
seealso:
  - module: dgx_spark.vllm.gb10_kernel_check
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Which mode, and what to try
  dgx_spark.vllm.vllm_graph_trial:
    step: choose
    image: dgx-spark/serving:26.10
    model_commit: 0123456789abcdef0123456789abcdef01234567
    nodes: 2
    nccl: 2.30.7
    verdict: try
  register: choice

- name: Judge the server that runs in a mode
  dgx_spark.vllm.vllm_graph_trial:
    step: judge
    mode: decode
    image: dgx-spark/serving:26.10
    model_commit: 0123456789abcdef0123456789abcdef01234567
    nodes: 2
    base_url: http://127.0.0.1:8235
    model: qwen3-235b-awq
    api_key_file: /etc/dgx-spark/secrets/api_key
"""

RETURN = r"""
mode:
  description: Mode that the unit is to be written with (eager, decode, piecewise, full).
  returned: with O(step=choose)
  type: str
candidates:
  description: Modes to try, in order; empty for none.
  returned: with O(step=choose)
  type: list
  elements: str
nccl:
  description: Version of NCCL that was given, to hand on to the steps of the trial.
  returned: with O(step=choose)
  type: str
warning:
  description: What the user is to be told; empty for nothing.
  returned: with O(step=choose)
  type: str
healed:
  description: A sentence for each trial that a killed run had left open.
  returned: with O(step=choose)
  type: list
  elements: str
outcomes:
  description: What is remembered of each mode, with state, and kind and reason where it failed.
  returned: success
  type: dict
kind:
  description: How a mode failed, V(hang), V(crash) or V(text).
  returned: when a judged mode failed
  type: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError, image_id
from ..module_utils.system.http_json import HttpClient, read_secret_file
from ..module_utils.system.run import run
from ..module_utils.vllm.graph_probe import COMPARED_TOKENS, PROMPTS, GraphProbe, Pace, ProbeFailed
from ..module_utils.vllm.graph_trial import (
    NEAR_TIE,
    START,
    TEXT,
    Answer,
    TrialError,
    TrialKey,
    Wish,
    begin,
    choose,
    compare,
    end,
    entry_for,
    find,
    heal,
    order_for,
    own_tie,
    read_book,
    write_book,
)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class GraphTrial:
    """One step of a trial."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.path = Path(self.params["book"])
        self.book = read_book(self.path)

    @property
    def now(self) -> str:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def boot_id(self) -> str:
        return BOOT_ID.read_text(encoding="ascii").strip()

    def key(self) -> TrialKey:
        return TrialKey(
            image_id(run, self.params["image"]),
            self.params["model_commit"],
            self.params["nodes"],
            self.params["nccl"],
            self.params["executor"],
        )

    def entry(self) -> dict[str, Any]:
        return entry_for(self.book, self.key())

    def save(self) -> None:
        write_book(self.path, self.book)

    def choose(self) -> dict[str, Any]:
        wish = Wish(
            self.params["setting"],
            self.params["verdict"],
            self.params["verdict_reason"],
            tuple(self.params["order"]) or order_for(self.params["nodes"]),
            self.params["pipeline_parallel_size"],
        )
        try:
            entry = find(self.book, self.key())
        except (DockerError, ValueError):
            if not self.module.check_mode:
                raise
            # A first run in check mode: image and model are still to come, so nothing can be known of them.
            entry = None
        healed = heal(entry, self.boot_id, self.now) if entry else []
        if healed and not self.module.check_mode:
            self.save()
        choice = choose(wish, entry)
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
                raise ProbeFailed(TEXT, f"other text than eager's: {'; '.join(dict.fromkeys(problems))}")
            soak = probe.soak()
            # A graph that went wrong under load must not go unseen.
            after = compare(eager, probe.together(), tie)
            if after.problems:
                raise ProbeFailed(TEXT, f"other text than eager's after the soak: {'; '.join(after.problems)}")
        except ProbeFailed as error:
            end(entry, mode, self.now, kind=error.kind, reason=str(error))
            self.save()
            self.module.fail_json(msg=f"{mode} failed its trial: {error}", kind=error.kind, outcomes=entry["modes"])
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
            "msg": f"{mode} passed: {compared.equal} of {len(eager)} answers are equal to eager's, {compared.ties} part at a tie; "
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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "step": {"type": "str", "choices": ["choose", "reference", "begin", "judge", "fail"], "required": True},
            "image": {"type": "str", "required": True},
            "model_commit": {"type": "str", "required": True},
            "nodes": {"type": "int", "default": 1},
            "nccl": {"type": "str", "default": ""},
            "executor": {"type": "str", "choices": ["ray", "mp"], "default": "ray"},
            "pipeline_parallel_size": {"type": "int", "default": 1},
            "setting": {"type": "str", "choices": ["auto", "on", "off"], "default": "auto"},
            "verdict": {"type": "str", "choices": ["allowed", "try", "refused", "unknown"], "default": "unknown"},
            "verdict_reason": {"type": "str", "default": ""},
            "order": {
                "type": "list",
                "elements": "str",
                "choices": ["decode", "piecewise", "full"],
                "default": [],
            },
            "mode": {"type": "str", "choices": ["decode", "piecewise", "full"]},
            "reason": {"type": "str", "default": "it did not start"},
            "base_url": {"type": "str"},
            "model": {"type": "str"},
            "api_key_file": {"type": "path", "no_log": False},
            "soak_seconds": {"type": "float", "default": 180},
            "soak_concurrency": {"type": "int", "default": 4},
            "soak_tokens": {"type": "int", "default": 1024, "no_log": False},
            "stall_seconds": {"type": "float", "default": 90},
            "answer_seconds": {"type": "float", "default": 600},
            "book": {"type": "path", "default": "/var/lib/dgx-spark/graph-trials.json"},
        },
        required_if=[("step", step, ("mode",)) for step in ("begin", "judge", "fail")],
        supports_check_mode=True,
    )
    step = module.params["step"]
    if module.check_mode and step != "choose":
        module.exit_json(changed=False, skipped=True, msg=f"step {step} is not made in check mode")
    try:
        result = getattr(GraphTrial(module), step)()
    except (DockerError, TrialError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'vllm_graph_trial'}: {error.strerror}; the module needs root on the node"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
