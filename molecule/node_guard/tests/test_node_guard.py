# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""earlyoom acts on a node whose memory runs out: the stand-in of a rank is ended, and what reaches and heals the node lives.

The memory is the machine's that the node runs on. The test puts the limit a little below what is available there, so that a stand-in which takes some
hundred MiB crosses it. earlyoom sees the processes of its own node alone, so that nothing else on the machine can be ended.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from testinfra.host import Host

UNIT = "/etc/systemd/system/earlyoom.service.d/50-dgx-spark.conf"
#: Takes the name given first, then MiB as given second in steps of 64, and holds them.
TAKE = """
import ctypes, sys, time
ctypes.CDLL(None).prctl(15, sys.argv[1].encode(), 0, 0, 0)
held = []
for _ in range(int(sys.argv[2]) // 64):
    held.append(bytearray(b"x" * (64 << 20)))
    time.sleep(0.05)
time.sleep(600)
"""
#: MiB that the limit lies below what is available; what a stand-in takes at most; and what a bystander holds.
BELOW, TAKES, HOLDS = 1024, 4096, 1536
#: What must live.
SAFE_UNITS = ("ssh", "docker", "containerd", "systemd-journald", "dbus")
RANK, BYSTANDER = "VLLM::Worker_TP", "notebook"


def available_kib(host: Host) -> int:
    return int(re.search(r"MemAvailable:\s+(\d+)", host.file("/proc/meminfo").content_string)[1])  # type: ignore[index]


def start(host: Host, unit: str, name: str, mib: int) -> None:
    host.run(f"systemctl reset-failed {unit}")
    host.check_output("systemd-run --quiet --unit %s /usr/bin/python3 -c %s %s %s", unit, TAKE, name, str(mib))


def limit(host: Host, kib: int) -> None:
    host.check_output(f"sed -i -E 's/ -M [0-9]+,[0-9]+ / -M {kib},{kib} /' {UNIT}")
    host.check_output("systemctl daemon-reload")
    host.check_output("systemctl restart earlyoom")


@pytest.fixture
def bystander(host: Host) -> Iterator[None]:
    """A process that is no rank, and earlyoom's own limit back afterwards."""
    with host.sudo():
        written = host.file(UNIT).content_string
        before = re.search(r"-M (\d+),", written)
        assert before
        start(host, "bystander", BYSTANDER, HOLDS)
        time.sleep(5)
    yield
    with host.sudo():
        limit(host, int(before[1]))
        host.run("systemctl stop bystander rank")
        assert host.file(UNIT).content_string == written


def test_it_runs_now_and_at_boot_with_our_limits(host: Host) -> None:
    service = host.service("earlyoom")
    assert service.is_running, host.run("journalctl --unit earlyoom --lines 30 --no-pager").stdout
    assert service.is_enabled
    with host.sudo():
        command = host.check_output("tr '\\0' ' ' </proc/$(pidof earlyoom)/cmdline")
    assert "-M 262144,262144 -s 100,100" in command and "^(VLLM::|ray::RayWorker)" in command


def test_the_kernel_and_the_watchdog_of_the_machine_below_are_left_alone(host: Host) -> None:
    assert not host.file("/etc/sysctl.d/90-dgx-spark.conf").exists
    assert not host.file("/etc/systemd/system.conf.d/90-dgx-spark.conf").exists


def test_a_rank_is_ended_before_memory_is_full_and_the_node_lives(host: Host, bystander: None) -> None:
    with host.sudo():
        living = {name: host.check_output(f"systemctl show --value --property MainPID {name}") for name in SAFE_UNITS}
        limit(host, available_kib(host) - BELOW * 1024)
        began = host.check_output("date +%s")
        start(host, "rank", RANK, TAKES)
        deadline = time.monotonic() + 60
        while host.run("systemctl is-active rank").stdout.strip() == "active" and time.monotonic() < deadline:
            time.sleep(0.2)
        said = host.check_output(f"journalctl --unit earlyoom --since @{began} --no-pager --output cat")
        # First by name, though the other one held more. Whatever else the machine below does may cost others as well, but never what must live.
        ended = re.findall(r'sending SIGKILL to process \d+ uid \d+ "([^"]+)"', said)
        assert ended and ended[0] == RANK, said
        assert set(ended) <= {RANK, BYSTANDER}, said
        assert host.run("systemctl is-active rank").stdout.strip() == "failed"
        assert host.check_output("systemctl show --value --property ExecMainStatus rank") == "9"
        assert living == {
            name: host.check_output(f"systemctl show --value --property MainPID {name}") for name in SAFE_UNITS
        }
