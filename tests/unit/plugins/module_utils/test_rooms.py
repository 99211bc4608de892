# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Each room says what it holds and what it imports; imports point one way, and nobody from outside comes in."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4] / "plugins" / "module_utils"
PLUGINS = ROOT.parent
DOCKER_COMMANDS = {
    *[
        "build",
        "exec",
        "image",
        "images",
        "info",
        "inspect",
        "kill",
        "load",
        "logs",
        "ps",
        "pull",
        "rm",
        "run",
        "save",
        "start",
        "stop",
        "tag",
        "update",
        "version",
    ]
}
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
#: The only places where a third party is imported, always inside of a function: what they need lies in the node's virtual environment.
THIRD_PARTIES = {"hub/client.py": {"huggingface_hub"}, "hub/fetch.py": {"huggingface_hub"}}
#: Programs that run inside of the serving image, with what that image has.
IN_THE_IMAGE = {"gpu/kernel_probe.py", "vllm/parser_probe.py", "fabric/nccl_probe.py", "vllm/ray_sigterm.py"}


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Return the level and the dotted name of everything that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level and not node.module:
                yield from ((node.level, alias.name) for alias in node.names)
            else:
                yield node.level, node.module or ""


def from_rooms(path: Path) -> Iterator[tuple[str, str]]:
    """Return room and file of each file that is imported by its room's name: ``from ..service import gates``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 2 and (ROOT / (node.module or "-")).is_dir():
            yield from (
                (str(node.module), alias.name)
                for alias in node.names
                if (ROOT / str(node.module) / f"{alias.name}.py").exists()
            )


def neighbours(room: str) -> set[str]:
    """Return the rooms that a room imports from."""
    found = set()
    for path in (ROOT / room).glob("*.py"):
        found |= {name.partition(".")[0] for level, name in imports(path) if level == 2}
    return found


def declared(room: str) -> set[str]:
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    line = re.search(r"^Imports: (.+)\.$", text, re.M)
    assert line, f"{room}/__init__.py has no line 'Imports: ...'"
    return set() if line[1] == "nothing of this package" else set(line[1].split(", "))


def test_nothing_lies_outside_of_a_room() -> None:
    assert not list(ROOT.glob("*.py"))
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_opens_with_what_it_holds_and_who_may_import_it(room: str) -> None:
    doc = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    first, blank, second, third = doc.splitlines()
    assert first.endswith(".") and not blank and second.startswith("Imports: ")
    assert third.startswith("May be imported by: ")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_it_says(room: str) -> None:
    surplus = neighbours(room) - declared(room)
    assert not surplus, (
        f"{room} imports {', '.join(sorted(surplus))}, which its __init__.py does not name: is the arrow right?"
    )


@pytest.mark.parametrize("room", ROOMS)
def test_both_ends_of_an_arrow_name_it(room: str) -> None:
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    line = re.search(r"^May be imported by: (.+)\.$", text, re.M)
    assert line
    users = {other for other in ROOMS if room in declared(other)}
    if not line[1].startswith("every room"):
        assert users == {word for word in re.split(r", | and ", line[1]) if word in ROOMS}


@pytest.mark.parametrize("room", ROOMS)
def test_the_architecture_page_knows_the_room(room: str) -> None:
    doc = (ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8"))) or "").splitlines()
    row = f"| `{room}/` | {doc[0]} | {doc[2].removeprefix('Imports: ').rstrip('.')} |"
    assert row in (ROOT.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_imports_point_one_way() -> None:
    left = {room: declared(room) for room in ROOMS}
    while left:
        free = [room for room, needs in left.items() if not needs & set(left)]
        assert free, f"a circle among {', '.join(left)}"
        for room in free:
            del left[room]


@pytest.mark.parametrize("path", sorted(ROOT.glob("*/*.py")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_room_imports_ansible_or_a_third_party(path: Path) -> None:
    place = str(path.relative_to(ROOT))
    if place in IN_THE_IMAGE:
        return
    allowed = set(sys.stdlib_module_names) | THIRD_PARTIES.get(place, set())
    outside = {name.partition(".")[0] for level, name in imports(path) if level == 0} - allowed
    assert not outside, f"{place} imports {', '.join(sorted(outside))}"
    assert all(level <= 2 for level, _name in imports(path)), "no way out of the package: it runs on the nodes as well"


def test_what_goes_to_the_nodes_brings_all_that_it_imports() -> None:
    from ansible_collections.dgx_spark.vllm.plugins.modules import node_tools

    brought = {node_tools.place(module) for module in node_tools.LIBRARY}
    for place in sorted(brought):
        path = ROOT / place
        for level, name in imports(path):
            if not level:
                continue
            base = path.parent if level == 1 else path.parent.parent
            wanted = base / Path(*name.split("."))
            needed = wanted / "__init__.py" if wanted.is_dir() else wanted.with_suffix(".py")
            assert str(needed.relative_to(ROOT)) in brought, f"{place} imports {name}, which node_tools does not bring"
        for room, name in from_rooms(path):
            assert f"{room}/{name}.py" in brought, f"{place} imports {room}.{name}, which node_tools does not bring"
        assert f"{place.partition('/')[0]}/__init__.py" in brought


def test_what_roles_and_modules_run_by_its_path_is_brought_to_the_nodes() -> None:
    from ansible_collections.dgx_spark.vllm.plugins.modules import node_tools

    named = re.compile(r"dgx_spark_node/([a-z_]+/[a-z_]+\.py)")
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder in ("roles", "playbooks", "plugins")
        for path in (PLUGINS.parent / folder).rglob("*")
        if path.suffix in (".yml", ".j2", ".py")
    }
    run = {place for text in texts.values() for place in named.findall(text)}
    assert "service/rank_watch.py" in run, "the ranks of the executor mp are watched by it"
    assert run <= {node_tools.place(module) for module in node_tools.LIBRARY}


@pytest.mark.parametrize("path", sorted(PLUGINS.rglob("*.py")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_docker_is_asked_by_the_path_that_the_units_run(path: Path) -> None:
    """A `docker` of the PATH may be another one, a snap's for example, and would answer for what the units never reach."""
    if path == ROOT / "docker/cli.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Tuple | ast.List) and len(node.elts) > 1:
            program, command = (getattr(word, "value", None) for word in node.elts[:2])
            asked = program in ("docker", "/usr/bin/docker") and command in DOCKER_COMMANDS
            assert not asked, f"line {node.lineno}: take DOCKER or ask() of docker/cli.py"
