# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The link of a Spark: found, judged, and the environment that follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import (
    Demands,
    Fabric,
    FabricError,
    Rail,
    collect,
    fabric_environment,
    gid_address,
    judge,
    judge_pair,
    judge_rails,
    jumbo_ping,
    parse_ethtool,
    parse_ibdev2netdev,
    parse_ip_json,
    parse_routes,
    plan_rails,
    port_of,
    select_interfaces,
    with_status,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, YELLOW, sentences

from tests.unit.plugins.module_utils.fabric.world import FIRST, FIXTURES, SECOND, Spark

RAILS = (Rail(FIRST, "192.168.100.10/24"), Rail(SECOND, "192.168.101.10/24"))


@pytest.fixture
def spark(tmp_path: Path) -> Spark:
    return Spark(tmp_path)


def codes(fabric: Fabric, **wanted: Any) -> list[str]:
    return [finding.code for finding in judge(fabric, Demands(**{"rails": RAILS, **wanted}))]


# --- parsing -----------------------------------------------------------------------------------------------------


def test_ibdev2netdev_as_nvidia_prints_it() -> None:
    found = parse_ibdev2netdev((FIXTURES / "ibdev2netdev_port1.txt").read_text() + "nonsense\n")
    assert found[1] == ("roceP2p1s0f1", SECOND, True)
    assert [up for _rdma, _net, up in found] == [False, True, False, True]


def test_ethtool() -> None:
    # The line with the speed is NVIDIA's (multi-sparks-through-switch); the others are invented after ethtool's manual.
    assert parse_ethtool("Settings for x:\n\tSpeed: 100000Mb/s\n\tLink detected: yes\n") == (100000, True, "")
    assert parse_ethtool("\tSpeed: Unknown!\n\tLink detected: no (No cable)\n") == (None, False, "No cable")
    assert parse_ethtool("") == (None, None, "")


def test_addresses_of_gids() -> None:
    assert gid_address("0000:0000:0000:0000:0000:ffff:c0a8:640a") == "192.168.100.10"
    assert gid_address("fe80:0000:0000:0000:3e6d:66ff:fecc:b3b7") == "fe80::3e6d:66ff:fecc:b3b7"
    assert gid_address("0000:0000:0000:0000:0000:0000:0000:0000") == ""
    assert gid_address("") == ""


def test_routes_over_several_hops_have_no_device_of_their_own() -> None:
    text = '[{"dst":"default","nexthops":[{"dev":"a"},{"dev":"b"}]},{},{"dst":"10.1.0.0/16","dev":"c"},{"type":"blackhole","dst":"10.9.0.0/16"}]'
    routes, management = parse_routes(text)
    assert management == ("a", "b")
    assert [(route.network, route.interface) for route in routes] == [("10.1.0.0/16", "c")]
    with pytest.raises(FabricError, match="install iproute2"):
        parse_ip_json("{", "ip -json address show")


@pytest.mark.parametrize(
    ("pci", "interface", "port"),
    [
        ("0000:01:00.1", FIRST, "01:00.1"),
        ("0002:01:00.1", SECOND, "01:00.1"),
        ("", FIRST, "01:00.1"),
        ("", SECOND, "01:00.1"),
        ("", "eth0", "eth0"),
    ],
)
def test_twins_share_a_port(pci: str, interface: str, port: str) -> None:
    assert port_of(pci, interface) == port


# --- collecting --------------------------------------------------------------------------------------------------


def test_a_spark_with_one_cable(spark: Spark) -> None:
    fabric = spark.look()
    assert fabric.cabled() == ["01:00.1"]
    assert [twin.interface for twin in fabric.ports()["01:00.1"]] == [FIRST, SECOND]
    assert fabric.management == ("enP7s7",)
    twin = next(twin for twin in fabric.twins if twin.interface == SECOND)
    assert (twin.rdma, twin.pci, twin.rdma_state, twin.speed, twin.firmware) == (
        "roceP2p1s0f1",
        "0002:01:00.1",
        "ACTIVE",
        200000,
        "28.45.4028",
    )
    gid = twin.roce_gid()
    assert gid is not None
    assert (gid.index, gid.address) == (2, "192.168.101.10")
    assert select_interfaces(fabric) == [FIRST, SECOND]
    assert judge(fabric, Demands(RAILS)) == []
    assert fabric.as_facts()["cables"] == 1


