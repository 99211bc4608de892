# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The last verified state on a node of files: systemd and Docker answer from what the test sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_snapshot, service_state, service_unit
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_snapshot import (
    ServiceSnapshot,
    digest,
    good_state,
    images_kept,
    services_here,
    unproven,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service_state import ContainerServiceError

OLD, NEW = "sha256:" + "a" * 64, "sha256:" + "b" * 64
PROOF = {"model": "m"}


class Node:
    """A node with units below a folder."""

    def __init__(self, root: Path) -> None:
        self.units, self.records, self.trials = root / "units", root / "records", root / "trials"
        self.tags: dict[str, str] = {"serving:1": OLD, "serving:2": NEW}
        self.running: dict[str, str] = {}
        self.said: list[list[str]] = []
        for folder in (self.units, self.records, self.trials):
            folder.mkdir()

    def write(self, name: str, image: str = OLD, text: str = "old") -> None:
        """Write a unit with its record, and let it run."""
        (self.units / f"{name}.service").write_text(text)
        record = {"digest": text, "image_id": image, "argv": [text], "environment": {}, "binds": []}
        (self.records / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        self.running[name] = text

    def __call__(self, argv: list[str], *_seconds: float | None, **_more: Any) -> tuple[int, str, str]:
        self.said.append(list(argv))
        if argv[0] == "systemctl":
            if argv[1] != "show":
                return 0, "", ""
            name = argv[2].removesuffix(".service")
            active = "active" if name in self.running else "inactive"
            return (
                0,
                f"LoadState=loaded\nActiveState={active}\nSubState=x\nUnitFileState=enabled\nNRestarts=0\nResult=success\n",
                "",
            )
        if argv[1:3] == ["image", "inspect"]:
            known = {**self.tags, **{image: image for image in self.tags.values()}}
            return (0, json.dumps([{"Id": known[argv[3]]}]), "") if argv[3] in known else (1, "", "No such image")
        if argv[1:3] == ["image", "ls"]:
            return 0, "\n".join(tag for tag in self.tags if tag.startswith("dgx-spark-good")), ""
        if argv[1] == "tag":
            self.tags[argv[3]] = argv[2]
        if argv[1] == "rmi":
            del self.tags[argv[2]]
        if argv[1] == "inspect":
            text = self.running.get(argv[4])
            if text is None:
                return 1, "", "No such container"
            record = json.loads((self.records / f"{argv[4]}.json").read_text())
            config = {"Entrypoint": [text], "Cmd": [], "Env": [], "Labels": {"dgx-spark.digest": text}}
            return (
                0,
                json.dumps(
                    [{"Image": record["image_id"], "Config": config, "HostConfig": {}, "State": {"Running": True}}]
                ),
                "",
            )
        return 0, "", ""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path)
    for module in (service_snapshot, service_unit):
        monkeypatch.setattr(module, "UNITS", made.units)
        monkeypatch.setattr(module, "RECORDS", made.records)
        monkeypatch.setattr(module, "TRIAL_RECORDS", made.trials)
        monkeypatch.setattr(module, "TRIAL_UNITS", made.trials)
    monkeypatch.setattr(service_snapshot, "GOOD", tmp_path / "good" / "services.json")

    def status(run: Any, name: str) -> dict[str, Any]:
        return service_state.service_status(run, name, made.records, made.trials, made.units)

    monkeypatch.setattr(service_snapshot, "service_status", status)
    monkeypatch.setattr(service_snapshot, "read_record", lambda name: service_state.read_record(name, made.records))
    made.write("spark-vllm")
    made.write("spark-ray-head")
    return made


def record(node: Node, check: bool = False) -> ServiceSnapshot:
    snapshot = ServiceSnapshot(node, check)
    snapshot.recorded({"spark-1": digest(services_here())}, PROOF)
    return snapshot


def restore(node: Node, check: bool = False) -> ServiceSnapshot:
    snapshot = ServiceSnapshot(node, check)
    snapshot.restored()
    return snapshot


def test_it_is_recorded_once_and_its_image_is_kept(node: Node) -> None:
    assert not images_kept(node, [OLD])
    first = record(node)
    assert [action for action in first.actions if "dgx-spark-good:aaaaaaaaaaaa" in action]
    good = good_state(node)
    assert (good["problem"], good["proof"], good["images"]) == ("", PROOF, [OLD])
    assert good["cluster"] == {"spark-1": good["digest"]}
    assert images_kept(node, [OLD])
    assert record(node).actions == []
    assert service_snapshot.GOOD.stat().st_mode & 0o777 == 0o600


def test_a_new_state_takes_the_place_of_the_old_and_of_its_image(node: Node) -> None:
    record(node)
    node.write("spark-vllm", NEW, "new")
    node.write("spark-ray-head", NEW, "new")
    record(node)
    assert good_state(node)["images"] == [NEW]
    assert "dgx-spark-good:aaaaaaaaaaaa" not in node.tags
    assert "dgx-spark-good:bbbbbbbbbbbb" in node.tags


def test_nothing_is_recorded_in_check_mode(node: Node) -> None:
    assert record(node, check=True).actions
    assert not service_snapshot.GOOD.exists()
    assert not images_kept(node, [OLD])


def test_what_does_not_run_as_its_unit_says_is_no_verified_state(node: Node) -> None:
    node.write("spark-vllm", text="new")
    node.running["spark-vllm"] = "old"
    assert unproven(node) == ["spark-vllm: command: argument 0 is 'old', wanted 'new'"]
    with pytest.raises(ContainerServiceError, match="cannot be recorded as verified: spark-vllm: command"):
        record(node)
    node.running["spark-vllm"] = "new"
    (node.trials / "spark-vllm.json").write_text("{}")
    assert unproven(node) == ["spark-vllm runs a trial"]


def test_the_way_back_writes_what_was_there_and_takes_away_what_was_not(node: Node) -> None:
    record(node)
    node.write("spark-vllm", NEW, "new")
    node.write("spark-vllm-worker", NEW, "new")
    (node.units / "spark-ray-head.service").unlink()
    (node.records / "spark-ray-head.json").unlink()
    told = restore(node, check=True).actions
    assert (node.units / "spark-vllm.service").read_text() == "new"
    assert restore(node).actions == told
    assert {path.name: path.read_text() for path in node.units.iterdir()} == {
        "spark-vllm.service": "old",
        "spark-ray-head.service": "old",
    }
    assert digest(services_here()) == good_state(node)["digest"]
    assert ["systemctl", "stop", "spark-vllm-worker.service"] in node.said
    assert ["systemctl", "daemon-reload"] in node.said
    assert not [argv for argv in node.said if argv[:2] == ["systemctl", "start"]]
    assert restore(node).actions == []


@pytest.mark.parametrize("damage", ["none", "damaged", "image"])
def test_there_is_no_way_back(node: Node, damage: str) -> None:
    if damage != "none":
        record(node)
    if damage == "damaged":
        service_snapshot.GOOD.write_text(service_snapshot.GOOD.read_text().replace('"old"', '"odd"'))
    if damage == "image":
        node.tags = {"serving:2": NEW}
    words = {
        "none": "no verified state is recorded on this node",
        "damaged": "the record of the verified state in .* is damaged",
        "image": "image aaaaaaaaaaaa of the verified state is not on this node any more",
    }
    with pytest.raises(ContainerServiceError, match=f"^{words[damage]}, so nothing was put back"):
        restore(node)
