# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Any machine may be the controller, one of the nodes itself included: it reaches itself without SSH and the other by SSH."""

from __future__ import annotations

import subprocess
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from tests.integration.conftest import REPOSITORY, SIMULATION, settings

#: What ansible-core runs on; pure Python or built for the same Python minor version as the node's (3.11 in the simulation).
PACKAGES = (
    "ansible",
    "jinja2",
    "markupsafe",
    "packaging",
    "resolvelib",
    "yaml",
    "_yaml",
    "cryptography",
    "cffi",
    "_cffi_backend",
)
PLACE = "/home/spark/controller"
STATE = "/home/spark/.cache/dgx-spark-vllm/simulation"


def archive(path: Path) -> Path:
    """Pack checkout, ansible-core and the simulation's key, as a user would have them on the node."""
    site = Path(sysconfig.get_paths()["purelib"])
    with tarfile.open(path, "w") as tar:
        files = subprocess.run(
            ["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True
        ).stdout
        for name in files.split("\0"):
            if name:
                tar.add(REPOSITORY / name, f"checkout/{name}", recursive=False)
        for package in PACKAGES:
            for found in site.glob(f"{package}*"):
                if found.name.partition(".")[0] == package or found.name == package:
                    tar.add(found, f"python/{found.name}")
        for found in site.glob("*.dist-info"):
            if found.name.lower().startswith(("ansible_core-", *(f"{package}-" for package in PACKAGES))):
                tar.add(found, f"python/{found.name}")
        for file in (settings.key_file(), settings.known_hosts_file()):
            tar.add(file, f"ssh/{file.name}")
    return path


@pytest.fixture
def controller(head: Host, tmp_path: Path) -> Iterator[Host]:
    """The head with Ansible, the checkout and an inventory in which it is itself the controller."""
    hosts = yaml.safe_load((SIMULATION / "hosts.yml").read_text())
    hosts["sparks"]["children"]["head"]["hosts"]["spark-1"]["ansible_connection"] = "local"
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump(hosts))
    with archive(tmp_path / "controller.tar").open("rb") as stream:
        ssh = ["ssh", "-F", str(settings.ssh_config_file()), "spark-1"]
        subprocess.run([*ssh, f"mkdir -p {PLACE} && tar -x -C {PLACE}"], stdin=stream, check=True)
    with inventory.open("rb") as stream:
        subprocess.run([*ssh, f"cat > {PLACE}/checkout/inventory/simulation/hosts.yml"], stdin=stream, check=True)
    head.check_output(f"mkdir -p {STATE} && mv {PLACE}/ssh/* {STATE}")
    yield head
    head.check_output(f"rm -rf {PLACE} {STATE}")


def test_a_node_is_the_controller(controller: Host) -> None:
    run = controller.run(
        f"cd {PLACE}/checkout && PYTHONPATH={PLACE}/python ANSIBLE_FORCE_COLOR=0 "
        "python3 -m ansible playbook -i inventory/simulation site.yml "
        # A run of the other controller may have failed just now, and its connection is still there.
        "-e take_lock=yes"
    )
    assert run.rc == 0, run.stdout[-3000:] + run.stderr[-1000:]
    recap = [line for line in run.stdout.splitlines() if "changed=" in line]
    # The controller itself, where the settings are checked, and both nodes.
    assert len(recap) == 3
    assert all("changed=0" in line and "failed=0" in line for line in recap), recap
