# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a release says of itself agrees: version, licences, versions of ansible-core, changelog, workflows, what the owner fills in."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RELEASING = (ROOT / "docs" / "releasing.md").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
#: Texts that stand for something that only the owner knows.
PLACEHOLDERS = ("https://example.com/dgx_spark.vllm", "security@example.com", "GALAXY_API_KEY")


def tracked(*names: str) -> list[str]:
    """Return the files under version control, in some folders."""
    done = subprocess.run(["git", "ls-files", *names], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def parsed(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def versions() -> list[tuple[str, str]]:
    """Return ansible-core and Python of the rows of the table in docs/releasing.md."""
    return re.findall(r"^\| (2\.\d+)\.\d+ \| (3\.\d+) \|", RELEASING, re.MULTILINE)


def test_one_version() -> None:
    version = parsed("galaxy.yml")["version"]
    definition = (ROOT / "execution-environment.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"dgx_spark-vllm-([0-9.]+)\.tar", definition)) == {version}
    assert version in parsed("changelogs/changelog.yaml")["releases"]
    assert f"## v{version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("\\", "")


def test_pinned_controller_is_that_of_the_execution_environment() -> None:
    requirements = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    dependencies = parsed("execution-environment.yml")["dependencies"]
    for package in ("ansible_core", "ansible_runner"):
        assert f"\n{dependencies[package]['package_pip']}\n" in requirements


def test_versions_of_ansible_core_are_those_that_were_tested() -> None:
    found = versions()
    assert len(found) > 1
    oldest = found[0][0]
    assert parsed("meta/runtime.yml")["requires_ansible"] == f">={oldest}.0"
    rows = parsed(".github/workflows/ci.yml")["jobs"]["versions"]["strategy"]["matrix"]["include"]
    assert [(row["ansible"], row["python"]) for row in rows] == found
    for role in (ROOT / "roles").iterdir():
        assert parsed(f"roles/{role.name}/meta/main.yml")["galaxy_info"]["min_ansible_version"] == oldest, role.name
    assert f"ansible-core {oldest} or later" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_what_imports_ansible_is_under_its_licence_and_nothing_else() -> None:
    for name in tracked("plugins", "benchmarks", "setup_wizard", "simulation", "tests", "docs", "bin"):
        text = (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        said = re.search(r"^# SPDX-License-Identifier: (\S+)", "\n".join(text.splitlines()[:6]), re.MULTILINE)
        if not said or not name.endswith(".py"):
            continue
        plugin = name.startswith("plugins/") and not name.startswith("plugins/module_utils/")
        assert said[1] == ("GPL-3.0-or-later" if plugin else "Apache-2.0"), name
    for name in tracked("plugins/module_utils"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8")) if name.endswith(".py") else ast.parse("")
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level or (node.module or "").partition(".")[0] != "ansible", name


def test_action_groups_hold_modules_that_share_options() -> None:
    shared = {"hub": {"endpoint", "token", "ca_bundle"}, "server": {"base_url", "model"}}
    groups = parsed("meta/runtime.yml")["action_groups"]
    assert set(groups) == set(shared)
    hub = (ROOT / "plugins" / "doc_fragments" / "hub.py").read_text(encoding="utf-8")
    for group, modules in groups.items():
        for module in modules:
            text = (ROOT / "plugins" / "modules" / f"{module}.py").read_text(encoding="utf-8")
            text += hub if "dgx_spark.vllm.hub" in text else ""
            assert all(f"\n  {option}:\n" in text for option in shared[group]), module


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_pin_their_actions_and_run_what_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for used in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", used), used
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets
    stages = re.search(r"^all=\((.+)\)$", (ROOT / "tests" / "run").read_text(encoding="utf-8"), re.MULTILINE)
    assert stages
    for names in re.findall(r"tests/run ([a-z ]+)$", text, re.MULTILINE):
        assert set(names.split()) <= set(stages[1].split())


def test_fault_form_asks_for_the_diagnosis_archive() -> None:
    form = parsed(".github/ISSUE_TEMPLATE/fault.yml")
    (archive,) = [part for part in form["body"] if part.get("id") == "archive"]
    assert archive["validations"]["required"] is True
    assert "playbooks/diagnose.yml" in archive["attributes"]["description"]


def test_what_the_owner_fills_in_is_one_list() -> None:
    rows = RELEASING.partition("## What only the owner")[2]
    for placeholder in PLACEHOLDERS:
        row = next(line for line in rows.splitlines() if placeholder in line)
        said = set(re.findall(r"`([\w./-]+\.(?:yml|md))`", row.rpartition("|")[0].rpartition("|")[2]))
        found = {
            name
            for name in tracked()
            if name not in ("docs/releasing.md", "tests/unit/test_release.py")
            and placeholder in (ROOT / name).read_text(encoding="utf-8", errors="ignore")
        }
        assert found == said, placeholder


def test_no_fragment_is_left_over_in_the_release() -> None:
    """A fragment that the release took is gone; one that is there is for the next, and says something for a user."""
    released = parsed("changelogs/changelog.yaml")["releases"]
    taken = {fragment for release in released.values() for fragment in release.get("fragments", [])}
    assert not taken & {path.name for path in (ROOT / "changelogs" / "fragments").iterdir()}
