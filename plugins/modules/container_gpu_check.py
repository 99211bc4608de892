#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: a container gets the GPU and its limits, and keeps the GPU through a daemon-reload."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_gpu_check
short_description: Prove that a container gets the GPU and its limits, and keeps the GPU through a daemon-reload
version_added: 1.0.0
description:
  - Starts a container that sleeps, looks into it, runs C(systemctl daemon-reload), looks again, and removes it.
  - With the legacy hook and systemd's cgroups a running container loses its GPU at that moment, and each installation of a unit is one.
  - It puts no load on the GPU. While containers of the cluster run it does nothing, because the reload could take their GPU; see O(while_serving).
  - A proof holds until image, Docker, toolkit, driver, devices or limits change, or the node boots; then it is reused.
options:
  image:
    description: Image on this node to start, with C(sleep) in it. NVIDIA's CDI devices bring nvidia-smi along.
    type: str
    required: true
  devices:
    description: Devices of the container, as C(docker run --device) takes them.
    type: list
    elements: str
    default: [nvidia.com/gpu=all, /dev/infiniband]
  ulimits:
    description: Limits of the container by name, as C(docker run --ulimit) takes them.
    type: dict
    default: {}
  reload:
    description: Whether to try C(systemctl daemon-reload).
    type: bool
    default: true
  while_serving:
    description: Whether to do it also while containers of the cluster run.
    type: bool
    default: false
  force:
    description: Whether to prove again what is proven.
    type: bool
    default: false
  stamp:
    description: File on the node that keeps the proof.
    type: path
    default: /var/lib/dgx-spark/proofs/container_gpu.json
attributes:
  check_mode:
    description: Can run in check mode, in which it starts nothing and returns a proof that still holds.
    support: full
  diff_mode:
    description: Returns what changed, or would change, in diff mode.
    support: N/A
  platform:
    description: The operating systems it runs on.
    platforms: linux
    support: full
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: A container keeps its GPU
  dgx_spark.vllm.container_gpu_check:
    image: dgx-spark/serving:26.10
    ulimits:
      nofile: "1048576:1048576"
      memlock: "-1:-1"
  register: proof
"""

RETURN = r"""
proven:
  description: Whether the proof was made and holds.
  type: bool
  returned: success
reused:
  description: Whether an earlier proof was returned.
  type: bool
  returned: success
skipped_reason:
  description: Why nothing was tried; empty when it was.
  type: str
  returned: success
problems:
  description: One sentence for each thing that a container lacks or loses.
  type: list
  elements: str
  returned: success
findings:
  description: What a container lacks or loses; yellow where nothing was tried, green where it is proven.
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
before:
  description: >-
    What the container showed after its start: gpu, said (the first line of nvidia-smi), limits, rdma, and uvm, whether it has /dev/nvidia-uvm
    (null where the node has none).
  type: dict
  returned: when something was tried
after:
  description: The same after the daemon-reload; null where that was not tried.
  type: dict
  returned: when something was tried
msg:
  description: One sentence.
  type: str
  returned: always