def test_two_cables_make_four_rails(spark: Spark) -> None:
    spark.cabled = ("enp1s0f0np0", FIRST, "enP2p1s0f0np0", SECOND)
    names = select_interfaces(spark.look())
    assert names == ["enp1s0f0np0", "enP2p1s0f0np0", FIRST, SECOND]
    rails = plan_rails(names, "192.168.100.10", 24)
    assert [rail.address for rail in rails] == [f"192.168.{number}.10/24" for number in (100, 101, 102, 103)]


def test_addresses_do_not_move_while_the_other_node_is_off(spark: Spark) -> None:
    spark.cabled = ()
    assert select_interfaces(spark.look(), address="192.168.100.10") == [FIRST, SECOND]
    # The cable in the first port is pulled, the one in the other stays.
    spark.cabled = ("enp1s0f0np0", "enP2p1s0f0np0")
    assert select_interfaces(spark.look(), address="192.168.100.10") == [FIRST, SECOND, "enp1s0f0np0", "enP2p1s0f0np0"]
    spark.cabled = ()
    assert select_interfaces(spark.look(), address="192.168.100.99") == []


def test_ibdev2netdev_says_it_where_sys_is_hidden(spark: Spark) -> None:
    spark.rdma = False
    spark.commands["ibdev2netdev"] = (0, (FIXTURES / "ibdev2netdev_port1.txt").read_text(), "")
    assert {twin.interface: twin.rdma for twin in spark.look().twins}[FIRST] == "rocep1s0f1"


def test_counters_are_words_of_four_bytes(spark: Spark) -> None:
    assert spark.machine().counters("rocep1s0f1") == {"sent_bytes": 1000, "received_bytes": 4, "out_of_sequence": 7}
    assert spark.machine().counters("none") == {}


def test_a_node_without_ip(spark: Spark) -> None:
    machine = spark.machine()
    machine.run = lambda argv: (127, "", "ip: not found")
    with pytest.raises(FabricError, match="install iproute2 on the node"):
        collect(machine)


# --- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["enp9s9"], r"interface enp9s9 does not exist on this node \(RDMA ports: enp1s0f0np0"),
        (["enP7s7"], "carries the default route"),
        ([FIRST, FIRST], "names an interface twice"),
    ],
)
def test_interfaces_that_cannot_be(spark: Spark, names: list[str], message: str) -> None:
    with pytest.raises(FabricError, match=message):
        select_interfaces(spark.look(), names)


@pytest.mark.parametrize(
    ("address", "prefix", "explicit", "message"),
    [
        ("192.168.100", 24, None, "no IPv4 address with prefix"),
        ("192.168.100.10", 31, None, "expected 8 to 30"),
        ("192.168.100.255", 24, None, "broadcast address"),
        ("255.255.255.10", 24, None, "no room for 2 subnets"),
        ("192.168.100.10", 24, {FIRST: "192.168.100.10/24"}, "name exactly those"),
        ("192.168.100.10", 24, {FIRST: "192.168.100.10/24", SECOND: "192.168.101.10"}, "no prefix of 30 or less"),
    ],
)
def test_addresses_that_cannot_be(address: str, prefix: int, explicit: dict[str, str] | None, message: str) -> None:
    with pytest.raises(FabricError, match=message):
        plan_rails([FIRST, SECOND], address, prefix, explicit)


def test_explicit_addresses() -> None:
    explicit = {FIRST: "10.100.32.1/24", SECOND: "10.100.33.1/24"}
    assert [rail.address for rail in plan_rails([FIRST, SECOND], "10.100.32.1", 24, explicit)] == list(
        explicit.values()
    )


def test_collisions(spark: Spark) -> None:
    fabric = spark.look()
    assert judge_rails(RAILS, fabric) == []
    both = [Rail(FIRST, "192.168.100.10/24"), Rail(SECOND, "192.168.100.12/24")]
    assert "would be in one subnet" in judge_rails(both, fabric)[0].found
    assert judge_rails([Rail(FIRST, "10.0.0.9/24")], fabric)[0].found.startswith(
        "the fabric's subnet 10.0.0.0/24 for enp1s0f1np1 collides with enP7s7 (10.0.0.5/24)"
    )
    spark.routes.append({"dst": "192.168.100.0/25", "dev": "wg0"})
    assert "the route to 192.168.100.0/25 over wg0" in judge_rails(RAILS, spark.look())[0].found
    # A VPN's wide route leaves the narrower one of the fabric alone.
    spark.routes[-1] = {"dst": "192.168.0.0/16", "dev": "wg0"}
    assert judge_rails(RAILS, spark.look()) == []


