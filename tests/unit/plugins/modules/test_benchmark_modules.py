# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""vllm_benchmark and what belongs to it in process, with docker, nvidia-smi and journalctl replaced by programs of a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu import runtime
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import FileEntry, Manifest, Store
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import unit_states
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    container_service_info,
    vllm_benchmark,
    vllm_benchmark_info,
    vllm_benchmark_result,
)

from tests.unit.plugins.fake_docker import use_docker
from tests.unit.plugins.fake_server import FakeServer, Reply, closed_port, fake_server
from tests.unit.plugins.module_utils.benchmark.world import PLAN, point

FIXTURES = Path(__file__).parents[1] / "module_utils" / "fixtures"
COMMIT = "0123456789" * 4
# Invented: the wording of vLLM's source with made-up figures.
JOURNAL = """\
(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:286] vLLM API server version 0.32.0
(EngineCore pid=9) INFO 01-01 00:00:20 [gpu_model_runner.py:5040] Starting to load model m...
(EngineCore pid=9) INFO 01-01 00:03:20 [default_loader.py:502] Loading weights took 180.00 seconds
(EngineCore pid=9) INFO 01-01 00:03:20 [gpu_model_runner.py:5150] Model loading took 57.8 GiB memory and 180.000000 seconds
(APIServer pid=1) INFO:     Application startup complete.
"""
LOADS = [{"concurrency": 1, "prompt_tokens": 64, "output_tokens": 16}]
Run = Callable[..., dict[str, Any]]


class Node:
    """A folder of programs in front of PATH, and of files that stand for the node's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.log = folder / "asked"
        (folder / "bin").mkdir()
        (folder / "root/proc").mkdir(parents=True)
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        docker = str(folder / "bin/docker")
        use_docker(docker, monkeypatch)
        host, look = runtime.Host, vllm_benchmark_info.Look
        monkeypatch.setattr(vllm_benchmark, "Host", lambda run: host(run, folder / "root"))
        monkeypatch.setattr(vllm_benchmark_info, "Look", lambda module: look(module, folder / "root"))
        monkeypatch.setattr(vllm_benchmark, "EVERY", 0.02)
        monkeypatch.setattr(vllm_benchmark, "LOOKS", 1)
        self.program("docker", "exit 1")
        self.program("journalctl", "exit 1")

    def program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{body}\n')
        path.chmod(0o755)

    def with_gpu(self, line: str = "") -> None:
        recorded = line or (FIXTURES / "gb10/smi_query_latched.csv").read_text().strip()
        self.program(
            "nvidia-smi", f"case $1 in --query-gpu=*) echo '{recorded}';; *) echo '4711, train.py, 9000 MiB';; esac"
        )

    def started(self, gib: int = 45) -> str:
        """A journal of a start, and a store with a manifest of so many GiB of weights; the folder of these weights."""
        (self.folder / "journal").write_text(JOURNAL)
        self.program("journalctl", f"cat {self.folder}/journal")
        store = Store(self.folder / "models")
        store.repo("a/b").mkdir(parents=True)
        files = (FileEntry("c.json", 9, "0" * 64), FileEntry("m.safetensors", gib << 30, "0" * 64))
        store.write_manifest(Manifest("a/b", COMMIT, files))
        return str(store.snapshot("a/b", COMMIT))

    def serving(
        self,
        url: str,
        *more: str,
        bench: str = "exit 0",
        result: str = "bench_1x64",
        weights: str = "/srv/models/a--b/c0ffee",
    ) -> None:
        """A container that serves at ``url``; ``bench`` is what vLLM's benchmark does in it."""
        port = url.rpartition(":")[2]
        inspected = [
            {
                "Image": "sha256:" + "1" * 64,
                "State": {"Running": True, "StartedAt": "2026-11-23T18:57:44.123456789Z"},
                "Config": {
                    "Image": "serving:1",
                    "Entrypoint": ["vllm"],
                    "Cmd": ["serve", weights, "--port", port, "--served-model-name", "qwen3", *more],
                },
            }
        ]
        answer = self.folder / "inspected.json"
        answer.write_text(json.dumps(inspected))
        self.program(
            "docker",
            f"case $1 in inspect) cat {answer};; top) printf 'PID\\n7\\n';;\n"
            f"exec) case $3 in /bin/sh) {bench};; cat) cat {FIXTURES}/benchmark/{result}.json;; esac;; esac",
        )

    def asked(self, start: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(start)]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, **arguments: Any) -> dict[str, Any]:
        check = arguments.pop("check", False)
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def routes(**figures: float) -> dict[str, Any]:
    """A server that is healthy and shows these figures."""
    page = "\n".join(f'vllm:{name}{{engine="0"}} {value}' for name, value in figures.items())
    return {
        "GET /health": Reply(""),
        "GET /metrics": Reply(page),
        "GET /version": Reply({"version": "0.32.0"}),
    }


