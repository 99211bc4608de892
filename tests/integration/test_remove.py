# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What remove.yml leaves: nothing of ours, everything of the user's; and site.yml works again afterwards. Takes the pair's cluster away and brings it back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook

REMOVE = "playbooks/remove.yml"
#: Of the user: a container that only is there, a netplan file, a drop-in, a package source, and a file beside ours.
THEIRS = {
    "/etc/netplan/50-users.yaml": "network: {version: 2}\n",
    "/etc/sysctl.d/50-users.conf": "vm.swappiness = 60\n",
    "/etc/systemd/system/users.service": "[Service]\nExecStart=/bin/true\n",
    "/srv/models/users-model/config.json": "{}\n",
}
WRITTEN = ("/run/dgx-spark/", "/var/lib/dgx-spark/", "/var/cache/dgx-spark/")
FOLDERS = "/etc /opt /usr/local /var/lib/dgx-spark /var/cache/dgx-spark /run/dgx-spark /run/systemd/system /srv"


def sudo(host: Host, command: str) -> str:
    with host.sudo():
        return str(host.check_output(command))


def traces(host: Host) -> set[str]:
    """Return the files below the folders that the collection writes to, units that systemd knows, containers and names of images."""
    with host.sudo():
        files = host.run(f"find {FOLDERS} -mindepth 1 2>/dev/null").stdout.splitlines()
    with host.sudo():
        # Status 1 where there is none.
        units = host.run("systemctl list-unit-files --no-legend --no-pager 'spark-*' 'srv-*'").stdout.splitlines()
    running = sudo(host, "systemctl list-units --all --no-legend --no-pager --plain 'spark-*' 'srv-*'").splitlines()
    containers = sudo(host, "docker ps --all --format '{{.Names}}'").split()
    images = sudo(host, "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    return {*files, *units, *(line.split()[0] for line in running), *containers, *(f"image {name}" for name in images)}


def lasting(host: Host) -> set[str]:
    """Return the traces without what a cluster that serves writes all the time: the watchdog's state, Ray's logs, compiled kernels."""
    return {trace for trace in traces(host) if not trace.startswith(WRITTEN)}


@pytest.fixture
def users(head: Host, worker: Host) -> Iterator[set[str]]:
    """What the user has on both nodes."""
    for host in (head, worker):
        for path, text in THEIRS.items():
            sudo(host, f"mkdir -p $(dirname {path}) && printf '%s' '{text}' > {path}")
        sudo(host, "docker tag dgx-spark-sim/serving:current users/image:1")
        sudo(host, "docker create --name users users/image:1 sleep 1")
    yield {*THEIRS, "users", "image users/image:1"}
    for host in (head, worker):
        sudo(host, f"docker rm users; docker image rm users/image:1; rm -rf {' '.join(THEIRS)} /srv/models/users-model")


@pytest.mark.usefixtures("users")
def test_without_a_word_it_lists_what_would_go(playbook: Playbook, head: Host, worker: Host) -> None:
    before = [lasting(head), lasting(worker)]
    run = playbook(REMOVE)
    assert run.status == "failed"
    (sentence,) = {text for text in run.failures if text}
    for part in (
        "from spark-1: ",
        "; from spark-2: ",
        "spark-vllm.service",
        "spark-ray-worker.service",
        "/opt/dgx-spark",
        "remove_confirm=yes",
    ):
        assert part in sentence
    assert "keep weights, image, packages" in sentence
    assert run.changed == set()
    assert [lasting(head), lasting(worker)] == before


@pytest.mark.long
def test_it_leaves_what_is_kept_then_nothing_and_site_works_again(
    playbook: Playbook, head: Host, worker: Host, users: set[str]
) -> None:
    run = playbook(REMOVE, extra={"remove_confirm": True})
    assert run.status == "successful", run.output[-3000:]
    left = traces(head)
    assert {"/srv/models/dgx-spark--tiny-qwen3-moe", "image dgx-spark-sim/serving:current"} <= left
    assert not [name for name in left if name.startswith(("/etc/dgx-spark", "/opt/dgx-spark", "image dgx-spark-good"))]

    assert playbook(REMOVE, extra={"remove_confirm": True, "remove_keep": []}).status == "successful"
    for host in (head, worker):
        left = traces(host)
        assert users <= left
        # The login and the hub of the simulation are no part of what site.yml puts there; only an image that has no user's name goes.
        ours = {
            name
            for name in left - users
            if "spark" in name and name != "/etc/sudoers.d/spark" and "simulation" not in name
        }
        assert ours == set()
        assert "/srv/models/dgx-spark--tiny-qwen3-moe" not in left
    again = playbook(REMOVE, extra={"remove_confirm": True, "remove_keep": []})
    assert (again.status, again.changed) == ("successful", set()), again.output[-2000:]

    run = playbook()
    assert run.status == "successful", run.output[-3000:]
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
    assert playbook().changed == set()
