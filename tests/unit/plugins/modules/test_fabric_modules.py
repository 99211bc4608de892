# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules of the link in process, on a machine of files: netplan, systemd, perftest and Docker are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.filter.fabric import FilterModule
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric import netplan as core
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.bench import RESULT
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.link import Machine
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import Finding
from ansible_collections.dgx_spark.vllm.plugins.modules import fabric_benchmark, fabric_info, fabric_netplan

from tests.unit.plugins.fake_docker import use_docker
from tests.unit.plugins.module_utils.fabric.world import FIRST, FIXTURES, SECOND, Spark

Run = Callable[..., dict[str, Any]]
RAILS = [{"interface": FIRST, "address": "192.168.100.10/24"}, {"interface": SECOND, "address": "192.168.101.10/24"}]
PEERS = [{"name": "spark-2", "addresses": ["192.168.100.11/24", "192.168.101.11/24"]}]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


@pytest.fixture
def spark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spark:
    found = Spark(tmp_path / "root")

    def machine(_run: Any) -> Machine:
        return found.machine()

    for module in (fabric_info, fabric_netplan, fabric_benchmark):
        monkeypatch.setattr(module, "Machine", machine)
    return found


# --- fabric_info -------------------------------------------------------------------------------------------------


def test_a_sound_link(run: Run, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, int]] = []

    def ping(_run: Any, rail: Any, peer: str, mtu: int) -> None:
        asked.append((rail.interface, peer, mtu))

    monkeypatch.setattr(fabric_info, "jumbo_ping", ping)
    result = run(fabric_info, address="192.168.100.10", peers=PEERS)
    assert result["problems"] == result["warnings_found"] == []
    assert result["changed"] is False
    assert [rail["rdma"] for rail in result["rails"]] == ["rocep1s0f1", "roceP2p1s0f1"]
    assert result["environment"]["NCCL_IB_HCA"] == "rocep1s0f1,roceP2p1s0f1"
    assert result["fabric"]["cables"] == 1
    assert asked == [(FIRST, "192.168.100.11", 9000), (SECOND, "192.168.101.11", 9000)]
    assert result["msg"] == "the fabric is enp1s0f1np1 192.168.100.10/24, enP2p1s0f1np1 192.168.101.10/24, cables: 1"


