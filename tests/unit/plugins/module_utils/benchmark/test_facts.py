# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node says about why a server is slow."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.benchmark.facts import (
    Link,
    Watch,
    clock_summary,
    merge_clocks,
    moved,
    parse_loadavg,
    parse_vmstat,
    pids_of,
    strangers,
    transport,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.runtime import Gpu

RECORDED = Path(__file__).parents[1] / "fixtures" / "gb10_fabric"
BUSY = Gpu(
    0,
    "NVIDIA GB10",
    utilization_percent=96,
    power_w=70,
    temperature_c=66,
    clock_sm_mhz=2400,
    clock_sm_max_mhz=3003,
    reasons=0,
)


def test_swap_counters() -> None:
    assert parse_vmstat("nr_free_pages 5\npswpin 12\npswpout 7\npgpgin x\n") == {"pswpin": 12, "pswpout": 7}
    assert moved({"pswpin": 12, "pswpout": 7}, {"pswpin": 15, "pswpout": 7}) == {"pswpin": 3, "pswpout": 0}
    assert moved({"pswpin": 12}, {"pswpin": 2}) == {}, "a reboot in between"
    assert moved({}, {"pswpin": 2}) == {}


def test_load() -> None:
    assert parse_loadavg("0.52 0.58 0.59 1/467 1234\n") == 0.52
    assert parse_loadavg("") is None


@pytest.mark.parametrize(
    ("log", "network", "rdma"), [("nccl_socket.log", "Socket", False), ("nccl_ib_slow.log", "IB", True)]
)
def test_the_transport_in_a_log(log: str, network: str, rdma: bool) -> None:
    found = transport((RECORDED / log).read_text())
    assert (found["network"], found["rdma"]) == (network, rdma)


def test_a_log_without_nccl_says_nothing() -> None:
    assert transport("INFO 11-23 18:58:40 [core.py:402] init engine took 2.23 s") == {}


def test_bytes_over_the_link(tmp_path: Path) -> None:
    for name, value in (("rx_bytes", "100"), ("tx_bytes", "50")):
        path = tmp_path / "sys/class/net/fab0/statistics" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    assert Link("fab0", tmp_path).read() == {"tcp_bytes": 150, "rdma_bytes": 0}
    counters = tmp_path / "sys/class/infiniband/rocep1s0f0/ports/1/counters"
    counters.mkdir(parents=True)
    (counters / "port_rcv_data").write_text("10\n")
    (counters / "port_xmit_data").write_text("20\n")
    # The counters are in words of four bytes.
    assert Link("fab0", tmp_path).read() == {"tcp_bytes": 150, "rdma_bytes": 120}
    assert Link("gone", tmp_path).read() == {"rdma_bytes": 120}
    assert Link("", tmp_path).read() == {"rdma_bytes": 120}


@pytest.mark.parametrize(("said", "gbit_s"), [("200000", 200.0), ("-1", None), ("", None), ("unknown", None)])
def test_the_speed_of_the_link(tmp_path: Path, said: str, gbit_s: float | None) -> None:
    (tmp_path / "sys/class/net/fab0").mkdir(parents=True)
    (tmp_path / "sys/class/net/fab0/speed").write_text(said)
    assert Link("fab0", tmp_path).gbit_s() == gbit_s
    assert Link("gone", tmp_path).gbit_s() is None
    assert Link("", tmp_path).gbit_s() is None


def test_clocks_count_only_under_load() -> None:
    idle = replace(BUSY, utilization_percent=0, clock_sm_mhz=208)
    slow = replace(BUSY, clock_sm_mhz=721, reasons=0x80, power_w=22.0)
    found = clock_summary([[idle], [BUSY], [slow], [slow]])
    assert (found["samples"], found["clock_mhz"], found["clock_max_mhz"], found["power_w"]) == (3, 721, 3003, 70)
    assert found["reasons"] == {"power brake (hardware)": 0.67}
    assert clock_summary([]) == {}
    assert clock_summary([[idle]])["samples"] == 0


def test_clocks_of_several_loads() -> None:
    fast, slow = clock_summary([[BUSY]]), clock_summary([[replace(BUSY, clock_sm_mhz=721, power_w=22.0, reasons=0x80)]])
    for order in ([fast, slow], [slow, fast]):
        found = merge_clocks([{}, *order])
        assert (found["samples"], found["clock_mhz"], found["power_w"]) == (2, 721, 70)
        assert found["reasons"] == {"power brake (hardware)": 1.0}
    assert merge_clocks([{}, {}]) == {}


def test_programs_that_are_not_ours() -> None:
    holders = [
        {"pid": 10, "process": "ray::Worker", "memory_mib": 100},
        {"pid": 11, "process": "train.py", "memory_mib": 9000},
    ]
    assert strangers(holders, pids_of(["    PID\n     10\n", ""])) == [holders[1]]


def test_a_watch_takes_samples_until_its_end() -> None:
    taken: list[float] = []
    with Watch(lambda: taken.append(time.monotonic()), 0.01):
        time.sleep(0.2)
    seen = len(taken)
    assert seen >= 2
    time.sleep(0.05)
    assert len(taken) == seen
