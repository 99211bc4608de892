# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The packet filter on the pair that serves: what is closed to whom, and rules that would lock everybody out."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook, runner, settings

pytestmark = pytest.mark.long
#: The role alone, as a playbook of a user's.
PLAY = """
- import_playbook: dgx_spark.vllm.settings
- hosts: sparks
  become: true
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - include_role: {name: dgx_spark.vllm.packet_filter, tasks_from: "{{ what }}"}
"""
#: SSH for the cluster's own addresses alone: a new connection of the controller cannot be made.
LOCKED = """
- hosts: sparks
  become: true
  gather_facts: false
  tasks:
    - dgx_spark.vllm.packet_filter:
        ports: [{protocol: tcp, first: 22, last: 22, name: SSH, reach: fabric}]
        nodes: [192.0.2.1]
        seconds: 12
    - meta: reset_connection
    - dgx_spark.vllm.packet_filter: {state: confirmed}
"""


def book(folder: Path, text: str) -> str:
    """Write a playbook; return its path."""
    path = folder / "book.yml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def reached(node: str, port: int) -> str:
    """Return how a port of a node answers to this machine."""
    try:
        socket.create_connection((node, port), 3).close()
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return type(error).__name__
    return "open"


@pytest.fixture(scope="module")
def addresses() -> list[str]:
    """Addresses of the nodes at which this machine reaches them."""
    return [node.address(settings.MANAGEMENT) for node in settings.NODES]


@pytest.fixture(scope="module", autouse=True)
def open_again(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("before")
    seen = runner(folder)("playbooks/ports.yml")
    assert seen.status == "successful", seen.output[-3000:]
    flat = " ".join(seen.output.split())
    assert (
        "is reached from outside, and for the nodes alone" in flat
        and flat.count("set packet_filter_enabled to true") == 1
    )
    # The same scan where the filter is asked for and not in force: what verify would find if the role had done nothing.
    missed = runner(folder)("playbooks/ports.yml", extra={"packet_filter_enabled": True})
    assert missed.status == "failed" and missed.changed == set()
    assert "for the nodes alone" in missed.failures[0] and "run playbooks/nodes.yml" in missed.failures[0]
    yield
    folder = tmp_path_factory.mktemp("open")
    run = runner(folder)(book(folder, PLAY), extra={"what": "remove"})
    assert run.status == "successful", run.output[-3000:]


def test_the_cluster_is_closed_to_others_and_open_to_itself(
    playbook: Playbook, addresses: list[str], head: Host, worker: Host, tmp_path: Path
) -> None:
    ray = [(addresses[0], 6379), *((address, port) for address in addresses for port in (6380, 6381))]
    assert {reached(*place) for place in ray} == {"open"}, "without the filter Ray is open to all"
    closed = playbook(book(tmp_path, PLAY), extra={"what": "main"})
    assert closed.status == "successful", closed.output[-3000:]
    assert {reached(*place) for place in ray} == {"refused"}
    assert {reached(addresses[0], 8235), *(reached(address, 22) for address in addresses)} == {"open"}
    fabric = settings.NODES[0].address(settings.FABRIC)
    assert worker.run(f"bash -c 'exec 3<>/dev/tcp/{fabric}/6379'").rc == 0
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
    assert playbook(book(tmp_path, PLAY), extra={"what": "main"}).changed == set()


def test_what_listens_is_reached_by_nobody_outside(addresses: list[str], head: Host, worker: Host) -> None:
    for host, address in ((head, addresses[0]), (worker, addresses[1])):
        with host.sudo():
            listening = host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
        ports = {int(line.split()[3].rpartition(":")[2]) for line in listening}
        assert len(ports) > 8
        assert {port for port in ports if reached(address, port) == "open"} <= {22, 8235}


def test_the_scan_says_what_is_reached_from_where(playbook: Playbook) -> None:
    on = playbook("playbooks/ports.yml", extra={"packet_filter_enabled": True})
    assert on.status == "successful", on.output[-3000:]
    flat = " ".join(on.output.split())
    assert "6379 spark-ray-head the nodes the nodes Ray head (GCS)" in flat, on.output[-3000:]
    assert "8235 spark-vllm outside and the nodes anyone endpoint" in flat
    assert on.changed == set()


def test_a_port_that_nobody_named_fails_the_scan_until_somebody_does(playbook: Playbook, head: Host) -> None:
    with head.sudo():
        head.check_output("systemd-run --unit stranger --collect python3 -m http.server 8899")
    try:
        found = playbook("playbooks/ports.yml", extra={"packet_filter_enabled": True})
        assert found.status == "failed" and "stranger.service" in found.failures[0], found.output[-3000:]
        assert "name it in packet_filter_open_ports" in found.failures[0]
        meant = {"packet_filter_enabled": True, "packet_filter_open_ports": [8899]}
        assert playbook("playbooks/ports.yml", extra=meant).status == "successful"
    finally:
        with head.sudo():
            head.check_output("systemctl stop stranger")


def test_over_ipv6_as_well(playbook: Playbook, head: Host, worker: Host) -> None:
    """The simulated networks have no IPv6: the nodes get addresses of it on their link, and reach each other by them."""
    fabric = "ip -json -4 address show | python3 -c \"import json,sys; print(next(i['ifname'] for i in json.load(sys.stdin) for a in i['addr_info'] if a['local'].startswith('192.168.100.')))\""
    addresses = {head: "fd00:100::10", worker: "fd00:100::11"}
    with head.sudo(), worker.sudo():
        for host, address in addresses.items():
            name = host.check_output(fabric).strip()
            host.check_output(
                f"sysctl -w net.ipv6.conf.{name}.disable_ipv6=0 && ip address add {address}/64 dev {name} nodad"
            )
    try:
        seen = playbook("playbooks/ports.yml", extra={"packet_filter_enabled": True})
        assert seen.status == "successful", seen.output[-3000:]
        probe = "timeout 3 bash -c 'exec 3<>/dev/tcp/fd00:100::10/{}'"
        assert worker.run(probe.format(22)).rc == 0, "SSH answers over IPv6"
        assert worker.run(probe.format(6379)).rc != 0, (
            "Ray's control store does not: the cluster is the nodes' IPv4 addresses"
        )
    finally:
        with head.sudo(), worker.sudo():
            for host in addresses:
                host.run(f"sysctl -w net.ipv6.conf.{host.check_output(fabric).strip()}.disable_ipv6=1")


def test_rules_that_lock_everybody_out_are_taken_back(
    playbook: Playbook, addresses: list[str], head: Host, tmp_path: Path
) -> None:
    before = head.check_output("sudo nft list table inet dgx_spark")
    run = playbook(book(tmp_path, LOCKED))
    assert run.unreachable and run.status == "failed"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and {reached(address, 22) for address in addresses} != {"open"}:
        time.sleep(1)
    assert {reached(address, 22) for address in addresses} == {"open"}
    assert _plain(head.check_output("sudo nft list table inet dgx_spark")) == _plain(before)


def _plain(listing: str) -> list[str]:
    """Return a listing without its counters."""
    return [line.partition(" counter")[0] for line in listing.splitlines()]


@pytest.mark.parametrize("source", ["spark-9", "0.0.0.0/0"])
def test_a_source_that_is_none_changes_nothing(playbook: Playbook, source: str) -> None:
    run = playbook(
        "playbooks/nodes.yml", extra={"packet_filter_enabled": True, "packet_filter_allowed_sources": [source]}
    )
    assert run.status == "failed" and run.changed == set()
    assert "packet_filter_allowed_sources" in run.failures[0] and source in run.failures[0]
