# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is proposed follows from what the nodes show."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from setup_wizard import proposal
from setup_wizard.console import Refusal
from setup_wizard.proposal import Disk, Link, Look, Node
from tests.unit.plugins.module_utils.fabric.world import DEVICES, FIRST, SECOND, Spark

ROOT = Path(__file__).parents[3]
NODES = [Node("spark-1", "10.0.0.5"), Node("spark-2", "10.0.0.6")]
OTHERS = tuple(name for name, _rdma, _pci in DEVICES if name not in (FIRST, SECOND))


def look(tmp_path: Path, number: int = 1, **shown: Any) -> Look:
    """A node as it is unpacked: a cable, and no address on it."""
    spark = Spark(tmp_path / f"{number}", **{"addresses": {"enP7s7": [f"10.0.0.{4 + number}/24"]}, **shown})
    # As it comes from the node: plain data.
    facts = json.loads(json.dumps(spark.look().as_facts()))
    setup = {
        "ansible_machine_id": f"{number:032x}",
        "ansible_default_ipv4": {"address": f"10.0.0.{4 + number}", "macaddress": f"02:00:00:00:00:0{number}"},
        "ansible_product_name": "NVIDIA_DGX_Spark",
        "ansible_memtotal_mb": 122_571,
        "ansible_mounts": [
            {"mount": "/", "fstype": "ext4", "options": "rw,relatime", "size_available": 10 * 2**30},
            {"mount": "/data", "fstype": "xfs", "options": "rw", "size_available": 3000 * 2**30},
            {"mount": "/backup", "fstype": "xfs", "options": "ro", "size_available": 9000 * 2**30},
            {"mount": "/boot/efi", "fstype": "vfat", "options": "rw", "size_available": 2**30},
            {"mount": "/var/lib/docker", "fstype": "ext4", "options": "rw", "size_available": 9000 * 2**30},
        ],
    }
    return proposal.look_of(f"spark-{number}", setup, facts)


@pytest.fixture
def pair(tmp_path: Path) -> list[Look]:
    return [look(tmp_path, number) for number in (1, 2)]


def test_a_node_is_told_in_one_line(tmp_path: Path) -> None:
    assert look(tmp_path).sentence() == "spark-1: NVIDIA DGX Spark, 120 GiB of memory, 2 QSFP ports, 1 with a cable"


def test_a_pair_as_it_is_unpacked(pair: list[Look]) -> None:
    link = proposal.link_of(pair, NODES)
    assert link.addresses == ("192.168.100.10", "192.168.100.11")
    assert link.interfaces == (FIRST, SECOND)
    assert {name: value for name, value in link.settings.items() if value is not None} == {}
    assert link.said == f"1 cable, in the same port of each node: {FIRST}, {SECOND}"


def test_a_subnet_that_is_in_use_is_left_alone(tmp_path: Path) -> None:
    taken = {"enP7s7": ["10.0.0.6/24"], "virbr0": ["192.168.101.1/24"]}
    looks = [look(tmp_path, 1), look(tmp_path, 2, addresses=taken)]
    assert proposal.link_of(looks, NODES).addresses == ("192.168.110.10", "192.168.110.11")
    said = proposal.collision(looks, Link(("192.168.100.10", "192.168.100.11"), 24, (FIRST, SECOND)))
    assert said.startswith("spark-2: the fabric's subnet 192.168.101.0/24") and "virbr0" in said


def test_addresses_that_are_there_are_kept(tmp_path: Path) -> None:
    held = [{"enP7s7": [f"10.0.0.{4 + n}/24"], FIRST: [f"10.10.0.{n}/24"], SECOND: [f"10.10.1.{n}/24"]} for n in (1, 2)]
    looks = [look(tmp_path, n, addresses=held[n - 1]) for n in (1, 2)]
    link = proposal.link_of(looks, NODES)
    assert link.addresses == ("10.10.0.1", "10.10.0.2") and link.host_settings == ({}, {})
    assert link.said.endswith("they have their addresses already")


def test_addresses_that_do_not_follow_from_the_first_are_named(tmp_path: Path) -> None:
    held = [{"enP7s7": [f"10.0.0.{4 + n}/24"], FIRST: [f"10.10.0.{n}/24"], SECOND: [f"10.77.0.{n}/24"]} for n in (1, 2)]
    looks = [look(tmp_path, n, addresses=held[n - 1]) for n in (1, 2)]
    assert proposal.link_of(looks, NODES).host_settings[1] == {
        "fabric_addresses": {FIRST: "10.10.0.2/24", SECOND: "10.77.0.2/24"}
    }


def test_link_local_addresses_are_no_link(tmp_path: Path) -> None:
    held = {"enP7s7": ["10.0.0.5/24"], FIRST: ["169.254.3.4/16"], SECOND: ["169.254.5.6/16"]}
    looks = [look(tmp_path, 1, addresses=held), look(tmp_path, 2)]
    assert proposal.link_of(looks, NODES).addresses[0] == "192.168.100.10"


def test_a_port_without_carrier_is_told(tmp_path: Path) -> None:
    looks = [look(tmp_path, 1), look(tmp_path, 2, cabled=())]
    with pytest.raises(
        Refusal, match="spark-2: no QSFP port of this node has a link: plug the cable into the same port"
    ):
        proposal.link_of(looks, NODES)


