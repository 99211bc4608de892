#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what a serving image holds, and what it lacks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_check_info
short_description: What a serving image holds, and what it lacks
version_added: 1.0.0
description:
  - Reads versions of vLLM, Ray, torch, NCCL and others from an image on this node, and judges whether it can serve over several nodes.
  - A container of the image runs for about a second to read what is installed, without network and GPU; nothing is imported and nothing changed.
  - Whether kernels run on this machine is not seen here; M(dgx_spark.vllm.gb10_kernel_check) runs them.
options:
  name:
    description: Name of the image on this node.
    type: str
    required: true
  ray_version:
    description: Version of Ray that would be added where the image lacks it. Another good one is kept and noted.
    type: str
  min_vllm:
    description: Oldest vLLM to accept.
    type: str
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect the image
  dgx_spark.vllm.image_check_info:
    name: dgx-spark/serving:26.10
    min_vllm: 0.21.0
  register: serving_image

- name: Assert that the image can serve
  ansible.builtin.assert:
    that: serving_image.healthy
    fail_msg: "{{ serving_image.msg }}"
"""

RETURN = r"""
healthy:
  description: Whether there are no problems.
  type: bool
  returned: success
problems:
  description: One sentence for each thing for which the image cannot serve.
  type: list
  elements: str
  returned: success
notes:
  description: One sentence for each thing worth knowing.
  type: list
  elements: str
  returned: success
findings:
  description: Problems and notes, with a green one where there is no problem.
  type: list
  elements: dict
  returned: success
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
origin:
  description: What the registry calls the image, or the base that it was made of (C(repository@sha256:...)); empty where it was never pulled.
  returned: when there is an image
  type: str
content:
  description: Digest of layers and run configuration, equal on all nodes that have the same image.
  returned: success
  type: str
image_id:
  description: Id of the image on this node.
  type: str
  returned: success
facts:
  description: What is in the image; empty text for what is not.
  type: dict
  returned: success
  contains:
    vllm: {description: Version of vLLM., type: str}
    ray: {description: Version of Ray., type: str}
    ray_dashboard: {description: Whether Ray has its dashboard., type: bool}
    torch: {description: Version of torch., type: str}
    triton: {description: Version of Triton., type: str}
    flashinfer: {description: Version of FlashInfer., type: str}
    transformers: {description: Version of transformers., type: str}
    nccl: {description: "Version of NCCL, of the library that torch would load.", type: str}
    nccl_library: {description: Path of that library., type: str}
    cuda: {description: C(CUDA_VERSION) of the image's environment., type: str}
    python: {description: Version of Python., type: str}
    architecture: {description: C(arm64) or C(amd64)., type: str}
    programs: {description: "Paths of vllm, ray, python3 and ptxas where they are on the PATH.", type: dict}
msg:
  description: One sentence.
  type: str
  returned: always
"""

import platform
from typing import NoReturn

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError, inspect_image
from ..module_utils.docker.image_digest import content_of_inspect, origin_of_inspect, origin_text
from ..module_utils.docker.image_layer import CHECK, architecture, judge_architecture, judge_image, probe_image
from ..module_utils.report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..module_utils.system.run import run


def stop(module: AnsibleModule, wrong: Finding) -> NoReturn:
    """Fail with one finding."""
    module.fail_json(msg=wrong.sentence(), findings=as_dicts([wrong]))
    raise AssertionError  # fail_json does not return


def main() -> None:
    """Look into the image, judge, answer."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "ray_version": {"type": "str"},
            "min_vllm": {"type": "str"},
        },
        supports_check_mode=True,
    )
    name = module.params["name"]
    try:
        inspected = inspect_image(run, name)
    except DockerError as error:
        module.fail_json(msg=str(error))
    if inspected is None:
        stop(
            module,
            Finding(
                "image.missing", RED, "image", f"image {name!r} is not on this node", "run role serving_image first"
            ),
        )
    here = platform.machine()
    # A container for another architecture would only say `exec format error`.
    if wrong := judge_architecture(name, str(inspected.get("Architecture") or ""), here):
        stop(module, wrong)
    try:
        facts = probe_image(run, name)
    except DockerError as error:
        stop(module, Finding("image.no_python", RED, "image", str(error), "name an image that serves"))
    findings = judge_image(
        facts,
        node_architecture=architecture(here),
        ray_version=module.params["ray_version"] or "",
        min_vllm=module.params["min_vllm"] or "",
    )
    holds = f"vLLM {facts.vllm}, Ray {facts.ray}, torch {facts.torch}, NCCL {facts.nccl or 'not found'}"
    holds += f"; from {origin_text(inspected)}"
    problems = sentences(findings)
    module.exit_json(
        changed=False,
        findings=as_dicts(findings if problems else [*findings, fine("image", CHECK, holds)]),
        healthy=not problems,
        problems=problems,
        notes=sentences(findings, YELLOW),
        image_id=str(inspected["Id"]),
        content=content_of_inspect(inspected),
        origin=origin_of_inspect(inspected),
        facts=facts.as_facts(),
        msg=f"image {name!r} cannot serve: {'; '.join(problems)}" if problems else f"image {name!r} has {holds}",
    )


if __name__ == "__main__":
    main()
