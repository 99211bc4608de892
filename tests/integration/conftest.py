# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Integration tests drive playbooks with ansible-runner against the simulated pair and assert on its events.

They expect a pair on which site.yml has run; `tests/run` leaves one from the molecule scenario `site`.
"""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import testinfra
from testinfra.host import Host

REPOSITORY = Path(__file__).parents[2]
SIMULATION = REPOSITORY / "inventory" / "simulation"
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "molecule" / "shared")]
from simulation import settings  # noqa: E402 - the path is set just above

_SECTION = re.compile(r"<h2 id='head-\d+'>(.*?)</h2>(.*?)</section>", re.DOTALL)
_ROW = re.compile(
    r"<span class='pill (red|yellow|green)'>\1</span></td><td class='check'>(.*?)</td>\s*<td>(.*?)</td>", re.DOTALL
)


@dataclass
class Run:
    """What a playbook did, from the events of ansible-runner."""

    status: str
    changed: set[tuple[str, str]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def changed_tasks(self) -> set[str]:
        return {task for _host, task in self.changed}


Playbook = Callable[..., Run]


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    """Run a playbook of the checkout; see `runner`."""
    return runner(tmp_path)


def runner(folder: Path) -> Playbook:
    """Return what runs a playbook of the checkout; keyword ``extra`` are extra variables, ``inventory`` another inventory."""

    def run(
        name: str = "site.yml",
        *,
        extra: dict[str, Any] | None = None,
        inventory: Path = SIMULATION,
        check: bool = False,
    ) -> Run:
        # A folder for each run: ansible-runner keeps a run's extra variables there and would hand them to the next.
        private = Path(tempfile.mkdtemp(prefix="runner-", dir=folder))
        outcome = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(REPOSITORY),
            playbook=str(REPOSITORY / name),
            inventory=str(inventory),
            extravars=extra or {},
            cmdline="--check --diff" if check else "",
            envvars={
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            quiet=True,
        )
        result = Run(status=outcome.status)
        for event in outcome.events:
            data = event.get("event_data") or {}
            answer = data.get("res") or {}
            name_of_task = str(data.get("task") or "")
            if event["event"] == "playbook_on_task_start":
                result.tasks.append(name_of_task)
            elif event["event"] == "runner_on_ok" and answer.get("changed"):
                result.changed.add((data["host"], name_of_task))
            elif event["event"] == "runner_on_failed" and not data.get("ignore_errors"):
                result.failures.append(str(answer.get("msg") or ""))
            elif event["event"] == "runner_on_unreachable":
                result.unreachable.append(str(answer.get("msg") or ""))
        result.output = Path(outcome.config.artifact_dir, "stdout").read_text(encoding="utf-8", errors="replace")
        return result

    return run


def rows(page: Path) -> list[tuple[str, str, str, str]]:
    """Return node, check, level and what was found, of each row of a report's page."""
    return [
        (html.unescape(node), html.unescape(check), level, html.unescape(found))
        for node, body in _SECTION.findall(page.read_text(encoding="utf-8"))
        for level, check, found in _ROW.findall(body)
    ]


def _host(name: str) -> Host:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(settings.ssh_config_file()))


@pytest.fixture(scope="session")
def head() -> Host:
    return _host("spark-1")


@pytest.fixture(scope="session")
def worker() -> Host:
    return _host("spark-2")


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with examples/requirements.txt."""
    folder = tmp_path_factory.mktemp("clients")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    found = folder / "bin" / "python"
    install = [found, "-m", "pip", "install", "--quiet", "--requirement", REPOSITORY / "examples" / "requirements.txt"]
    subprocess.run(install, check=True)
    return found


def simulation(*arguments: str) -> None:
    """Run the driver of the simulated pair, for example ``simulation("reboot", "spark-2", "--hard")``."""
    subprocess.run([sys.executable, "-m", "simulation", *arguments], cwd=REPOSITORY, check=True)


@pytest.fixture
def containers(head: Host, worker: Host) -> Iterator[Callable[[], dict[str, str]]]:
    """Ids of the running containers by name: what restarted has another one."""

    def ids() -> dict[str, str]:
        found = {}
        for host in (head, worker):
            with host.sudo():
                lines = host.check_output("docker ps --no-trunc --format '{{.Names}} {{.ID}}'").splitlines()
            found.update(line.split() for line in lines if line.startswith("spark-"))
        return found

    yield ids


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that take the cluster away and bring it back come last."""
    items.sort(key=lambda item: item.path.stem == "test_remove")
