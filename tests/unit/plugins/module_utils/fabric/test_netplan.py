# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What netplan says already, what is added, and the way back, which is run for real with a stand-in for netplan and systemd."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import FabricError, Rail
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.netplan import (
    OWN_FILE,
    ROLLBACK,
    Plan,
    Rollback,
    Step,
    definitions,
    plan_netplan,
    steps_of,
)

from tests.unit.plugins.module_utils.fabric.world import FIRST, FIXTURES, SECOND

RAILS = [Rail(FIRST, "192.168.100.10/24"), Rail(SECOND, "192.168.101.10/24")]
MACS = {FIRST: "3c:6d:66:cc:b3:b7", SECOND: "3c:6d:66:cc:b3:b8"}
DESKTOP = {"network": {"version": 2, "renderer": "NetworkManager"}}
# Invented after the pattern that owners published of /etc/netplan/99-nvidia-sync-cluster.yaml: NetworkManager, MTU 9000, an address for each twin.
SYNC: dict[str, Any] = {
    "network": {
        "version": 2,
        "renderer": "NetworkManager",
        "ethernets": {
            FIRST: {"dhcp4": False, "mtu": 9000, "addresses": ["10.100.32.1/24"]},
            SECOND: {"dhcp4": False, "mtu": 9000, "addresses": ["10.100.33.1/24"]},
        },
    }
}


def recorded(name: str) -> Any:
    return yaml.safe_load((FIXTURES / name).read_text())


def planned(files: dict[str, Any], rails: Sequence[Rail] = RAILS, mtu: int = 9000, replace: bool = False) -> Plan:
    return plan_netplan({f"/etc/netplan/{name}": content for name, content in files.items()}, rails, MACS, mtu, replace)


def entries(plan: Plan) -> dict[str, Any]:
    assert plan.text is not None
    found: dict[str, Any] = yaml.safe_load(plan.text)["network"]["ethernets"]
    return found


# --- what is added -----------------------------------------------------------------------------------------------


def test_a_node_that_nobody_configured() -> None:
    plan = planned({"01-network-manager-all.yaml": DESKTOP})
    assert plan.problems == []
    assert entries(plan)[SECOND] == {
        "addresses": ["192.168.101.10/24"],
        "dhcp4": False,
        "dhcp6": False,
        "ignore-carrier": True,
        "link-local": [],
        "mtu": 9000,
        "optional": True,
        "renderer": "networkd",
    }


def test_nvidias_guide_is_completed_not_repeated() -> None:
    plan = planned({"40-cx7.yaml": recorded("netplan_40-cx7.yaml")})
    assert plan.problems == []
    assert entries(plan) == {
        name: {"ignore-carrier": True, "link-local": [], "mtu": 9000, "optional": True} for name in (FIRST, SECOND)
    }


def test_what_sync_configured_stays_with_network_manager() -> None:
    rails = [Rail(FIRST, "10.100.32.1/24"), Rail(SECOND, "10.100.33.1/24")]
    plan = planned({"01-network-manager-all.yaml": DESKTOP, "99-nvidia-sync-cluster.yaml": SYNC}, rails)
    assert plan.problems == []
    assert entries(plan) == {name: {"link-local": []} for name in (FIRST, SECOND)}
    assert "stays with NetworkManager" in plan.notes[0]


def test_nothing_is_written_where_all_is_said() -> None:
    body = {"dhcp4": False, "dhcp6": False, "link-local": [], "mtu": 9000, "optional": True, "ignore-carrier": True}
    ethernets = {rail.interface: {**body, "addresses": [rail.address]} for rail in RAILS}
    assert planned({"40-cx7.yaml": {"network": {"version": 2, "ethernets": ethernets}}}).text is None


def test_our_own_file_is_not_counted() -> None:
    once = planned({})
    again = plan_netplan({str(OWN_FILE): yaml.safe_load(once.text or "")}, RAILS, MACS, 9000)
    assert again.text == once.text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (SYNC, "gives enp1s0f1np1 the address 10.100.32.1/24, not 192.168.100.10/24"),
        (recorded("netplan_link_local.yaml"), "gives enp1s0f1np1 a made-up link-local address"),
        ({"network": {"ethernets": {FIRST: {"dhcp4": True}}}}, "by DHCP instead of 192.168.100.10/24"),
    ],
)
def test_what_others_configured_otherwise_is_told(content: Any, words: str) -> None:
    plan = planned({"90-x.yaml": content})
    assert words in plan.problems[0]
    assert "fabric_replace_netplan: true" in plan.problems[0]