# --- vllm_benchmark -----------------------------------------------------------------------------------------


def test_a_load_is_measured(run: Run, node: Node) -> None:
    node.with_gpu()
    counted = iter((2, 5, 5))

    def metrics(_asked: Any) -> Reply:
        done = next(counted, 5)
        return Reply(
            f"vllm:num_requests_running 0\nvllm:num_requests_waiting 2\nvllm:request_success_total {done}\nvllm:prefix_cache_queries_total {done}\n"
            "vllm:prefix_cache_hits_total 0\n"
        )

    with fake_server({**routes(), "GET /metrics": metrics}) as fake:
        node.serving(fake.url, bench="sleep 0.3")
        result = run(vllm_benchmark, loads=LOADS, seed=5, while_busy=True)
    assert (result["ran"], result["changed"]) == (True, False)
    measured = result["points"][0]
    assert (measured["requests"], measured["completed"], measured["seed"]) == (3, 3, 5)
    assert (measured["prefix_hit_share"], measured["preemptions"], measured["waiting_max"]) == (0.0, None, 2)
    assert result["clocks"]["clock_mhz"] == 721
    assert result["msg"].startswith(
        "one request at a time, 64 tokens of prompt and 16 of answer, 3 requests: 300 tok/s"
    )
    assert "--tokenizer /srv/models/a--b/c0ffee" in " ".join(result["commands"][0])
    assert node.asked("docker exec spark-vllm rm -rf -- /tmp/dgx-spark-benchmark")


def test_check_mode_runs_nothing(run: Run, node: Node) -> None:
    with fake_server(routes(num_requests_running=3)) as fake:
        node.serving(fake.url)
        result = run(vllm_benchmark, loads=LOADS, check=True)
    assert (result["ran"], result["changed"], result["points"]) == (False, False, [])
    assert result["msg"].startswith("would run vLLM's benchmark in spark-vllm: one request at a time")
    assert not node.asked("docker exec")


def test_others_are_left_alone(run: Run, node: Node) -> None:
    with fake_server(routes(num_requests_running=1)) as fake:
        node.serving(fake.url)
        result = run(vllm_benchmark, loads=LOADS)
        assert result["msg"].startswith("others use the endpoint now (1 running request)")
        assert not node.asked("docker exec")
        assert run(vllm_benchmark, loads=LOADS, while_busy=True)["ran"] is True


@pytest.mark.parametrize(
    ("bench", "sentence"),
    [
        (
            "echo 'OSError: no tokenizer' >&2; exit 1",
            r"vllm bench serve failed \(one request .*\): OSError: no tokenizer",
        ),
        ("exit 124", r"was not done after 1800 s"),
    ],
)
def test_a_benchmark_that_fails(run: Run, node: Node, bench: str, sentence: str) -> None:
    with fake_server(routes()) as fake:
        node.serving(fake.url, bench=bench)
        result = run(vllm_benchmark, loads=LOADS)
    assert result["failed"] is True
    assert re.search(sentence, result["msg"])
    assert node.asked("docker exec spark-vllm rm"), "nothing is left in the container"


