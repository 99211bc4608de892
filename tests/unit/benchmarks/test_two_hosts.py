# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Two GPUs as two hosts, without a GPU: what stands in for Docker and systemd, what is read off the watchdog, what is planned and refused."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import DOCKER, inspect_container
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.observer import Observer, Probe
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.start_causes import starts, starts_command

from benchmarks.gpu import cluster, containers, faults, hosts, predict, two_hosts, units
from benchmarks.gpu.entries import HERE, model_config
from benchmarks.gpu.guard import Machine
from benchmarks.gpu.watch import Watch

FILE = HERE / "two-hosts.yml"
STUBS = Path(__file__).parent / "fixtures" / "two_hosts"


class Here(hosts.Host):
    """A host that is this machine."""

    def enter(self, argv: Sequence[str]) -> list[str]:
        return list(argv)


class Group(containers.Containers):
    """Containers without control groups: one process each, started in its own session."""

    def wrap(self, name: str, argv: Sequence[str]) -> list[str]:
        folder = self.folder(name)
        folder.mkdir(parents=True, exist_ok=True)
        return ["sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(folder), *argv]


def unit(tmp_path: Path, command: Sequence[str], **options: Any) -> units.Unit:
    return units.Unit("spark-vllm", Here("a", "127.0.0.1", 0, 1), Group(tmp_path), command, {}, tmp_path, **options)


def wait(wanted: Any, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if wanted():
            return True
        time.sleep(0.02)
    return False


# --- what is run


def options(path: Path = FILE, names: Sequence[str] = ()) -> argparse.Namespace:
    return argparse.Namespace(configurations=path, names=list(names))


def test_every_configuration_is_planned_and_its_faults_are_known() -> None:
    wanted = two_hosts.wanted_of(options())
    assert len(wanted) >= 9
    for entry in wanted:
        config = model_config(entry)
        given = predict.given_of(entry, config, "NVIDIA H100 80GB HBM3", 79.18, 74.0)
        said = predict.predict(given, [tuple(point) for point in entry["points"]])
        assert said["kv_cache_tokens"] > 8192, entry["name"]
        assert len(said["points"]) == len(entry["points"])
        assert set(entry.get("expect", {})) == set(entry.get("faults", [])), "every fault is predicted before it is put"


def test_names_choose_and_order_configurations() -> None:
    assert [entry["name"] for entry in two_hosts.wanted_of(options(names=["hosts24-decode-mp", "hosts24-eager"]))] == [
        "hosts24-decode-mp",
        "hosts24-eager",
    ]
    with pytest.raises(ValueError, match="it has no nonsense"):
        two_hosts.wanted_of(options(names=["nonsense"]))


def test_a_fault_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yml"
    path.write_text("configurations: [{name: a, faults: [flood]}]", encoding="utf-8")
    with pytest.raises(ValueError, match="a has the fault flood; known are"):
        two_hosts.wanted_of(options(path))


def test_an_unknown_gpu_has_no_bandwidth() -> None:
    with pytest.raises(ValueError, match="add it to BANDWIDTH_GB_S"):
        predict.bandwidth_of("Abacus 9")


# --- the cable


def test_a_limit_is_netem_or_tbf_or_nothing() -> None:
    assert "netem" in hosts.limit_command(hosts.Limit("a", delay_us=100))
    assert hosts.limit_command(hosts.Limit("a", rate_mbit=10000))[6:9] == ["tbf", "rate", "10000mbit"]
    assert "del" in hosts.limit_command(hosts.Limit("none"))


def test_hosts_of_another_run_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / hosts.CONTROL_OUTSIDE).mkdir()
    assert "already" in hosts.taken(tmp_path)
    assert hosts.taken(tmp_path / "none") == ""
    monkeypatch.setattr(hosts, "missing", lambda: "")
    monkeypatch.setattr(hosts, "taken", lambda: "two hosts are on this machine already")
    monkeypatch.setattr(hosts, "_run", lambda command: pytest.fail(f"{command} was run"))
    with pytest.raises(hosts.HostError, match="already"):
        hosts.Pair()


def test_the_result_of_the_probe_is_its_last_line() -> None:
    assert cluster.probe_result('noise\nFABRIC-PROBE-RESULT {"latency_us": 74}\n') == {"latency_us": 74}
    assert cluster.probe_result("boom\n") == {"error": "the probe gave no result: boom"}


# --- containers


def test_a_container_that_is_not_there_is_absent_as_docker_says_it(tmp_path: Path) -> None:
    machine = Machine(containers.Containers(tmp_path), tmp_path)
    assert inspect_container(machine, "spark-vllm") is None
    status, _out, err = machine([DOCKER, "kill", "spark-vllm"])
    assert status == 1
    assert "No such container" in err
    assert machine([DOCKER, "exec", "spark-vllm"])[0] == 1


def test_a_container_runs_since_its_oldest_process(tmp_path: Path) -> None:
    group = containers.Containers(tmp_path)
    group.folder("a").mkdir(parents=True)
    (group.folder("a") / "cgroup.procs").write_text("0\n20\n10\n", encoding="ascii")
    proc = tmp_path / "proc"
    for pid, ticks in ((10, 500), (20, 900)):
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "stat").write_text(f"{pid} (x) S {' '.join(['0'] * 18)} {ticks}", encoding="ascii")
    (proc / "uptime").write_text("100.0 0", encoding="ascii")
    found = group.inspect("a", proc)
    assert found is not None
    assert found["State"] == {"Running": True, "Pid": 10}