# --- sick links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "wanted", "expected", "words"),
    [
        ({"cabled": ()}, {}, {"fabric.no_link", "fabric.port_down"}, "plug the cable into the same port of both nodes"),
        ({"speed": 100000}, {}, {"fabric.port_speed"}, "enp1s0f1np1 runs at 100 of 200 Gb/s"),
        ({"mtu": 1500}, {}, {"fabric.mtu"}, "enp1s0f1np1 has MTU 1500, not 9000"),
        (
            {"gid_less": (SECOND,)},
            {},
            {"fabric.no_gid"},
            "RDMA device roceP2p1s0f1 has no RoCE v2 entry for 192.168.101.10",
        ),
        ({"narrow": (SECOND,)}, {}, {"fabric.pcie"}, "runs at 32.0 GT/s PCIe x1, it can do 32.0 GT/s PCIe x4"),
        ({"inactive": (FIRST,)}, {}, {"fabric.rdma_state"}, "RDMA device rocep1s0f1 of enp1s0f1np1 is DOWN"),
        ({"link_local": (FIRST,)}, {}, {"fabric.link_local"}, "link-local: []"),
        ({"rdma": False}, {}, {"fabric.no_rdma_device"}, "load the kernel's mlx5_ib"),
        (
            {"addresses": {FIRST: ["192.168.100.10/24"]}},
            {},
            {"fabric.address"},
            "enP2p1s0f1np1 has no IPv4 address, not 192.168.101.10/24",
        ),
        ({}, {"rails": RAILS[:1]}, {"fabric.one_twin"}, "add enP2p1s0f1np1 to fabric_interfaces"),
    ],
    # The order of a set is another in each process, and its name must not be.
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value)[:30],
)
def test_sick_variants(
    spark: Spark, change: dict[str, Any], wanted: dict[str, Any], expected: set[str], words: str
) -> None:
    for name, value in change.items():
        setattr(spark, name, value)
    findings = judge(spark.look(), Demands(**{"rails": RAILS, **wanted}))
    assert {finding.code for finding in findings} == expected
    assert any(words in finding.sentence() for finding in findings)


def levels(fabric: Fabric, **wanted: Any) -> list[tuple[str, str]]:
    return [(finding.level, finding.code) for finding in judge(fabric, Demands(**{"rails": RAILS, **wanted}))]


def test_a_port_of_a_split_switch_serves_and_says_what_it_costs(spark: Spark) -> None:
    spark.speed = 100_000
    found = judge(spark.look(), Demands(RAILS))
    assert {(finding.level, finding.code) for finding in found} == {(YELLOW, "fabric.port_speed")}
    assert "within 3 % of 200 Gb/s" in found[0].found
    assert "fabric_accept_gbits: 100" in found[0].remedy
    assert levels(spark.look(), least_mbps=100_000) == []
    spark.speed = 25_000
    assert levels(spark.look(), least_mbps=100_000) == [(RED, "fabric.port_speed")] * 2
    assert levels(spark.look(), least_mbps=25_000) == []


def test_a_twin_may_be_left_unused(spark: Spark) -> None:
    assert levels(spark.look(), rails=RAILS[:1]) == [(YELLOW, "fabric.one_twin")]
    assert levels(spark.look(), rails=RAILS[:1], one_twin=True) == []


@pytest.mark.parametrize(("mtu", "level"), [(1500, YELLOW), (9216, YELLOW), (1280, RED)])
def test_another_mtu_serves_if_ethernet_has_it(spark: Spark, mtu: int, level: str) -> None:
    spark.mtu = mtu
    assert levels(spark.look()) == [(level, "fabric.mtu")] * 2
    assert levels(spark.look(), mtu=mtu) == []


def bare(spark: Spark, *log: str) -> Fabric:
    """The node without its card, whose kernel said this."""
    spark.commands["dmesg"] = (0, "".join(f"{line}\n" for line in log), "")
    for name in ("sys/bus/pci/devices", "proc/sys/kernel"):
        (spark.root / name).mkdir(parents=True, exist_ok=True)
    fabric = spark.look()
    fabric.twins = []
    return fabric


