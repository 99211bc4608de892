# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Figures read from the tools' own words, judged, and the jobs run for real with stand-ins for the tools."""

from __future__ import annotations

import json
import sys
import time
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric import nccl_probe
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.bench import (
    RESULT,
    Job,
    NcclLog,
    RdmaResult,
    ib_write_bw,
    iperf3,
    judge_container,
    judge_counters,
    judge_nccl,
    judge_rdma,
    judge_tcp,
    parse_ib_write_bw,
    parse_iperf3,
    parse_nccl_log,
    parse_probe,
    probe_job,
    run_jobs,
    without_bandwidth,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.host import Host
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import FabricError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, YELLOW

from tests.unit.plugins.module_utils.fabric.world import FIXTURES

CASES = Path(__file__).parents[4] / "field_cases" / "gb10"
PORT0 = ["rocep1s0f0", "roceP2p1s0f0"]
PORT1 = ["rocep1s0f1", "roceP2p1s0f1"]


def recorded(name: str) -> str:
    return (FIXTURES / name).read_text()


# --- reading -----------------------------------------------------------------------------------------------------


def test_ib_write_bw_of_both_twins() -> None:
    results = [parse_ib_write_bw(recorded(f"ib_write_bw_{device}.txt")) for device in PORT0]
    assert results[0] == RdmaResult("rocep1s0f0", 92.57, 3, 1024)
    assert results[1] is not None
    assert results[1].gbits == 97.28
    # NVIDIA's own sum is 189.85 Gb/s.
    assert judge_rdma([found for found in results if found], PORT0, 1) == []


def test_ib_write_bw_for_a_time_prints_one_row() -> None:
    text = (
        recorded("ib_write_bw_rocep1s0f0.txt").split(" 65536 ")[0]
        + " 65536      882805           94.10              92.57                0.176554\n"
    )
    found = parse_ib_write_bw(text)
    assert found is not None
    assert found.gbits == 92.57


@pytest.mark.parametrize(
    "text",
    ["", "Couldn't connect to 192.168.100.10:12000\n", recorded("ib_write_bw_rocep1s0f0.txt").split(" 65536 ")[0]],
)
def test_no_figure_is_no_figure(text: str) -> None:
    assert parse_ib_write_bw(text) is None


def test_iperf3() -> None:
    assert parse_iperf3(json.dumps({"end": {"sum_received": {"bits_per_second": 96.2e9}}})) == 96.2
    with pytest.raises(FabricError, match="iperf3 failed: unable to connect"):
        parse_iperf3(json.dumps({"error": "unable to connect"}))
    for text in ("", "[]", "{}"):
        with pytest.raises(FabricError, match="printed no result"):
            parse_iperf3(text)


def test_the_log_of_a_link_that_is_rdma_and_slow() -> None:
    text = recorded("nccl_ib_slow.log")
    log = parse_nccl_log(text)
    assert (log.version, log.network, log.devices, log.channels) == ("2.28.9", "IB", tuple(PORT0), {"0": 2, "1": 2})
    assert log.rdma()
    assert log.gpu_direct is False
    findings = judge_nccl(log, PORT0, 2.83174, 1)
    assert [finding.code for finding in findings] == ["fabric.nccl_slow"]
    assert "(1) reboot both nodes with the cable in place, which cured it" in findings[0].remedy


def cased(name: str) -> str:
    return (CASES / name).read_text()


@pytest.mark.parametrize(
    ("name", "devices", "gbytes", "cables", "network", "code"),
    [
        ("nccl_rdma_plugin_v10_pair.log", PORT1, 22.7, 1, "NCCL RDMA Plugin v10", ""),
        ("nccl_rdma_plugin_v10_real_excerpt.log", PORT0[:1], 12.0, 1, "IB", "fabric.nccl_one_link"),
        ("nccl_rdma_plugin_v10_real_excerpt.log", PORT0, 12.0, 1, "IB", "fabric.nccl_one_twin"),
        ("nccl_ibext_v11_healthy.log", PORT0, 23.65, 1, "IB", ""),
        ("nccl_merged_real.log", ["rocep1s0f0", "rocep1s0f1", "roceP2p1s0f0", "roceP2p1s0f1"], 25.67, 2, "IB", ""),
    ],
)
def test_logs_of_owners(name: str, devices: list[str], gbytes: float, cables: int, network: str, code: str) -> None:
    log = parse_nccl_log(cased(name))
    assert log.rdma()
    assert log.network == network
    found = [finding.code for finding in judge_nccl(log, devices, gbytes, cables)]
    assert found[:1] == ([code] if code else [])
    assert "fabric.nccl_socket" not in found
    # On a GB10 the plugin finds GPUDirect possible and NCCL switches it off.
    assert log.gpu_direct is False


VIA = "Channel 00/0 : 0[0] -> 1[0] [send] via NET/"


@pytest.mark.parametrize(
    ("end", "channels", "rdma"),
    [
        ("IB/0", {"0": 1}, True),
        ("IB/1/GDRDMA", {"1": 1}, True),
        ("IB/1/GDRDMA(PCI)/Shared", {"1": 1}, True),
        ("IB/2(1)/GDRDMA/Shared", {"2": 1}, True),
        ("IBext_v11/0/Shared", {"0": 1}, True),
        ("NCCL RDMA Plugin v11/3", {"3": 1}, True),
        ("NCCL RDMA Plugin v11/12/GDRDMA \x1b[0m", {"12": 1}, True),
        ("AWS Libfabric/0/GDRDMA", {"0": 1}, True),
        ("a/plugin/1", {"1": 1}, True),
        ("Socket/0", {"Socket/0": 1}, False),
        ("Socket/0/Shared", {"Socket/0": 1}, False),
    ],
)
def test_the_number_stands_behind_the_last_part_of_the_name(end: str, channels: dict[str, int], rdma: bool) -> None:
    log = parse_nccl_log(f"spark-1:1:1 [0] NCCL INFO {VIA}{end}\n")
    assert log.channels == channels
    assert log.rdma() is rdma


@pytest.mark.parametrize(
    ("text", "network", "rdma"),
    [
        ("NCCL INFO Using network NCCL RDMA Plugin v11\n", "NCCL RDMA Plugin v11", True),
        ("NCCL INFO Using network IBext_v10\r\n", "IBext_v10", True),
        ("NCCL INFO Using network IB\nNCCL INFO Using network Socket\n", "Socket", False),
        ("NCCL INFO Assigned NET plugin IB to comm\n", "IB", True),
        ("NCCL INFO Assigned NET plugin Socket to comm\n", "Socket", False),
        ("NCCL INFO NET/Socket : Using [0]eth0:10.0.0.1<0>\n", "Socket", False),
        ("NCCL INFO NET/Plugin: Loaded net plugin NCCL RDMA Plugin v10 (v10)\n", "", False),
    ],
)
def test_the_network_is_what_nccl_says_it_uses(text: str, network: str, rdma: bool) -> None:
    log = parse_nccl_log(text)
    assert (log.network, log.rdma()) == (network, rdma)


def test_a_log_whose_numbers_have_no_names_accuses_no_twin() -> None:
    log = parse_nccl_log(f"NCCL INFO Using network IBext_v11\n{VIA}IBext_v11/0\n{VIA}IBext_v11/1\n")
    assert judge_nccl(log, PORT1, 21.0, 1) == []


@pytest.mark.parametrize("rail", ["", ":2", ":2:1", "::1"])
def test_devices_with_the_numbers_of_their_rails(rail: str) -> None:
    text = f"NCCL INFO NET/IB : Using [0]rocep1s0f1:1{rail}/RoCE [1]roceP2p1s0f1:1{rail}/RoCE [RO]; OOB enp1s0f1np1:192.168.100.10<0>\n"
    text += "NCCL INFO NET/IB : Made virtual device [0] name=rocep1s0f1 speed=200000 ndevs=1 rail=2 plane=1\n"
    log = parse_nccl_log(text)
    assert log.devices == tuple(PORT1)
    assert log.virtual == {"0": ("rocep1s0f1",)}


@pytest.mark.parametrize(
    "line",
    [
        # 2.27.7 and 2.29.3, then 2.29.7 to 2.30.7.
        "NET/IB: NCCL Dev 1 IbDev 1 Port 1 qpn 704 mtu 3 GID 0 (80FE/46442FFEFF47BB4E) fifoRkey=0x1 fifoLkey=0x1",
        "NET/IB: NCCL Dev 1 IbDev 1 Port 1 qpn 704 mtu 3 GID 0 (80FE/46442FFEFF47BB4E) ctsFifoRkey=0x1 ctsFifoLkey=0x1",
        "NET/IB: ncclIbConnect: NCCL Dev 1 IbDev 1 Port 1 qp_num 704 mtu 3 GID 0 (80FE/46442FFEFF47BB4E) ctsFifoRkey=0x1",
    ],
)
def test_an_address_by_any_name_of_the_queue_pair(line: str) -> None:
    text = cased("nccl_rdma_plugin_v10_pair.log") + f"spark-1:1:1 [0] NCCL INFO {line}\n"
    assert parse_nccl_log(text).gid_kinds == {"1": "link-local"}
    assert [finding.code for finding in judge_nccl(parse_nccl_log(text), PORT1, 22.0, 1)] == ["fabric.nccl_gid"]
    good = text.replace("(80FE/46442FFEFF47BB4E)", "(0/A64A8C0FFFF0000)")
    assert parse_nccl_log(good).gid_kinds == {"1": "ipv4"}


SOUND = Host(cards=("0000:01:00.1", "0002:01:00.1"), iommu={"0000:01:00.1": "identity"}, kernel="6.17.0-1032-nvidia")


@pytest.mark.parametrize(
    ("host", "build", "words"),
    [
        (
            replace(SOUND, command_line="ro iommu.passthrough=0 quiet"),
            "2.30.7+cuda13.0",
            "a reboot alone does not cure it",
        ),
        (
            replace(SOUND, iommu={"0000:01:00.1": "DMA-FQ"}),
            "2.30.7+cuda13.0",
            "group is of kind DMA-FQ, not identity: take",
        ),
        (SOUND, "2.31.0+cuda13.0", "NCCL 2.31.0+cuda13.0 is no release"),
        (SOUND, "2.30.7a1+cuda13.0", "is no release"),
        (
            replace(SOUND, log=("[9.1] cx7-pcie-hotplug MTKP0001:00: Cable plugin",)),
            "2.30.7+cuda13.0",
            "plugged while the node was on",
        ),
        (replace(SOUND, xids=(154,)), "2.30.7+cuda13.0", "logged Xid 154 since boot"),
        (
            replace(SOUND, pcie=("0002:01:00.1 at 16.0 GT/s PCIe x1 of 32.0 GT/s PCIe x4",)),
            "2.28.9",
            "x1 of 32.0 GT/s PCIe x4",
        ),
        (
            replace(SOUND, kernel="6.17.0-1021-nvidia"),
            "2.28.9+cuda13.0",
            "kernel 6.17.0-1021-nvidia is reported to cause ConnectX problems",
        ),
        (replace(SOUND, kernel="7.0.0-1019-nvidia"), "2.28.9+cuda13.0", "nvidia-spark-grub-kho"),
        (
            replace(SOUND, kernel="7.0.0-1019-nvidia", command_line="ro kho=off"),
            "2.28.9+cuda13.0",
            "nothing on this node explains it; in the order of what owners found: (1) reboot both nodes with the cable in place",
        ),
        (None, "2.28.9+cuda13.0", "(3) look for iommu.passthrough=0 in /proc/cmdline of the other node"),
    ],
)
def test_why_a_sound_transport_is_slow(host: Host | None, build: str, words: str) -> None:
    text = recorded("nccl_ib_slow.log").replace("NCCL version 2.28.9+cuda13.0", f"NCCL version {build}")
    log = parse_nccl_log(text)
    assert log.build == build
    findings = judge_nccl(log, PORT0, 3.0, 1, host)
    assert [finding.code for finding in findings] == ["fabric.nccl_slow"]
    assert words in findings[0].remedy


def test_raw_rdma_of_a_cable_that_was_plugged_while_on() -> None:
    slow = parse_ib_write_bw(cased("ib_write_bw_13.txt"))
    assert slow is not None and slow.gbits == 13.22
    results = [slow, replace(slow, device="rocep1s0f1")]
    (found,) = judge_rdma(results, PORT1, 1)
    assert found.code == "fabric.rdma_slow" and found.level == RED
    assert "reboot both nodes with the cable in place" in found.remedy
    for name, gbits in (("ib_write_bw_9961.txt", 99.61), ("ib_write_bw_cpu_util.txt", 92.57)):
        sound = parse_ib_write_bw(cased(name))
        assert sound is not None and sound.gbits == gbits
        assert judge_rdma([sound, replace(sound, device="rocep1s0f1")], PORT1, 1) == []
        # One twin alone does no more.
        assert judge_rdma([sound], PORT1[1:], 1) == []


def test_ports_at_100_are_measured_by_what_they_can_do() -> None:
    half = [RdmaResult(PORT1[0], 46.0, 3, 4096), RdmaResult(PORT1[1], 48.0, 3, 4096)]
    log = parse_nccl_log(cased("nccl_rdma_plugin_v10_pair.log"))
    assert [finding.code for finding in judge_rdma(half, PORT1, 1)] == ["fabric.rdma_slow"]
    assert judge_rdma(half, PORT1, 1, None, 100_000) == []
    assert judge_nccl(log, PORT1, 10.9, 1, None, 100_000) == []
    assert [finding.code for finding in judge_nccl(log, PORT1, 3.0, 1, None, 100_000)] == ["fabric.nccl_slow"]
    # Two of them carry what one port at 200 does, and one twin of one is no narrower than its port.
    four = [*PORT0, *PORT1]
    assert judge_nccl(NcclLog(network="IB"), four, 21.0, 2, None, 100_000) == []
    assert [finding.level for finding in judge_nccl(NcclLog(network="IB"), PORT1[:1], 11.0, 1, None, 100_000)] == [
        YELLOW
    ]


def test_a_twin_without_an_address() -> None:
    log = parse_nccl_log(recorded("nccl_ib_gids.log"))
    assert log.gid_kinds == {"0": "ipv4", "1": "link-local"}
    findings = judge_nccl(log, PORT1, 21.4, 1)
    assert [(finding.level, finding.code) for finding in findings] == [(YELLOW, "fabric.nccl_gid")]
    assert "roceP2p1s0f1 by a link-local address" in findings[0].found


def test_nvidias_plugin_is_rdma_too() -> None:
    log = parse_nccl_log(recorded("nccl_plugin.log"))
    assert log.rdma()
    assert log.used() == tuple(PORT1)
    assert log.gpu_direct is True
    assert judge_nccl(log, PORT1, 22.0, 1) == []


def test_ports_that_nccl_merged_are_used_both() -> None:
    text = recorded("nccl_merged_nics.log")
    log = parse_nccl_log(text)
    devices = ["rocep1s0f0", "rocep1s0f1", "roceP2p1s0f0", "roceP2p1s0f1"]
    assert log.channels == {"4": 2, "5": 2}
    assert log.used() == tuple(devices)
    assert judge_nccl(log, devices, 25.0, 2) == []
    half = parse_nccl_log(text.replace("via NET/IB/5", "via NET/IB/4"))
    assert half.used() == ("rocep1s0f0", "rocep1s0f1")
    assert [finding.code for finding in judge_nccl(half, devices, 25.0, 2)] == ["fabric.nccl_one_twin"]
    # The number of an address counts the single devices; a merged one is told by all of its names.
    gid = "x NCCL INFO NET/IB: NCCL MergedDev 4 IbDev {} Port 1 qpn 704 mtu 3 GID 0 (80FE/46442FFEFF47BB4E) fifoRkey=0x1\n"
    for number, name in (("1", "reaches rocep1s0f1 by"), ("4", "reaches rocep1s0f0, rocep1s0f1 by")):
        findings = judge_nccl(parse_nccl_log(text + gid.format(number)), devices, 25.0, 2)
        assert [finding.code for finding in findings] == ["fabric.nccl_gid"]
        assert name in findings[0].found


def test_a_slow_link_may_be_a_warning_but_never_a_wrong_transport() -> None:
    slow = [
        *judge_rdma([RdmaResult(PORT1[0], 50.0, 3, 4096)], PORT1, 1),
        *judge_nccl(NcclLog(network="Socket"), PORT1, 3.0, 1),
    ]
    assert {finding.level for finding in slow} == {RED}
    assert [(finding.level, finding.code) for finding in without_bandwidth(slow)] == [
        (RED, "fabric.rdma_silent"),
        (YELLOW, "fabric.rdma_slow"),
        (RED, "fabric.nccl_socket"),
        (YELLOW, "fabric.nccl_slow"),
    ]


def test_tcp_is_never_taken_in_silence() -> None:
    log = parse_nccl_log(recorded("nccl_socket.log"))
    assert (log.network, log.sockets, log.rdma()) == ("Socket", ("ens3",), False)
    findings = judge_nccl(log, PORT1, 3.04, 1)
    assert [finding.code for finding in findings] == ["fabric.nccl_socket", "fabric.nccl_slow"]
    assert "NET/Socket (ens3), that is TCP, instead of NET/IB over rocep1s0f1, roceP2p1s0f1" in findings[0].found
    # Where there is no RDMA device, TCP is what was wanted.
    assert judge_nccl(log, [], None, 1) == []


def test_channels_count_more_than_what_was_opened() -> None:
    # Invented: both devices are opened, one rank falls back.
    log = parse_nccl_log(
        recorded("nccl_ib_slow.log") + "x [0] NCCL INFO Channel 02/0 : 1[0] -> 0[0] [send] via NET/Socket/0\n"
    )
    assert log.rdma() is False


def test_one_twin() -> None:
    log = parse_nccl_log(recorded("nccl_ib_slow.log").replace("via NET/IB/1", "via NET/IB/0"))
    findings = judge_nccl(log, PORT0, 11.0, 1)
    assert [finding.code for finding in findings] == ["fabric.nccl_one_twin", "fabric.nccl_slow"]
    assert "as the transport above explains" in findings[1].found


@pytest.mark.parametrize(
    ("gbytes", "codes"), [(23.7, []), (17.0, ["fabric.nccl_low"]), (14.9, ["fabric.nccl_slow"]), (None, [])]
)
def test_bandwidth_of_nccl(gbytes: float | None, codes: list[str]) -> None:
    log = NcclLog(network="IB", devices=tuple(PORT1), channels={"0": 1, "1": 1}, gid_kinds={})
    assert [finding.code for finding in judge_nccl(log, PORT1, gbytes, 1)] == codes


def test_a_mute_log_proves_nothing() -> None:
    assert [finding.code for finding in judge_nccl(parse_nccl_log("hello"), PORT1, 22.0, 1)] == ["fabric.nccl_mute"]


# --- judging -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "codes"),
    [
        ((92.57, 97.28), []),
        ((85.0, 85.0), ["fabric.rdma_low"]),
        ((50.0, 48.0), ["fabric.rdma_slow"]),
        ((111.7,), ["fabric.rdma_silent", "fabric.rdma_slow"]),
    ],
)
def test_raw_rdma(figures: tuple[float, ...], codes: list[str]) -> None:
    results = [RdmaResult(device, figure, 3, 4096) for device, figure in zip(PORT1, figures, strict=False)]
    assert [finding.code for finding in judge_rdma(results, PORT1, 1)] == codes


