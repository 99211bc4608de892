# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The host's side of the kernel probe: its container, its document, its record. Sources: fixtures/gb10/README.md."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import DockerError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.kernel_check import (
    CONTAINER,
    KernelCheckError,
    Probe,
    digest,
    judge,
    parse_document,
    read_record,
    run_probe,
    serving_containers,
    write_record,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.kernel_probe import CHECKS, MARKER
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import GREEN, RED, YELLOW

RECORDED = Path(__file__).parents[1] / "fixtures" / "gb10"
IMAGE = "sha256:" + "a" * 64
PROBE = Probe(IMAGE, ("nvidia.com/gpu=all",), tuple(CHECKS), seconds=100, environment=(("VLLM_NO_USAGE_STATS", "1"),))


def document(name: str = "probe_sm121_invented") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return found


def check(found: dict[str, Any], name: str) -> dict[str, Any]:
    entry: dict[str, Any] = next(entry for entry in found["checks"] if entry["name"] == name)
    return entry


def level(judged: dict[str, Any], name: str) -> str:
    return str(next(row["level"] for row in judged["findings"] if row["check"] == name))


def test_the_container() -> None:
    argv = PROBE.argv()
    joined = " ".join(argv)
    assert joined.startswith(f"/usr/bin/docker run --rm --interactive --name {CONTAINER} --network none")
    assert "--device nvidia.com/gpu=all" in joined
    assert "--env VLLM_NO_USAGE_STATS=1" in joined
    assert "--volume" not in argv
    assert argv[argv.index("--entrypoint") :][:4] == ["--entrypoint", "python3", IMAGE, "-"]
    assert argv[-len(CHECKS) :] == list(CHECKS)
    assert PROBE.total_seconds == 760


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"checks": ("nonsense",)}, "checks: 'nonsense' is unknown, expected versions"),
        ({"checks": ()}, "checks is empty"),
        ({"checks": ("device",), "seconds": 0}, "seconds is 0"),
        ({"checks": ("device",), "load_seconds": 600}, "load_seconds 600"),
    ],
)
def test_what_cannot_be_run(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Probe(IMAGE, (), **arguments)


# --- running ------------------------------------------------------------------------------------------------


class Docker:
    """Stands for Docker: remembers what it was asked, gives one answer to `docker run`."""

    def __init__(self, code: int = 0, out: str = "", err: str = "", late: bool = False) -> None:
        self.answer = (code, out, err)
        self.late = late
        self.asked: list[list[str]] = []
        self.source = ""

    def __call__(self, argv: Sequence[str], seconds: float = 0, *, data: str = "") -> tuple[int, str, str]:
        self.asked.append(list(argv))
        if argv[1] == "rm":
            return 0, "", ""
        self.source = data
        if self.late:
            return 124, "", f"no answer within {seconds:g} s"
        return self.answer


def test_the_probe_goes_in_by_standard_input() -> None:
    banner = "=============\n== vLLM ==\n=============\n"
    docker = Docker(out=banner + MARKER + json.dumps(document()) + "\n")
    assert run_probe(PROBE, "print(1)", docker)["seconds"] == 71.0
    assert docker.source == "print(1)"
    assert docker.asked[0] == ["/usr/bin/docker", "rm", "--force", CONTAINER]


def test_a_container_that_does_not_end_is_removed() -> None:
    docker = Docker(late=True)
    with pytest.raises(KernelCheckError, match="no result within 760 s and was stopped"):
        run_probe(PROBE, "", docker)
    assert [asked[1] for asked in docker.asked] == ["rm", "run", "rm"]


# The first five as Docker 20.10.24 answered (the second by its own client, the others by a newer one); the unresolvable device is quoted in
# devnen/Chatterbox-TTS-Server#5, the mismatch in NVIDIA/nvidia-container-toolkit#394; the one for another architecture is invented after Docker's wording.
@pytest.mark.parametrize(
    ("code", "err", "words"),
    [
        (125, 'could not select device driver "cdi" with capabilities: []', "Docker on this node does not support CDI"),
        (
            125,
            "nvidia.com/gpu=all is not an absolute path.\nSee 'docker run --help'.",
            "Docker on this node does not support CDI",
        ),
        (
            127,
            'error gathering device information while adding custom device "/dev/nope": no such file or directory',
            "Docker found no device nvidia.com/gpu=all",
        ),
        (125, "No such image: sha256:0", "is not on this node: run role serving_image first"),
        (
            127,
            "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
            'exec: "python3": executable file not found in $PATH: unknown',
            "has no python3",
        ),
        (125, "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all", "run role container_runtime"),
        (
            125,
            "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown.",
            "reboot this node",
        ),
        (1, "exec /usr/bin/python3: exec format error", "for another architecture"),
        (137, "", "the container of the kernel check failed: status 137"),
    ],
)
def test_docker_refuses(code: int, err: str, words: str) -> None:
    text = f"docker: Error response from daemon: {err}\n\nRun 'docker run --help' for more information\n" if err else ""
    with pytest.raises(KernelCheckError) as raised:
        run_probe(PROBE, "", Docker(code, "", text))
    assert words in str(raised.value)
    assert "docker run --help" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_there_is_no_docker() -> None:
    with pytest.raises(KernelCheckError, match="run role container_runtime first"):
        run_probe(PROBE, "", Docker(127, "", "/usr/bin/docker: No such file or directory"))


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("", "SyntaxError: invalid syntax\n", "last output: SyntaxError: invalid syntax"),
        ("", "", "last output: nothing"),
        (MARKER + "{cut", "", "ended without a result"),
        (MARKER + '{"format": 99}', "", "ended without a result"),
    ],
)
def test_no_document(out: str, err: str, words: str) -> None:
    with pytest.raises(KernelCheckError, match=words):
        parse_document(out, err)