def test_everything_wrong_is_told_at_once(run: Run, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    def ping(_run: Any, rail: Any, *_rest: Any) -> Finding:
        return Finding("fabric.peer_silent", "red", "fabric", f"no answer over {rail.interface}", "see the other node")

    monkeypatch.setattr(fabric_info, "jumbo_ping", ping)
    spark.mtu, spark.speed, spark.link_local = 1280, 50000, (FIRST,)
    result = run(fabric_info, address="192.168.100.10", peers=PEERS)
    assert [finding["code"] for finding in result["findings"]] == [
        "fabric.port_speed",
        "fabric.mtu",
        "fabric.link_local",
        "fabric.port_speed",
        "fabric.mtu",
        "fabric.peer_silent",
        "fabric.peer_silent",
    ]
    assert len(result["problems"]) == 6
    assert "spark-2: no answer" in result["msg"]


def test_before_it_is_configured_only_wishes_are_checked(run: Run, spark: Spark) -> None:
    spark.addresses = {"enP7s7": ["10.0.0.5/24"]}
    spark.mtu = 1500
    assert run(fabric_info, address="192.168.100.10", judge=False)["problems"] == []
    result = run(fabric_info, address="10.0.0.9", judge=False)
    assert "collides with enP7s7 (10.0.0.5/24)" in result["problems"][0]
    result = run(fabric_info, address="192.168.100.10", interfaces=["eth9"])
    assert result["failed"] is True
    assert "interface eth9 does not exist" in result["msg"]


def test_what_role_fabric_writes_is_no_problem_before_it(run: Run, spark: Spark) -> None:
    spark.addresses = {"enP7s7": ["10.0.0.5/24"]}
    spark.mtu = 1280
    assert len(run(fabric_info, address="192.168.100.10")["problems"]) == 4
    result = run(fabric_info, address="192.168.100.10", managed=True)
    assert result["problems"] == []
    assert result["warnings_found"] == [
        "enp1s0f1np1 has no IPv4 address, not 192.168.100.10/24: role fabric configures it",
        "enp1s0f1np1 has MTU 1280, not 9000: role fabric configures it",
        "enP2p1s0f1np1 has no IPv4 address, not 192.168.101.10/24: role fabric configures it",
        "enP2p1s0f1np1 has MTU 1280, not 9000: role fabric configures it",
    ]


def test_what_no_role_mends_stays_a_problem(run: Run, spark: Spark) -> None:
    spark.speed = 100000
    assert {finding["code"] for finding in run(fabric_info, address="192.168.100.10", managed=True)["findings"]} == {
        "fabric.port_speed"
    }
    spark.speed, spark.cabled = 200000, ()
    codes = [finding["level"] for finding in run(fabric_info, address="192.168.100.10", managed=True)["findings"]]
    assert "red" in codes
    named = run(fabric_info, address="192.168.100.10", managed=True, interfaces=[FIRST, SECOND])
    assert named["problems"] == []
    assert any("has no link" in text for text in named["warnings_found"])
    spark.addresses = {"enP7s7": ["192.168.100.5/24"]}
    assert (
        "collides with enP7s7"
        in run(fabric_info, address="192.168.100.10", managed=True, interfaces=[FIRST, SECOND])["msg"]
    )


def test_a_machine_without_ports(run: Run, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> None:
    spark.cabled = ()
    spark.addresses = {"eth0": ["172.31.235.11/24"]}
    result = run(fabric_info, address="172.31.235.11", rdma=False, mtu=0, judge=False)
    assert [rail["interface"] for rail in result["rails"]] == ["eth0"]
    assert result["environment"]["NCCL_SOCKET_IFNAME"] == "eth0"
    result = run(fabric_info, address="172.31.235.99", judge=False)
    assert "no interface of this node holds 172.31.235.99" in result["problems"][0]


# --- fabric_netplan ----------------------------------------------------------------------------------------------


class Host:
    """netplan's folder and the stand-ins of what applies it."""

    def __init__(self, root: Path, spark: Spark) -> None:
        self.netplan = root / "etc/netplan"
        self.netplan.mkdir(parents=True)
        self.own = self.netplan / "99-zz-dgx-spark-fabric.yaml"
        self.spark = spark
        self.ran: list[str] = []
        self.loses: str | None = None

    def run(self, argv: Sequence[str], seconds: float = 0) -> tuple[int, str, str]:
        self.ran.append(" ".join(argv))
        if list(argv) == ["netplan", "apply"] and self.own.exists():
            ethernets = yaml.safe_load(self.own.read_text())["network"]["ethernets"]
            for name, entry in ethernets.items():
                self.spark.addresses[name] = entry.get("addresses", self.spark.addresses.get(name, []))
            if self.loses:
                self.spark.addresses.pop(self.loses, None)
        if argv[0] == "/bin/sh":
            return subprocess.run(list(argv), timeout=20, check=False).returncode, "", ""
        return 0, "", ""


@pytest.fixture
def host(tmp_path: Path, spark: Spark, monkeypatch: pytest.MonkeyPatch) -> Host:
    found = Host(tmp_path, spark)
    spark.addresses = {"enP7s7": ["10.0.0.5/24"]}
    program = tmp_path / "programs" / "netplan"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(core, "FOLDERS", (tmp_path / "lib", found.netplan, tmp_path / "run"))
    monkeypatch.setattr(core, "OWN_FILE", found.own)
    for name, value in {
        "FOLDERS": (tmp_path / "lib", found.netplan, tmp_path / "run"),
        "OWN_FILE": found.own,
        "STATE": tmp_path / "state",
        "UNITS": tmp_path / "units",
        "SETTLE": 0.2,
        "run": found.run,
    }.items():
        monkeypatch.setattr(fabric_netplan, name, value)
    (tmp_path / "units").mkdir()
    return found


def test_from_nothing_to_kept_and_again(run: Run, host: Host) -> None:
    arguments: dict[str, Any] = {"rails": RAILS, "management_address": "10.0.0.5"}
    planned = run(fabric_netplan, check=True, **arguments)
    assert planned["changed"] is True
    assert not host.own.exists()
    done = run(fabric_netplan, **arguments)
    assert done["actions"] == planned["actions"] == [f"wrote {host.own}"]
    assert done["pending"] is True
    assert host.ran[-2:] == ["netplan generate", "netplan apply"]
    assert run(fabric_netplan, state="confirmed")["msg"] == f"kept {host.own}"
    again = run(fabric_netplan, **arguments)
    assert (again["changed"], again["pending"], again["msg"]) == (False, False, "netplan says all of it already")
    assert run(fabric_netplan, state="confirmed")["msg"] == "no change waits for a confirmation"


def test_the_way_in_that_does_not_come_back(run: Run, host: Host) -> None:
    host.loses = "enP7s7"
    result = run(fabric_netplan, rails=RAILS)
    assert result["failed"] is True
    assert "the address 10.0.0.5/24 of enP7s7 did not come within" in result["msg"]
    assert not host.own.exists()
    late = run(fabric_netplan, state="confirmed")
    assert "was rolled back" in late["msg"]


def test_what_is_never_touched(run: Run, host: Host) -> None:
    rails = [{"interface": "enP7s7", "address": "192.168.100.10/24"}]
    assert "this node is reached over enP7s7" in run(fabric_netplan, rails=rails)["msg"]
    host.spark.addresses[FIRST] = ["10.9.9.9/24"]
    assert (
        "this node is reached over enp1s0f1np1"
        in run(fabric_netplan, rails=RAILS, management_address="10.9.9.9")["msg"]
    )
    assert (
        "interface eth9 does not exist"
        in run(fabric_netplan, rails=[{"interface": "eth9", "address": "192.168.100.10/24"}])["msg"]
    )
    (host.netplan / "10-broken.yaml").write_text("a: [\n")
    assert "10-broken.yaml is no YAML" in run(fabric_netplan, rails=RAILS)["msg"]
    assert list(host.netplan.iterdir()) == [host.netplan / "10-broken.yaml"]
    assert host.ran == []


def test_the_way_in_may_be_a_host_name(run: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.spark.addresses[FIRST] = ["10.9.9.9/24"]
    asked = []

    def answer(name: str, *_arguments: Any) -> list[Any]:
        asked.append(name)
        if name != "spark-1.lan":
            raise OSError("Name or service not known")
        return [(2, 1, 6, "", ("10.9.9.9", 0))]

    monkeypatch.setattr(fabric_netplan.socket, "getaddrinfo", answer)
    refused = run(fabric_netplan, rails=RAILS, management_address="spark-1.lan")
    assert "this node is reached over enp1s0f1np1" in refused["msg"]
    # A port that is the way in does not lose its file for the sake of the other one.
    rails = [{"interface": "enp1s0f0np0", "address": "192.168.100.10/24"}]
    ethernets = {"enp1s0f0np0": {"dhcp4": True}, FIRST: {"addresses": ["10.9.9.9/24"]}}
    (host.netplan / "40.yaml").write_text(yaml.safe_dump({"network": {"version": 2, "ethernets": ethernets}}))
    refused = run(fabric_netplan, rails=rails, replace=True, management_address="spark-1.lan")
    assert "it also configures enp1s0f1np1" in refused["msg"]
    assert asked == ["spark-1.lan"] * 2
    done = run(fabric_netplan, check=True, rails=rails, replace=True, management_address="nobody.lan")
    assert f"10.9.9.9/24 of enp1s0f1np1 went with {host.netplan}/40.yaml" in done["notes"][0]


def test_another_file_stays_until_it_may_be_put_aside(run: Run, host: Host) -> None:
    other = host.netplan / "40-cx7.yaml"
    other.write_text((FIXTURES / "netplan_40-cx7.yaml").read_text().replace("192.168.10", "10.77.10"))
    refused = run(fabric_netplan, rails=RAILS)
    assert "gives enp1s0f1np1 the address 10.77.100.10/24" in refused["msg"]
    done = run(fabric_netplan, rails=RAILS, replace=True)
    assert done["actions"] == [f"put aside {other}", f"wrote {host.own}"]
    assert (host.netplan / "40-cx7.yaml.dgx-spark-aside").exists()
    assert not other.exists()


def test_an_earlier_change_that_waits(run: Run, host: Host) -> None:
    run(fabric_netplan, rails=RAILS)
    assert "is not confirmed yet" in run(fabric_netplan, rails=RAILS, mtu=1500)["msg"]
    run(fabric_netplan, state="confirmed")
    assert run(fabric_netplan, state="absent")["actions"] == [f"removed {host.own}"]
    run(fabric_netplan, state="confirmed")
    assert run(fabric_netplan, state="absent")["msg"] == "there is nothing to remove"


@pytest.mark.parametrize(
    ("arguments", "words"), [({"mtu": 20000}, "fabric_mtu is 20000"), ({"seconds": 5}, "expected 60 or more")]
)
def test_bounds(run: Run, host: Host, arguments: dict[str, Any], words: str) -> None:
    assert words in run(fabric_netplan, rails=RAILS, **arguments)["msg"]


def test_a_node_without_netplan(run: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fabric_netplan.AnsibleModule, "get_bin_path", lambda *_arguments, **_options: None)
    assert "netplan is missing on this node" in run(fabric_netplan, rails=RAILS)["msg"]


# --- fabric_benchmark --------------------------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    use_docker(str(folder / "docker"), monkeypatch)
    return folder


def tool(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text("#!/bin/sh\n" + text)
    (folder / name).chmod(0o755)


BENCH: dict[str, Any] = {
    "rails": [
        {**rail, "rdma": rdma, "gid_index": 3} for rail, rdma in zip(RAILS, ("rocep1s0f0", "roceP2p1s0f0"), strict=True)
    ],
    "timeout": 5,
}


def test_rdma_over_both_twins(run: Run, spark: Spark, tools: Path) -> None:
    tool(tools, "ib_write_bw", f'cat "{FIXTURES}/ib_write_bw_$2.txt"\n')
    result = run(
        fabric_benchmark, test="rdma", role="client", peer_addresses=["192.168.100.10/24", "192.168.101.10/24"], **BENCH
    )
    assert result["problems"] == []
    assert result["result"]["gbits"] == 189.85
    assert "rdma: gbits 189.85" in result["msg"]


def test_a_test_that_gave_no_figure(run: Run, spark: Spark, tools: Path) -> None:
    tool(tools, "ib_write_bw", "echo 'Failed to modify QP to RTR'; exit 1\n")
    result = run(fabric_benchmark, test="rdma", **BENCH)
    assert len(result["problems"]) == 2
    assert "ib_write_bw over rocep1s0f0 failed (Failed to modify QP to RTR)" in result["problems"][0]
    tool(tools, "ib_write_bw", "exec sleep 30\n")
    result = run(fabric_benchmark, test="rdma", **{**BENCH, "timeout": 1})
    assert "was not done within 1 s" in result["msg"]
    result = run(fabric_benchmark, test="rdma", role="client", peer_addresses=["192.168.100.10"], **BENCH)
    assert "peer_addresses has 1 addresses for 2 rails" in result["msg"]


def test_tools_that_are_missing_and_check_mode(
    run: Run, spark: Spark, tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool(tools, "iperf3", "exit 1\n")
    assert run(fabric_benchmark, check=True, test="tcp", **BENCH)["msg"].startswith("not run in check mode")
    monkeypatch.setattr(fabric_benchmark.AnsibleModule, "get_bin_path", lambda *_arguments, **_options: None)
    assert run(fabric_benchmark, check=True, test="rdma", **BENCH)["missing_packages"] == ["perftest"]
    assert "docker is missing" in run(fabric_benchmark, test="nccl", **BENCH)["msg"]


def probe_result(**more: Any) -> str:
    found = {
        "uverbs": ["uverbs0"],
        "uverbs_denied": [],
        "uverbs_error": "",
        "memlock": -1,
        "right": True,
        "bus_gbytes": 21.4,
        **more,
    }
    return RESULT + json.dumps(found)


def test_nccl_in_the_serving_image(run: Run, spark: Spark, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = [{"sent_bytes": 0, "received_bytes": 0}] * 2 + [{"sent_bytes": 9 * 10**9, "received_bytes": 0}] * 2
    monkeypatch.setattr(Machine, "counters", lambda _self, _device: readings.pop(0))
    script = f"cat > {tools}/stdin; echo \"$@\" > {tools}/arguments; cat {FIXTURES}/nccl_ib_slow.log; echo '{probe_result()}'\n"
    tool(tools, "docker", script)
    result = run(
        fabric_benchmark,
        test="nccl",
        image="serving:1",
        environment={"NCCL_IB_HCA": "rocep1s0f0,roceP2p1s0f0"},
        **BENCH,
    )
    assert result["problems"] == []
    assert result["result"]["transport"] == "NET/IB"
    assert result["result"]["used"] == ["rocep1s0f0", "roceP2p1s0f0"]
    assert result["result"]["counters"]["rocep1s0f0"]["sent_bytes"] == 9 * 10**9
    assert "--master 192.168.100.10" in (tools / "arguments").read_text()
    assert "FABRIC-PROBE-RESULT" in (tools / "stdin").read_text()
    assert any("Using network IB" in line for line in result["log"])


def test_a_slow_link_stops_only_where_bandwidth_is_required(run: Run, spark: Spark, tools: Path) -> None:
    said = probe_result(bus_gbytes=2.8)
    tool(tools, "docker", f"cat > /dev/null; cat {FIXTURES}/nccl_ib_slow.log; echo '{said}'\n")
    asked = run(fabric_benchmark, test="nccl", image="serving:1", **BENCH)
    assert any("NCCL measured 2.8 GB/s" in text for text in asked["problems"])
    proof = run(fabric_benchmark, test="nccl", image="serving:1", require_bandwidth=False, **BENCH)
    assert not any("NCCL measured" in text for text in proof["problems"])
    assert any("NCCL measured 2.8 GB/s" in text for text in proof["warnings_found"])


def test_the_role_requires_bandwidth_where_a_measurement_was_asked_for() -> None:
    role = Path(fabric_benchmark.__file__).parents[2] / "roles/fabric"
    defaults = yaml.safe_load((role / "defaults/main.yml").read_text())
    assert (defaults["fabric_require_bandwidth"], defaults["fabric_benchmark"]) == (
        "{{ fabric_benchmark | bool }}",
        False,
    )
    tasks = [
        task.get("dgx_spark.vllm.fabric_benchmark", {})
        for task in yaml.safe_load((role / "tasks/benchmark.yml").read_text())
    ]
    loading = [task for task in tasks if "cables" in task]
    assert len(loading) == 2
    assert all(task["require_bandwidth"] == "{{ fabric_require_bandwidth }}" for task in loading)


def test_nccl_on_tcp_is_told(run: Run, spark: Spark, tools: Path) -> None:
    said = probe_result(uverbs=[], memlock=65536, bus_gbytes=3.0)
    tool(tools, "docker", f"cat > /dev/null; cat {FIXTURES}/nccl_socket.log; echo '{said}'\n")
    result = run(fabric_benchmark, test="nccl", image="serving:1", **BENCH)
    assert [finding["code"] for finding in result["findings"]][:4] == [
        "fabric.no_uverbs",
        "fabric.memlock",
        "fabric.nccl_socket",
        "fabric.nccl_slow",
    ]
    tool(tools, "docker", f"cat > /dev/null; echo '{probe_result(error='RuntimeError: NCCL error')}'\n")
    assert (
        "NCCL in the serving image failed: RuntimeError: NCCL error"
        in run(fabric_benchmark, test="nccl", image="serving:1", **BENCH)["msg"]
    )
    tool(tools, "docker", "cat > /dev/null; echo 'Unable to find image'; exit 125\n")
    assert (
        "the serving container gave no result: Unable to find image"
        in run(fabric_benchmark, test="container", image="serving:1", **BENCH)["msg"]
    )
    assert "test container needs image" in run(fabric_benchmark, test="container", **BENCH)["msg"]


# --- filters -----------------------------------------------------------------------------------------------------


def test_filters() -> None:
    filters = FilterModule().filters()
    mine = {"rails": [{**rail, "mtu": 9000} for rail in RAILS]}
    theirs = {"rails": [{**rail, "address": rail["address"].replace(".10/", ".11/"), "mtu": 1500} for rail in RAILS]}
    results = {"spark-1": mine, "spark-2": theirs}
    assert filters["fabric_misfits"](results, mtu=False) == []
    assert len(filters["fabric_misfits"](results)) == 2
    assert filters["fabric_peers"](results, "spark-1") == [
        {"name": "spark-2", "addresses": ["192.168.100.11/24", "192.168.101.11/24"]}
    ]
    with pytest.raises(AnsibleFilterError, match="no result of fabric_info for spark-2: run the play over all nodes"):
        filters["fabric_peers"]({"spark-1": mine, "spark-2": {}}, "spark-1")
    with pytest.raises(AnsibleFilterError, match="expected a mapping"):
        filters["fabric_misfits"]([])
