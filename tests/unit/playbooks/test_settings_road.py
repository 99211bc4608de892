# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The settings play as an outside project runs it: an inventory with addresses and nothing else, and no machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
SHOW = """
- ansible.builtin.import_playbook: dgx_spark.vllm.settings
- hosts: sparks
  gather_facts: false
  tasks:
    - ansible.builtin.debug:
        msg: "{{ spark_model }} {{ spark_serving_image }} {{ spark_store_path }} {{ spark_api_port }} {{ spark_served_name }}"
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    nodes = {f"node-{number}": {"spark_fabric_address": f"192.168.100.1{number}"} for number in (1, 2)}
    children = {"head": {"hosts": {"node-1": {}}}, "workers": {"hosts": {"node-2": {}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"sparks": {"hosts": nodes, "children": children}}))
    (tmp_path / "show.yml").write_text(SHOW)
    return tmp_path


def play(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the playbook; return its status and what it said, in one line."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environment |= {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "NO_COLOR": "1",
        "COLUMNS": "160",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "hosts.yml")]
    done = subprocess.run(
        [*command, str(folder / "show.yml"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        cwd=folder,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_addresses_are_all_that_an_outside_project_has_to_set(inventory: Path) -> None:
    status, said = play(inventory)
    assert status == 0, said
    assert "qwen3-235b-awq dgx-spark/serving:26.10-py3 /srv/models 8235 qwen3-235b-awq" in said


@pytest.mark.parametrize(
    ("given", "scheme"),
    [
        ({}, "http"),
        ({"gateway_enabled": True}, "http"),
        ({"gateway_tls": "own"}, "http"),
        ({"gateway_enabled": True, "gateway_tls": "own"}, "https"),
    ],
)
def test_only_a_gateway_with_tls_is_spoken_to_by_https(inventory: Path, given: dict[str, object], scheme: str) -> None:
    (inventory / "show.yml").write_text(SHOW.replace("{{ spark_model }}", "scheme {{ spark_endpoint_scheme }} end"))
    status, said = play(inventory, "-e", json.dumps(given))
    assert status == 0, said
    assert f"scheme {scheme} end" in said


def test_what_the_command_line_says_counts(inventory: Path) -> None:
    status, said = play(inventory, "-e", "spark_api_port=8300", "-e", "vllm_serve_served_model_name=mine")
    assert status == 0, said
    assert "/srv/models 8300 mine" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("vllm_serve_max_model_len: 4096", "-e was given words that are neither name=value nor"),
        ("vllm_serve_pipeline_parallel_size=0", "is 0, expected at least 1"),
        ("spark_api_key=abc", "has 3 characters"),
    ],
)
def test_what_is_refused(inventory: Path, words: str, said: str) -> None:
    status, told = play(inventory, "-e", words)
    assert status != 0
    assert said in told
    assert "Traceback" not in told
