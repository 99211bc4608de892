# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Each inventory of inventory/examples, with addresses in it, passes the settings and the plan: all that needs no machine."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "inventory" / "examples"
#: Nodes, and how their ranks spread in the plan.
SHAPES = {
    "cuda": "2 nodes, TP=2, 79.20 GiB",
    "four": "4 nodes, TP=4, 121.69 GiB",
    "one": "1 node, TP=1, 121.69 GiB",
    "three": "3 nodes, TP=1, PP=3, 121.69 GiB",
    "two-mp": "2 nodes, TP=2, 121.69 GiB",
}


def plan(inventory: Path, *extra: str) -> tuple[int, str]:
    done = subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, ROOT / "playbooks" / "plan.yml", *extra],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_every_example_is_tried_and_told() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == set(SHAPES)
    readme = (ROOT / "inventory" / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(examples/([\w-]+)\)", readme)) == set(SHAPES)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_an_example_with_addresses_passes(name: str, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / name, tmp_path / name)
    hosts = tmp_path / name / "hosts.yml"
    numbers = itertools.count(10)
    text = re.sub(r"_(host|address): EDIT-ME", lambda found: f"_{found[1]}: 192.0.2.{next(numbers)}", hosts.read_text())
    hosts.write_text(text.replace("EDIT-ME", "you"))
    extra = () if name == "cuda" else ("-e", "vllm_plan_memory_gib=121.69")
    status, said = plan(tmp_path / name, *extra)
    assert status == 0, said
    assert SHAPES[name] in said and "\nFITS" in said


def test_an_example_as_it_is_says_what_to_edit() -> None:
    status, said = plan(EXAMPLES / "four")
    assert status != 0
    assert "the inventory is not edited yet" in said and "spark-4" in said


def test_an_example_names_only_what_differs() -> None:
    """What every inventory would say belongs into the defaults."""
    for path in EXAMPLES.glob("*/group_vars/all.yml"):
        assert len(yaml.safe_load(path.read_text(encoding="utf-8"))) <= 16, path