def test_tcp_figures() -> None:
    assert judge_tcp(96.2) == []
    assert judge_tcp(0.94)[0].code == "fabric.tcp_slow"


def test_what_the_container_sees() -> None:
    assert judge_container({"uverbs": ["uverbs0"], "uverbs_denied": [], "memlock": -1}) == []
    codes = [finding.code for finding in judge_container({"uverbs": [], "memlock": 65536})]
    assert codes == ["fabric.no_uverbs", "fabric.memlock"]
    denied = judge_container(
        {
            "uverbs": ["uverbs0"],
            "uverbs_denied": ["uverbs0"],
            "uverbs_error": "Operation not permitted",
            "memlock": -1,
        }
    )
    assert "may not open uverbs0: Operation not permitted" in denied[0].found


def test_counters_prove_where_the_data_went() -> None:
    before = {
        "a": {"sent_bytes": 0, "received_bytes": 0, "out_of_sequence": 1},
        "b": {"sent_bytes": 5, "received_bytes": 5},
        "c": {},
    }
    after = {
        "a": {"sent_bytes": 900, "received_bytes": 900, "out_of_sequence": 4},
        "b": {"sent_bytes": 6, "received_bytes": 5},
        "c": {},
    }
    findings = judge_counters(before, after, 1000)
    assert [(finding.code, finding.found.split()[0]) for finding in findings] == [
        ("fabric.packets_lost", "a"),
        ("fabric.counter_still", "b"),
    ]