def test_no_port_because_hot_plug_took_the_card_off_the_bus(spark: Spark) -> None:
    spark.write("etc/nvidia/cx7-hotplug-enabled", "")
    cased = (Path(__file__).parents[4] / "field_cases/gb10/dmesg_cx7_hotplug.txt").read_text()
    fabric = bare(spark, *cased.splitlines())
    (found,) = judge(fabric, Demands((Rail("enP7s7", "10.0.0.5/24"),)))
    assert (found.level, found.code) == (RED, "fabric.card_off")
    assert "`cx7-pcie-hotplug ... Cable removal`; /etc/nvidia/cx7-hotplug-enabled is there" in found.found
    assert found.remedy.startswith("plug the QSFP cable into the same port of both nodes")
    assert "sudo mv /etc/nvidia/cx7-hotplug-enabled" in found.remedy
    assert "never rescan the PCI bus" in found.remedy
    assert "spark_devices" not in found.remedy
    # Named interfaces that went with it are not said to be wrong.
    with pytest.raises(FabricError, match="takes the card off the bus"):
        select_interfaces(fabric, [FIRST])


def test_no_port_for_other_reasons(spark: Spark, tmp_path: Path) -> None:
    rails = (Rail("enP7s7", "10.0.0.5/24"),)
    spark.write("sys/class/dmi/id/product_name", "NVIDIA_DGX_Spark")
    (found,) = judge(bare(spark), Demands(rails))
    assert found.code == "fabric.no_rdma_port"
    assert "a fault for NVIDIA's support" in found.remedy and "spark_devices" not in found.remedy
    spark.write("sys/class/dmi/id/product_name", "X11DPi")
    (found,) = judge(bare(spark), Demands(rails))
    assert "at about a tenth of the bandwidth" in found.remedy
    # The last word of the hot-plug driver counts.
    fabric = bare(spark, "cx7-pcie-hotplug MTKP0001:00: Cable removal", "cx7-pcie-hotplug MTKP0001:00: Cable plugin")
    assert not fabric.host.removed() and fabric.host.plugged_while_on()
    (found,) = judge(fabric, Demands(rails))
    assert found.code == "fabric.card_off" and "says nothing of a removed cable" in found.found
    (spark.root / "sys/bus/pci/devices").mkdir(parents=True, exist_ok=True)
    (spark.root / "sys/bus/pci/devices/0000:01:00.0").symlink_to(spark.root / "sys/devices/0000:01:00.0")
    (found,) = judge(bare(spark), Demands(rails))
    assert "is on the PCI bus (0000:01:00.0)" in found.found and "modprobe mlx5_core mlx5_ib" in found.remedy


def test_what_the_host_says_of_its_card(spark: Spark) -> None:
    spark.build()
    bus = spark.root / "sys/bus/pci/devices"
    bus.mkdir(parents=True)
    (bus / "0000:01:00.1").symlink_to(spark.root / "sys/devices/0000:01:00.1")
    spark.write("sys/devices/0000:01:00.1/iommu_group/type", "DMA-FQ")
    spark.narrow = (FIRST,)
    spark.write("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.17.0-1014-nvidia ro iommu.passthrough=0 quiet")
    spark.write("proc/sys/kernel/osrelease", "6.17.0-1014-nvidia")
    spark.write("sys/devices/platform/MTKP0001:00/pcie_hotplug/debug_state", "0")
    spark.commands["dmesg"] = (
        0,
        "[1.2] NVRM: Xid (PCI:000f:01:00): 119, pid=1\n[2.0] usb 1-1: a camera of somebody\n",
        "",
    )
    host = spark.look().host
    assert host.cards == ("0000:01:00.1",)
    assert host.translated() == "the kernel was booted with iommu.passthrough=0"
    assert host.pcie == ("0000:01:00.1 at 32.0 GT/s PCIe x1 of 32.0 GT/s PCIe x4",)
    assert (host.powered, host.hotplug, host.xids) == (False, True, (119,))
    assert host.log == ("[1.2] NVRM: Xid (PCI:000f:01:00): 119, pid=1",)


def test_an_iommu_that_translates_is_told_before_anything_is_measured(spark: Spark) -> None:
    spark.write("proc/cmdline", "ro iommu.passthrough=0")
    found = judge(spark.look(), Demands(RAILS))
    assert [(finding.level, finding.code) for finding in found] == [(YELLOW, "fabric.iommu")]
    for word in ("N", "off", "1 iommu.passthrough=0"):
        spark.write("proc/cmdline", f"ro iommu.passthrough={word}")
        assert f"iommu.passthrough={word.rpartition('=')[2]}" in judge(spark.look(), Demands(RAILS))[0].found
    # The last one counts.
    for word in ("1", "on", "0 iommu.passthrough=1"):
        spark.write("proc/cmdline", f"ro iommu.passthrough={word}")
        assert judge(spark.look(), Demands(RAILS)) == []