def test_a_cable_in_different_ports_is_told(tmp_path: Path) -> None:
    looks = [look(tmp_path, 1), look(tmp_path, 2, cabled=OTHERS)]
    with pytest.raises(Refusal, match="put the cable into the same port of both"):
        proposal.link_of(looks, NODES)


def test_a_second_cable_that_leads_elsewhere_is_left_out_by_name(tmp_path: Path) -> None:
    looks = [look(tmp_path, 1, cabled=(FIRST, SECOND, *OTHERS)), look(tmp_path, 2)]
    assert proposal.link_of(looks, NODES).settings["fabric_interfaces"] == [FIRST, SECOND]


def test_two_cables_are_named(tmp_path: Path) -> None:
    looks = [look(tmp_path, n, cabled=(FIRST, SECOND, *OTHERS)) for n in (1, 2)]
    link = proposal.link_of(looks, NODES)
    assert link.settings["fabric_interfaces"] == list(link.interfaces) and len(link.interfaces) == 4
    assert link.said.startswith("2 cables")


def test_crossed_cables_are_told_where_the_ends_answer(tmp_path: Path) -> None:
    every = (FIRST, SECOND, *OTHERS)
    looks = [look(tmp_path, n, cabled=every, link_local=every) for n in (1, 2)]
    asked = proposal.probes(looks)
    assert len(asked) == 16
    straight = [entry for entry in asked if (entry[0] in OTHERS) == (entry[3] in OTHERS)]
    assert proposal.cables(looks, []) == []
    assert proposal.cables(looks, straight) == [
        f"{name} of spark-1 reaches {name} of spark-2" for name in (OTHERS[0], FIRST)
    ]
    turned = [entry for entry in asked if entry not in straight]
    with pytest.raises(Refusal, match="the cables are crossed: "):
        proposal.cables(looks, turned)
    # On a switch every port reaches every other.
    assert len(proposal.cables(looks, asked)) == 2


def test_one_spark_has_no_link(tmp_path: Path) -> None:
    link = proposal.link_of([look(tmp_path, 1, cabled=())], NODES[:1])
    assert (link.addresses, link.settings) == (("10.0.0.5",), {"fabric_manage": False})


def test_machines_without_a_port_use_the_network_they_share(tmp_path: Path) -> None:
    looks = [
        look(tmp_path, n, addresses={"eth0": [f"10.0.0.{n}/24"], "eth1": [f"192.168.100.{9 + n}/24"]}) for n in (1, 2)
    ]
    for one in looks:
        one.fabric.twins, one.fabric.management = [], ("eth0",)
    link = proposal.link_of(looks, NODES)
    assert link.addresses == ("192.168.100.10", "192.168.100.11") and link.settings["fabric_manage"] is False
    looks[1].fabric.others = looks[1].fabric.others[:1]
    with pytest.raises(Refusal, match="spark-1: "):
        proposal.link_of(looks, NODES)


def test_one_machine_under_two_addresses(tmp_path: Path) -> None:
    one = look(tmp_path, 1)
    with pytest.raises(Refusal, match=r"10\.0\.0\.5 and 10\.0\.0\.6 are the same machine"):
        proposal.refuse_twice([one, replace(one, name="spark-2")], NODES)
    # A cloned disk keeps its machine-id, and two machines that say nothing are two.
    proposal.refuse_twice([one, replace(one, identity=one.identity.replace("00:01", "00:02"))], NODES)
    proposal.refuse_twice([replace(one, identity=""), replace(one, identity="")], NODES)


def test_weights_go_to_the_largest_disk(tmp_path: Path) -> None:
    one = look(tmp_path)
    assert proposal.store_of(one) == ("/data/models", "3000 GiB are free on /data of spark-1")
    assert proposal.store_of(replace(one, disks=one.disks[:1]))[0] == "/srv/models"
    assert proposal.store_of(replace(one, disks=(Disk("/srv", 5),)))[0] == "/srv/models"
    assert proposal.store_of(replace(one, disks=()))[0] == "/srv/models"


def test_models(tmp_path: Path) -> None:
    folders = [tmp_path, ROOT / "models"]
    known = proposal.models(folders)
    assert "qwen3-235b-awq" in known and "tiny-qwen3-moe" not in known
    assert [proposal.model_of(proposal.default_model(nodes), folders, nodes) for nodes in (1, 2)] == [
        "gpt-oss-120b",
        "qwen3-235b-awq",
    ]
    with pytest.raises(ValueError, match="whose weights take 2 Sparks"):
        proposal.model_of("qwen3-235b-awq", folders, 1)
    with pytest.raises(ValueError, match="there is no such model"):
        proposal.model_of("gpt-5", folders, 2)


@pytest.mark.parametrize(
    ("heads", "nodes", "shape"),
    [
        (64, 2, (None, None)),
        (64, 4, (None, None)),
        (64, 3, (1, 3)),
        (96, 3, (None, None)),
        (6, 4, (2, 2)),
        (0, 4, (2, 2)),
    ],
)
def test_ranks_share_what_divides(heads: int, nodes: int, shape: tuple[Any, Any]) -> None:
    assert tuple(proposal.shape_of({"config": {"num_attention_heads": heads}}, nodes).values()) == shape
