# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""playbooks/units.yml by itself: what earlier playbooks would have found is read from the nodes, by modules that answer for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playbooks.collection import empty_modules

ROOT = Path(__file__).parents[3]
STAND_IN = """#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in %(names)r}, supports_check_mode=True)
with open("%(place)s/calls", "a") as file:
    file.write(json.dumps(["%(module)s", module.params]) + "\\n")
with open("%(place)s/answers.json") as file:
    module.exit_json(**{"msg": "", **json.load(file).get("%(module)s", {})})
"""
COMMIT = "c0ffee" * 6 + "c0ff"
ANSWERS: dict[str, dict[str, Any]] = {
    "fabric_info": {
        "rails": [],
        "fabric": {"cables": 1, "twins": []},
        "environment": {"GLOO_SOCKET_IFNAME": "link0", "NCCL_SOCKET_IFNAME": "link0"},
        "findings": [],
    },
    "gb10_runtime_info": {"healthy": True, "gpu_present": True},
    "gb10_kernel_check": {
        "problems": [],
        "capabilities": {"cuda_graphs": {"verdict": "try", "reason": "for the test"}},
        "nccl": "2.30.7",
    },
    "node_preflight_info": {"node": {"memory_total_gib": 121.69}},
    "hf_model_info": {
        "complete": True,
        "stamped": True,
        "path": f"/srv/models/org--name/{COMMIT}",
        "commit": COMMIT,
        "manifest_sha256": "ab" * 32,
        "msg": "all sizes right",
    },
    "vllm_graph_trial": {"mode": "decode", "candidates": [], "nccl": "2.30.7", "warning": ""},
    "vllm_flags": {
        "command": ["vllm", "serve"],
        "commands": [["vllm", "serve"]],
        "notes": [],
        "drain_seconds": 30,
        "python_path": "",
    },
}


@dataclass
class World:
    """A collection whose modules answer from a file."""

    place: Path

    def play(self, *arguments: str, **answers: dict[str, Any]) -> tuple[int, str]:
        (self.place / "answers.json").write_text(json.dumps({**ANSWERS, **answers}))
        (self.place / "calls").write_text("")
        variables = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        variables |= {"ANSIBLE_CONFIG": str(self.place / "ansible.cfg"), "NO_COLOR": "1", "COLUMNS": "200"}
        # In check mode: what Ansible's own modules would do to this machine is not done.
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "--check", "-i", "hosts.yml", *arguments]
        done = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=120, check=False, cwd=self.place
        )
        return done.returncode, done.stdout + done.stderr

    def calls(self, module: str) -> list[dict[str, Any]]:
        entries = [json.loads(line) for line in (self.place / "calls").read_text().splitlines()]
        return [given for name, given in entries if name == module]


@pytest.fixture
def world(tmp_path: Path) -> World:
    modules = empty_modules(tmp_path)
    actions = {path.stem for path in (ROOT / "plugins" / "action").glob("*.py")}
    for path in (ROOT / "plugins" / "modules").glob("*.py"):
        if path.stem in actions:
            (modules / path.name).symlink_to(path)
            continue
        document = path.read_text().partition('DOCUMENTATION = r"""')[2].partition('"""')[0]
        names = list(yaml.safe_load(document)["options"])
        (modules / path.name).write_text(STAND_IN % {"names": names, "place": tmp_path, "module": path.stem})
    hosts = {
        name: {"spark_fabric_address": f"192.168.100.1{number}"} for number, name in enumerate(("spark-1", "spark-2"))
    }
    groups = {"head": {"hosts": {"spark-1": hosts["spark-1"]}}, "workers": {"hosts": {"spark-2": hosts["spark-2"]}}}
    shared = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    settings = yaml.safe_load((ROOT / "inventory" / "sparks" / "group_vars" / "all.yml").read_text())
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"all": {"children": {"sparks": {"children": groups, "vars": {**settings, **shared}}}}})
    )
    (tmp_path / "ansible.cfg").write_text(
        f"[defaults]\ncollections_path = {tmp_path}/collections\nstdout_callback = dgx_spark.vllm.console\n"
        f"remote_tmp = {tmp_path}/tmp\nlocal_tmp = {tmp_path}/tmp\ndisplay_skipped_hosts = false\ninject_facts_as_vars = false\n"
        "callback_result_format = yaml\n"
    )
    return World(tmp_path)


@pytest.mark.parametrize("arguments", [["dgx_spark.vllm.units"], ["dgx_spark.vllm.site", "--tags", "units"]])
def test_the_units_are_those_of_site(world: World, arguments: list[str]) -> None:
    code, text = world.play(*arguments)
    assert code == 0, text
    units = {given["name"]: given for given in world.calls("container_service")}
    assert sorted(units) == ["spark-ray-head", "spark-ray-worker", "spark-vllm"]
    for unit in units.values():
        assert unit["environment"]["GLOO_SOCKET_IFNAME"] == "link0"
    assert ["weights", f"/srv/models/org--name/{COMMIT}"] in units["spark-vllm"]["gates"]
    assert ["weights", f"/srv/models/org--name/{COMMIT}"] in units["spark-ray-worker"]["gates"]
    (flags,) = world.calls("vllm_flags")
    assert flags["intents"]["cuda_graphs"] == "decode"
    (choice,) = world.calls("vllm_graph_trial")
    assert (choice["verdict"], choice["model_commit"]) == ("try", COMMIT)
    assert len(world.calls("fabric_info")) == len(world.calls("node_preflight_info")) == 2
    assert len(world.calls("hf_model_info")) == 1


def test_weights_that_are_not_there(world: World) -> None:
    missing = {"complete": False, "stamped": False, "path": "", "commit": "", "msg": "it is not in /srv/models."}
    code, text = world.play("dgx_spark.vllm.units", hf_model_info=missing)
    assert code != 0
    assert "run playbooks/weights.yml first" in " ".join(text.split())
    assert world.calls("container_service") == []
    assert "undefined" not in text