# --- running -----------------------------------------------------------------------------------------------------


def shell(text: str, retry: str = "", stdin: str = "") -> Job:
    return Job(("/bin/sh", "-c", text), stdin=stdin, retry=retry)


def test_jobs_run_at_once_and_are_fed(tmp_path: Path) -> None:
    # Each waits for the other: one after the other they would never end.
    here, there = tmp_path / "here", tmp_path / "there"
    wait = "touch {}; until [ -e {} ]; do sleep 0.05; done; {}"
    jobs = [shell(wait.format(here, there, "echo a")), shell(wait.format(there, here, "cat"), stdin="fed")]
    assert run_jobs(jobs, 60) == [(0, "a\n"), (0, "fed")]


def test_a_client_waits_for_its_server(tmp_path: Path) -> None:
    text = f'if [ -e {tmp_path}/there ]; then echo figure; else touch {tmp_path}/there; echo "Couldn\'t connect to x"; exit 1; fi'
    assert run_jobs([shell(text, retry="Couldn't connect")], 10, pause=0.1) == [(0, "figure\n")]


def test_nothing_outlives_its_time(tmp_path: Path) -> None:
    results = run_jobs(
        [shell(f"echo begun; (sleep 2; touch {tmp_path}/late) & sleep 30"), Job(("/nonexistent/tool",))], 0.5
    )
    assert results[0] == (124, "begun\n")
    assert results[1] == (127, "/nonexistent/tool: No such file or directory")
    time.sleep(2)
    assert not (tmp_path / "late").exists()