def test_a_file_is_put_aside_only_where_it_holds_nothing_else() -> None:
    plan = planned({"99-nvidia-sync-cluster.yaml": SYNC}, replace=True)
    assert plan.problems == []
    assert plan.aside == ["/etc/netplan/99-nvidia-sync-cluster.yaml"]
    assert entries(plan)[FIRST]["addresses"] == ["192.168.100.10/24"]
    wifi = {"network": {**SYNC["network"], "wifis": {"wlP9s9": {}}}}
    plan = planned({"99-nvidia-sync-cluster.yaml": wifi}, replace=True)
    assert "it also configures wifis" in plan.problems[0]
    plan = plan_netplan({"/run/netplan/x.yaml": SYNC}, RAILS, MACS, 9000, True)
    assert "it is not in /etc/netplan" in plan.problems[0]


@pytest.mark.parametrize(
    ("match", "covered"),
    [
        ({"name": "en*"}, True),
        ({"name": "eth*"}, False),
        ({"macaddress": "3C:6D:66:CC:B3:B7"}, True),
        ({"driver": ["mlx5_*"]}, True),
        ({"driver": "r8169"}, False),
        ({}, False),
    ],
)
def test_entries_that_match_the_rails_as_well(match: dict[str, Any], covered: bool) -> None:
    plan = planned({"50-all.yaml": {"network": {"ethernets": {"all": {"match": match, "dhcp4": True}}}}})
    assert bool(plan.problems) is covered
    assert not covered or "narrow its match" in plan.problems[0]


def test_what_a_file_says_of_the_other_port_goes_with_it() -> None:
    # Invented after NVIDIA's 40-cx7.yaml, which some owners have with all four interfaces.
    ports = ["enp1s0f0np0", FIRST, "enP2p1s0f0np0", SECOND]
    ethernets = {name: {"addresses": [f"10.77.{place}.1/24"]} for place, name in enumerate(ports)}
    files = {
        "/etc/netplan/40-cx7.yaml": {"network": {"version": 2, "ethernets": {"renderer": "networkd", **ethernets}}}
    }
    plan = plan_netplan(files, RAILS, MACS, 9000, True, ports)
    assert (plan.problems, plan.aside) == ([], ["/etc/netplan/40-cx7.yaml"])
    assert plan.notes == [
        "10.77.0.1/24 of enp1s0f0np0 went with /etc/netplan/40-cx7.yaml, since that port is no part of the link",
        "10.77.2.1/24 of enP2p1s0f0np0 went with /etc/netplan/40-cx7.yaml, since that port is no part of the link",
    ]
    # A port by which the node is reached is not among them.
    plan = plan_netplan(files, RAILS, MACS, 9000, True, ports[1:])
    assert "it also configures enp1s0f0np0: take" in plan.problems[0]


NETWORKD, MANAGER = {"renderer": "networkd"}, {"renderer": "NetworkManager"}


@pytest.mark.parametrize(
    ("before", "group", "body", "after", "renderer"),
    [
        ({}, {}, {}, {}, "networkd"),
        (MANAGER, {}, {}, {}, "NetworkManager"),
        ({}, {}, {}, MANAGER, "NetworkManager"),
        (MANAGER, {}, {}, NETWORKD, "networkd"),
        (MANAGER, NETWORKD, {}, {}, "networkd"),
        (NETWORKD, NETWORKD, MANAGER, {}, "NetworkManager"),
    ],
)
def test_who_configures_an_interface(
    before: dict[str, str], group: dict[str, str], body: dict[str, str], after: dict[str, str], renderer: str
) -> None:
    entry = {"addresses": [RAILS[0].address], **body}
    files = {
        "01-all.yaml": {"network": {"version": 2, **before}},
        "40-cx7.yaml": {"network": {"version": 2, "ethernets": {**group, FIRST: entry}}},
        "60-late.yaml": {"network": {"version": 2, **after}},
    }
    plan = planned(files, RAILS[:1])
    assert plan.problems == []
    assert ("ignore-carrier" in entries(plan)[FIRST]) is (renderer == "networkd")
    assert any("stays with NetworkManager" in note for note in plan.notes) is (renderer == "NetworkManager")
    assert [found.name for found in definitions(files)] == [FIRST]


UUID = "14f59568-5076-387a-aef6-10adfcca2e26"


