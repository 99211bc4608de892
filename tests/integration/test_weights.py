# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A download on a real machine: killed, unplugged, out of disk, in a store that cannot be written; and told in one sentence.

The hub is the simulation's own, run here with a model of random shards: plain HTTP, so nothing is said about Xet.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

from simulation import settings
from simulation.hub.faults import parse
from simulation.hub.server import Hub, running
from tests.integration.conftest import REPOSITORY, SIMULATION, Playbook, simulation

REPO = "tests/large"
MIB = 1024 * 1024
SHARDS = {f"model-{number:05}-of-00006.safetensors": 8 * MIB for number in range(1, 7)}
TOTAL = sum(SHARDS.values())
PLAY = """
- name: Download
  hosts: head
  become: {become}
  gather_facts: false
  roles:
    - role: dgx_spark.vllm.model_download
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("large")
    dice = random.Random(11)
    for name, size in SHARDS.items():
        (folder / name).write_bytes(dice.randbytes(size))
    index = {"metadata": {}, "weight_map": {f"layer.{name}": name for name in SHARDS}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with running({REPO: {"main": folder}}, settings.MANAGEMENT.gateway) as served:
        yield served


@pytest.fixture
def play(tmp_path: Path) -> Path:
    path = tmp_path / "download.yml"
    path.write_text(PLAY.format(become="true"))
    return path


@pytest.fixture(autouse=True)
def clean(hub: Hub, head: Host) -> Iterator[None]:
    hub.faults.clear()
    with hub.lock:
        hub.log.clear()
    yield
    with head.sudo():
        head.run("systemctl stop spark-model-download; rm -rf /var/lib/dgx-spark/downloads")
        head.run("umount /srv/trial; rm -rf /srv/trial")


def weights_settings(hub: Hub) -> dict[str, object]:
    return {
        "model_download_repo_id": REPO,
        "model_download_revision": "main",
        "model_download_endpoint": f"http://{settings.MANAGEMENT.gateway}:{hub.server_port}",
        "model_download_store": "/srv/trial",
        "model_download_poll_s": 1,
    }


def here(head: Host) -> int:
    """Bytes of shards and parts in the trial store."""
    with head.sudo():
        command = r"find /srv/trial -type f \( -name '*.part' -o -name '*.safetensors' \) -printf '%s\n'"
        return sum(int(line) for line in head.run(command).stdout.split())


def wait_for_bytes(head: Host, wanted: float, timeout: float = 90) -> None:
    deadline = time.monotonic() + timeout
    while here(head) < wanted:
        assert time.monotonic() < deadline, f"{here(head)} of {wanted:.0f} bytes after {timeout} s"
        time.sleep(0.3)


def kill_all(play: Path) -> None:
    """Kill everything that runs a play: Ansible's workers are in sessions of their own, and each shows its command line."""
    subprocess.run(["pkill", "--signal", "KILL", "--full", str(play)], check=True)


def sent(hub: Hub) -> int:
    with hub.lock:
        return sum(request.bytes for request in hub.log if "/resolve/" in request.path)


def test_a_download_outlives_its_terminal_a_kill_and_a_pulled_plug(
    hub: Hub, play: Path, playbook: Playbook, head: Host, tmp_path: Path
) -> None:
    hub.faults.add(parse({"slow": {"path": "*.safetensors", "rate": 400_000.0}}))
    with (
        (tmp_path / "terminal").open("wb") as screen,
        subprocess.Popen(
            [
                Path(sys.executable).parent / "ansible-playbook",
                "-i",
                SIMULATION,
                "-e",
                json.dumps(weights_settings(hub)),
                play,
            ],
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
            cwd=REPOSITORY,
            stdout=screen,
            # Not inherited: an ssh that died may have left it non-blocking, which Ansible refuses.
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ),
    ):
        wait_for_bytes(head, 0.1 * TOTAL)
        kill_all(play)
    assert re.search(r"waiting: \[spark-1\] .*: [0-9.]+ \w+ of 48.0 MiB here, ", (tmp_path / "terminal").read_text())
    wait_for_bytes(head, 0.3 * TOTAL)
    with head.sudo():
        head.check_output("systemctl kill --signal=KILL spark-model-download")
    wait_for_bytes(head, 0.5 * TOTAL)
    simulation("reboot", "spark-1", "--hard")
    # Nobody asks for anything here: the order is left on the disk.
    wait_for_bytes(head, 0.7 * TOTAL)
    # Whoever joins needs no word of the hub, which may be away just now.
    hub.faults.add(parse({"fail": {"path": "<info>", "status": 503}}))

    run = playbook(str(play), extra=weights_settings(hub))

    assert run.status == "successful", run.output[-3000:]
    assert run.changed == set()
    with head.sudo():
        folder = f"/srv/trial/tests--large/{hub.repositories[REPO].heads['main']}"
        assert head.file(f"{folder}.verified").is_file
        assert head.check_output("find /srv/trial -name '*.part' -o -name '*.incomplete'") == ""
        assert head.check_output("ls /var/lib/dgx-spark/downloads/queue") == ""
    # Two interruptions cost six workers a chunk of 1 MiB each; whole shards would be six times that.
    assert TOTAL <= sent(hub) <= TOTAL + 2 * len(SHARDS) * 1.5 * MIB
    hub.faults.clear()
    again = playbook(str(play), extra=weights_settings(hub))
    assert (again.status, again.changed) == ("successful", set())


