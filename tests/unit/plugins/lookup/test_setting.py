# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A setting of another role: what is said of it, else its owner's default, worked out with what is said of others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.dgx_spark.vllm.plugins.lookup.setting import LookupModule as Setting

ROOT = Path(__file__).parents[4]
#: Name, variables of the host, value.
CASES: list[tuple[str, dict[str, Any], Any]] = [
    ("ray_head_port", {}, 6379),
    ("ray_head_port", {"ray_head_port": 6400}, 6400),
    ("spark_gpus_per_node", {}, 1),
    ("spark_gpus_per_node", {"spark_gpus_per_node": 2}, 2),
    # A default that refers to a setting, to another role's, and to a default of the same role.
    ("container_runtime_devices", {"spark_devices": ["/dev/null"]}, ["/dev/null"]),
    ("container_runtime_devices", {}, ["nvidia.com/gpu=all", "/dev/infiniband"]),
    # 0.75 of the 119.7 GiB that a Spark has.
    ("node_report_min_available_gib", {}, 89.8),
    ("node_report_min_available_gib", {"vllm_serve_min_available_gib": 4}, 4),
    ("vllm_serve_tensor_parallel_size", {"spark_gpu_count": 4}, 4),
    ("vllm_serve_tensor_parallel_size", {"spark_gpu_count": 4, "vllm_serve_pipeline_parallel_size": 2}, 2),
    ("vllm_serve_cuda_graphs", {"vllm_serve_enforce_eager": True}, "off"),
    ("ray_head_port", {"ray_head_port": "{{ base + 1 }}", "base": 6400}, 6401),
]
NODES = {"spark_head_name": "spark-1", "spark_node_addresses": ["192.168.100.10", "192.168.100.11"]}
AGENTS = [6380, 6381, 6382, 6383, 6384, 52365]


def play(place: Path, hosts: dict[str, Any], that: str) -> subprocess.CompletedProcess[str]:
    """Run one assertion on hosts with variables of their own, each with its own ``wanted``."""
    shared = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": shared, "hosts": hosts}}))
    task = {"name": "Compare", "ansible.builtin.assert": {"that": that}}
    (place / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environment |= {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"), "NO_COLOR": "1"}
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "play.yml"]
    return subprocess.run(argv, cwd=place, env=environment, capture_output=True, text=True, check=False)


def test_what_is_said_counts_and_else_the_owners_default(tmp_path: Path) -> None:
    hosts = {
        f"case-{place}-{name}": {"asked": name, "wanted": value, **variables}
        for place, (name, variables, value) in enumerate(CASES)
    }
    done = play(tmp_path, hosts, "lookup('dgx_spark.vllm.setting', asked) == wanted")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("failed=0") == len(CASES)


def test_the_ports_of_this_node(tmp_path: Path) -> None:
    hosts = {
        "spark-1": {
            "spark_api_port": "{{ 7999 + 1 }}",
            "wanted": sorted([8000, 6379, 8237, 8265, 10001, *AGENTS]),
            **NODES,
        },
        "spark-2": {"wanted": sorted(AGENTS), **NODES},
    }
    done = play(tmp_path, hosts, "query('dgx_spark.vllm.ports') | map(attribute='port') | sort == wanted")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_name_that_no_role_has_is_refused() -> None:
    loader = DataLoader()
    with pytest.raises(AnsibleLookupError, match="setting 'ray_head_prot' does not exist"):
        Setting(loader=loader, templar=Templar(loader=loader, variables={})).run(["ray_head_prot"], {})