@pytest.mark.parametrize(
    ("file", "name", "body", "words"),
    [
        (f"90-NM-{UUID}.yaml", f"NM-{UUID}", {"match": {"name": FIRST}}, f"with `nmcli connection delete {UUID}`"),
        (f"90-NM-{UUID}.yaml", FIRST, {"dhcp4": True}, f"with `nmcli connection delete {UUID}`"),
        ("70-x.yaml", "x", {"match": {"name": FIRST}, "networkmanager": {"uuid": UUID}}, f"delete {UUID}`"),
        (
            f"90-NM-{UUID}.yaml",
            f"NM-{UUID}",
            {"match": {"name": "en*"}},
            f"`nmcli connection modify {UUID} connection.",
        ),
    ],
)
def test_a_profile_of_network_manager_is_named(file: str, name: str, body: dict[str, Any], words: str) -> None:
    plan = planned({file: {"network": {"version": 2, "ethernets": {name: {**MANAGER, **body}}}}})
    assert words in plan.problems[0]
    assert "narrow" not in plan.problems[0]


def test_a_bond_is_no_rail() -> None:
    plan = planned({"60-bond.yaml": {"network": {"bonds": {"bond0": {"interfaces": [FIRST]}}}}})
    assert "is a part of bond bond0 in /etc/netplan/60-bond.yaml" in plan.problems[0]


def test_the_order_of_the_files_and_files_that_say_nothing() -> None:
    files = {
        "/etc/netplan/10-a.yaml": {"network": {"ethernets": {FIRST: {"mtu": 1}}}},
        "/run/netplan/10-a.yaml": {"network": {"ethernets": {FIRST: {"mtu": 2}}}},
        "/lib/netplan/00-b.yaml": {"network": {"ethernets": {FIRST: None}}},
        "/etc/netplan/20-empty.yaml": None,
    }
    assert [(found.path, found.body.get("mtu")) for found in definitions(files)] == [
        ("/lib/netplan/00-b.yaml", None),
        ("/run/netplan/10-a.yaml", 2),
    ]


def test_addresses_with_options_are_addresses() -> None:
    ethernets = {FIRST: {"addresses": [{"192.168.100.10/24": {"lifetime": 0}}, "fd00::1/64"]}}
    plan = planned({"40.yaml": {"network": {"ethernets": ethernets}}}, RAILS[:1])
    assert plan.problems == []
    assert "addresses" not in entries(plan)[FIRST]


# --- the way back ------------------------------------------------------------------------------------------------


