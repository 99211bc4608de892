#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: proof that an endpoint answers, streams and calls tools."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_chat_check
short_description: Prove an OpenAI-compatible endpoint by right answers, a stream and a parsed tool call
version_added: 1.0.0
description:
  - Sends real requests to C(/v1/chat/completions) and fails in one sentence, with the likely cause, when an answer is
    not what a client needs.
  - Tool calls are always asked for with C(tool_choice=auto), plain and streamed. A required or named tool would be
    parsed by any server, whatever its C(--tool-call-parser).
  - It asks questions whose answers are known, so that a server which answers nonsense does not pass. A repeated token,
    which is what a broken kernel leaves, is reported before anything else.
  - It tells apart a call that was cut off, that came back as text (and which parser reads it), that vanished (a wrong
    parser from vLLM 0.30 on), that was never made, and one that clients will not run for its C(finish_reason).
  - Reasoning, channels and control tokens in the text are failures.
  - It makes load, for seconds; in check mode it sends nothing and is skipped.
options:
  base_url:
    description: Address of the server, without C(/v1).
    type: str
    required: true
  model:
    description: Served model name.
    type: str
    required: true
  api_key_file:
    description: File on the node that holds the API key.
    type: path
  api_key:
    description: The key itself; prefer O(api_key_file), which keeps it on the node.
    type: str
  checks:
    description: What is proved, in this order.
    type: list
    elements: str
    choices: [completion, stream, tool_call]
    default: [completion, stream, tool_call]
  check_authentication:
    description: Prove that a request without the key is refused with 401. Only where a key is set.
    type: bool
    default: true
  questions:
    description:
      - Questions without tools, each asked plainly, the last one also as a stream.
      - Unset asks for the capital of France and for the numbers from one to five.
    type: list
    elements: dict
    suboptions:
      ask:
        description: The question.
        type: str
        required: true
      expect:
        description: Regular expression that must be found in the answer, in small or capital letters; empty takes any text.
        type: str
        default: ""
  tool_prompt:
    description: Question that makes the model call one of O(tools).
    type: str
  tools:
    description:
      - Function tools in OpenAI's form.
      - The call that comes back must name one of them and hold the keys that its parameters require.
      - Unset offers C(calculate(expression)).
    type: list
    elements: dict
  max_tokens:
    description: Limit of each answer in tokens; a tool call has to fit in.
    type: int
    default: 256
  reasoning_in_text:
    description: Whether reasoning belongs in the text, as with the reasoning parser V(minimax_m2_append_think).
    type: bool
    default: false
  timeout:
    description: Seconds for each request; the first one after a start may compile kernels.
    type: float
    default: 300
attributes:
  check_mode:
    description: Can run in check mode; it is skipped then, because a request is load.
    support: full
  diff_mode:
    description: Returns what changed, or would change, in diff mode.
    support: N/A
  platform:
    description: The operating systems it runs on.
    platforms: linux
    support: full
seealso:
  - module: dgx_spark.vllm.vllm_server_info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Check the endpoint
  dgx_spark.vllm.vllm_chat_check:
    base_url: http://192.168.100.10:8235
    model: qwen3-235b
    api_key_file: /etc/dgx-spark/secrets/api_key

- name: Check a model that knows one thing only
  dgx_spark.vllm.vllm_chat_check:
    base_url: http://192.168.100.10:8235
    model: translator
    checks: [completion, stream]
    questions:
      - ask: "Translate to German: bread"
        expect: brot

- name: Check a tool of your own
  dgx_spark.vllm.vllm_chat_check:
    base_url: http://192.168.100.10:8235
    model: qwen3-235b
    checks: [tool_call]
    tool_prompt: How many nodes does the cluster have? Use the tool.
    tools:
      - type: function
        function:
          name: count_nodes
          parameters:
            type: object
            properties:
              cluster: {type: string}
            required: [cluster]
"""

RETURN = r"""
msg:
  description: One sentence, what was proved or what is wrong and why most likely.
  type: str
  returned: always
findings:
  description: What passed in green, or the check that failed in red.
  type: list
  elements: dict
  returned: when not skipped
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
text:
  description: The answer to the last question.
  type: str
  returned: when not skipped
stream_text:
  description: The answer of the stream, put together.
  type: str
  returned: when not skipped
finish_reason:
  description: Why the completion ended.
  type: str
  returned: when not skipped
  sample: stop