@pytest.mark.parametrize(
    ("loads", "sentence"),
    [
        ([], "loads is empty, expected at least one load"),
        ([{"concurrency": 1, "prompt_tokens": 1}], "prompt_tokens is 1, expected at least 8"),
        ([{"concurrency": 1, "prompt_tokens": 8100}], "8100 tokens of prompt and 128 of answer are more than the 8192"),
    ],
)
def test_loads_that_are_refused(run: Run, node: Node, loads: list[dict[str, int]], sentence: str) -> None:
    node.serving("http://127.0.0.1:1", "--max-model-len", "8192")
    assert run(vllm_benchmark, loads=loads)["msg"].startswith(sentence)


def test_a_server_that_is_not_ready(run: Run, node: Node) -> None:
    node.serving(f"http://127.0.0.1:{closed_port()}")
    result = run(vllm_benchmark, loads=LOADS)
    assert result["msg"].startswith("the server is not ready: ")
    node.program("docker", "echo 'Error: No such object: spark-vllm' >&2; exit 1")
    assert run(vllm_benchmark, loads=LOADS)["msg"].startswith("container spark-vllm does not run on this node")


def test_another_node_watches_until_the_requests_are_answered(run: Run, node: Node) -> None:
    node.with_gpu()

    def metrics(fake: FakeServer) -> Callable[[Any], Reply]:
        def answer(_asked: Any) -> Reply:
            looks = sum(1 for each in fake.asked if each.path == "/metrics")
            return Reply(
                f"vllm:num_requests_running {int(2 <= looks < 5)}\nvllm:request_success_total {7 if looks < 5 else 10}\n"
            )

        return answer

    with fake_server(routes()) as fake:
        fake.routes["GET /metrics"] = metrics(fake)
        result = run(vllm_benchmark, loads=LOADS, watch=True, base_url=fake.url)
    assert (result["ran"], result["points"], result["clocks"]["samples"]) == (False, [], 3)
    assert not node.asked("docker")


def test_a_node_without_a_gpu_watches_nothing(run: Run, node: Node) -> None:
    result = run(vllm_benchmark, loads=LOADS, watch=True, base_url="http://127.0.0.1:1")
    assert (result["msg"], result["clocks"]) == ("this node has no GPU to watch", {})
    assert "base_url" in run(vllm_benchmark, loads=LOADS, watch=True)["msg"]


# --- vllm_benchmark_info ------------------------------------------------------------------------------------


def test_a_node_is_looked_at(run: Run, node: Node, tmp_path: Path) -> None:
    node.with_gpu()
    node.serving("http://127.0.0.1:1")
    root = tmp_path / "root"
    (root / "proc/vmstat").write_text("pswpin 12\npswpout 7\n")
    (root / "proc/loadavg").write_text("0.52 0.58 0.59 1/467 1234\n")
    (root / "proc/self").mkdir()
    (root / "proc/self/mountinfo").write_text(
        "22 1 8:2 / / rw - ext4 /dev/sda2 rw\n40 22 0:50 / /srv/m rw - nfs4 h:/srv/m rw\n"
    )
    (root / "sys/class/net/fab0").mkdir(parents=True)
    (root / "sys/class/net/fab0/speed").write_text("200000\n")
    logs = tmp_path / "ray/session_1/logs"
    logs.mkdir(parents=True)
    (logs / "worker-1.out").write_text((FIXTURES / "gb10_fabric/nccl_socket.log").read_text())
    # The link is Ray's own, made in the container.
    (tmp_path / "ray/session_latest").symlink_to("/tmp/ray/session_1")
    result = run(vllm_benchmark_info, ray_folder=str(tmp_path / "ray"), interface="fab0", store="/srv/m")
    assert (result["filesystem"], result["link_gbit_s"]) == ("nfs4", 200.0)
    assert result["counters"] == {"pswpin": 12, "pswpout": 7, "rdma_bytes": 0}
    assert (result["load"], result["changed"], result["gpus"]) == (0.52, False, ["NVIDIA GB10"])
    assert result["strangers"] == [{"pid": 4711, "process": "train.py", "memory_mib": 9000}]
    assert (result["transport"]["network"], result["transport"]["rdma"]) == ("Socket", False)


