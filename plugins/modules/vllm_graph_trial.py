#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trials of CUDA graphs: what to run in, what to try, how it went."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_graph_trial
short_description: Choose and try modes of CUDA graphs, and record the outcome
version_added: 1.0.0
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
  record:
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

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.system.run import run
from ..module_utils.vllm.graph_steps import GraphTrial, ModeFailed
from ..module_utils.vllm.graph_trial import RECORD, TrialError


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
            "record": {"type": "path", "default": str(RECORD)},
        },
        required_if=[("step", step, ("mode",)) for step in ("begin", "judge", "fail")],
        supports_check_mode=True,
    )
    step = module.params["step"]
    if module.check_mode and step != "choose":
        module.exit_json(changed=False, skipped=True, msg=f"step {step} is not made in check mode")
    try:
        result = getattr(GraphTrial(module.params, run, module.check_mode), step)()
    except ModeFailed as error:
        module.fail_json(msg=str(error), kind=error.kind, outcomes=error.outcomes)
    except (DockerError, TrialError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'vllm_graph_trial'}: {error.strerror}; the module needs root on the node"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
