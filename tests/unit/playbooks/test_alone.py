# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Each file of playbooks/ by itself: on nodes that refuse the connection, and with an inventory, a limit or a tag that cannot be right."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
STEPS = ["preflight", "fit", "fabric", "nodes", "weights", "units", "cluster", "verify", "monitoring", "chat"]
#: What a playbook says of nodes that it cannot reach, where Ansible's own sentence is not the end of it.
SAYS = {
    "diagnose": "dgx-spark-diagnosis-",
    "fit": "could not be read",
    "keys": "belong to the gateway, which is off",
    "plan": "could not be read",
    "preflight": "does not answer",
    "report": "does not answer",
    "site": "does not answer",
}
#: Playbooks that end well without a node: they tell what they could not reach, or need none.
WELL = {"diagnose", "logs", "report", "settings", "status"}
NODES = {
    name: {"ansible_host": "127.0.0.1", "ansible_port": 1, "spark_fabric_address": f"192.168.100.1{number}"}
    for number, name in enumerate(("spark-1", "spark-2"))
}


def inventory(folder: Path, children: dict[str, Any], **others: Any) -> Path:
    """Write an inventory with the shipped settings; other groups stand beside `sparks`."""
    folder.mkdir()
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {**children, **others}}}))
    (folder / "group_vars").symlink_to(ROOT / "inventory" / "sparks" / "group_vars")
    return folder


def group(*names: str) -> dict[str, Any]:
    return {"hosts": {name: NODES.get(name, {"ansible_host": "127.0.0.1", "ansible_port": 1}) for name in names}}


@pytest.fixture(scope="module")
def sparks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Sparks at which nobody listens."""
    pair = {"children": {"head": group("spark-1"), "workers": group("spark-2")}}
    return inventory(tmp_path_factory.mktemp("alone") / "inventory", {"sparks": pair})


def ansible(place: Path, *arguments: str) -> tuple[int, str]:
    """Run ansible-playbook from a folder that holds nothing; return its status and what it wrote."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    variables |= {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "NO_COLOR": "1",
        "COLUMNS": "200",
        "PWD": str(place),
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900, check=False, cwd=place)
    return done.returncode, done.stdout + done.stderr


def book(name: str) -> str:
    return str(ROOT / "playbooks" / f"{name}.yml")