"""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cdi import PROOF, UVM, Host, Look, cdi_devices, judge_proof, parse_limits, reported
from ..module_utils.docker.cli import BARE, DOCKER, DockerError, docker, image_id, remove_container, running
from ..module_utils.docker.service import DIGEST_LABEL
from ..module_utils.report.finding import YELLOW, Finding, as_dicts, sentences
from ..module_utils.system.files import read_json, write_atomic
from ..module_utils.system.run import run

NAME = "spark-gpu-check"
#: Seconds that the container sleeps: it goes by itself should this module be killed.
SLEEP_S = 120
#: Seconds for each command in the container; nvidia-smi takes one or two.
LOOK_S = 30
#: systemd applies the reload to the cgroups of containers behind our back.
SETTLE_S = 2
#: What a result has; a stamp that lacks any of it is none.
RESULT = {"proven", "skipped_reason", "problems", "findings", "before", "after"}


class CheckError(Exception):
    """One sentence for the user."""


class GpuCheck:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.host = Host(run)
        self.gpu = bool(cdi_devices(self.params["devices"]))
        self.rdma = "/dev/infiniband" in self.params["devices"]

    def inputs(self) -> str:
        """Return the digest of all that a proof depends on."""
        found = {
            "image": image_id(run, self.params["image"]),
            "docker": self.host.docker().version,
            "toolkit": self.host.toolkit(),
            "driver": self.host.driver_loaded(),
            "boot": self.host.text("/proc/sys/kernel/random/boot_id").strip(),
            "requested": [self.params[name] for name in ("devices", "ulimits", "reload")],
        }
        return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()

    def inside(self, *argv: str) -> tuple[int, str, str]:
        """Run a program in the container."""
        return run([DOCKER, "exec", NAME, *argv], LOOK_S)

    def look(self) -> Look:
        """Look into the container."""
        gpu, said, uvm = False, "", None
        if self.gpu:
            status, out, err = self.inside("nvidia-smi", "-L")
            lines = (out or err).strip().splitlines()
            said = lines[0].strip() if lines else f"exit status {status}"
            gpu = status == 0 and said.startswith("GPU ")
            if gpu and self.host.path(UVM).exists():
                status, _names, _err = self.inside("ls", UVM)
                # ls says 2, busybox 1; whatever else went wrong says nothing of the node.
                uvm = {0: True, 1: False, 2: False}.get(status)
        _status, limits, _err = self.inside("cat", "/proc/1/limits")
        rdma: tuple[str, ...] = ()
        if self.rdma:
            _status, names, _err = self.inside("ls", "/dev/infiniband")
            rdma = tuple(names.split())
        return Look(gpu=gpu, said=said, limits=parse_limits(limits), rdma=rdma, uvm=uvm)

    def prove(self) -> tuple[Look, Look | None]:
        """Start, look, reload, look, remove."""
        command = ["run", "--detach", "--rm", "--pull", "never", "--name", NAME, "--network", "none", *BARE]
        for device in self.params["devices"]:
            command += ["--device", device]
        for name, value in sorted(self.params["ulimits"].items()):
            command += ["--ulimit", f"{name}={value}"]
        remove_container(run, NAME)
        try:
            docker(
                run,
                *command,
                "--entrypoint",
                "sleep",
                self.params["image"],
                str(SLEEP_S),
                purpose="the check of the GPU",
            )
            before = self.look()
            if not self.params["reload"] or (self.gpu and not before.gpu):
                return before, None
            status, out, err = run(["systemctl", "daemon-reload"])
            if status != 0:
                raise CheckError(f"systemctl daemon-reload failed: {(err or out).strip()}; is systemd process 1 here?")
            time.sleep(SETTLE_S)
            return before, self.look()
        finally:
            remove_container(run, NAME)

    def ensure(self) -> dict[str, Any]:
        """Return the result; raises CheckError with one sentence."""
        try:
            digest = self.inputs()
        except DockerError:
            if not self.module.check_mode:
                raise
            return self.nothing("the image is still to come, and check mode starts no container")
        stamp = Path(self.params["stamp"])
        kept = read_json(stamp) or {}
        result = kept.get("result") if kept.get("digest") == digest else None
        if not self.params["force"] and isinstance(result, dict) and set(result) >= RESULT:
            return {**result, "reused": True}
        if self.module.check_mode:
            return self.nothing("check mode starts no container")
        serving = [] if self.params["while_serving"] else running(run, DIGEST_LABEL)
        if serving:
            return self.nothing(
                f"{', '.join(serving)} runs, whose GPU the reload could take; stop the cluster, or set while_serving"
            )
        before, after = self.prove()
        findings = judge_proof(
            before,
            after,
            gpu=self.gpu,
            rdma=self.rdma,
            ulimits=self.params["ulimits"],
            docker=self.host.docker().version,
        )
        result = {
            "proven": not findings,
            "skipped_reason": "",
            "problems": sentences(findings),
            "findings": as_dicts(
                reported(
                    findings, "a container gets what it is given" + (" and keeps it" if after else ""), check=PROOF
                )
            ),
            "before": asdict(before),
            "after": asdict(after) if after else None,
        }
        if not findings:
            write_atomic(stamp, json.dumps({"digest": digest, "result": result}))
        return {**result, "reused": False}

    def nothing(self, why: str) -> dict[str, Any]:
        told = Finding("docker.not_tried", YELLOW, PROOF, f"not tried: {why}")
        return {"proven": False, "reused": False, "skipped_reason": why, "problems": [], "findings": as_dicts([told])}


def sentence(result: dict[str, Any], devices: Sequence[str]) -> str:
    """Return one sentence for a result."""
    if result["problems"]:
        return "; ".join(result["problems"])
    if result["skipped_reason"]:
        return f"not tried: {result['skipped_reason']}"
    what = "gets the GPU and its limits" if cdi_devices(devices) else "gets its limits"
    kept = ", also after a daemon-reload" if result["after"] else ""
    return f"a container {what}{kept}" + (" (verified before)" if result["reused"] else "")


def main() -> None:
    """Prove, answer."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "devices": {"type": "list", "elements": "str", "default": ["nvidia.com/gpu=all", "/dev/infiniband"]},
            "ulimits": {"type": "dict", "default": {}},
            "reload": {"type": "bool", "default": True},
            "while_serving": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "stamp": {"type": "path", "default": "/var/lib/dgx-spark/proofs/container_gpu.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = GpuCheck(module).ensure()
    except (CheckError, DockerError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'container_gpu_check'}: {error.strerror}; the module needs root and Docker on the node"
        )
    module.exit_json(changed=False, msg=sentence(result, module.params["devices"]), **result)


if __name__ == "__main__":
    main()