def test_who_serves() -> None:
    assert serving_containers(lambda argv: (0, "spark-vllm\nsomething\nspark-ray-head\n", "")) == [
        "spark-ray-head",
        "spark-vllm",
    ]
    with pytest.raises(DockerError, match="Docker does not answer: no daemon"):
        serving_containers(lambda argv: (1, "", "no daemon"))


# --- judging ------------------------------------------------------------------------------------------------


def test_a_node_that_is_well() -> None:
    judged = judge(document(), ["awq"], nodes=2)
    assert judged["healthy"] is True
    assert judged["problems"] == []
    verdicts = {name: said["verdict"] for name, said in judged["capabilities"].items()}
    assert verdicts == {"awq": "allowed", "nvfp4": "refused", "cuda_graphs": "try"}
    # What nobody asked for may be refused without a yellow row.
    assert {row["level"] for row in judged["findings"]} == {GREEN}


@pytest.mark.parametrize(
    ("name", "change", "row", "expected", "words"),
    [
        (
            "bf16_matmul",
            {"state": "wrong", "reason": "off by 1"},
            "bf16_matmul",
            RED,
            "check bf16_matmul wrong: off by 1",
        ),
        ("device", {"state": "unavailable", "reason": "torch sees no GPU"}, "device", RED, "torch sees no GPU"),
        ("device", {"state": "timed_out", "reason": "no result"}, "device", RED, "check device timed out"),
        ("awq_marlin_moe", {"state": "wrong", "reason": "off by 1.3"}, "awq", RED, "awq is refused"),
        ("awq_marlin_moe", {"state": "unavailable", "reason": "no such function"}, "awq", RED, "awq is unknown"),
        ("cuda_graph", {"state": "unavailable", "reason": "why"}, "cuda_graphs", YELLOW, ""),
        ("load", {"state": "crashed", "reason": "its process was killed by SIGABRT"}, "load", RED, "dmesg"),
    ],
)
def test_a_check_that_did_not_pass(name: str, change: dict[str, str], row: str, expected: str, words: str) -> None:
    found = document()
    check(found, name).update(change)
    judged = judge(found, ["awq"], nodes=2)
    assert level(judged, row) == expected
    assert judged["healthy"] is (expected != RED)
    assert words in " ".join(judged["problems"])


def test_graphs_that_are_switched_on_but_refused_are_a_problem() -> None:
    found = document()
    check(found, "versions")["details"]["nccl"] = "2.28.9"
    judged = judge(found, ["awq", "cuda_graphs"], nodes=2)
    said = judged["capabilities"]["cuda_graphs"]
    assert judged["problems"] == [f"cuda_graphs is refused: {said['reason']}: {said['remedy']}"]
    assert "2.28.9 is older than 2.30.4" in judged["problems"][0]
    # To be tried is no problem, but not green either for somebody who switched them on.
    assert level(judge(document(), ["cuda_graphs"], nodes=2), "cuda_graphs") == YELLOW


