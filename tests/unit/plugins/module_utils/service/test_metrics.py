# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The figures of a node: what is read is written, what cannot be read is left out."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import metrics
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.metrics import FIELDS, Metrics, key_failures, main

SMI = "0, 61.20, 58, 96, 2405, 3003, 0x0000000000000020\n"
SHOW = """Id=spark-vllm.service
LoadState=loaded
ActiveState=active
NRestarts=2

Id=spark-cdi.service
LoadState=not-found
ActiveState=inactive
NRestarts=0
"""
CONFIG = {"address": "192.168.100.10", "link_gbits": 200, "reserve_gib": 6, "disks": {"root": "/"}}


class Programs:
    """Answers by the program's name; one that has no answer is not there."""

    def __init__(self, **answers: tuple[int, str]) -> None:
        self.answers = {name.replace("_", "-"): answer for name, answer in answers.items()}
        self.asked: list[Sequence[str]] = []

    def __call__(
        self,
        argv: Sequence[str],
        seconds: float | None = None,
        /,
        *,
        data: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        self.asked.append(argv)
        status, out = self.answers.get(argv[0], (127, ""))
        return status, out, ""


def tree(root: Path, speed: str = "200000", carrier: str = "1") -> None:
    files = {
        "sys/class/net/enp1/carrier": carrier,
        "sys/class/net/enp1/speed": speed,
        "sys/class/net/enp1/statistics/rx_errors": "3",
        "sys/class/net/enp1/statistics/tx_bytes": "1000",
        "sys/class/infiniband/rocep1/ports/1/counters/port_xmit_data": "500",
        "sys/class/infiniband/rocep1/ports/1/hw_counters/out_of_sequence": "7",
        "sys/class/infiniband/rocep1/device/net/enp1/mtu": "9000",
        "sys/class/net/enp1/device/infiniband/rocep1/node_guid": "x",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")


def written(tmp_path: Path, programs: Programs, state: dict[str, Any] | None = None, **config: Any) -> dict[str, float]:
    watchdog = tmp_path / "watchdog.json"
    if state is not None:
        watchdog.write_text(json.dumps(state))
    file = tmp_path / "metrics" / "dgx_spark.prom"
    Metrics({**CONFIG, **config}, programs, file, watchdog, tmp_path).round()
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_everything_that_is_there_is_written(tmp_path: Path) -> None:
    tree(tmp_path)
    state = {
        "state": "hung",
        "failures": [{}, {}],
        "recovery": {"at": "2026-01-01T00:00:00Z"},
        "nodes": {"192.168.100.11": {"age_s": 1.5}},
    }
    address = json.dumps([{"ifname": "enp1"}])
    found = written(tmp_path, Programs(nvidia_smi=(0, SMI), systemctl=(0, SHOW), ip=(0, address)), state)
    assert found['dgx_spark_server_state{state="hung"}'] == 1
    assert found['dgx_spark_server_state{state="serving"}'] == 0
    assert found["dgx_spark_failures"] == 2
    assert found["dgx_spark_recovery_seconds"] == 1767225600
    assert found['dgx_spark_node_report_age_seconds{address="192.168.100.11"}'] == 1.5
    assert found['dgx_spark_unit_restarts_total{unit="spark-vllm"}'] == 2
    assert not [name for name in found if "spark-cdi" in name]
    assert found["dgx_spark_gpu_answers"] == 1
    assert found['dgx_spark_gpu_utilization_ratio{gpu="0"}'] == 0.96
    assert found['dgx_spark_gpu_clock_hertz{gpu="0"}'] == 2405e6
    assert found['dgx_spark_gpu_slowed{gpu="0",reason="sw_thermal"}'] == 1
    assert found['dgx_spark_gpu_slowed{gpu="0",reason="hw_thermal"}'] == 0
    assert found['dgx_spark_link_speed_bytes{device="enp1"}'] == 25e9
    assert found['dgx_spark_link_speed_wanted_bytes{device="enp1"}'] == 25e9
    assert found['dgx_spark_link_errors_total{device="enp1",kind="out_of_sequence"}'] == 7
    assert found['dgx_spark_link_bytes_total{device="enp1",direction="sent"}'] == 3000
    assert found["dgx_spark_memory_reserve_bytes"] == 6 * 2**30
    assert 'dgx_spark_disk_free_bytes{of="root"}' in found


def test_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    found = written(tmp_path, Programs(), certificate="/none.pem", gateway_socket=str(tmp_path / "none"))
    assert {name.partition("{")[0] for name in found} == {
        "dgx_spark_metrics_written_seconds",
        "dgx_spark_memory_reserve_bytes",
        "dgx_spark_disk_free_bytes",
        "dgx_spark_disk_size_bytes",
    }


def test_a_gpu_that_does_not_answer_and_figures_that_it_has_not(tmp_path: Path) -> None:
    assert written(tmp_path, Programs(nvidia_smi=(124, "")))["dgx_spark_gpu_answers"] == 0
    found = written(tmp_path, Programs(nvidia_smi=(0, "0, [N/A], 58, 0, 208, 3003, [N/A]\n")))
    assert 'dgx_spark_gpu_temperature_celsius{gpu="0"}' in found
    assert not [name for name in found if "power" in name or "slowed" in name]


def test_an_older_driver_is_asked_by_its_own_name(tmp_path: Path) -> None:
    programs = Programs(nvidia_smi=(2, 'Field "clocks_event_reasons.active" is not a valid field to query.'))
    written(tmp_path, programs)
    asked = [argv[1] for argv in programs.asked if argv[0] == "nvidia-smi"]
    assert asked == [
        f"--query-gpu={','.join(FIELDS)}",
        f"--query-gpu={','.join(FIELDS).replace('event', 'throttle')}",
    ]


def test_a_link_without_carrier_has_no_speed(tmp_path: Path) -> None:
    tree(tmp_path, speed="-1", carrier="0")
    found = written(tmp_path, Programs(ip=(0, json.dumps([{"ifname": "enp1"}]))))
    assert found['dgx_spark_link_up{device="enp1"}'] == 0
    assert found['dgx_spark_link_speed_bytes{device="enp1"}'] == 0


def test_the_end_of_a_certificate_is_asked_for_seldom(tmp_path: Path) -> None:
    programs = Programs(openssl=(0, "notAfter=Jan  1 00:00:00 2027 GMT\n"))
    looks = Metrics({**CONFIG, "certificate": "/a.pem"}, programs, tmp_path / "f", tmp_path / "w", tmp_path)
    for _round in range(3):
        assert "dgx_spark_certificate_end_seconds 1798761600" in looks.figures(0).text()
    assert len([argv for argv in programs.asked if argv[0] == "openssl"]) == 1


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("# table: refused_keys, type: string, size:16, used:1\n0x5: key=all use=0 exp=0 http_req_cnt=42\n", 42),
        ("# table: refused_keys, type: string, size:16, used:0\n", 0),
        ("Unknown table\n", None),
    ],
)
def test_refused_keys_are_the_gateways_own_count(tmp_path: Path, said: str, count: int | None) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            connection, _address = server.accept()
            with connection:
                assert connection.recv(100) == b"show table refused_keys\n"
                connection.sendall(said.encode())

        thread = threading.Thread(target=answer)
        thread.start()
        assert key_failures(path) == count
        thread.join()


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: install the package prometheus")
def test_prometheus_finds_nothing_wrong_with_the_figures(tmp_path: Path) -> None:
    tree(tmp_path)
    state = {"state": "serving", "nodes": {"192.168.100.11": {"age_s": 1.5}}}
    programs = Programs(nvidia_smi=(0, SMI), systemctl=(0, SHOW), ip=(0, json.dumps([{"ifname": "enp1"}])))
    written(tmp_path, programs, state)
    text = (tmp_path / "metrics" / "dgx_spark.prom").read_text()
    said = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (0, "")


def test_the_program_says_what_is_wrong_with_its_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", str(tmp_path / "none.json")]) == 1
    assert "run playbooks/site.yml" in capsys.readouterr().err
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    assert main(["--config", str(broken)]) == 1


def test_the_program_writes_and_says_once_why_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "metrics.json"
    config.write_text(json.dumps(CONFIG))

    def full(_metrics: Metrics) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(metrics.Metrics, "round", full)
    assert main(["--config", str(config)], [None, None]) == 0
    assert capsys.readouterr().err == "the figures cannot be written: no space left\n"