def test_commands() -> None:
    job = ib_write_bw("rocep1s0f1", 12001, 5, 3, "192.168.101.10")
    assert " ".join(job.argv) == "ib_write_bw -d rocep1s0f1 -i 1 -p 12001 -F --report_gbits -D 5 -x 3 192.168.101.10"
    assert ib_write_bw("rocep1s0f1", 12000, 5).retry == ""
    assert iperf3(12000, 5, "192.168.100.10").argv[1] == "--server"
    assert "192.168.100.10" in iperf3(12000, 5, "192.168.100.11", "192.168.100.10").argv
    job = probe_job("image:1", {"NCCL_IB_HCA": "a,b"}, ["/dev/infiniband"], {"memlock": -1}, ["--look-only"], "source")
    line = " ".join(job.argv)
    assert "--device /dev/infiniband --ulimit memlock=-1 --env NCCL_IB_HCA=a,b --env NCCL_DEBUG=INFO" in line
    assert line.endswith("image:1 - --look-only")
    assert job.stdin == "source"


# --- the probe ---------------------------------------------------------------------------------------------------


def test_the_probe_runs_from_a_pipe() -> None:
    source = Path(nccl_probe.__file__).read_text()
    status, output = run_jobs([Job((sys.executable, "-", "--look-only"), stdin=source)], 20)[0]
    assert status == 0
    found = parse_probe(output)
    assert set(found) == {"uverbs", "uverbs_denied", "uverbs_error", "memlock"}
    assert RESULT.strip() in output