def test_a_narrow_pcie_link_stops_nobody(spark: Spark) -> None:
    # Some partners' boxes always run their second controller so.
    spark.narrow = (SECOND,)
    findings = judge(spark.look(), Demands(RAILS))
    assert [(finding.level, finding.code) for finding in findings] == [(YELLOW, "fabric.pcie")]
    assert "update the firmware (`fwupdmgr update`), then take its power away for a minute" in findings[0].remedy


def test_why_there_is_no_link(spark: Spark) -> None:
    spark.cabled = ()
    spark.commands["ethtool"] = (0, "\tSpeed: Unknown!\n\tLink detected: no (No cable)\n", "")
    texts = [finding.sentence() for finding in judge(spark.look(), Demands(RAILS))]
    assert texts[0].startswith("no QSFP port of this node has a link (No cable): plug")


def test_a_machine_without_ports_is_a_problem_only_where_rdma_is_wanted(tmp_path: Path) -> None:
    spark = Spark(tmp_path)
    fabric = Fabric(others=spark.look().others)
    rails = (Rail("enP7s7", "10.0.0.5/24"),)
    assert codes(fabric, rails=rails) == ["fabric.no_rdma_port"]
    assert codes(fabric, rails=rails, rdma=False, mtu=0) == []
    assert codes(fabric, rails=(Rail("enP7s7", "10.0.0.6/24"),), rdma=False) == ["fabric.address"]


# --- two nodes ---------------------------------------------------------------------------------------------------


def rails_of(host: int, *interfaces: str, mtu: int = 9000, third: int = 100) -> dict[str, Any]:
    return {
        "rails": [
            {"interface": name, "address": f"192.168.{third + place}.{host}/24", "mtu": mtu}
            for place, name in enumerate(interfaces)
        ]
    }


def test_nodes_that_fit() -> None:
    assert judge_pair({"a": rails_of(10, FIRST, SECOND), "b": rails_of(11, FIRST, SECOND)}) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (rails_of(11, "enp1s0f0np0", "enP2p1s0f0np0"), "put the cable into the same port of both"),
        (rails_of(11, FIRST, SECOND, third=110), "are in different subnets"),
        (rails_of(11, FIRST, SECOND, mtu=1500), "has MTU 9000 on a and 1500 on b"),
        (rails_of(10, FIRST, SECOND), "a and b both have the address 192.168.100.10"),
    ],
)
def test_nodes_that_do_not_fit(other: dict[str, Any], words: str) -> None:
    problems = sentences(judge_pair({"a": rails_of(10, FIRST, SECOND), "b": other}))
    assert any(words in problem for problem in problems)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(0, "3 received", "")], ""),
        ([(127, "", "")], "install iputils-ping"),
        ([(1, "", "ping: local error: message too long, mtu=1500\n")], "whose MTU is 1500"),
        ([(1, "0 received", ""), (0, "3 received", "")], "small packets reach"),
        ([(1, "", ""), (1, "", "")], "does not answer over"),
    ],
)
def test_packets_of_full_size(answers: list[tuple[int, str, str]], words: str) -> None:
    asked: list[list[str]] = []

    def run(argv: Any) -> tuple[int, str, str]:
        asked.append(list(argv))
        return answers[len(asked) - 1]

    found = jumbo_ping(run, RAILS[0], "192.168.100.11", 9000)
    assert bool(words) == (found is not None)
    assert found is None or words in found.sentence()
    assert asked[0][asked[0].index("-s") + 1] == "8972"


# --- the environment ---------------------------------------------------------------------------------------------


def test_the_environment_names_both_twins(spark: Spark) -> None:
    rails = with_status(spark.look().twins, RAILS)
    assert [rail["gid_index"] for rail in rails] == [2, 2]
    environment = fabric_environment("192.168.100.10", rails)
    assert environment["NCCL_IB_HCA"] == "rocep1s0f1,roceP2p1s0f1"
    assert {
        environment[name]
        for name in ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME", "UCX_NET_DEVICES")
    } == {FIRST}
    assert environment["VLLM_HOST_IP"] == environment["RAY_OVERRIDE_NODE_IP_ADDRESS"] == "192.168.100.10"
    assert "NCCL_IB_GID_INDEX" not in environment


def test_without_rdma_nothing_is_said_of_it() -> None:
    environment = fabric_environment(
        "172.31.235.11", [{"interface": "eth0", "address": "172.31.235.11/24", "rdma": ""}]
    )
    assert not [name for name in environment if name.startswith("NCCL_IB")]
    with pytest.raises(FabricError, match=r"no interface of the fabric holds 10\.0\.0\.1"):
        fabric_environment("10.0.0.1", [])
