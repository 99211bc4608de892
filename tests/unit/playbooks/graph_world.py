# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Two nodes of files for trials of CUDA graphs: units and containers are entries of one JSON file, the server is the stand-in.

The collection is the checkout's, with three modules replaced: those that would talk to systemd and Docker. Everything else runs
for real: roles, playbooks, the choice, the trial record, the questions to the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.unit.playbooks.collection import empty_modules
from tests.unit.playbooks.real_arguments import arguments

ROOT = Path(__file__).parents[3]
HEAD, WORKER = "spark-1", "spark-2"
UNITS = {HEAD: ["spark-ray-head", "spark-vllm"], WORKER: ["spark-ray-worker"]}

COMMON = """#!/usr/bin/python
import fcntl, json, os
from ansible.module_utils.basic import AnsibleModule
PLACE = "%(place)s"
HOST = os.environ["WORLD_HOST"]
def change(work):
    with open(PLACE + "/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(PLACE + "/world.json") as file:
            world = json.load(file)
        result = work(world)
        with open(PLACE + "/world.json.new", "w") as file:
            json.dump(world, file)
        os.replace(PLACE + "/world.json.new", PLACE + "/world.json")
    return result
"""
SERVICE = """
def main():
    module = AnsibleModule(**%(arguments)r)
    given = module.params
    def work(world):
        if given["state"] == "stopped" and given["name"] not in world["units"]:
            return False
        unit = world["units"].setdefault(given["name"], {"host": HOST, "disk": "", "trial": "", "running": "", "active": "inactive"})
        before = dict(unit)
        state = given["state"]
        wanted = " ".join(given["command"] or [])
        if state == "present" and given["trial"]:
            unit["trial"] = wanted
        elif state == "present":
            unit.update(disk=wanted, trial="")
        elif state == "stopped":
            unit.update(running="", active="inactive")
        else:
            unit.update(running=unit["trial"] or unit["disk"], active="active")
            mode = unit["running"].rpartition(" ")[2]
            if given["name"] == "spark-vllm" and world["behaviours"].get(mode) == "start":
                unit.update(running="", active="failed")
        if unit != before:
            world["log"].append([given["name"], "trial" if given["trial"] else state, wanted.rpartition(" ")[2]])
        return unit != before
    module.exit_json(changed=change(work))
main()
"""
INFO = """
def main():
    module = AnsibleModule(**%(arguments)r)
    def work(world):
        found = []
        for name, unit in world["units"].items():
            if unit["host"] != HOST:
                continue
            wanted = unit["trial"] or unit["disk"]
            differs = [] if unit["running"] == wanted else [f"runs {unit['running'] or 'nothing'}, wanted {wanted}"]
            found.append({"name": name, "active": unit["active"], "settled": unit["active"] == "active", "differs": differs})
        return found
    units = change(work)
    failed = [unit["name"] for unit in units if unit["active"] == "failed"]
    module.exit_json(changed=False, units=units, settled=all(unit["settled"] for unit in units), failed_units=failed,
                     startup=[f"start-up of {name}" for name in [module.params["startup_of"]]
                              if any(unit["name"] == name and unit["settled"] for unit in units)],
                     stop_flag=False, journal={name: ["CUDA error: an illegal memory access"] for name in failed}, msg="")
main()
"""
FLAGS = """
def main():
    module = AnsibleModule(**%(arguments)r)
    mode = module.params["intents"].get("cuda_graphs", "eager")
    module.exit_json(changed=False, command=["vllm", "serve", "in", mode], notes=[], drain_seconds=0, python_path="")
main()
"""

TRIAL_RUN = """from pathlib import Path
from ..module_utils.vllm import graph_steps
graph_steps.BOOT_ID = Path("%(place)s/boot_id")
def run(argv, **given):
    return 0, '[{"Id": "sha256:c0ffee"}]', ""
"""

# The units as playbooks/units.yml writes them, less what else those roles put on a node.
PLAY = """---
- hosts: head
  gather_facts: false
  tasks:
    - import_role: {name: dgx_spark.vllm.vllm_graphs, tasks_from: facts}
    - dgx_spark.vllm.container_service: {name: spark-ray-head, image: serving, command: [ray, head]}
    - import_role: {name: dgx_spark.vllm.vllm_serve, tasks_from: configure}
- hosts: workers
  gather_facts: false
  tasks:
    - dgx_spark.vllm.container_service: {name: spark-ray-worker, image: serving, command: [ray, worker]}
- import_playbook: dgx_spark.vllm.cluster
"""