class World:
    """Folders and stand-ins for netplan and systemd; what is run is noted."""

    def __init__(self, root: Path) -> None:
        self.netplan = root / "netplan"
        self.netplan.mkdir()
        self.programs = root / "programs"
        self.programs.mkdir()
        self.ran: list[str] = []
        self.fails: set[str] = set()
        program = self.programs / "netplan"
        program.write_text(f"#!/bin/sh\necho netplan $1 >> {root}/calls\n")
        program.chmod(0o755)
        self.calls = root / "calls"
        self.old = self.netplan / "40-old.yaml"
        self.old.write_text("old\n")
        self.old.chmod(0o640)
        self.own = self.netplan / "99-own.yaml"
        self.rollback = Rollback(self.run, root / "state", root / "units")
        (root / "units").mkdir()
        self.units = root / "units"

    def run(self, argv: Sequence[str], seconds: float) -> tuple[int, str, str]:
        line = " ".join(argv)
        self.ran.append(line)
        if any(line.startswith(start) for start in self.fails):
            return 1, "", "it says no"
        if argv[0] == "/bin/sh":
            done = subprocess.run(
                list(argv),
                env={"PATH": f"{self.programs}:{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            return done.returncode, done.stdout, done.stderr
        return 0, "", ""

    def steps(self) -> list[Step]:
        return [Step(self.old, None, self.netplan / "40-old.yaml.aside"), Step(self.own, "new\n")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_change_that_nobody_confirms_is_taken_back(world: World) -> None:
    world.rollback.arm(world.steps(), 120)
    world.rollback.apply(world.steps())
    assert world.own.read_text() == "new\n"
    assert world.own.stat().st_mode & 0o777 == 0o600
    assert not world.old.exists()
    pending = world.rollback.pending()
    assert pending is not None
    assert pending["seconds"] == 120
    armed = next(line for line in world.ran if line.startswith("systemd-run"))
    assert "--on-active=120" in armed
    assert armed.endswith(f"/bin/sh {world.rollback.script}")
    # The timer runs what the unit of the next boot would run.
    world.run(["/bin/sh", str(world.rollback.script)], 10)
    assert world.old.read_text() == "old\n"
    assert world.old.stat().st_mode & 0o777 == 0o640
    assert not world.own.exists()
    assert not (world.netplan / "40-old.yaml.aside").exists()
    assert world.calls.read_text() == "netplan apply\n"
    assert world.rollback.pending() is None
    undone = world.rollback.undone()
    assert undone is not None
    assert undone["files"] == [str(world.old), str(world.own)]
    assert world.rollback.disarm() is False
    assert list(world.units.rglob("*.service")) == []


def test_a_confirmed_change_stays(world: World) -> None:
    world.rollback.arm(world.steps(), 120)
    guard = world.units / "multi-user.target.wants" / f"{ROLLBACK}-boot.service"
    assert guard.resolve().read_text().startswith("[Unit]")
    world.rollback.apply(world.steps())
    assert world.rollback.disarm() is True
    assert f"systemctl stop {ROLLBACK}.timer" in world.ran
    # A timer that fires in the same moment finds nothing to do.
    world.run(["/bin/sh", str(world.rollback.script)], 10)
    assert world.own.read_text() == "new\n"
    assert not world.calls.exists()
    assert not guard.exists()
    assert world.rollback.undone() is None


def test_a_way_back_that_lost_its_power_is_gone_to_its_end(world: World) -> None:
    world.rollback.arm(world.steps(), 120)
    world.rollback.apply(world.steps())
    guard = (world.units / f"{ROLLBACK}-boot.service").read_text()
    assert f"ConditionPathExists=|{world.rollback.pending_file}\n" in guard
    assert f"ConditionPathExists=|{world.rollback.restoring_file}\n" in guard
    # The power went after the first line that did anything.
    world.rollback.pending_file.replace(world.rollback.restoring_file)
    assert world.rollback.undone() is not None
    with pytest.raises(FabricError, match="was finished first: run again"):
        world.rollback.arm([Step(world.own, "other\n")], 120)
    assert world.old.read_text() == "old\n"
    assert not world.own.exists()
    assert not world.rollback.restoring_file.exists()
    assert world.calls.read_text() == "netplan apply\n"


def test_timer_and_guard_wait_for_each_other(world: World) -> None:
    (world.programs / "netplan").write_text(f"#!/bin/sh\nsleep 0.5\necho netplan $1 >> {world.calls}\n")
    world.rollback.arm(world.steps(), 120)
    world.rollback.apply(world.steps())
    environment = {"PATH": f"{world.programs}:{os.environ['PATH']}"}
    command = ["/bin/sh", str(world.rollback.script)]
    timer = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 10
    while not world.rollback.restoring_file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    guard = subprocess.run(command, env=environment, timeout=20, check=False)
    assert (timer.wait(20), guard.returncode) == (0, 0)
    assert world.calls.read_text() == "netplan apply\n"
    assert world.old.read_text() == "old\n"


@pytest.mark.parametrize("command", ["netplan generate", "netplan apply"])
def test_what_netplan_refuses_is_taken_back_at_once(world: World, command: str) -> None:
    world.fails = {command}
    world.rollback.arm(world.steps(), 120)
    with pytest.raises(FabricError, match=f"`{command}` failed, and the old files are back: it says no"):
        world.rollback.apply(world.steps())
    assert world.old.read_text() == "old\n"
    assert not world.own.exists()


def test_without_a_timer_nothing_is_changed(world: World) -> None:
    world.fails = {"systemd-run"}
    with pytest.raises(FabricError, match="the rollback could not be scheduled"):
        world.rollback.arm(world.steps(), 120)
    assert world.rollback.pending() is None
    assert world.old.read_text() == "old\n"


def test_steps_are_those_that_differ(world: World) -> None:
    assert steps_of(Plan(), world.own) == []
    assert steps_of(Plan(text="new\n"), world.own) == [Step(world.own, "new\n")]
    world.own.write_text("new\n")
    world.own.chmod(0o600)
    assert steps_of(Plan(text="new\n"), world.own) == []
    assert steps_of(Plan(), world.own) == [Step(world.own, None)]
    world.own.chmod(0o644)
    assert steps_of(Plan(text="new\n"), world.own) != []


def test_a_damaged_note_is_no_note(world: World) -> None:
    world.rollback.arm(world.steps(), 120)
    world.rollback.pending_file.write_text("{")
    assert world.rollback.pending() is None
    world.rollback.pending_file.write_text(json.dumps([1]))
    assert world.rollback.pending() is None


def test_twins_that_were_left_empty_are_named_before_they_get_addresses() -> None:
    text = (Path(__file__).parents[4] / "field_cases/gb10/netplan_socket_direct_empty_twins.yaml").read_text()
    rails = [Rail("enp1s0f0np0", "192.168.1.10/24"), Rail("enP2p1s0f0np0", "192.168.3.10/24")]
    plan = plan_netplan({"/etc/netplan/60-mine.yaml": yaml.safe_load(text)}, rails, {}, 9000)
    assert plan.problems == []
    (note,) = [note for note in plan.notes if "without an address" in note]
    assert note.startswith(
        "enP2p1s0f0np0 was left without an address by /etc/netplan/60-mine.yaml and gets 192.168.3.10/24"
    )
    assert "fabric_accept_one_twin: true" in note
