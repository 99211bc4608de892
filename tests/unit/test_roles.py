# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every setting of a role is specified and explained, and nothing is specified that no task knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
#: The names of task files, the same in every role. A role that has another step names it by its domain.
COMMON_FILES = {
    "main",  # the other files, in order
    "preflight",  # checks before anything is changed
    "install",  # packages, files, images, weights
    "configure",  # settings and systemd units
    "verify",  # checks after the change
    "facts",  # reads, and facts for other roles; changes nothing
    "remove",
}
DOMAIN_FILES = {
    *("nfs_server", "nfs_client", "copy", "fetch"),  # how secrets, image and weights get to the other nodes
    *("service", "cdi", "gpu_check"),  # Docker's daemon, its CDI specification, a container with the GPU
    *("nccl_check", "benchmark"),  # what loads the link or the endpoint
    *("read", "watch"),  # what is read only where nobody has, and a download that is waited for
    *("memory", "record", "report", "update", "bundle"),  # what is read for, kept for or shown to people
    *(
        "prometheus",
        "remove_prometheus",
        "elsewhere",
    ),  # one that measures on the head, taken away, or on another machine
    *("steps", "step", "stop", "restore", "trial"),  # the cluster's order, the way back, and a trial of CUDA graphs
}
#: What fits on two screens.
TASK_LINES = 110


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_defaults_and_argument_specs_name_the_same(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    options = specs.get("options") or {}
    assert set(defaults) == set(options)
    assert {name: defaults[name] for name, option in options.items() if "default" in option} == {
        name: option["default"] for name, option in options.items() if "default" in option
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_entry_point_is_described(role: Path) -> None:
    for name, entry in yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"].items():
        assert entry.get("short_description") and entry.get("description"), f"entry point {name}"


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_setting_has_its_prefix_and_a_reason(role: Path) -> None:
    explained = False
    for line in (role / "defaults" / "main.yml").read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif line and not line[0].isspace() and line != "---" and not line.startswith("- "):
            name = line.partition(":")[0]
            assert name.startswith(f"{role.name}_"), f"{name} lacks the prefix {role.name}_"
            assert explained, f"{name} has no comment above it"
        if line and not line.startswith("#") and not line[0].isspace():
            explained = explained and line.partition(":")[0].startswith(role.name)


TASK_FILES = sorted(path for role in ROLES for path in role.glob("tasks/*.yml"))


def mappings(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every mapping of a YAML document: plays, blocks and tasks among them."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for item in node:
            yield from mappings(item)


def named_by(path: Path) -> Iterator[Path]:
    """Yield the task files that a playbook or a task file runs."""
    for entry in mappings(yaml.safe_load(path.read_text(encoding="utf-8"))):
        for key, value in entry.items():
            word = key.rpartition(".")[2]
            if word in ("import_tasks", "include_tasks"):
                yield path.parent / str(value["file"] if isinstance(value, dict) else value)
            elif word in ("import_role", "include_role"):
                yield of_role(value["name"], value.get("tasks_from", "main"))
            elif key == "roles":
                yield from (of_role(item["role"] if isinstance(item, dict) else item, "main") for item in value)


def of_role(name: str, file: str) -> Path:
    return ROOT / "roles" / name.rpartition(".")[2] / "tasks" / f"{file.removesuffix('.yml')}.yml"


def test_task_files_have_the_same_names_in_every_role() -> None:
    assert {path.stem for path in TASK_FILES} == COMMON_FILES | DOMAIN_FILES


#: Words that a name does not begin with: it says what the task does, in the field's terms.
UNCLEAR = (
    "Ask",
    "Go",
    "Have",
    "It",
    "Keep",
    "Know",
    "Leave",
    "Look",
    "Make",
    "Note",
    "Prove",
    "Say",
    "See",
    "Stop where",
    "What",
)
NAMED = sorted([*TASK_FILES, *ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("molecule/**/*.yml"), ROOT / "site.yml"])


@pytest.mark.parametrize("path", NAMED, ids=lambda path: "-".join(path.parts[-3:]))
def test_names_are_plain_imperatives(path: Path) -> None:
    tasks = [entry for entry in mappings(yaml.safe_load(path.read_text(encoding="utf-8"))) if "name" in entry]
    names = [entry["name"] for entry in tasks if isinstance(entry["name"], str)]
    assert not [name for name in names if any(f"{name} ".startswith(f"{word} ") for word in UNCLEAR)]
    asserts = [entry["name"] for entry in tasks if "ansible.builtin.assert" in entry]
    assert not [name for name in asserts if not name.startswith("Assert that ")]


def examples(path: Path) -> list[Any]:
    """Return the tasks that the documentation of a plugin shows."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yml":
        return list(mappings(yaml.safe_load(yaml.safe_load(text).get("EXAMPLES") or "[]")))
    found = re.search(r'^EXAMPLES = r?"""(.*?)"""', text, flags=re.MULTILINE | re.DOTALL)
    return list(mappings(yaml.safe_load(found[1]))) if found else []


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("plugins/modules/*.py"), *ROOT.glob("plugins/filter/*.yml"), *ROOT.glob("plugins/lookup/*.py")]),
    ids=lambda path: path.name,
)
def test_examples_are_plain_imperatives_too(path: Path) -> None:
    names = [task["name"] for task in examples(path) if isinstance(task.get("name"), str)]
    assert not [name for name in names if any(f"{name} ".startswith(f"{word} ") for word in UNCLEAR)]


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_what_a_role_does_is_said_as_an_imperative(role: Path) -> None:
    """The heading of its README and of its reference; it is the name of the example task as well."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    first = {spec["short_description"].split()[0] for spec in specs.values()}
    assert not first & {*UNCLEAR, "The", "One", "How", "Does", "CUDA", "Docker", "A"}


def test_every_task_file_is_run_by_a_playbook() -> None:
    reached: set[Path] = set()
    todo = list((ROOT / "playbooks").rglob("*.yml"))
    while todo:
        fresh = set(named_by(todo.pop())) - reached
        reached |= fresh
        todo += fresh
    unused = {str(path.relative_to(ROOT)) for path in set(TASK_FILES) - reached}
    assert unused == set()


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_a_task_file_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= TASK_LINES


def test_at_most_ten_settings_are_shared() -> None:
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import SHARED

    assert len(SHARED) <= 10


YAML = sorted(
    [path for role in ROLES for path in role.glob("*/*.yml")] + [*(ROLES[0].parents[1] / "playbooks").rglob("*.yml")]
)


def foreign(path: Path, name: str) -> str:
    """Return the role that a variable belongs to, where that is another than the file's own."""
    own = path.parts[-3] if path.parts[-4] == "roles" else ""
    owners = [role.name for role in ROLES if name.startswith(f"{role.name}_")]
    return "" if own in owners else max(owners, key=len, default="")


@pytest.mark.parametrize("path", YAML, ids=lambda path: "-".join(path.parts[-3:]))
def test_nobody_reads_what_another_role_keeps_for_itself(path: Path) -> None:
    found = {name for name in re.findall(r"(?<!\w)__(\w+)", path.read_text()) if foreign(path, name)}
    assert not found, (
        f"{', '.join(sorted(found))}: give it a name without __ in its role, and note it in settings_check.FACTS"
    )


def copies() -> list[tuple[Path, str]]:
    """Return where a file gives a variable a default that is more than "is it there?": the file and the variable."""
    found = []
    for path in YAML:
        for name, value in re.findall(r"(?<![\w.])([a-z]\w+) \| default\(([^)]*)\)", path.read_text()):
            if value.partition(",")[0] not in ("", "{}", "''", "[]"):
                found.append((path, name))
    return found


def test_a_default_is_said_by_its_owner_alone() -> None:
    wrong = [f"{path}: {name}" for path, name in copies() if foreign(path, name)]
    assert not wrong, f"use lookup('dgx_spark.vllm.setting', ...): {'; '.join(wrong)}"


def test_a_shared_setting_has_one_default() -> None:
    said = [name for _path, name in copies() if name.startswith("spark_")]
    assert len(set(said)) == len(said), f"refer to the role that says it first: {', '.join(said)}"


def test_what_roles_leave_for_others_is_known_to_the_check_of_names() -> None:
    from ansible_collections.dgx_spark.vllm.plugins.action.settings_check import FACTS

    left = set()
    for path in YAML:
        text = path.read_text()
        left |= set(re.findall(r"^\s+register: ([a-z]\w*)$", text, re.M))
        for body in re.findall(r"^(\s+)ansible\.builtin\.set_fact:\n((?:\1\s+.*\n)+)", text, re.M):
            left |= set(re.findall(rf"^{body[0]}  ([a-z]\w*):", body[1], re.M))
    assert {name for name in left if not name.startswith("spark_")} == set(FACTS)


def test_what_a_role_installs_is_recorded() -> None:
    """remove.yml takes away recorded packages and no others."""
    for path in TASK_FILES:
        tasks = [entry for entry in mappings(yaml.safe_load(path.read_text(encoding="utf-8"))) if "name" in entry]
        installed = [task.get("register", task["name"]) for task in tasks if "ansible.builtin.apt" in task]
        recorded = str([task for task in tasks if "dgx_spark.vllm.installed_packages" in task])
        assert all(f"{name}.stdout" in recorded for name in installed), path