def test_a_bare_node(run: Run, node: Node, tmp_path: Path) -> None:
    result = run(vllm_benchmark_info, ray_folder=str(tmp_path / "gone"))
    assert (result["gpus"], result["strangers"], result["transport"], result["load"]) == ([], None, {}, None)
    assert result["msg"].startswith("no GPU, load None")
    assert (result["filesystem"], result["link_gbit_s"]) == ("", None)


# --- vllm_benchmark_result ----------------------------------------------------------------------------------


def reading(**more: Any) -> dict[str, Any]:
    counters = {"pswpin": 10, "pswpout": 0, "tcp_bytes": 100, "rdma_bytes": 100}
    return {
        "counters": counters,
        "load": 0.5,
        "cpus": 20,
        "gpus": ["NVIDIA GB10"],
        "strangers": [],
        "transport": {},
        **more,
    }


def test_a_result_is_saved_and_compared(run: Run, node: Node, tmp_path: Path) -> None:
    after = reading(counters={"pswpin": 10 + 262144, "pswpout": 0, "tcp_bytes": 200, "rdma_bytes": 5 << 30})
    arguments: dict[str, Any] = {
        "points": [point(request=17.0)],
        "nodes": {"spark-1": {"before": reading(), "after": after, "clocks": [{}]}},
        "model": "tiny",
        "plan": PLAN,
        "folder": str(tmp_path / "results"),
    }
    with fake_server(routes()) as fake:
        node.serving(fake.url, "--enforce-eager")
        would = run(vllm_benchmark_result, **arguments, check=True)
        assert (would["changed"], would["path"], (tmp_path / "results").exists()) == (True, "", False)
        first = run(vllm_benchmark_result, **arguments)
        slow = run(vllm_benchmark_result, **{**arguments, "points": [point(request=9.0)]})
    assert json.loads(Path(first["path"]).read_text()) == first["document"]
    assert first["document"]["key_parts"] == {
        "model": "tiny",
        "weights": "a--b/c0ffee",
        "image_id": "sha256:" + "1" * 64,
        "nodes": 1,
        "flags": ["--enforce-eager"],
    }
    assert first["document"]["versions"] == {"vllm": "0.32.0", "image": "serving:1"}
    assert (first["verdict"]["level"], first["document"]["simulation"], first["earlier"]) == ("fine", False, [])
    assert (slow["verdict"]["level"], slow["verdict"]["earlier_runs"]) == ("below", 1)
    assert [cause["code"] for cause in slow["verdict"]["causes"]] == ["benchmark.swap", "benchmark.eager"]
    assert "1024 MiB back from swap" in slow["msg"]
    assert [each["key"] for each in slow["earlier"]] == [first["document"]["key"]]
    assert node.asked("journalctl")[0] == "journalctl --unit spark-vllm --output cat --since 2026-11-23 18:57:44 UTC"


def test_the_start_and_its_weights_are_in_the_result(run: Run, node: Node, tmp_path: Path) -> None:
    def facts(filesystem: str) -> dict[str, Any]:
        return {"before": reading(filesystem=filesystem, link_gbit_s=200.0), "after": reading(), "clocks": [{}]}

    arguments: dict[str, Any] = {"points": [point()], "model": "tiny", "folder": str(tmp_path / "results")}
    with fake_server(routes()) as fake:
        node.serving(fake.url, weights=node.started())
        one = run(vllm_benchmark_result, **arguments, nodes={"spark-1": facts("ext4")})
        measured = run(vllm_benchmark_result, **arguments, nodes={"spark-1": facts("ext4")}, source_gib_s=0.5)
        both = run(vllm_benchmark_result, **arguments, nodes={"spark-1": facts("ext4"), "spark-2": facts("nfs4")})
        node.program("journalctl", "exit 1")
        silent = run(vllm_benchmark_result, **arguments, nodes={"spark-1": facts("ext4")})
    assert one["document"]["startup"] == {
        "engine start": 20.0,
        "weights": 180.0,
        "model setup": 0.0,
        "other until ready": 0.0,
    }
    assert one["document"]["loading"] == {
        "weights_gib": 45.0,
        "seconds": 180.0,
        "gib_per_s": 0.25,
        "source": "disk",
        "source_gib_s": None,
        "source_measured": False,
        "text": "weights: 45.0 GiB in 180 s = 0.25 GiB/s; the rate of the disk was not measured",
    }
    assert one["table"][-2:] == [
        "start-up: 200 s (engine start 20 s, weights 180 s)",
        one["document"]["loading"]["text"],
    ]
    assert json.loads(Path(one["path"]).read_text())["loading"] == one["document"]["loading"]
    assert measured["table"][-1].endswith(", 50 % of the 0.5 GiB/s that were measured of the disk")
    assert both["document"]["loading"]["source"] == "link"
    assert "of the 23.3 GiB/s that the link is set to (200 Gbit/s)" in both["table"][-1]
    assert (silent["document"]["startup"], silent["document"]["loading"]) == ({}, {})
    assert silent["table"][-1] == "The journal of the server's start was not there to be read."