def test_a_clock_that_is_latched_under_load() -> None:
    found = document()
    check(found, "load")["details"]["sample"][0] = "721 MHz"
    judged = judge(found, ["awq"])
    assert level(judged, "clocks") == RED
    assert "721 MHz of 3003 under load" in judged["problems"][0]


def test_a_container_without_nvidia_smi_says_nothing_of_the_clock() -> None:
    found = document()
    check(found, "load")["details"]["sample"] = []
    assert "clocks" not in [row["check"] for row in judge(found, [])["findings"]]


def test_an_assembler_that_does_not_know_the_gpu() -> None:
    found = document()
    old = {"path": "/x/triton/ptxas", "release": "12.8", "sm_121a": False}
    check(found, "versions")["details"]["ptxas"] = [
        old,
        {"path": "/usr/local/cuda/bin/ptxas", "release": "13.0", "sm_121a": True},
    ]
    row = next(row for row in judge(found, [])["findings"] if row["check"] == "ptxas")
    assert (row["level"], row["remedy"]) == (
        YELLOW,
        "set TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas in the serving environment",
    )
    check(found, "device")["details"]["compute_capability"] = "9.0"
    assert "ptxas" not in [row["check"] for row in judge(found, [])["findings"]]


def test_an_image_without_a_gpu_as_recorded() -> None:
    judged = judge(document("probe_no_gpu"), ["awq"])
    assert judged["healthy"] is False
    assert {said["verdict"] for said in judged["capabilities"].values()} == {"unknown"}
    assert "built without CUDA" in judged["problems"][0]


def test_an_h200_at_its_power_cap_as_recorded() -> None:
    judged = judge(document("probe_h200_torch_only"), [])
    assert (level(judged, "bf16_matmul"), level(judged, "clocks")) == (GREEN, GREEN)
    assert judged["capabilities"]["cuda_graphs"]["verdict"] == "allowed"
    assert "No module named 'vllm'" in judged["capabilities"]["awq"]["reason"]


def test_kernels_that_were_still_being_compiled_as_recorded() -> None:
    judged = judge(document("probe_h200_cold_cache"), ["awq"])
    assert judged["problems"] == [
        "awq is refused: Marlin's kernel for experts with AWQ weights does not work here: no result after 80 s: "
        "take another serving image, or a model whose weights are not AWQ"
    ]
    assert "not compiled for compute capability 9.0" in judged["capabilities"]["nvfp4"]["reason"]


def test_an_image_without_torch() -> None:
    found = document("probe_no_gpu")
    check(found, "versions")["details"]["torch_error"] = "the image has no usable torch: No module named 'torch'"
    assert level(judge(found, []), "torch") == RED


def test_a_capability_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="required: 'int8' is unknown, expected awq, nvfp4, cuda_graphs"):
        judge(document(), ["int8"])


# --- the record ---------------------------------------------------------------------------------------------


def test_a_result_is_used_again_while_its_inputs_hold(tmp_path: Path) -> None:
    facts = {"boot_id": "1", "driver": "580.142"}
    key = digest(PROBE, "source", facts)
    path = tmp_path / "state" / "kernel-check.json"
    assert read_record(path, key) is None
    write_record(path, key, document())
    assert read_record(path, key) == document()
    for other in (
        digest(PROBE, "another source", facts),
        digest(PROBE, "source", {**facts, "boot_id": "2"}),
        digest(Probe("sha256:b", PROBE.devices, PROBE.checks), "source", facts),
    ):
        assert read_record(path, other) is None
    path.write_text("{")
    assert read_record(path, key) is None
    path.write_text(json.dumps({"digest": key, "document": {"format": 0}}))
    assert read_record(path, key) is None


def test_a_hang_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "kernel-check.json"
    write_record(path, "k", document())
    hung = copy.deepcopy(document())
    check(hung, "cuda_graph")["state"] = "timed_out"
    write_record(path, "k", hung)
    assert not path.exists()