def test_a_disk_that_is_too_small_or_fills_meanwhile(hub: Hub, play: Path, playbook: Playbook, head: Host) -> None:
    with head.sudo():
        head.check_output("mkdir /srv/trial && mount -t tmpfs -o size=40m,mode=0755 trial /srv/trial")
    run = playbook(str(play), extra=weights_settings(hub))
    assert run.status == "failed"
    assert "needs 48.0 MiB more in /srv/trial, 40.0 MiB free: free 8.0 MiB there" in run.failures[-1]
    assert sent(hub) == 0
    with head.sudo():
        head.check_output("mount -o remount,size=60m /srv/trial")
    hub.faults.add(parse({"slow": {"path": "*.safetensors", "rate": 4_000_000.0}}))
    with head.sudo():
        # Another program takes the room while the download runs.
        head.check_output(
            "systemd-run --quiet sh -c 'while ! ls /srv/trial/*/.staging/*/parts/*.part; do sleep 0.1; done; "
            "head -c 30000000 /dev/zero > /srv/trial/other'"
        )
    run = playbook(str(play), extra=weights_settings(hub))
    assert run.status == "failed"
    assert "the disk is full" in run.failures[-1]
    assert "what is there is kept" in run.failures[-1]
    assert "\n" not in run.failures[-1]
    with head.sudo():
        head.check_output("rm /srv/trial/other")
    kept = here(head)
    assert kept > 0
    before = sent(hub)
    hub.faults.clear()
    run = playbook(str(play), extra=weights_settings(hub))
    assert run.status == "successful", run.output[-3000:]
    assert sent(hub) - before <= TOTAL - kept + 2 * MIB


@pytest.mark.parametrize(
    ("prepare", "become", "words"),
    [
        ("mount -t tmpfs -o size=100m,ro trial /srv/trial", "true", "is mounted read-only"),
        ("chown root:root /srv/trial", "false", "run with become, or give this user the store"),
    ],
)
def test_a_store_that_cannot_be_written(
    hub: Hub, play: Path, playbook: Playbook, head: Host, prepare: str, become: str, words: str
) -> None:
    play.write_text(PLAY.format(become=become))
    with head.sudo():
        head.check_output(f"mkdir /srv/trial && {prepare}")
    run = playbook(str(play), extra=weights_settings(hub) | {"model_download_token_file": ""})
    assert run.status == "failed"
    assert words in run.failures[-1]
    assert "\n" not in run.failures[-1]
    assert sent(hub) == 0


def test_why_a_detached_download_failed_is_told_where_it_was_asked_for(
    hub: Hub, play: Path, playbook: Playbook, head: Host
) -> None:
    hub.faults.add(parse({"corrupt": {"path": "model-00002-*"}}))
    run = playbook(str(play), extra=weights_settings(hub))
    assert run.status == "failed"
    assert "model-00002-of-00006.safetensors has another content" in run.failures[-1]
    hub.faults.clear()
    before = sent(hub)
    assert playbook(str(play), extra=weights_settings(hub)).status == "successful"
    # All but the shard that lied was kept.
    assert sent(hub) - before < 9 * MIB