@dataclass
class World:
    """The nodes, and runs of the plays that bring the endpoint up."""

    place: Path
    url: str

    @classmethod
    def make(cls, place: Path, url: str) -> World:
        """Lay out the collection, the inventory and the play."""
        world = cls(place, url)
        world.write({"units": {}, "behaviours": {}, "log": []})
        world._collection()
        world._inventory()
        (place / "ansible.cfg").write_text(
            f"[defaults]\ncollections_path = {place}/collections\nlocalhost_warning = false\nretry_files_enabled = false\n"
            f"remote_tmp = {place}/tmp\nlocal_tmp = {place}/tmp\nstdout_callback = default\n"
        )
        return world

    def read(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.place / "world.json").read_text())
        return document

    def write(self, document: dict[str, Any]) -> None:
        (self.place / "world.json").write_text(json.dumps(document))

    def behave(self, **modes: str) -> None:
        """Say how the server behaves in each mode; one that is not named is fine."""
        self.write({**self.read(), "behaviours": modes, "log": []})

    def mode(self) -> str:
        """Return the mode in which the server runs; empty where none runs."""
        return self.of("running")

    def of(self, kind: str) -> str:
        """Return the mode on disk, of a trial, or of what runs."""
        return str(self.read()["units"].get("spark-vllm", {}).get(kind, "")).rpartition(" ")[2]

    def behaviour(self) -> str:
        """Return how the server is to answer now."""
        return str(self.read()["behaviours"].get(self.mode(), "fine"))

    def log(self) -> list[list[str]]:
        """Return what was done to units since ``behave``."""
        entries: list[list[str]] = self.read()["log"]
        return entries

    def record(self) -> dict[str, Any]:
        """Return the outcomes of the only entry."""
        (entry,) = json.loads((self.place / "trials.json").read_text())["trials"]
        modes: dict[str, Any] = entry["modes"]
        return modes

    def start(self, **extra: Any) -> subprocess.Popen[str]:
        """Start a run of the plays."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        environment |= {"ANSIBLE_CONFIG": str(self.place / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1"}
        argv = [
            str(Path(sys.executable).parent / "ansible-playbook"),
            "-i",
            "hosts.yml",
            "play.yml",
            "-e",
            json.dumps(extra),
        ]
        return subprocess.Popen(
            argv, cwd=self.place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, **extra: Any) -> tuple[int, str]:
        """Run the plays; the exit status and what they wrote."""
        process = self.start(**extra)
        output, _ = process.communicate(timeout=900)
        return process.returncode, output

    def _collection(self) -> None:
        modules = empty_modules(self.place)
        common = COMMON % {"place": self.place}
        stubs = {
            name: common + text % {"arguments": arguments(name)}
            for name, text in (("container_service", SERVICE), ("container_service_info", INFO), ("vllm_flags", FLAGS))
        }
        for module in (ROOT / "plugins" / "modules").glob("*.py"):
            if module.stem not in stubs:
                (modules / module.name).symlink_to(module)
        for name, text in stubs.items():
            (modules / f"{name}.py").write_text(text)
        # The image's id is asked of Docker; the trial record and the boot are this world's.
        trial = (modules / "vllm_graph_trial.py").read_text()
        run = "from ..module_utils.system.run import run\n"
        assert run in trial
        assert "str(RECORD)" in trial
        (modules / "vllm_graph_trial.py").unlink()
        (modules / "vllm_graph_trial.py").write_text(
            trial.replace("str(RECORD)", repr(f"{self.place}/trials.json")).replace(
                run, TRIAL_RUN % {"place": self.place}
            )
        )
        (self.place / "boot_id").write_text("boot-1\n")

    def _inventory(self) -> None:
        for host in UNITS:
            python = self.place / f"python-{host}"
            python.write_text(f'#!/bin/sh\nWORLD_HOST={host} exec {sys.executable} "$@"\n')
            python.chmod(0o755)
        shared = {
            "ansible_connection": "local",
            "ansible_become": False,
            "spark_model": "tiny-qwen3-moe",
            "spark_serving_image": "serving:1",
            "spark_store_path": "/srv/models",
            "spark_api_port": 8235,
            "spark_devices": ["nvidia.com/gpu=all"],
            "spark_head_name": HEAD,
            "spark_head_fabric_address": "192.168.100.10",
            "spark_node_addresses": ["192.168.100.10", "192.168.100.11"],
            "spark_gpu_count": 2,
            "__settings_checked": True,
            "spark_served_name": "qwen3-235b-awq",
            "vllm_serve_interface": "eth1",
            "vllm_serve_cuda_graphs": "auto",
            "ray_head_interface": "eth1",
            "ray_worker_interface": "eth1",
            "vllm_graphs_verdict": {"verdict": "try", "reason": "for the test", "nccl": "2.30.7"},
            "vllm_graphs_base_url": self.url,
            "vllm_graphs_api_key_file": str(self.place / "key"),
            "vllm_graphs_soak_seconds": 0.3,
            "vllm_graphs_soak_tokens": 40,
            # Longer than a busy machine lets a sound server wait.
            "vllm_graphs_stall_seconds": 5,
            "cluster_restart_timeout": 10,
        }
        (self.place / "key").write_text("a-key\n")
        hosts = {
            host: {
                "ansible_python_interpreter": str(self.place / f"python-{host}"),
                "spark_fabric_address": f"192.168.100.1{number}",
            }
            for number, host in enumerate(UNITS)
        }
        # As the weights' roles leave it: a fact of the head alone.
        hosts[HEAD]["model_download_path"] = "/srv/models/org--name/c0ffee"
        groups = {"head": {"hosts": {HEAD: hosts[HEAD]}}, "workers": {"hosts": {WORKER: hosts[WORKER]}}}
        inventory = {"sparks": {"children": groups, "vars": shared}}
        (self.place / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": inventory}}))
        (self.place / "play.yml").write_text(PLAY)
