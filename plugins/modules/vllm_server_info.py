#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a vLLM server says about itself."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_server_info
short_description: Health, version, models and metrics of a vLLM server
version_added: 1.0.0
description:
  - Reads C(/health), C(/version), C(/metrics) and C(/v1/models).
  - A server that is down is a finding (RV(reachable=false)), not a failure, so that C(until) can wait for it.
  - RV(serving) means healthy and the model listed. That is no proof of an answer, because C(/health) stays green
    while an engine hangs; M(dgx_spark.vllm.vllm_chat_check) is the proof.
options:
  base_url:
    description: Address of the server, without C(/v1).
    type: str
    required: true
  model:
    description: Served model name that must be listed; unset accepts any.
    type: str
  api_key_file:
    description:
      - File on the node that holds the API key, which C(/v1/models) asks for.
      - Where the file cannot be read, the server is asked without a key, and RV(reason) says so if that fails.
    type: path
  api_key:
    description: The key itself; prefer O(api_key_file), which keeps it on the node.
    type: str
  timeout:
    description: Seconds to wait for each answer.
    type: float
    default: 10
seealso:
  - module: dgx_spark.vllm.vllm_chat_check
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Wait until the model is served
  dgx_spark.vllm.vllm_server_info:
    base_url: http://192.168.100.10:8235
    model: qwen3-235b
    api_key_file: /etc/dgx-spark/secrets/api_key
  register: server
  until: server.serving
  retries: 180
  delay: 5
"""

RETURN = r"""
reachable:
  description: Something that speaks HTTP answered.
  type: bool
  returned: always
healthy:
  description: C(/health) answered 200.
  type: bool
  returned: always
health_status:
  description: HTTP status of C(/health); null when nothing answered.
  type: int
  returned: always
serving:
  description: Healthy, and the model is listed.
  type: bool
  returned: always
reason:
  description: Why it is not serving, in one sentence; empty when it is.
  type: str
  returned: always
findings:
  description: One, the reason in red or the server that serves in green.
  type: list
  elements: dict
  returned: always
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
msg:
  description: The reason, or one sentence on the server that serves.
  type: str
  returned: always
version:
  description: Version of vLLM; empty when it is not reported.
  type: str
  returned: always
  sample: 0.32.0
models:
  description: Models listed.
  type: list
  elements: dict
  returned: always
  contains:
    id: {description: Served model name., type: str}
    root: {description: Path or repository it was loaded from., type: str}
    max_model_len: {description: Longest context in tokens., type: int}
metrics:
  description:
    - Figures of C(/metrics) under vLLM's names without their prefix, summed over engines.
    - What this version does not show is left out.
    - C(cache_config) holds the labels of C(vllm:cache_config_info).
  type: dict
  returned: always
  sample: {num_requests_running: 0, num_requests_waiting: 0, kv_cache_usage_perc: 0.0, generation_tokens_total: 1234}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.report.finding import as_dicts
from ..module_utils.system.http_json import HttpClient, secret_or_reason
from ..module_utils.vllm.health import look


def main() -> None:
    """Ask and answer."""
    module = AnsibleModule(
        argument_spec={
            "base_url": {"type": "str", "required": True},
            "model": {"type": "str"},
            "api_key_file": {"type": "path", "no_log": False},
            "api_key": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 10},
        },
        mutually_exclusive=[("api_key_file", "api_key")],
        supports_check_mode=True,
    )
    params = module.params
    key, key_problem = secret_or_reason(params["api_key"], params["api_key_file"])
    try:
        client = HttpClient(params["base_url"], token=key, timeout=params["timeout"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    state, found = look(client, params["model"], key_problem)
    module.exit_json(
        changed=False,
        msg=found.sentence() if state.trouble else found.found,
        findings=as_dicts([found]),
        **state.as_facts(),
    )


if __name__ == "__main__":
    main()