def test_the_probe_opens_what_it_sees(tmp_path: Path) -> None:
    (tmp_path / "uverbs0").touch()
    (tmp_path / "uverbs1").symlink_to(tmp_path / "gone")
    (tmp_path / "fabric.rdma_cm").touch()
    found = nccl_probe.look(tmp_path)
    assert (found["uverbs"], found["uverbs_denied"]) == (["uverbs0", "uverbs1"], ["uverbs1"])


def test_an_image_without_torch_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert nccl_probe.main([]) == 0
    assert "torch" in parse_probe(capsys.readouterr().out)["error"]


def test_the_bus_bandwidth_is_that_of_nccl_tests(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for torch: what is proven is the arithmetic and the result's form, not NCCL."""

    class Whole:
        def numel(self) -> int:
            return 1_000_000_000

        def view(self, *_shape: int) -> list[Any]:
            return [Row(), Row()]

    class Row:
        def __eq__(self, other: object) -> Any:
            return self

        def __hash__(self) -> int:
            return 0

        def all(self) -> bool:
            return True

        def numel(self) -> int:
            return 500_000_000

        def fill_(self, _value: int) -> None:
            pass

    torch: Any = types.ModuleType("torch")
    group: Any = types.ModuleType("torch.distributed")
    torch.distributed, torch.uint8, torch.bfloat16, torch.__version__ = group, 0, 0, "9.9"
    torch.full = torch.ones = lambda *_args, **_options: Row()
    torch.zeros = lambda *_args, **_options: Whole()
    torch.cuda = types.SimpleNamespace(
        set_device=lambda _device: None,
        synchronize=lambda: None,
        nccl=types.SimpleNamespace(version=lambda: (2, 30, 7)),
    )
    group.init_process_group = group.destroy_process_group = lambda *_args, **_options: None
    group.all_gather_into_tensor = group.all_reduce = lambda *_args: None
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch.distributed", group)
    # 1 GB in 0.1 s a round is 10 GB/s of algorithm and, between two ranks, 5 GB/s of bus bandwidth.
    monkeypatch.setattr(nccl_probe, "_time", lambda *_args: 0.1)
    nccl_probe.main(["--world", "2"])
    found = parse_probe(capsys.readouterr().out)
    assert (found["bus_gbytes"], found["right"], found["nccl"]) == (5.0, True, "2.30.7")


def test_a_container_that_says_nothing() -> None:
    with pytest.raises(FabricError, match="no result: docker: no such image"):
        parse_probe("x NCCL INFO hello\ndocker: no such image\n")
    with pytest.raises(FabricError, match="it printed nothing"):
        parse_probe("")