def test_cgroups_are_found_where_they_are_mounted(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("cgroup2 /a cgroup2 ro,nosuid 0 0\ncgroup2 /b cgroup2 rw,nosuid 0 0\n", encoding="utf-8")
    assert containers.mounted(tmp_path, mounts) == Path("/b")


# --- units


def test_a_unit_says_what_systemd_would_and_starts_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "RESTART_S", 0.2)
    one = unit(tmp_path, ["sh", "-c", "echo RuntimeError: boom; sleep 0.5; exit 3"], look=lambda: [1.0, 2.0])
    one.start()
    machine = Machine(one.containers, tmp_path)
    observer = Observer("spark-vllm", "http://127.0.0.1:9", Probe("", "", "", 30), machine)
    assert wait(lambda: observer._unit() == ("active", "running"))
    assert observer.up_s < 5
    assert wait(lambda: observer._unit() == ("activating", "auto-restart"))
    assert (observer.result, observer.restarts) == ("exit-code", 1)
    assert len(observer.start) == 32
    assert wait(lambda: [event["what"] for event in one.events].count("loads") == 2)
    assert one.since(0.0)[1]["gpu_mib"] == [1.0, 2.0]
    _status, out, _err = machine(starts_command("spark-vllm"))
    assert wait(lambda: len(starts(machine(starts_command("spark-vllm"))[1])) >= 2)
    assert "RuntimeError: boom" in starts(out)[0].text
    assert "RuntimeError: boom" in machine(["journalctl", "--unit", "spark-vllm", "--lines", "60"])[1]
    machine(["systemctl", "stop", "--no-block", "spark-vllm.service"])
    assert wait(lambda: not one.is_alive())
    assert observer._unit() == ("inactive", "dead")


def test_a_gate_that_fails_ends_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "GATES", "json.tool")
    one = unit(tmp_path, ["sleep", "60"], gates=[["/nowhere"]])
    one.start()
    assert not one.wait_active(20, starts=1)
    assert [event["what"] for event in one.events] == ["starts", "ended"]
    one.stop()


def test_a_proof_is_given_up_when_the_program_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "GATES", "http.server")
    one = unit(tmp_path, ["sh", "-c", "sleep 1"], ready=["--bind", "127.0.0.1", "0"])
    one.start()
    assert not one.wait_active(20, starts=1)
    assert [event["what"] for event in one.events] == ["starts", "loads", "ended"]
    one.stop()


# --- what the watchdog says


