# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The reference says what the code says."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES, SOURCES
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import SHARED

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402 - the path is set just above


@pytest.mark.parametrize("path", sorted(generate.files()), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_generated_is_up_to_date(path: Path) -> None:
    assert path.is_file() and path.read_text() == generate.files()[path], "run `python docs/generate.py`"


def test_the_causes_of_failed_starts_are_up_to_date() -> None:
    found = (ROOT / "docs" / "start-failures.md").read_text()
    assert found == generate.start_failures(), "run `python docs/generate.py`"


def test_every_role_and_shared_setting_is_in_it() -> None:
    assert {path.name for path in (ROOT / "roles").iterdir()} == set(generate.ROLES)
    assert all(f"| `{name}` |" in generate.settings() for name in SHARED)


def test_comments_change_no_value_and_keep_lines_that_say_the_same() -> None:
    text = "---\n# Two\n# lines.\na_x: 1\na_y:\n  # Inside.\n  - 2\n# Old words.\na_z: 3\n"
    options = {
        name: {"description": said}
        for name, said in (("a_x", "Two lines."), ("a_y", "Of C(y)."), ("a_z", "New words."))
    }
    role = generate.Role("a", {"options": options}, yaml.safe_load(text), text)
    assert generate.defaults(role) == (
        "---\n# Two\n# lines.\na_x: 1\n# Of `y`.\na_y:\n  # Inside.\n  - 2\n# New words.\na_z: 3\n"
    )


@pytest.mark.parametrize(
    "page",
    sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


# --- codes of findings ---------------------------------------------------------------------------------------------

#: Texts in the form of a code that are none: Docker's registry, and its unit.
NO_CODES = {"docker.io", "docker.service"}


def used_codes() -> dict[str, set[str]]:
    """Return every code that is written out in a file that makes findings, with the files."""
    code = re.compile(rf"(?:{'|'.join(SOURCES)})\.[a-z][a-z0-9_]*")
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        makes = any(
            isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] == "finding"
            for node in ast.walk(tree)
        )
        for node in ast.walk(tree) if makes else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and code.fullmatch(node.value):
                found.setdefault(node.value, set()).add(path.name)
    return {name: files for name, files in found.items() if name not in NO_CODES}


def named_playbooks() -> list[tuple[str, str]]:
    """Return file and playbook of each place in code, tests and docs that names one by its path."""
    found = set()
    tops = (
        "README.md",
        "Makefile",
        "benchmarks",
        "bin",
        "changelogs",
        "docs",
        "inventory",
        "molecule",
        "playbooks",
        "plugins",
        "roles",
        "simulation",
        "tests",
    )
    for top in tops:
        for path in [ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*"):
            if path.suffix in {"", ".md", ".py", ".yml", ".j2", ".sh", ".toml"} and path.is_file():
                text = path.read_text(encoding="utf-8", errors="ignore")
                found |= {
                    (str(path.relative_to(ROOT)), name)
                    for name in re.findall(r"(?<![\w/])playbooks/[a-z_/]+\.yml", text)
                }
    return sorted(found)


def test_every_playbook_that_is_named_exists() -> None:
    named = named_playbooks()
    assert len(named) > 50
    # A folder with playbooks of its own (the stand-ins) names them from there.
    missing = [
        (file, name) for file, name in named if not any((base / name).exists() for base in (ROOT, (ROOT / file).parent))
    ]
    assert missing == []


def test_every_code_has_its_entry_and_every_entry_its_code() -> None:
    used = used_codes()
    assert {name: files for name, files in used.items() if name not in CODES} == {}, "add them to report/codes.py"
    assert sorted(set(CODES) - set(used)) == [], "these are no longer used"
    assert len(used) > 150, "the scan finds the codes at all"


def test_a_code_is_written_out_where_it_is_used() -> None:
    """One that is put together at run time could not be found by the scan above."""
    for path in sorted((ROOT / "plugins").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "Finding"
                and node.args
            ):
                made = isinstance(node.args[0], (ast.JoinedStr, ast.BinOp, ast.Call))
                assert not made or path.name == "finding.py", f"{path.name}:{node.lineno}"


def test_the_codes_are_explained_as_the_registry_says() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert page == generate.troubleshooting(), "run `python docs/generate.py`"
    assert re.findall(r"^#### (\S+)$", page, re.MULTILINE) == [
        code for source in SOURCES for code in CODES if code.startswith(f"{source}.")
    ]


def test_an_entry_says_something() -> None:
    assert {code.partition(".")[0] for code in CODES} == set(SOURCES)
    for code, meaning in CODES.items():
        assert not meaning.title.endswith("."), code
        assert meaning.means.endswith(".") and meaning.todo.endswith("."), code
        for playbook in re.findall(r"playbooks/\w+\.yml", " ".join(meaning)):
            assert (ROOT / playbook).exists(), f"{code} names {playbook}"
