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
from ansible_collections.dgx_spark.vllm.plugins.module_utils import container_state, gb10_runtime
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    vllm_benchmark,
    vllm_benchmark_info,
    vllm_benchmark_result,
)

from tests.unit.plugins.fake_server import FakeServer, Reply, closed_port, fake_server
from tests.unit.plugins.module_utils.benchmark_world import PLAN, point

FIXTURES = Path(__file__).parents[1] / "module_utils" / "fixtures"
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
        for user in (container_state, vllm_benchmark, vllm_benchmark_info):
            monkeypatch.setattr(user, "DOCKER", docker)
        host, look = gb10_runtime.Host, vllm_benchmark_info.Look
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

    def serving(self, url: str, *more: str, bench: str = "exit 0", result: str = "bench_1x64") -> None:
        """A container that serves at ``url``; ``bench`` is what vLLM's benchmark does in it."""
        port = url.rpartition(":")[2]
        inspected = [
            {
                "Image": "sha256:" + "1" * 64,
                "State": {"Running": True, "StartedAt": "2026-11-23T18:57:44.123456789Z"},
                "Config": {
                    "Image": "serving:1",
                    "Entrypoint": ["vllm"],
                    "Cmd": ["serve", "/srv/models/a--b/c0ffee", "--port", port, "--served-model-name", "qwen3", *more],
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
    logs = tmp_path / "ray/session_1/logs"
    logs.mkdir(parents=True)
    (logs / "worker-1.out").write_text((FIXTURES / "gb10_fabric/nccl_socket.log").read_text())
    # The link is Ray's own, made in the container.
    (tmp_path / "ray/session_latest").symlink_to("/tmp/ray/session_1")
    result = run(vllm_benchmark_info, ray_folder=str(tmp_path / "ray"))
    assert result["counters"] == {"pswpin": 12, "pswpout": 7, "rdma_bytes": 0}
    assert (result["load"], result["changed"], result["gpus"]) == (0.52, False, ["NVIDIA GB10"])
    assert result["strangers"] == [{"pid": 4711, "process": "train.py", "memory_mib": 9000}]
    assert (result["transport"]["network"], result["transport"]["rdma"]) == ("Socket", False)


def test_a_bare_node(run: Run, node: Node, tmp_path: Path) -> None:
    result = run(vllm_benchmark_info, ray_folder=str(tmp_path / "gone"))
    assert (result["gpus"], result["strangers"], result["transport"], result["load"]) == ([], None, {}, None)
    assert result["msg"].startswith("no GPU, load None")


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
    assert [cause["check"] for cause in slow["verdict"]["causes"]] == ["swap", "eager"]
    assert "1024 MiB back from swap" in slow["msg"]
    assert [each["key"] for each in slow["earlier"]] == [first["document"]["key"]]
    assert node.asked("journalctl")[0] == "journalctl --unit spark-vllm --output cat --since 2026-11-23 18:57:44 UTC"


def test_nothing_to_save(run: Run, node: Node, tmp_path: Path) -> None:
    result = run(vllm_benchmark_result, points=[], nodes={}, model="tiny")
    assert result["msg"] == "points is empty: there is nothing to save; run vllm_benchmark first"
    node.serving("http://127.0.0.1:1")
    result = run(vllm_benchmark_result, points=[{"concurrency": 1}], nodes={}, model="tiny", folder=str(tmp_path))
    assert result["msg"] == "the result cannot be saved: one of its points has no number prompt_tokens"