tool_call:
  description: Name and arguments of the call that came back, parsed; null before it passed.
  type: dict
  returned: when not skipped
  sample: {name: calculate, arguments: {expression: 127!}}
tool_call_streamed:
  description: The same, from the streamed request.
  type: dict
  returned: when not skipped
authentication:
  description: V(enforced), V(open) or V(not checked).
  type: str
  returned: when not skipped
passed:
  description: The checks that passed.
  type: list
  elements: str
  returned: when not skipped
timings:
  description: Seconds and rates of these few requests, as information; this is no benchmark.
  type: dict
  returned: when not skipped
  contains:
    completion_seconds: {description: Whole completion., type: float}
    first_token_seconds: {description: First chunk of the stream., type: float}
    stream_seconds: {description: Last chunk of the stream., type: float}
    stream_chunks: {description: Chunks with content., type: int}
    tokens_per_second: {description: Rate after the first chunk., type: float}
    tool_call_seconds: {description: Plain tool call., type: float}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.report.finding import RED, Finding, as_dicts, fine
from ..module_utils.system.http_json import HttpClient, read_secret_file
from ..module_utils.vllm.completion_check import ChatCheck, ChatRequest, CheckFailed, Question

#: What was checked.
CHECK = "endpoint"


def wrong(step: str, said: str) -> Finding:
    """Return what a failed check means; its sentence names the likely cause."""
    if step == "authentication":
        return Finding("vllm.open_door", RED, CHECK, said, "run playbooks/site.yml, which starts vLLM with the key")
    if step == "tool_call":
        return Finding(
            "vllm.no_tool_call", RED, CHECK, said, "set vllm_serve_tool_call_parser to the model's, or leave out tools"
        )
    return Finding(
        "vllm.no_answer", RED, CHECK, said, "look at `journalctl --unit spark-vllm` on the head, and restart it"
    )


def main() -> None:
    """Ask, judge, answer."""
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str", "required": True},
            "api_key_file": {"type": "path", "no_log": False},
            "api_key": {"type": "str", "no_log": True},
            "checks": {
                "type": "list",
                "elements": "str",
                "choices": ["completion", "stream", "tool_call"],
                "default": ["completion", "stream", "tool_call"],
            },
            "check_authentication": {"type": "bool", "default": True},
            "questions": {
                "type": "list",
                "elements": "dict",
                "options": {"ask": {"type": "str", "required": True}, "expect": {"type": "str", "default": ""}},
            },
            "tool_prompt": {"type": "str"},
            "tools": {"type": "list", "elements": "dict"},
            "max_tokens": {"type": "int", "default": 256, "no_log": False},
            "reasoning_in_text": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 300},
        },
        mutually_exclusive=[("api_key_file", "api_key")],
        supports_check_mode=True,
    )
    params = module.params
    if module.check_mode:
        module.exit_json(
            changed=False, skipped=True, msg="nothing is asked in check mode: a request is load on the server"
        )
    if params["max_tokens"] < 1:
        module.fail_json(msg=f"max_tokens {params['max_tokens']} is not usable: expected 1 or more")
    given = {name: params[name] for name in ("tool_prompt", "tools", "reasoning_in_text") if params[name]}
    if params["questions"]:
        given["questions"] = [Question(entry["ask"], entry["expect"] or "") for entry in params["questions"]]
    try:
        request = ChatRequest(model=params["model"], max_tokens=params["max_tokens"], **given)
        key = read_secret_file(params["api_key_file"]) if params["api_key_file"] else params["api_key"]
        client = HttpClient(params["base_url"], token=key, timeout=params["timeout"])
        request.required_keys()
    except ValueError as error:
        module.fail_json(msg=str(error))
    check = ChatCheck(client, request)
    steps = [getattr(check, name) for name in ("completion", "stream", "tool_call") if name in params["checks"]]
    if client.token and params["check_authentication"]:
        steps.insert(0, check.authentication)
    try:
        for step in steps:
            step()
    except CheckFailed as error:
        said = f"{params['model']} at {client.base_url}: {error}"
        module.fail_json(msg=said, findings=as_dicts([wrong(step.__name__, said)]), **check.findings.as_facts())
    said = check.findings.sentence(client.base_url, params["model"])
    module.exit_json(
        changed=False, msg=said, findings=as_dicts([fine("vllm", CHECK, said)]), **check.findings.as_facts()
    )


if __name__ == "__main__":
    main()
