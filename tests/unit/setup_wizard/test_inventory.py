# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is written is the inventory as it is written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from setup_wizard import inventory
from setup_wizard.proposal import Link, Node

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "inventory"
NODES = [Node("spark-1", "10.0.0.5", local=True), Node("spark-2", "10.0.0.6"), Node("spark-3", "spark-3.lan")]
LINK = Link(("192.168.100.10", "192.168.100.11", "192.168.100.12"))


def hosts(nodes: list[Node], **changed: Any) -> str:
    return inventory.hosts_text(nodes, LINK, **{"user": "you", "ssh_args": "", "ask_sudo": False, **changed})


@pytest.mark.parametrize(("number", "example"), inventory.EXAMPLES.items())
def test_hosts_are_those_of_the_example(number: int, example: str) -> None:
    nodes = [Node(f"spark-{place}", "EDIT-ME") for place in range(1, number + 1)]
    link = Link(tuple(f"192.168.100.{9 + place}" for place in range(1, number + 1)) if number > 1 else ("EDIT-ME",))
    text = inventory.hosts_text(nodes, link, "EDIT-ME", "", False)
    shipped = (SHIPPED / example / "hosts.yml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == yaml.safe_load(shipped)
    assert "# Address on the QSFP link" in text or number == 1


def test_what_a_node_has_of_its_own() -> None:
    link = Link(LINK.addresses, host_settings=({}, {"fabric_addresses": {"enp1s0f1np1": "10.0.1.2/24"}}, {}))
    text = inventory.hosts_text(NODES, link, "you", "-F 'my: file'", True)
    data = yaml.safe_load(text)["sparks"]
    assert data["children"]["head"]["hosts"]["spark-1"]["ansible_connection"] == "local"
    assert data["children"]["workers"]["hosts"]["spark-2"]["fabric_addresses"] == {"enp1s0f1np1": "10.0.1.2/24"}
    assert data["vars"] == {"ansible_user": "you", "ansible_ssh_common_args": "-F 'my: file'"}
    assert "sudo asks it for a password: run with -K." in text


def test_odd_names_stay_texts() -> None:
    for user in ("on", "1e3", "null"):
        assert yaml.safe_load(hosts(NODES, user=user))["sparks"]["vars"]["ansible_user"] == user


@pytest.mark.parametrize("example", inventory.EXAMPLES.values())
def test_settings_that_are_there_already_change_no_line(example: str) -> None:
    text = (SHIPPED / example / "group_vars" / "all.yml").read_text(encoding="utf-8")
    assert inventory.settings_text(text, yaml.safe_load(text)) == text


def test_a_setting_is_changed_put_in_and_taken_out() -> None:
    text = "---\n# The model.\nspark_model: a\nlist_x:\n- 1\n- 2\n# vllm_serve_max_model_len: 32768\nz: 1\n"
    changed = inventory.settings_text(
        text,
        {
            "spark_model": "b",
            "list_x": [3],
            "vllm_serve_max_model_len": 5,
            "fabric_manage": False,
            "z": None,
            "y": None,
        },
    )
    assert changed == (
        "---\n# The model.\nspark_model: b\nlist_x: [3]\nvllm_serve_max_model_len: 5\n# There is no link to configure.\nfabric_manage: false\n"
    )
    # What was put in with its comment goes with it.
    assert "link" not in inventory.settings_text(changed, {"fabric_manage": None})


def test_an_inventory_that_is_there_gives_the_defaults(tmp_path: Path) -> None:
    assert inventory.earlier(tmp_path) == ([], "") and inventory.unused(tmp_path)
    for number, example in inventory.EXAMPLES.items():
        assert inventory.earlier(SHIPPED / example) == ([], ""), number
        assert inventory.unused(SHIPPED / example)
    inventory.write(tmp_path, {"hosts.yml": hosts(NODES)})
    assert inventory.earlier(tmp_path) == (["10.0.0.5", "10.0.0.6", "spark-3.lan"], "you")
    assert not inventory.unused(tmp_path)
    for text in ("sparks", "sparks: {children: {head: 5}}", "{", "sparks: {children: {head: {hosts: {a: }}}}"):
        (tmp_path / "hosts.yml").write_text(text)
        assert inventory.earlier(tmp_path)[1] == ""


def test_hosts_come_last_and_the_same_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = inventory.write_atomic
    monkeypatch.setattr(inventory, "write_atomic", lambda path, text: (written.append(path.name), real(path, text)))
    files = {"hosts.yml": hosts(NODES), "group_vars/all.yml": "---\na: 1\n"}
    assert inventory.difference(tmp_path, files).count("+++") == 2
    for _again in range(2):
        inventory.write(tmp_path, files)
    assert written == ["all.yml", "hosts.yml"]
    assert inventory.difference(tmp_path, files) == ""


def test_a_file_that_cannot_be_edited_is_left_alone() -> None:
    for text, said in (
        ("a: [", "no YAML of settings"),
        ("- a", "no YAML of settings"),
        ("a:\n  - 1\n\n  - 2\n", "by hand|no YAML"),
    ):
        with pytest.raises(ValueError, match=said):
            inventory.settings_text(text, {"a": [3]})
    text = "key: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  6131\nspark_model: a\n"
    assert inventory.settings_text(text, {"spark_model": "b"}) == text.replace("model: a", "model: b")
