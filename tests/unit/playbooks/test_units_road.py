# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The units of one, two and four nodes, with Ray and without: the roles run for real, what they would write is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playbooks.collection import empty_modules
from tests.unit.playbooks.real_arguments import arguments

ROOT = Path(__file__).parents[3]
SERVICE = """#!/usr/bin/python
import json, os
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(**%r)
with open("%s/" + os.environ["WORLD_HOST"] + "." + module.params["name"], "w") as file:
    json.dump({name: value for name, value in module.params.items() if value is not None}, file)
module.exit_json(changed=True)
"""
FLAGS = """#!/usr/bin/python
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import ServeIntents, commands
module = AnsibleModule(**%r)
given = {name: value for name, value in module.params["intents"].items() if value not in (None, "")}
lines, notes = commands(ServeIntents(**given))
module.exit_json(changed=False, command=lines[0], commands=lines, notes=notes, drain_seconds=given["drain_timeout"], python_path="")
"""
PLAY = """---
- hosts: head
  gather_facts: false
  tasks:
    - import_role: {name: dgx_spark.vllm.vllm_serve, tasks_from: configure}
    - import_role: {name: dgx_spark.vllm.ray_head}
      when: vllm_serve_executor | default('ray') == 'ray'
- hosts: workers
  gather_facts: false
  tasks:
    - import_role: {name: dgx_spark.vllm.ray_worker}
      when: vllm_serve_executor | default('ray') == 'ray'
    - import_role: {name: dgx_spark.vllm.vllm_worker}
      when: vllm_serve_executor | default('ray') == 'mp'
"""


def units(place: Path, nodes: int, **settings: Any) -> dict[str, dict[str, Any]]:
    """Run the roles for so many nodes and return what each unit would be, by node and name."""
    modules = empty_modules(place)
    (modules / "container_service.py").write_text(SERVICE % (arguments("container_service"), place))
    (modules / "vllm_flags.py").write_text(FLAGS % arguments("vllm_flags"))
    addresses = [f"192.168.100.{10 + number}" for number in range(nodes)]
    hosts = {
        f"spark-{number}": {"spark_fabric_address": address, "ansible_connection": "local"}
        for number, address in enumerate(addresses, start=1)
    }
    names = list(hosts)
    shared = {
        "ansible_python_interpreter": sys.executable,
        "spark_model": "qwen3-coder-30b",
        "spark_serving_image": "serving",
        "spark_store_path": "/srv/models",
        "spark_api_port": 8235,
        "spark_head_name": "spark-1",
        "spark_head_fabric_address": addresses[0],
        "spark_node_addresses": addresses,
        "spark_gpu_count": nodes,
        "model_download_path": "/srv/models/m/c",
        **{f"{role}_interface": "fabric0" for role in ("vllm_serve", "vllm_worker", "ray_head", "ray_worker")},
        **settings,
    }
    groups = {"head": {"hosts": {names[0]: {}}}, "workers": {"hosts": {name: {} for name in names[1:]}}}
    inventory = {"sparks": {"vars": shared, "hosts": hosts, "children": groups}}
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (place / "play.yml").write_text(
        PLAY.replace(
            "gather_facts: false", "gather_facts: false\n  environment: {WORLD_HOST: '{{ inventory_hostname }}'}"
        )
    )
    # A user without a home folder runs this as well.
    (place / "ansible.cfg").write_text(
        f"[defaults]\nstdout_callback = default\nlocalhost_warning = false\nremote_tmp = {place}/tmp\n"
    )
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(place / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"),
        "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
    }
    playbook = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [playbook, "-i", str(place / "hosts.yml"), str(place / "play.yml")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {path.name: json.loads(path.read_text()) for path in place.glob("spark-*.*")}


def test_four_nodes_without_ray(tmp_path: Path) -> None:
    found = units(tmp_path, 4, vllm_serve_executor="mp")
    assert sorted(found) == ["spark-1.spark-vllm", *(f"spark-{n}.spark-vllm-worker" for n in (2, 3, 4))]
    head = found["spark-1.spark-vllm"]
    text = " ".join(head["command"])
    assert "rank_watch.py --listen 192.168.100.10:29502 --peer 192.168.100.11:29502 --peer 192.168.100.12:29502" in text
    assert "--tensor-parallel-size 4 --distributed-executor-backend mp --nnodes 4 --node-rank 0" in text
    assert "--tool-call-parser qwen3_coder" in text
    assert (head["replaces"], head["after"]) == (["spark-ray-head"], [])
    assert "RAY_ADDRESS" not in head["environment"]
    assert "--dashboard" not in head["ready"]
    assert "/dev/infiniband" in head["devices"]
    for number in (2, 3, 4):
        worker = found[f"spark-{number}.spark-vllm-worker"]
        text = " ".join(worker["command"])
        assert f"--listen 192.168.100.{9 + number}:29502 --peer 192.168.100.10:29502 -- vllm serve" in text
        assert f"--node-rank {number - 1} --master-addr 192.168.100.10 --master-port 29501 --headless" in text
        assert worker["replaces"] == ["spark-ray-worker"]
        assert ["weights", "/srv/models/m/c"] in worker["gates"]
        assert worker["environment"]["VLLM_HOST_IP"] == f"192.168.100.{9 + number}"


@pytest.mark.parametrize("nodes", [1, 2])
def test_ray_on_one_and_two_nodes(tmp_path: Path, nodes: int) -> None:
    found = units(tmp_path, nodes, vllm_serve_max_num_seqs=4)
    workers = [f"spark-{n}.spark-ray-worker" for n in range(2, nodes + 1)]
    assert sorted(found) == ["spark-1.spark-ray-head", "spark-1.spark-vllm", *workers]
    head = found["spark-1.spark-vllm"]
    assert head["command"][:2] == ["vllm", "serve"]
    assert f"--tensor-parallel-size {nodes} --distributed-executor-backend ray" in " ".join(head["command"])
    assert head["environment"]["RAY_ADDRESS"] == "192.168.100.10:6379"
    assert head["replaces"] == []
    assert head["ready"].count("--node") == nodes
    assert all(found[name]["replaces"] == ["spark-vllm-worker"] for name in workers)


def test_a_pipeline_takes_its_part_of_the_gpus(tmp_path: Path) -> None:
    text = " ".join(units(tmp_path, 4, vllm_serve_pipeline_parallel_size=2)["spark-1.spark-vllm"]["command"])
    assert "--tensor-parallel-size 2 --pipeline-parallel-size 2 --distributed-executor-backend ray" in text


def test_one_node_without_ray_has_no_watch(tmp_path: Path) -> None:
    found = units(tmp_path, 1, vllm_serve_executor="mp", spark_model="qwen3-4b")
    assert sorted(found) == ["spark-1.spark-vllm"]
    command = found["spark-1.spark-vllm"]["command"]
    assert command[:2] == ["vllm", "serve"]
    assert "--reasoning-parser qwen3" in " ".join(command)
    assert "--nnodes" not in command
