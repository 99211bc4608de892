#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a node is, and in what it falls short of what is asked of it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Several checks of a node in one call
version_added: 1.0.0
description:
  - Does what M(dgx_spark.vllm.node_preflight_info), M(dgx_spark.vllm.node_survey_info), M(dgx_spark.vllm.gb10_runtime_info),
    M(dgx_spark.vllm.container_runtime_info) and M(dgx_spark.vllm.container_service_info) do, in one call over the connection.
  - A check that fails is reported in its own result, and the others go on.
options:
  requirements:
    description: Options of M(dgx_spark.vllm.node_preflight_info); left out, this is not checked.
    type: dict
  occupants:
    description: Options of M(dgx_spark.vllm.node_survey_info); left out, this is not checked.
    type: dict
  runtime:
    description: Options of M(dgx_spark.vllm.gb10_runtime_info); left out, this is not checked.
    type: dict
  docker:
    description: Options of M(dgx_spark.vllm.container_runtime_info); left out, this is not checked.
    type: dict
  services:
    description: Options of M(dgx_spark.vllm.container_service_info); left out, this is not checked.
    type: dict
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.node_preflight_info
  - module: dgx_spark.vllm.node_survey_info
  - module: dgx_spark.vllm.gb10_runtime_info
  - module: dgx_spark.vllm.container_runtime_info
  - module: dgx_spark.vllm.container_service_info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Read requirements and GPU of the node
  dgx_spark.vllm.node_info:
    requirements:
      min_memory_gib: 100
    runtime:
      require_gpu: true
  register: node
"""

RETURN = r"""
requirements:
  description: What M(dgx_spark.vllm.node_preflight_info) returns, or RV(ignore:failed) with the reason.
  type: dict
  returned: when it was asked for
occupants:
  description: What M(dgx_spark.vllm.node_survey_info) returns, or RV(ignore:failed) with the reason.
  type: dict
  returned: when it was asked for
runtime:
  description: What M(dgx_spark.vllm.gb10_runtime_info) returns, or RV(ignore:failed) with the reason.
  type: dict
  returned: when it was asked for
docker:
  description: What M(dgx_spark.vllm.container_runtime_info) returns, or RV(ignore:failed) with the reason.
  type: dict
  returned: when it was asked for
services:
  description: What M(dgx_spark.vllm.container_service_info) returns, or RV(ignore:failed) with the reason.
  type: dict
  returned: when it was asked for
msg:
  description: One sentence.
  type: str
  returned: always
"""

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..module_utils.docker import cdi
from ..module_utils.docker.cli import DockerError
from ..module_utils.gpu import runtime
from ..module_utils.node import occupants, requirements
from ..module_utils.service import unit_states
from ..module_utils.system.run import run

#: What can be asked for: the parameters of each look, and who answers.
LOOKS: dict[str, tuple[dict[str, Any], Callable[..., dict[str, Any]]]] = {
    "requirements": (requirements.ARGUMENTS, requirements.answer),
    "occupants": (occupants.ARGUMENTS, occupants.answer),
    "runtime": (runtime.ARGUMENTS, runtime.answer),
    "docker": (cdi.ARGUMENTS, cdi.answer),
    "services": (unit_states.ARGUMENTS, unit_states.answer),
}


def look(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of one look; one that fails says why in it."""
    arguments, answer = LOOKS[name]
    checked = ArgumentSpecValidator(arguments).validate(given)
    if checked.error_messages:
        return {"failed": True, "msg": f"{name}: {'; '.join(checked.error_messages)}"}
    try:
        return answer(checked.validated_parameters, run)
    except (ValueError, requirements.CollectError, DockerError) as error:
        return {"failed": True, "msg": str(error)}


def main() -> None:
    module = AnsibleModule(argument_spec={name: {"type": "dict"} for name in LOOKS}, supports_check_mode=True)
    asked = {name: given for name, given in module.params.items() if given is not None}
    if not asked:
        module.fail_json(msg=f"nothing to check: give at least one of {', '.join(LOOKS)}")
    answers = {name: look(name, given) for name, given in asked.items()}
    module.exit_json(
        changed=False, msg="; ".join(f"{name}: {found['msg']}" for name, found in answers.items()), **answers
    )


if __name__ == "__main__":
    main()
