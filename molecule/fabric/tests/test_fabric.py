# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The link has its addresses, nothing waits to be taken back, and both ends were asked with packets of full size."""

from __future__ import annotations

import json

import yaml
from testinfra.host import Host

OWN = "/etc/netplan/99-zz-dgx-spark-fabric.yaml"
GUARD = "dgx-spark-fabric-rollback"


def test_each_twin_has_a_subnet_of_its_own(host: Host) -> None:
    with host.sudo():
        file = host.file(OWN)
        assert file.mode == 0o600
        ports = yaml.safe_load(file.content_string)["network"]["ethernets"]
    assert {name: body["addresses"] for name, body in ports.items()} == {
        "enp1s0f1np1": ["192.168.150.10/24"],
        "enP2p1s0f1np1": ["192.168.151.10/24"],
    }
    assert {(body["mtu"], tuple(body["link-local"]), body["optional"]) for body in ports.values()} == {(9000, (), True)}


def test_nothing_waits_to_be_taken_back(host: Host) -> None:
    with host.sudo():
        assert host.run(f"systemctl is-active {GUARD}.timer").stdout.strip() != "active"
        assert not host.file("/var/lib/dgx-spark/fabric/pending.json").exists
        assert host.check_output("ls /etc/systemd/system/multi-user.target.wants").count("fabric") == 0


def test_both_ends_were_asked_with_packets_of_full_size(host: Host) -> None:
    calls = host.file("/var/lib/link/calls").content_string.splitlines()
    asked = {line.rpartition("-I ")[2] for line in calls if " ping " in line and "-M do -s 8972" in line}
    assert asked == {
        "enp1s0f1np1 192.168.150.11",
        "enP2p1s0f1np1 192.168.151.11",
        "enp1s0f1np1 192.168.150.10",
        "enP2p1s0f1np1 192.168.151.10",
    }


def test_the_serving_containers_are_told_of_both_twins(host: Host) -> None:
    facts = json.loads(host.file("/var/lib/link/facts-spark-1.json").content_string)
    assert facts["interface"] == "enp1s0f1np1"
    assert facts["environment"]["NCCL_IB_HCA"] == "rocep1s0f1,roceP2p1s0f1"
    assert facts["environment"]["VLLM_HOST_IP"] == "192.168.150.10"


def test_the_way_in_was_left_alone(host: Host) -> None:
    calls = host.file("/var/lib/link/calls").content_string
    assert calls.count(" netplan apply") == 3, "the unconfirmed change, its way back, and the role's own"
