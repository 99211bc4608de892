# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A node of files, with things of ours and of the user's beside each other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_snapshot, service_unit
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import removal
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.removal import (
    Removal,
    new_packages,
    record_packages,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.restart_plan import OTHERS
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.units import ORDER

COLLECTION = Path(__file__).parents[5]
IMAGE, USERS = "sha256:" + "a" * 64, "sha256:" + "b" * 64
OURS = {
    "etc/systemd/system/spark-vllm.service": "# Written by dgx_spark.vllm.container_service; x\n[Unit]\n",
    "etc/systemd/system/spark-model-download.service": "[Unit]\n",
    "etc/systemd/system/spark-new.timer": "# Written by dgx_spark.vllm.some_role\n",
    "etc/systemd/system.conf.d/50-dgx-spark.conf": "# Written by dgx_spark.vllm.x\n",
    "etc/systemd/journald.conf.d/90-dgx-spark.conf": "# Written by dgx_spark.vllm.x\n",
    "etc/bash_completion.d/spark": "# Written by dgx_spark.vllm.node_tools: x\n",
    "etc/sysctl.d/90-dgx-spark.conf": "# Written by dgx_spark.vllm.x\n",
    "etc/apt/sources.list.d/dgx-spark.sources": "# Written by dgx_spark.vllm.container_runtime from x\n",
    "etc/dgx-spark/containers/spark-vllm.json": json.dumps({"digest": "d", "image_id": IMAGE}),
    "etc/dgx-spark/secrets/api_key": "k",
    "opt/dgx-spark/bin/spark-gate": "x",
    "var/lib/dgx-spark/vllm-flags.json": "{}",
    "var/lib/dgx-spark/chat/data/webui.db": "x",
    "var/cache/dgx-spark/torch/a": "x",
    "srv/models/org--model/refs/main": "c",
    "srv/models/org--model/c.manifest.json": "{}",
}
THEIRS = {
    "etc/systemd/system/ollama.service": "[Unit]\nDescription=not dgx_spark\n",
    "etc/netplan/50-cloud-init.yaml": "network: {}\n",
    "etc/sysctl.d/50-users.conf": "x",
    "etc/apt/sources.list.d/users.list": "x",
    "srv/models/users/config.json": "{}",
    "srv/models/models--org--model/refs/main": "c",
    # What DGX OS calls its own.
    "etc/udev/rules.d/90-dgx-spark-mlnx-hotplug.rules": "x",
    "etc/systemd/system/dgx-spark-mlnx-hotplug.service": "[Unit]\n",
    "etc/exports.d/users.exports": "/home *",
    "etc/bash_completion.d/users": "x",
}


class Node:
    """Answers as systemd, Docker and apt."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.containers = {"spark-ray-head": "ours", "users": "theirs"}
        self.images = {"serving:1": IMAGE, "users:1": USERS}
        self.apt = "Purg nfs-common [1]\n"
        self.said: list[list[str]] = []
        for path, text in {**OURS, **THEIRS}.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}

    def __call__(self, argv: list[str], *_seconds: float | None, **_more: Any) -> tuple[int, str, str]:
        self.said.append(list(argv))
        if argv[:2] == ["systemctl", "show"]:
            there = (self.root / "etc/systemd/system" / argv[2]).exists()
            return (
                0,
                f"LoadState={'loaded' if there else 'not-found'}\nActiveState={'active' if there else 'inactive'}\nUnitFileState={'enabled' if there else ''}\n",
                "",
            )
        if argv[1:2] == ["ps"]:
            return (
                0,
                "\n".join(name for name, whose in self.containers.items() if "--filter" not in argv or whose == "ours"),
                "",
            )
        if argv[1] == "inspect":
            return (0, "[{}]", "") if argv[4] in self.containers else (1, "", "No such container")
        if argv[1:3] == ["rm", "--force"]:
            del self.containers[argv[3]]
        if argv[1:3] == ["image", "inspect"]:
            found = self.images.get(argv[3]) or (argv[3] if argv[3] in self.images.values() else None)
            names = [name for name, image in self.images.items() if image == found]
            return (0, json.dumps([{"Id": found, "RepoTags": names}]), "") if found else (1, "", "No such image")
        if argv[1:3] == ["image", "ls"]:
            return 0, "\n".join(name for name in self.images if name.startswith("dgx-spark-good")), ""
        if argv[1:3] == ["image", "rm"]:
            self.images.pop(argv[3], None)
        if argv[0] == "apt-get" and "--simulate" in argv:
            return 0, self.apt, ""
        return 0, "", ""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    monkeypatch.setattr(removal, "RECORDS", tmp_path / "etc/dgx-spark/containers")
    monkeypatch.setattr(removal, "read_record", lambda name: json.loads((removal.RECORDS / f"{name}.json").read_text()))
    monkeypatch.setattr(removal, "INSTALLED", tmp_path / "etc/dgx-spark/installed.json")
    monkeypatch.setattr(removal, "GOOD", tmp_path / "none")
    monkeypatch.setattr(removal, "DOCKER", str(tmp_path / "etc/sysctl.d/50-users.conf"))
    for module in (service_unit, service_snapshot):
        monkeypatch.setattr(module, "UNITS", tmp_path / "etc/systemd/system")
    return made


def remove(node: Node, *keep: str, check: bool = False) -> Removal:
    done = Removal(node, check, keep, Path("/srv/models"), ["serving:1"], node.root)
    done.everything()
    return done


def test_all_of_ours_goes_and_nothing_of_theirs(node: Node) -> None:
    listed = remove(node, check=True)
    assert node.files() == {*OURS, *THEIRS}
    assert not [argv for argv in node.said if argv[1] in ("stop", "disable", "rm")]
    done = remove(node)
    assert done.found == listed.found
    assert node.files() == set(THEIRS)
    assert ["systemctl", "disable", "--now", "spark-new.timer"] in node.said
    assert node.containers == {"users": "theirs"}
    assert node.images == {"users:1": USERS}
    for name in (
        "spark-vllm.service",
        "spark-new.timer",
        "container spark-ray-head",
        "weights org--model",
        "image serving:1",
    ):
        assert name in done.found
    again = remove(node)
    assert (again.found, again.actions) == ([], [])


@pytest.mark.parametrize(("target", "goes"), [("/opt/dgx-spark/bin/spark", True), ("/opt/spark/bin/spark", False)])
def test_the_command_s_link_goes_and_another_program_of_its_name_stays(node: Node, target: str, goes: bool) -> None:
    link = node.root / "usr/local/bin/spark"
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    assert ("/usr/local/bin/spark" in remove(node, check=True).found) is goes
    assert link.is_symlink()
    remove(node)
    assert link.is_symlink() is not goes


def test_what_is_kept(node: Node) -> None:
    record_packages(["nfs-common"])
    remove(node, "weights", "image", "packages", "secrets", "caches", "chat")
    folders = ("srv", "etc/dgx-spark/secrets", "var/cache", "etc/apt", "var/lib/dgx-spark/chat")
    left = {path for path in OURS if path.startswith(folders)}
    assert node.files() == {*THEIRS, *left, "etc/dgx-spark/installed.json"}
    assert "serving:1" in node.images
    assert not [argv for argv in node.said if argv[0] == "apt-get"]


def test_the_only_name_of_a_kept_image_stays(node: Node) -> None:
    node.images = {"serving:1": IMAGE, "dgx-spark-good:aaaaaaaaaaaa": IMAGE, "dgx-spark-good:bbbbbbbbbbbb": USERS}
    remove(node, "image")
    assert set(node.images) == {"serving:1", "dgx-spark-good:bbbbbbbbbbbb"}


def test_packages_go_where_they_came_with_us_and_nobody_else_needs_them(node: Node) -> None:
    assert record_packages(["nfs-common"]) == ["nfs-common"]
    assert record_packages(["nfs-common"]) == []
    node.apt = "Purg nfs-common [1]\nPurg users-tool [2]\n"
    done = remove(node, check=True)
    assert done.notes == ["packages nfs-common stay: users-tool need them"]
    node.apt = "Purg nfs-common [1]\n"
    remove(node)
    assert ["apt-get", "--yes", "purge", "nfs-common"] in node.said


def test_docker_stays_where_it_holds_something_of_others(node: Node) -> None:
    record_packages(["docker.io"])
    done = remove(node)
    assert done.notes == ["packages docker.io stay: Docker has container users of others"]
    # Their record and their source stay with them.
    assert {"etc/dgx-spark/installed.json", "etc/apt/sources.list.d/dgx-spark.sources"} <= node.files()


def test_what_apt_installed_anew() -> None:
    said = """Reading package lists...
The following additional packages will be installed:
  keyutils libnfsidmap1 rpcbind
The following NEW packages will be installed:
  keyutils libnfsidmap1
  nfs-common rpcbind
0 upgraded, 4 newly installed, 0 to remove and 9 not upgraded.
"""
    assert new_packages(said) == ["keyutils", "libnfsidmap1", "nfs-common", "rpcbind"]
    assert new_packages("nfs-common is already the newest version.\n") == []


def test_every_unit_that_the_collection_names_is_in_a_list() -> None:
    named = set()
    for folder in ("plugins", "roles"):
        for path in (COLLECTION / folder).rglob("*"):
            if path.suffix in (".py", ".yml", ".j2"):
                named |= set(re.findall(r"\b(spark-[a-z-]+)\.service\b", path.read_text()))
    assert named <= {*ORDER, *OTHERS}