def refused(outcome: tuple[int, str], *words: str) -> None:
    """Assert one sentence, told once, before a node is touched."""
    code, text = outcome
    assert code != 0, text
    (sentence,) = re.findall(r"^  - (.*)$", text, flags=re.MULTILINE)
    for word in words:
        assert word in sentence
    assert text.count(sentence) == 1
    assert text.count("TASK [") == 1, text
    assert not re.search("undefined|Traceback|UNREACHABLE|Origin:", text), text


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_each_playbook_by_itself(sparks: Path, tmp_path: Path, name: str) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), book(name))
    assert (code == 0) == (name in WELL), text
    flat = " ".join(text.split())
    assert SAYS.get(name, "" if name == "settings" else "Connection refused") in flat
    assert "changed=1" not in text or name == "diagnose"
    assert not re.search("undefined|Traceback|Origin:|no attribute", text), text


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pair in an inventory that gives nothing but addresses."""
    folder = tmp_path_factory.mktemp("addresses") / "inventory"
    pair = {"children": {"head": group("spark-1"), "workers": group("spark-2")}}
    folder.mkdir()
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"sparks": pair}}}))
    return folder


@pytest.mark.parametrize("name", ["preflight", "status", "verify", "weights"])
def test_shipped_defaults_reach_a_playbook_by_itself(addresses: Path, tmp_path: Path, name: str) -> None:
    code, text = ansible(tmp_path, "-i", str(addresses), book(name))
    assert (code == 0) == (name in WELL)
    assert SAYS.get(name, "Connection refused") in " ".join(text.split())
    assert not re.search("undefined|Traceback|Origin:|no attribute", text), text


def test_a_plan_needs_no_more_than_addresses(addresses: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(addresses), book("plan"), "-e", "vllm_plan_memory_gib=121.69")
    assert code == 0, text
    assert "qwen3-235b-awq" in text


def test_an_old_name_reaches_a_playbook_by_itself(addresses: Path, tmp_path: Path) -> None:
    code, text = ansible(
        tmp_path, "-i", str(addresses), book("preflight"), "-e", "node_preflight_min_memory_gib=5", "-v"
    )
    assert code != 0
    assert '"node_report_min_memory_gib"' in text or "node_report_min_memory_gib:" in text, text


def test_a_node_that_is_lost_on_the_way_ends_the_run(tmp_path: Path) -> None:
    """A play over the head alone, whose head is off, does not end a run of Ansible: the next play goes on with the others."""
    here = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "spark_fabric_address": "192.168.100.11",
    }
    pair = {"children": {"head": group("spark-1"), "workers": {"hosts": {"spark-2": here}}}}
    hosts = inventory(tmp_path / "inventory", {"sparks": pair})
    code, text = ansible(tmp_path, "-i", str(hosts), book("verify"))
    assert code != 0
    assert "spark-1 was lost earlier in this run, and the others do not go on alone" in " ".join(text.split()), text
    assert "Record the verified state" not in text


def test_a_stop_works_whatever_the_settings_are(sparks: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), book("stop"), "-e", "vllm_serve_max_model_ln=3")
    assert code != 0
    assert "Connection refused" in " ".join(text.split()), text
    assert "does not exist" not in text


@pytest.mark.parametrize("value", ["2", "0"])
def test_no_setting_switches_the_check_off(sparks: Path, tmp_path: Path, value: str) -> None:
    outcome = ansible(tmp_path, "-i", str(sparks), book("verify"), "-e", f"spark_gpu_count={value}")
    refused(outcome, "spark_gpu_count of spark-1, spark-2 is worked out of the inventory, expected not to be set")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("keys_state=foo", "keys_state is foo, expected one of listed, present, rotated, absent."),
        ("keys_state=present", "keys_name is not given, expected up to 32"),
        ("keys_state=absent keys_name=a/b", "keys_name is a/b, expected up to 32"),
        ("keys_naem=alice", "keys_naem is no parameter of this playbook"),
        ("keys_state=present keys_name=alice keys_role=root", "keys_role is root, expected user or operator."),
        ("keys_state=present keys_name=-a", "keys_name is -a, expected up to 32 of a-z, 0-9, - and _, beginning with"),
        ("keys_state=present keys_name=alice keys_per_minute=ten", "keys_per_minute is ten, expected a whole number"),
        ("keys_state=present keys_name=alice keys_at_once=-1", "keys_at_once is -1, expected a whole number from 0"),
        ("keys_state=present keys_name=alice keys_ends=31.1.2027", "keys_ends is 31.1.2027, expected a day such as"),
    ],
)
def test_wrong_parameters_of_keys_touch_no_node(sparks: Path, tmp_path: Path, given: str, sentence: str) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), book("keys"), "-e", "gateway_enabled=true", "-e", given)
    assert code != 0
    assert sentence in " ".join(text.split()), text
    assert "No node was touched." in " ".join(text.split())
    assert not re.search("undefined|Traceback|UNREACHABLE|Connection refused", text), text


def test_right_parameters_of_keys_reach_the_node(sparks: Path, tmp_path: Path) -> None:
    given = "keys_state=present keys_name=alice_2-b keys_role=operator keys_per_minute=60 keys_at_once=4 keys_ends=2027-01-31"
    code, text = ansible(tmp_path, "-i", str(sparks), book("keys"), "-e", "gateway_enabled=true", "-e", given)
    assert code != 0
    assert "Connection refused" in " ".join(text.split()), text


def test_the_console_sums_up_a_run_of_several_plays(sparks: Path, tmp_path: Path) -> None:
    mine, play = tmp_path / "mine.yml", "- name: {0}\n  hosts: localhost\n  gather_facts: false\n  tasks:\n"
    pause = "    - {name: Wait, ansible.builtin.wait_for: {timeout: 1}}\n"
    change = "    - {name: Change, ansible.builtin.debug: {msg: x}, changed_when: true}\n"
    for plays, lines in ((4, 1), (3, 0)):
        mine.write_text("".join(play.format(f"Play {number}") + pause for number in range(plays)) + change)
        code, text = ansible(tmp_path, "-i", str(sparks), str(mine))
        assert code == 0, text
        assert len(re.findall(r"^\d s: Play 0 \d, Play 1 \d, Play 2 \d, Play 3 \d$", text, flags=re.MULTILINE)) == lines
        assert text.count("changed: Change (localhost)") == lines


def test_each_playbook_checks_the_settings_first(sparks: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), "--list-tasks", *map(book, PLAYBOOKS))
    assert code == 0, text
    first = re.findall(r"^playbook: (.*)\n\n  play #1 \((.*)\): (\w+)", text, flags=re.MULTILINE)
    assert [Path(path).stem for path, _hosts, _name in first] == PLAYBOOKS
    assert {(hosts, name) for _path, hosts, name in first} == {("localhost:sparks", "Settings")}


def test_a_tag_for_each_step(sparks: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), "--list-tags", str(ROOT / "site.yml"))
    assert code == 0, text
    tags = [line.split("[")[-1].rstrip("]").split(", ") for line in text.splitlines() if "TASK TAGS" in line]
    assert tags[0] == ["always"]
    assert [step for step in STEPS if [step] in tags] == STEPS
    # `never` is on what is read for a step that is taken alone.
    assert {tag for entry in tags for tag in entry} == {"always", "never", *STEPS}
    documented = (ROOT / "docs" / "operations.md").read_text()
    assert ", ".join(f"`{step}`" for step in STEPS) in documented


def test_one_step_of_site(sparks: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), str(ROOT / "site.yml"), "--tags", "units")
    assert code != 0
    assert "Connection refused" in " ".join(text.split())
    assert re.findall(r"^PLAY \[(.*?)\]", text, flags=re.MULTILINE) == ["Settings", "Lock"]
    assert not re.search("undefined|Traceback|arg spec", text), text


PAIR = {"head": group("spark-1"), "workers": group("spark-2")}


@pytest.mark.parametrize(
    ("name", "groups", "words"),
    [
        ("site", {"spark": {"children": PAIR}}, ("no group 'sparks'", "did you mean your group 'spark'?")),
        ("units", {"spark": {"children": PAIR}}, ("no group 'sparks'", "did you mean your group 'spark'?")),
        (
            "site",
            {"web": group("a"), "db": group("b")},
            ("no group 'sparks'", "(it has db, web)", "inventory/sparks/hosts.yml"),
        ),
        ("site", {}, ("has no hosts", "with -i")),
        (
            "site",
            {"sparks": group("spark-1", "spark-2"), "head": group("web-1")},
            ("group 'head' has 0 hosts", "(only web-1)"),
        ),
    ],
    ids=["misspelt", "misspelt, one step", "own names", "empty", "head of another"],
)
def test_a_wrong_inventory(tmp_path: Path, name: str, groups: dict[str, Any], words: tuple[str, ...]) -> None:
    refused(ansible(tmp_path, "-i", str(inventory(tmp_path / "inventory", groups)), book(name)), *words)


@pytest.mark.parametrize(
    ("given", "words"),
    [("nowhere/hosts.yml", ("has no hosts", "nowhere/hosts.yml")), ("spark-1,", ("no group 'sparks'",))],
)
def test_a_wrong_option(tmp_path: Path, given: str, words: tuple[str, ...]) -> None:
    refused(ansible(tmp_path, "-i", given, str(ROOT / "site.yml")), *words)


def test_another_clusters_groups_of_these_names(tmp_path: Path) -> None:
    named = {"spark_head": group("spark-1"), "spark_workers": group("spark-2")}
    k3s = {"children": {"head": group("other-1"), "workers": group("other-2")}}
    for number, groups in enumerate(
        (
            {"sparks": {"children": named}, "k3s": k3s},
            {
                "sparks": group("spark-1", "spark-2"),
                "head": group("spark-1", "other-1"),
                "workers": group("spark-2", "other-2"),
            },
        )
    ):
        hosts = inventory(tmp_path / f"inventory-{number}", groups)
        code, text = ansible(tmp_path, "-i", str(hosts), book("settings"))
        assert code == 0, text
        code, text = ansible(tmp_path, "-i", str(hosts), "--list-hosts", str(ROOT / "site.yml"))
        assert code == 0
        assert "other" not in text
        plays = dict(
            re.findall(
                r"\): (Download on the head|Units of the workers|Verify)\t.*?hosts \(1\):\n +(\S+)",
                text,
                flags=re.DOTALL,
            )
        )
        assert plays == {"Download on the head": "spark-1", "Units of the workers": "spark-2", "Verify": "spark-1"}


def test_another_clusters_group_that_brings_its_hosts_along(tmp_path: Path) -> None:
    groups = {"sparks": {"children": PAIR}, "k3s": {"children": {"workers": group("other-2")}}}
    hosts = inventory(tmp_path / "inventory", groups)
    refused(
        ansible(tmp_path, "-i", str(hosts), book("units")),
        "spark_fabric_address of other-2 is missing",
        "'spark_workers'",
    )


@pytest.mark.parametrize("name", ["site", "stop"])
def test_a_limit_that_leaves_a_node_out(sparks: Path, tmp_path: Path, name: str) -> None:
    refused(ansible(tmp_path, "-i", str(sparks), book(name), "--limit", "spark-1"), "--limit leaves out spark-2")


def test_a_limit_that_leaves_all_nodes_out(sparks: Path, tmp_path: Path) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), book("status"), "--limit", "localhost")
    assert code != 0
    assert text == "[ERROR]: Specified inventory, host pattern and/or --limit leaves us with no hosts to target.\n"


@pytest.mark.parametrize("name", ["report", "status"])
def test_a_part_is_enough_for_those_that_look_at_each_node(sparks: Path, tmp_path: Path, name: str) -> None:
    code, text = ansible(tmp_path, "-i", str(sparks), book(name), "--limit", "spark-2")
    assert (code == 0) == (name in WELL), text
    assert "spark-1 " not in text
    assert SAYS.get(name, "Connection refused") in " ".join(text.split())
    assert not re.search("undefined|Traceback|no attribute", text), text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tags", "unit"], ("tag 'unit' does not exist", "did you mean units?", "preflight, fit, fabric")),
        (["--tags", "units,everything"], ("tag 'everything' does not exist", "The tags are")),
        (["--skip-tags", "prefligth"], ("did you mean preflight?",)),
        (["--skip-tags", "fabric,verify"], ("--skip-tags has fabric", "with --tags")),
    ],
)
def test_a_tag_that_does_not_exist(sparks: Path, tmp_path: Path, arguments: list[str], words: tuple[str, ...]) -> None:
    refused(ansible(tmp_path, "-i", str(sparks), str(ROOT / "site.yml"), *arguments), *words)


def test_a_tag_of_a_playbook_that_imports_ours(sparks: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yml"
    mine.write_text(
        "- import_playbook: dgx_spark.vllm.settings\n"
        "- hosts: sparks\n  gather_facts: false\n  tags: [mine]\n  tasks: [{ansible.builtin.debug: {msg: seen}}]\n"
    )
    code, text = ansible(tmp_path, "-i", str(sparks), str(mine), "--tags", "mine")
    assert code == 0, text
    assert "seen" in text
    refused(ansible(tmp_path, "-i", str(sparks), str(mine), "--tags", "units"), "tag 'units'", "The tags are mine")


def test_every_wrong_setting_is_told_once(sparks: Path, tmp_path: Path) -> None:
    wrong = ("-e", "vllm_serve_prot=1", "-e", "spark_api_port=many")
    code, text = ansible(tmp_path, "-i", str(sparks), book("report"), *wrong)
    assert code != 0
    assert (text.count("vllm_serve_prot"), text.count("is 'many'")) == (1, 1)
    assert "Origin" not in text
    code, text = ansible(tmp_path, "-i", str(sparks), book("report"), "-v", *wrong)
    assert "Origin" in text


def test_the_console_names_plays_that_run_and_what_check_mode_left_out(sparks: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yml"
    mine.write_text(
        """
- name: Empty
  hosts: localhost
  gather_facts: false
  tasks: [{name: Never, ansible.builtin.debug: {msg: x}, when: spark_head_name is defined}]
- name: Full
  hosts: localhost
  gather_facts: false
  tasks:
    - {name: Other, ansible.builtin.debug: {msg: x}, when: spark_head_name is defined}
    - {name: Prove, ansible.builtin.debug: {msg: x}, when: not ansible_check_mode}
    - {name: Last, ansible.builtin.debug: {msg: seen}, when: spark_head_name is not defined}
"""
    )
    for check in (["--check"], []):
        code, text = ansible(tmp_path, "-i", str(sparks), str(mine), *check)
        assert code == 0, text
        assert re.findall(r"^PLAY \[(.*?)\]", text, flags=re.MULTILINE) == ["Full"]
        assert ("check mode left out 1 task" in text, "  - Prove (localhost)" in text) == (bool(check), bool(check))
        assert "Other (" not in text
