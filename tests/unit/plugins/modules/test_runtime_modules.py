# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""gb10_runtime_info and gb10_kernel_check in process, with nvidia-smi and docker replaced by programs of a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu import runtime
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.kernel_probe import MARKER
from ansible_collections.dgx_spark.vllm.plugins.modules import gb10_kernel_check, gb10_runtime_info

from tests.unit.plugins.fake_docker import use_docker

RECORDED = Path(__file__).parents[1] / "module_utils" / "fixtures" / "gb10"
IMAGE_ID = "sha256:" + "c" * 64
Run = Callable[..., dict[str, Any]]


class Node:
    """A folder of programs in front of PATH, and of files that stand for the node's."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.log = folder / "asked"
        (folder / "bin").mkdir()
        (folder / "root/proc").mkdir(parents=True)
        (folder / "root/proc/meminfo").write_text((RECORDED / "meminfo.txt").read_text())
        monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
        host = runtime.Host
        for module in (runtime, gb10_kernel_check):
            monkeypatch.setattr(module, "Host", lambda run: host(run, folder / "root"))
        use_docker(str(folder / "bin/docker"), monkeypatch)
        self.program("docker", 'echo "Cannot connect to the Docker daemon" >&2; exit 1')

    def program(self, name: str, body: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{body}\n')
        path.chmod(0o755)

    def with_gpu(self, line: str = "") -> None:
        recorded = line or (RECORDED / "smi_query_idle.csv").read_text().strip()
        self.program(
            "nvidia-smi",
            f"case $1 in --query-gpu=*) echo '{recorded}';; --version) cat {RECORDED / 'smi_version.txt'};; esac",
        )
        self.program(
            "nvidia-ctk",
            'case $1 in --version) echo "NVIDIA Container Toolkit CLI version 1.19.0";; cdi) echo nvidia.com/gpu=all;; esac',
        )

    def with_docker(self, document: str = "probe_sm121_invented", running: str = "") -> None:
        found = json.dumps(json.loads((RECORDED / f"{document}.json").read_text()))
        answer = self.folder / "document"
        answer.write_text(f"a banner\n{MARKER}{found}\n")
        inspected = json.dumps([{"Id": IMAGE_ID}])
        self.program(
            "docker",
            f"case $1 in image) echo '{inspected}';; ps) printf '{running}';; run) cat > {self.folder}/source; cat {answer};; esac",
        )

    def asked(self, program: str) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(program)]


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, **arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


# --- gb10_runtime_info --------------------------------------------------------------------------------------


def test_a_spark(run: Run, node: Node) -> None:
    node.with_gpu()
    result = run(gb10_runtime_info, min_available_gib=90)
    assert (result["healthy"], result["gpu_present"], result["changed"]) == (True, True, False)
    assert result["runtime"]["gpus"][0]["memory_total_mib"] is None
    assert result["runtime"]["cuda"] == "13.0"
    assert {row["level"] for row in result["findings"]} == {"green"}
    assert "NVIDIA GB10" in result["msg"]


def test_a_host_without_a_gpu(run: Run, node: Node) -> None:
    result = run(gb10_runtime_info)
    assert (result["healthy"], result["gpu_present"]) == (False, False)
    assert result["problems"] == ["this host has no NVIDIA GPU: run on a DGX Spark, or use the simulation's inventory"]
    result = run(gb10_runtime_info, require_gpu=False)
    assert (result["healthy"], result["msg"]) == (True, "this host has no NVIDIA GPU")


def test_a_limit_below_nothing(run: Run, node: Node) -> None:
    assert run(gb10_runtime_info, min_available_gib=-1)["msg"] == "min_available_gib is -1, expected GiB, 0 or more"


# --- gb10_kernel_check --------------------------------------------------------------------------------------


def check(run: Run, node: Node, **arguments: Any) -> dict[str, Any]:
    record = str(node.folder / "state/kernel-check.json")
    return run(
        gb10_kernel_check, **{"image": "serving:1", "record": record, "nodes": 2, "required": ["awq"], **arguments}
    )


def test_kernels_run_once_and_are_remembered(run: Run, node: Node) -> None:
    node.with_gpu()
    node.with_docker()
    result = check(run, node)
    assert (result["ran"], result["source"], result["healthy"], result["changed"]) == (True, "run", True, False)
    assert result["msg"] == "awq allowed, nvfp4 refused, cuda_graphs try"
    assert result["serving"]["enforce_eager"] is True
    assert "kernel_probe.py" in (node.folder / "source").read_text(), "the probe's source went in by standard input"
    again = check(run, node, cuda_graphs="try")
    assert (again["source"], again["healthy"]) == ("record", True)
    assert again["serving"]["arguments"] == ["--compilation-config", '{"mode":0,"cudagraph_mode":"FULL_DECODE_ONLY"}']
    assert len(node.asked("docker run")) == 1
    assert check(run, node, fresh=True)["source"] == "run"
    assert check(run, node, environment={"VLLM_X": "1"})["source"] == "run"


def test_a_serving_node_is_left_alone(run: Run, node: Node) -> None:
    node.with_gpu()
    node.with_docker(running="spark-ray-head\\nspark-vllm\\n")
    result = check(run, node)
    assert (result["ran"], result["healthy"]) == (False, None)
    assert result["msg"].startswith("spark-ray-head, spark-vllm runs on this node, so the GPU is left alone")
    assert {said["verdict"] for said in result["capabilities"].values()} == {"unknown"}
    assert not node.asked("docker run")
    assert check(run, node, while_serving=True)["ran"] is True
    # Kept now, so that the next look at the serving node has an answer.
    assert check(run, node)["source"] == "record"


def test_check_mode_runs_nothing(run: Run, node: Node) -> None:
    node.with_gpu()
    node.with_docker()
    result = check(run, node, _ansible_check_mode=True)
    assert (result["ran"], result["msg"]) == (False, "would run the kernel check")
    assert not node.asked("docker run")


def test_check_mode_before_the_image_is_there(run: Run, node: Node) -> None:
    node.with_gpu()
    assert "Docker does not answer" in check(run, node)["msg"] or "is not on this node" in check(run, node)["msg"]
    result = check(run, node, _ansible_check_mode=True)
    assert (result["ran"], result["msg"], result["problems"]) == (False, "would run the kernel check", [])
    assert "still to come" in result["capabilities"]["awq"]["reason"]


def test_without_a_gpu_it_says_so(run: Run, node: Node) -> None:
    result = check(run, node)
    assert (result["ran"], result["gpu_present"]) == (False, False)
    assert result["msg"] == "this host has no NVIDIA GPU: no kernel was run"
    assert not node.asked("docker")


def test_a_trial_that_passed_takes_graphs(run: Run, node: Node) -> None:
    node.with_gpu()
    node.with_docker()
    result = check(run, node, trial={"passed": True, "vllm": "0.31.0", "nccl": "2.30.7"})
    assert result["capabilities"]["cuda_graphs"]["rule"] == "trial passed"
    assert result["serving"]["enforce_eager"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"nodes": 0}, "nodes is 0"),
        ({"checks": []}, "checks is empty"),
        ({"seconds": -1}, "seconds is -1"),
        ({"trial": {"passed": True, "vllm": "latest", "nccl": "2.30.7"}}, "trial: vllm is 'latest'"),
    ],
)
def test_bad_input(run: Run, node: Node, arguments: dict[str, Any], words: str) -> None:
    result = check(run, node, **arguments)
    assert result["failed"] is True
    assert words in result["msg"]
    assert not node.asked("docker")


def test_a_driver_that_does_not_answer(run: Run, node: Node) -> None:
    node.program("nvidia-smi", 'echo "Failed to initialize NVML: Driver/library version mismatch"; exit 18')
    result = check(run, node)
    assert result["failed"] is True
    assert "nvidia-smi shows no GPU (Failed to initialize NVML" in result["msg"]


def test_docker_is_down(run: Run, node: Node) -> None:
    node.with_gpu()
    assert "Docker does not answer: Cannot connect" in check(run, node)["msg"]


def test_too_little_memory(run: Run, node: Node) -> None:
    node.with_gpu()
    node.with_docker()
    (node.folder / "root/proc/meminfo").write_text("MemTotal: 127600748 kB\nMemAvailable: 2097152 kB\n")
    assert check(run, node)["msg"].startswith("2 GiB of memory are available, the kernel check needs 6")