def test_nothing_to_save(run: Run, node: Node, tmp_path: Path) -> None:
    result = run(vllm_benchmark_result, points=[], nodes={}, model="tiny")
    assert result["msg"] == "points is empty: there is nothing to save; run vllm_benchmark first"
    node.serving("http://127.0.0.1:1")
    result = run(vllm_benchmark_result, points=[{"concurrency": 1}], nodes={}, model="tiny", folder=str(tmp_path))
    assert result["msg"] == "the result cannot be saved: one of its points has no number prompt_tokens"


# --- container_service_info ---------------------------------------------------------------------------------


def test_a_start_that_failed_is_told_by_its_first_error(run: Run, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = (Path(__file__).parents[3] / "field_cases" / "journals" / "journal-no-cache-blocks.txt").read_text()
    rows = [
        json.dumps({"MESSAGE": line, "_SYSTEMD_INVOCATION_ID": "a", "__REALTIME_TIMESTAMP": "1790000000000000"})
        for line in journal.splitlines()
    ]
    (node.folder / "json").write_text("\n".join(rows))
    node.program("journalctl", f'case "$*" in *json*) cat {node.folder}/json;; *) exit 1;; esac')
    for active, restarts, told in (
        ("failed", 0, True),
        ("activating", 0, False),
        ("activating", 2, True),
        ("active", 2, False),
    ):
        status = {
            "name": "spark-vllm",
            "present": True,
            "active": active,
            "sub": "x",
            "restarts": restarts,
            "differs": [],
        }
        status["settled"] = active == "active"
        monkeypatch.setattr(unit_states, "service_status", lambda _run, _name, status=status: status)
        found = run(container_service_info, names=["spark-vllm"])
        assert ("spark-vllm" in found["causes"]) == told, active
        assert ("its last start failed: the weights leave no memory for the KV cache" in found["msg"]) == told
        if told:
            assert found["causes"]["spark-vllm"]["code"] == "no_cache_blocks"


def test_a_start_is_told_when_it_is_done_and_asked_for(run: Run, node: Node) -> None:
    asked = {"names": ["spark-vllm"], "startup_of": "spark-vllm"}
    node.serving("http://127.0.0.1:1", weights=node.started())
    node.program("systemctl", "echo LoadState=loaded; echo ActiveState=activating")
    assert run(container_service_info, **asked)["startup"] == []
    node.program("systemctl", "echo LoadState=loaded; echo ActiveState=active")
    assert run(container_service_info, names=["spark-vllm"])["startup"] == []
    assert run(container_service_info, **{**asked, "names": ["spark-ray-worker"]})["startup"] == []
    assert not node.asked("journalctl --unit"), "nobody reads a journal that nobody asked for"
    assert run(container_service_info, **asked)["startup"] == [
        "start-up: 200 s (engine start 20 s, weights 180 s)",
        "weights: 45.0 GiB in 180 s = 0.25 GiB/s",
    ]
    figures = run(container_service_info, **asked)["start"]
    assert figures["model_gib"] == 57.8
    assert figures["started"]
    node.program("journalctl", "echo nothing of it")
    assert run(container_service_info, **asked)["startup"] == []
    node.program("docker", "echo 'Error: No such object: spark-vllm' >&2; exit 1")
    assert run(container_service_info, **asked)["startup"] == []
