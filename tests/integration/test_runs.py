# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs that meet, and runs that are broken off: who works on the nodes is known, and nothing half made stays."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import REPOSITORY, SIMULATION, Playbook

LOCK = "/run/dgx-spark/playbook-run.json"


@contextmanager
def begun(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run site.yml as a user does, in a process group of its own; what it says goes to a file."""
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
    }
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(SIMULATION),
        str(REPOSITORY / "site.yml"),
    ]
    with (folder / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=said, stderr=said, text=True, start_new_session=True
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=120)


def held(head: Host) -> dict[str, Any]:
    """Return who holds the nodes; empty where nobody does."""
    found = head.run(f"cat {LOCK}")
    return dict(json.loads(found.stdout)) if found.rc == 0 else {}


def wait_for(process: subprocess.Popen[str], head: Host) -> dict[str, Any]:
    """Return who holds the nodes once that is this process."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        if (holder := held(head)).get("pid") == process.pid:
            return holder
        assert process.poll() is None, "it ended before it took the lock"
        time.sleep(0.3)
    raise AssertionError("it does not take the lock")


@pytest.mark.long
def test_a_second_run_is_told_who_works_on_the_nodes(playbook: Playbook, head: Host, tmp_path: Path) -> None:
    with begun(tmp_path) as first:
        holder = wait_for(first, head)
        assert holder["ssh"] is True, "so another controller goes by SSH sessions"
        second = playbook("playbooks/restart.yml")
        assert first.wait(timeout=600) == 0, (tmp_path / "said.txt").read_text()[-3000:]
    assert second.status == "failed"
    assert second.changed == set()
    (said,) = set(second.failures)
    assert f"Another run works on these nodes: site.yml of {holder['user']}@" in said
    assert "Nothing was changed." in said
    assert held(head) == {}, "a run that ends well gives the nodes back"


@pytest.mark.long
def test_a_run_that_is_broken_off_anywhere_is_taken_up_by_the_next(
    playbook: Playbook, head: Host, tmp_path: Path
) -> None:
    seed = int(os.environ.get("DGX_SPARK_SEED") or time.time())
    print(f"again with: DGX_SPARK_SEED={seed}")
    chance = random.Random(seed)
    # Every other time something is to be changed and restarted, so that it is broken off there as well.
    for number in range(10):
        length = 4096 if number % 2 else 2048
        with begun(tmp_path, "-e", f"vllm_serve_max_model_len={length}") as run:
            time.sleep(chance.uniform(3, 45))
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGINT)
            run.wait(timeout=120)
    whole = playbook()
    assert whole.status == "successful", whole.output[-3000:]
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
    assert playbook().changed == set()
