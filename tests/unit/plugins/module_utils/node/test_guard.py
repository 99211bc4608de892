# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What keeps a machine alive, on a machine of files with a systemd that is a stand-in. The scenario `node_guard` has the real ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.guard import (
    SYSCTL_FILE,
    UNIT_FILE,
    WATCHDOG_FILE,
    Guard,
    GuardError,
    Node,
    Wanted,
    earlyoom_command,
    ended_by,
    facts,
    guard_findings,
    watchdog_holders,
)

NEVER = "18446744073709551615"
EVERYTHING = Wanted(earlyoom=True, min_available_gib=4, min_free_mib=512, watchdog_seconds=300)
NOTHING = Wanted(earlyoom=False, min_available_gib=4, min_free_mib=0, watchdog_seconds=0)
KERNELS_OWN = 67584


class Machine:
    """A machine of files: earlyoom, a kernel that keeps 66 MiB free, and a watchdog that systemd can take."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unit = {"ActiveState": "inactive", "UnitFileState": "disabled", "MainPID": "0", "NeedDaemonReload": "no"}
        self.takes_watchdog = True
        self.pinged = NEVER
        self.asked_seconds = "0"
        self.ran: list[str] = []
        for folder in ("dev", "proc/sys/vm", "usr/bin", "run/systemd"):
            (root / folder).mkdir(parents=True)
        (root / "dev/watchdog").touch()
        (root / "dev/watchdog0").touch()
        (root / "usr/bin/earlyoom").touch()
        (root / "proc/sys/vm/min_free_kbytes").write_text(f"{KERNELS_OWN}\n")

    def run(
        self,
        argv: Sequence[str],
        seconds: float | None = None,
        /,
        *,
        data: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        if argv[1] == "show":
            held = {"RuntimeWatchdogUSec": self.asked_seconds, "WatchdogLastPingTimestampMonotonic": self.pinged}
            found = self.unit if "earlyoom.service" in argv else held
            return 0, "".join(f"{key}={value}\n" for key, value in found.items()), ""
        self.ran.append(" ".join(argv[1:]))
        if argv[1] == "daemon-reload":
            text = (self.root / WATCHDOG_FILE).read_text() if (self.root / WATCHDOG_FILE).exists() else ""
            asked = re.search(r"RuntimeWatchdogSec=(\d+)", text)
            self.asked_seconds = f"{asked[1]}s" if asked else "0"
            self.pinged = "5000" if asked and self.takes_watchdog else NEVER
        if argv[1] == "enable":
            self.unit["UnitFileState"] = "enabled"
        if argv[1:] == ["restart", "earlyoom.service"]:
            line = re.findall(r"^ExecStart=(.+)$", (self.root / UNIT_FILE).read_text(), re.MULTILINE)[-1]
            self.process(77, "earlyoom", shlex.split(line.replace("$$", "$")))
            self.unit |= {"ActiveState": "active", "MainPID": "77"}
        if argv[1] == "disable":
            self.unit |= {"ActiveState": "inactive", "UnitFileState": "disabled", "MainPID": "0"}
        return 0, "", ""

    def process(self, pid: int, name: str, argv: Sequence[str] = (), opens: str = "") -> None:
        folder = self.root / f"proc/{pid}"
        (folder / "fd").mkdir(parents=True, exist_ok=True)
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_text("\0".join(argv) + "\0")
        if opens:
            (folder / "fd/3").symlink_to(opens)

    @property
    def min_free(self) -> int:
        return int((self.root / "proc/sys/vm/min_free_kbytes").read_text())

    @min_free.setter
    def min_free(self, value: int) -> None:
        (self.root / "proc/sys/vm/min_free_kbytes").write_text(f"{value}\n")

    def apply(self, wanted: Wanted = EVERYTHING, check: bool = False) -> Guard:
        done = Guard(wanted, Node(self.run, self.root), check)
        done.apply()
        return done


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_first_run_brings_all_parts_and_a_second_changes_nothing(machine: Machine) -> None:
    first = machine.apply()
    assert not first.notes
    assert machine.unit["ActiveState"] == "active" and machine.unit["UnitFileState"] == "enabled"
    assert machine.min_free == 512 * 1024
    assert machine.asked_seconds == "300s"
    machine.ran.clear()
    again = machine.apply()
    assert (again.actions, again.diff, machine.ran) == ([], [], [])


def test_check_mode_says_the_same_and_does_nothing(machine: Machine) -> None:
    said = machine.apply(check=True)
    assert not (machine.root / "etc").exists() and machine.min_free == KERNELS_OWN and not machine.ran
    assert said.actions == machine.apply().actions


def test_all_parts_off_leave_nothing_behind(machine: Machine) -> None:
    machine.apply()
    machine.apply(NOTHING)
    assert not [path for path in (machine.root / "etc").rglob("*") if path.is_file()]
    assert (
        machine.unit["ActiveState"] == "inactive" and machine.min_free == KERNELS_OWN and machine.asked_seconds == "0"
    )
    assert not (machine.root / UNIT_FILE.parent).exists()
    assert machine.apply(NOTHING).actions == []


def test_parts_that_are_off_leave_what_others_set_up(machine: Machine) -> None:
    machine.unit |= {"ActiveState": "active", "UnitFileState": "enabled"}
    machine.min_free = 300_000
    machine.asked_seconds, machine.pinged = "30s", "1"
    assert machine.apply(NOTHING).actions == [] and not machine.ran


# --- earlyoom ----------------------------------------------------------------------------------------------------


def test_swap_never_keeps_earlyoom_from_acting_and_both_limits_are_the_same() -> None:
    words = earlyoom_command(4)
    assert words[words.index("-M") + 1] == "4194304,4194304"
    assert words[words.index("-s") + 1] == "100,100"


@pytest.mark.parametrize(
    "name", ["VLLM::Worker_TP", "VLLM::EngineCor", "ray::RayWorkerW", "ray::RayWorkerP", "VLLM::Worker"]
)
def test_ranks_are_the_victims(name: str) -> None:
    words = earlyoom_command(4)
    assert re.search(words[words.index("--prefer") + 1], name)
    assert not re.search(words[words.index("--avoid") + 1], name)


@pytest.mark.parametrize(
    "name",
    [
        "systemd",
        "systemd-journal",
        "(sd-pam)",
        "sshd",
        "sshd-session",
        "dockerd",
        "containerd",
        "containerd-shim",
        "dbus-daemon",
        "python3",
        "bash",
        "sudo",
        "earlyoom",
    ],
)
def test_what_reaches_and_heals_the_node_is_safe(name: str) -> None:
    words = earlyoom_command(4)
    assert re.search(words[words.index("--avoid") + 1], name)
    assert not re.search(words[words.index("--prefer") + 1], name)


def test_a_fresh_package_finds_our_limits(machine: Machine) -> None:
    # Its postinst starts it at once, and with 10 % of memory its own limit is more than a planned server leaves.
    (machine.root / "usr/bin/earlyoom").unlink()
    first = machine.apply()
    assert first.missing == ["earlyoom"] and (machine.root / UNIT_FILE).exists()
    assert not [line for line in machine.ran if "earlyoom" in line]
    (machine.root / "usr/bin/earlyoom").touch()
    machine.unit |= {"ActiveState": "active", "UnitFileState": "enabled", "MainPID": "9"}
    machine.process(9, "earlyoom", ["/usr/bin/earlyoom", "-r", "3600"])
    second = machine.apply()
    assert second.missing == [] and second.actions == ["restarted earlyoom.service"]


def test_another_limit_restarts_it(machine: Machine) -> None:
    machine.apply()
    changed = machine.apply(Wanted(earlyoom=True, min_available_gib=2, min_free_mib=512, watchdog_seconds=300))
    assert "restarted earlyoom.service" in changed.actions and "-M 2097152,2097152" in changed.diff[0]["after"]


def test_one_that_was_stopped_is_started(machine: Machine) -> None:
    machine.apply()
    machine.unit["ActiveState"] = "failed"
    assert machine.apply().actions == ["started earlyoom.service"]


# --- the kernel's reserve ----------------------------------------------------------------------------------------


def only(mib: int) -> Wanted:
    return Wanted(earlyoom=False, min_available_gib=4, min_free_mib=mib, watchdog_seconds=0)


def test_the_kernels_reserve_is_never_lowered_below_its_own_value(machine: Machine) -> None:
    machine.min_free = 2_000_000
    done = machine.apply(only(512))
    assert done.actions == [] and machine.min_free == 2_000_000 and not (machine.root / SYSCTL_FILE).exists()
    assert "the kernel's own 2000000" in done.notes[0]


def test_less_than_before_goes_back_as_far_as_the_kernels_own(machine: Machine) -> None:
    machine.apply(only(1024))
    machine.apply(only(512))
    assert machine.min_free == 512 * 1024
    machine.apply(only(16))
    assert machine.min_free == KERNELS_OWN and not (machine.root / SYSCTL_FILE).exists()


def test_what_somebody_raised_further_stays(machine: Machine) -> None:
    machine.apply(only(512))
    machine.min_free = 900_000
    assert machine.apply(only(512)).actions == [] and machine.min_free == 900_000


def test_a_value_that_was_lost_is_set_again(machine: Machine) -> None:
    machine.apply(only(512))
    machine.min_free = KERNELS_OWN
    assert machine.apply(only(512)).actions == [f"set vm.min_free_kbytes from {KERNELS_OWN} to 524288"]


def test_a_container_never_touches_the_kernel_or_the_watchdog_of_its_host(machine: Machine) -> None:
    (machine.root / "run/systemd/container").write_text("docker\n")
    done = machine.apply()
    assert machine.min_free == KERNELS_OWN and machine.asked_seconds == "0"
    assert not (machine.root / SYSCTL_FILE).exists() and not (machine.root / WATCHDOG_FILE).exists()
    assert len(done.notes) == 2 and all("container" in note for note in done.notes)
    assert machine.unit["ActiveState"] == "active"


# --- the hardware watchdog ---------------------------------------------------------------------------------------


def test_a_machine_without_a_watchdog_says_so(machine: Machine) -> None:
    for path in (machine.root / "dev").iterdir():
        path.unlink()
    done = machine.apply()
    assert "sbsa_gwdt" in done.notes[0] and not (machine.root / WATCHDOG_FILE).exists()


def test_a_watchdog_that_another_program_holds_is_left_to_it(machine: Machine) -> None:
    machine.process(41, "watchdogd", opens="/dev/watchdog0")
    machine.process(1, "systemd", opens="/dev/watchdog")
    machine.process(42, "bash", opens="/dev/null")
    assert watchdog_holders(machine.root) == ["watchdogd"]
    done = machine.apply()
    assert done.notes == ["the hardware watchdog is left alone: watchdogd holds it"] and machine.asked_seconds == "0"


def test_a_watchdog_that_systemd_has_by_another_file_keeps_its_time(machine: Machine) -> None:
    machine.asked_seconds, machine.pinged = "30s", "1"
    done = machine.apply(Wanted(earlyoom=False, min_available_gib=4, min_free_mib=0, watchdog_seconds=300))
    assert done.actions == [] and "with 30s" in done.notes[0]


def test_a_watchdog_that_cannot_be_opened_is_said_and_not_tried_in_each_run(machine: Machine) -> None:
    machine.takes_watchdog = False
    assert "did not take" in machine.apply().notes[0]
    assert machine.apply().actions == []
    found = list(guard_findings(Node(machine.run, machine.root), ""))
    assert [finding.code for finding in found] == ["node.watchdog_off"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"watchdog_seconds": 10}, "watchdog_seconds is 10"),
        ({"watchdog_seconds": -1}, "watchdog_seconds is -1"),
        ({"min_free_mib": 8192}, "min_free_mib is 8192"),
        ({"min_available_gib": 0.0}, "min_available_gib is 0"),
    ],
)
def test_a_value_that_would_do_harm_is_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(GuardError, match=said):
        Wanted(**{"earlyoom": True, "min_available_gib": 4, "min_free_mib": 0, "watchdog_seconds": 0, **wrong})  # type: ignore[arg-type]


def test_a_systemd_that_does_not_answer_is_one_sentence(machine: Machine) -> None:
    node = Node(lambda *_given, **_named: (1, "", "Failed to connect to bus"), machine.root)
    with pytest.raises(GuardError, match="Failed to connect to bus; is systemd running"):
        Guard(EVERYTHING, node, False).apply()


# --- what is seen of it ------------------------------------------------------------------------------------------

JOURNAL = """mem avail:  3999 of 124609 MiB ( 3.21%), swap free: 16383 of 16383 MiB (100.00%)
low memory! at or below SIGKILL limits: mem  3.29%, swap 100.00%
sending SIGKILL to process 4242 uid 0 "VLLM::Worker_TP": badness 1301, VmRSS 4711 MiB
process exited after 0.6 seconds
"""


def test_a_guard_in_force_is_green_with_its_limits(machine: Machine) -> None:
    machine.apply()
    (found,) = guard_findings(Node(machine.run, machine.root), "")
    assert found.code == "node.ok"
    assert found.found == (
        "earlyoom ends ranks below 4 GiB of available memory; the hardware watchdog restarts a frozen machine after 300s"
    )
    assert facts(Node(machine.run, machine.root)) == {
        "earlyoom": True,
        "min_free_kib": 524288,
        "watchdog": "300s",
        "watchdog_device": True,
    }


def test_what_was_ended_is_named(machine: Machine) -> None:
    machine.apply()
    assert len(ended_by(JOURNAL)) == 1
    (found,) = guard_findings(Node(machine.run, machine.root), JOURNAL)
    assert found.code == "node.guard_acted" and "VLLM::Worker_TP" in found.found


def test_a_guard_that_does_not_run_is_red(machine: Machine) -> None:
    machine.apply()
    machine.unit["ActiveState"] = "failed"
    assert [finding.code for finding in guard_findings(Node(machine.run, machine.root), "")] == ["node.guard_off"]


def test_a_node_without_a_guard_is_said_to_have_none(machine: Machine) -> None:
    (found,) = guard_findings(Node(machine.run, machine.root), "")
    assert found.code == "node.ok"
    assert found.found == "nothing acts when memory runs out (node_guard_earlyoom); systemd holds no hardware watchdog"


def test_a_machine_without_a_watchdog_and_a_container_say_what_is_theirs_alone(machine: Machine) -> None:
    machine.apply(Wanted(earlyoom=True, min_available_gib=4, min_free_mib=0, watchdog_seconds=0))
    for path in (machine.root / "dev").iterdir():
        path.unlink()
    earlyoom = "earlyoom ends ranks below 4 GiB of available memory"
    (found,) = guard_findings(Node(machine.run, machine.root), "")
    assert found.found == f"{earlyoom}; the machine has no hardware watchdog"
    (machine.root / "run/systemd/container").write_text("docker\n")
    (found,) = guard_findings(Node(machine.run, machine.root), "")
    assert found.found == earlyoom


BOUND = "etc/systemd/journald.conf.d/90-dgx-spark.conf"


def bound(gib: float, days: int = 0) -> Wanted:
    return Wanted(False, 4, 0, 0, journal_gib=gib, journal_days=days)


def test_the_journal_is_bounded_once_and_freed_again(machine: Machine) -> None:
    done = machine.apply(bound(2, 30))
    assert "restarted systemd-journald" in done.actions
    text = (machine.root / BOUND).read_text()
    assert text.endswith("[Journal]\nSystemMaxUse=2048M\nMaxRetentionSec=30day\nMaxFileSec=1day\n")
    assert machine.apply(bound(2, 30)).actions == []
    machine.apply(bound(0.5))
    assert (machine.root / BOUND).read_text().endswith("[Journal]\nSystemMaxUse=512M\n")
    machine.apply(bound(0, 30))
    assert not (machine.root / BOUND).exists()
    assert machine.apply(bound(0)).actions == []


@pytest.mark.parametrize(("gib", "days", "said"), [(0.01, 0, "journal_gib is 0.01"), (2, -1, "journal_days is -1")])
def test_a_bound_that_keeps_nothing_is_refused(gib: float, days: int, said: str) -> None:
    with pytest.raises(GuardError, match=said):
        bound(gib, days)