def write(path: Path, **document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def test_changes_of_the_verdict_are_kept_and_false_alarms_counted(tmp_path: Path) -> None:
    state = tmp_path / "state"
    write(state, state="serving", reason="an earlier watchdog's word")
    watch = Watch(state, tmp_path)
    try:
        time.sleep(0.5)
        assert watch.events == []
        write(state, state="busy", prefill_tok_s=1260.0, figures={"frozen_s": 2.0, "allowed_s": 15.0})
        assert watch.wait_for(lambda: watch.alive, 5) is not None
        write(state, state="hung", reason="nothing moves", figures={"frozen_s": 16.0, "allowed_s": 15.0})
        assert watch.wait_for(lambda: watch.state == "hung", 5) is not None
        assert watch.false_alarms == 1
        write(state, state="busy")
        assert watch.wait_for(lambda: watch.alive, 5) is not None
        with watch.fault("stop_rank"):
            write(state, state="mute", reason="no answer")
            assert watch.wait_for(lambda: watch.state == "mute", 5) is not None
        assert watch.summary()["false_alarms"] == 1
        assert watch.summary()["prefill_tok_s"] == 1260.0
        assert watch.summary()["longest_frozen"] == {"frozen_s": 16.0, "allowed_s": 15.0}
        assert [event["state"] for event in watch.since(0.0)] == ["busy", "hung", "busy", "mute"]
    finally:
        watch.stop()


def test_the_next_right_answer_is_the_first_behind_the_last_other_one() -> None:
    asker = faults.Asker("http://127.0.0.1:9", 100000)
    asker.answers = [(1.0, 1.1, "right"), (11.0, 11.2, "right"), (12.0, 20.0, "silent"), (30.0, 31.0, "wrong")]
    assert asker.again(10.0, "right") is None
    assert asker.again(10.0, "right", "wrong") == 21.0
    asker.answers += [(40.0, 40.5, "right"), (41.0, 41.5, "right")]
    assert asker.again(10.0, "right") == 30.5
    assert asker.counts(10.0) == {"right": 3, "silent": 1, "wrong": 1}
    assert asker.again(40.0, "right") == 0.0
    assert (asker.slowest(10.0), asker.slowest(50.0)) == (8.0, 0.0)


def test_a_fault_on_a_pair_that_does_not_serve_is_told_in_a_sentence(tmp_path: Path) -> None:
    watch = Watch(tmp_path / "state", tmp_path)
    stage: Any = argparse.Namespace(guard=lambda: watch, url="http://127.0.0.1:9", vocabulary=100000)
    with pytest.raises(hosts.HostError, match="no answer before the fault"):
        faults.play("kill_rank", stage, lambda seen: None)
    assert not watch.is_alive()


def test_no_process_is_behind_a_program_that_is_gone(tmp_path: Path) -> None:
    assert units.inner_pid(10**9) == 0
    (tmp_path / "5" / "task" / "5").mkdir(parents=True)
    (tmp_path / "5" / "task" / "5" / "children").write_text("7 ", encoding="ascii")
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nNSpid:\t7\t3\n", encoding="utf-8")
    assert units.inner_pid(5, tmp_path) == 3


def test_one_id_stands_for_the_image_of_a_trial() -> None:
    assert json.loads(two_hosts.no_image([DOCKER, "image", "inspect", "none"])[1])[0]["Id"]
    assert two_hosts.no_image(["true"])[0] == 1


# --- all of it, with stubs for Ray, vLLM and nvidia-smi

CONFIGURATIONS = """
defaults:
  intents: {tensor_parallel_size: 2, nodes: 2, executor: ray, cuda_graphs: decode, load_format: dummy, max_model_len: 8192, gpu_memory_utilization: 0.88}
  environment: {}
  shape: qwen3-235b-a22b-awq
  points: [[1, 128]]
  least_s: 10
configurations:
  - {name: a, intents: {}, faults: [kill_rank]}
"""
#: Units start again after a second.
PROGRAM = """
import sys
from benchmarks.gpu import units
units.RESTART_S = 1.0
from benchmarks.gpu.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(bool(hosts.missing()), reason=hosts.missing() or "can be made")
def test_a_rank_that_is_killed_on_two_hosts_is_healed_by_the_watchdog(tmp_path: Path) -> None:
    if hosts.taken():
        pytest.skip(hosts.taken())
    path = tmp_path / "list.yml"
    path.write_text(CONFIGURATIONS, encoding="utf-8")
    root = HERE.parent.parent
    arguments = [
        "--hosts",
        "2",
        "--configurations",
        str(path),
        "--out",
        str(tmp_path / "out"),
        "--work",
        str(tmp_path / "work"),
    ]
    arguments += [
        "--ray",
        f"{sys.executable} {STUBS / 'ray.py'}",
        "--vllm",
        f"{sys.executable} {STUBS / 'vllm.py'}",
        "--until",
        "400",
    ]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=root,
        env={**os.environ, "PATH": f"{STUBS}:{os.environ['PATH']}", "PYTHONPATH": f"{root}:{root / 'collections'}"},
    )
    if "failed: Operation not permitted" in done.stderr or "does not come up" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out" / "a.json").read_text(encoding="utf-8"))
    assert (result["status"], result["reason"]) == ("ok", "")
    assert result["predicted"]["kv_cache_tokens"] > 0
    (fault,) = result["faults"]
    assert fault["healed"], fault
    # The unit starts again before the watchdog's next look, perhaps.
    assert fault["verdict"]["state"] in ("dead", "waiting", "loading")
    assert fault["loads"][-1]["gpu_mib"] == [4.0, 4.0]
    assert fault["answers"]["error"] > 0 and fault["right_after_s"] > fault["ended_after_s"]
    # The dead rank's server was ended, and nothing is left behind.
    assert not (containers.mounted(tmp_path) / containers.FAMILY).exists()
    assert (
        hosts.CONTROL_OUTSIDE not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout
    )
