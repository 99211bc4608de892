# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What leaves a node for a diagnosis, and that no secret is in it. Every key here is invented."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import diagnosis as node_diagnosis
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.diagnosis import (
    COMMANDS,
    FILES,
    Diagnosis,
    contents,
    diagnose,
    host_aliases,
    read_secrets,
    shorten,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.redact import Redactor, leaks

SECRETS = {"api_key": "k3y-of-the-endpoint", "cluster_token": "0f1e2d3c4b5a6978"}
UNITS = ["spark-vllm.service"]


class Node:
    """Commands by their first words, files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[list[str]] = []
        self.said: dict[str, tuple[int, str, str]] = {}

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def run(self, argv: Sequence[str], seconds: float = 0) -> tuple[int, str, str]:
        assert seconds == 20, "a command that hangs must not hold up the others"
        argv = [Path(argv[0]).name, *argv[1:]]
        line = " ".join(argv)
        self.asked.append(argv)
        return next((said for start, said in self.said.items() if line.startswith(start)), (127, "", "not found"))

    def diagnosis(self, lines: int = 100) -> Diagnosis:
        return diagnose(self.run, Redactor(SECRETS), UNITS, lines, self.root)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_outputs_and_files_become_documents(node: Node) -> None:
    # The line of the GB10 is quoted in the field (csv of a GB10: memory is [N/A]).
    node.said["nvidia-smi --query-gpu"] = (0, "[N/A], [N/A], [N/A], 0 %, 11.17 W, 35\n", "")
    node.said["docker ps --all --format {{.Names}}\t"] = (0, "spark-vllm\timage\tUp\n", "")
    node.write("proc/meminfo", "MemTotal:       127600748 kB\nMemFree: 1 kB\n")
    node.write("sys/class/infiniband/rocep1s0f1/ports/1/rate", "200 Gb/sec (4X HDR)\n")
    found = node.diagnosis()
    assert found.documents["gpu/query.csv"] == "[N/A], [N/A], [N/A], 0 %, 11.17 W, 35\n"
    assert found.documents["docker/containers.txt"].startswith("spark-vllm")
    assert found.documents["system/meminfo.txt"].startswith("--- /proc/meminfo\nMemTotal:       127600748 kB")
    assert (
        found.documents["network/infiniband.txt"]
        == "/sys/class/infiniband/rocep1s0f1/ports/1/rate: 200 Gb/sec (4X HDR)\n"
    )
    assert found.left_out["gpu/nvidia-smi-q.txt"] == "not installed"
    assert found.left_out["docker/daemon.json"] == "no such file"
    assert set(found.documents) | set(found.left_out) >= {
        *COMMANDS,
        *FILES,
        "journal/kernel.txt",
        "journal/spark-vllm.service.txt",
    }


def test_secrets_in_whatever_is_read_do_not_leave(node: Node) -> None:
    everything = " ".join(SECRETS.values()) + " HF_TOKEN=hf_abcdefghijklmnopqrst http://u:pw@proxy/ password: geheim1\n"
    for argv in COMMANDS.values():
        node.said[" ".join(argv)] = (0, everything, everything)
    for patterns in FILES.values():
        for pattern in patterns:
            node.write(re.sub(r"\[0-7\]", "0", pattern).replace("*", "x"), everything)
    node.write("sys/class/net/enp1s0f1np1/x", "")
    for start in ("ethtool", "journalctl --unit", "docker inspect", "docker ps"):
        node.said[start] = (1, everything, everything)
    node.said["journalctl --dmesg"] = (0, f"NVRM: Xid {everything}", "")
    found = node.diagnosis()
    assert len(found.documents) > 40
    for name, text in found.documents.items():
        assert not leaks(text, SECRETS.values()), name
        for secret in ("hf_abcdef", "u:pw", "geheim1"):
            assert secret not in text, name


def test_nothing_is_asked_that_holds_secrets_by_its_nature(node: Node) -> None:
    node.said["docker ps --all --format {{.Names}}"] = (0, "spark-vllm\nother\n", "")
    node.diagnosis()
    lines = [" ".join(argv) for argv in node.asked]
    inspected = [line for line in lines if line.startswith("docker inspect")]
    assert len(inspected) == 1
    assert inspected[0].endswith(" spark-vllm"), "containers of others are not looked into"
    assert not any(".Env" in line or ".Args" in line or "environ" in line for line in lines)
    assert not any(line.startswith("ps") and ("args" in line or "cmd" in line) for line in lines)
    assert not any("secrets" in pattern or "environ" in pattern for patterns in FILES.values() for pattern in patterns)


def test_a_command_that_fails_or_hangs_says_so(node: Node) -> None:
    node.said["nvidia-smi -q"] = (9, "", "Failed to initialize NVML: Driver/library version mismatch\n")
    node.said["nvidia-smi"] = (124, "half", "")
    node.said["uptime"] = (0, " \n", "")
    found = node.diagnosis()
    assert found.documents["gpu/nvidia-smi-q.txt"] == (
        "Failed to initialize NVML: Driver/library version mismatch\n\n(exit status 9)"
    )
    assert found.documents["gpu/nvidia-smi.txt"] == "half\n(given up after 20 s)"
    assert found.left_out["system/uptime.txt"] == "says nothing"


def test_of_the_kernels_log_only_what_concerns_it(node: Node) -> None:
    # Forms as the kernel writes them; invented.
    node.said["journalctl --dmesg"] = (
        0,
        "t kernel: NVRM: Xid (PCI:000f:01:00): 79\nt kernel: usb 1-2: Product: Anna's phone\nt kernel: mlx5_core 0000:01:00.1: Link up\n",
        "",
    )
    assert (
        node.diagnosis().documents["journal/kernel.txt"]
        == "t kernel: NVRM: Xid (PCI:000f:01:00): 79\nt kernel: mlx5_core 0000:01:00.1: Link up"
    )
    assert not any(name.startswith("journal/") for name in node.diagnosis(0).documents)


def test_a_secret_at_the_cut_is_no_half_secret(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_diagnosis, "MAX_CHARS", 30)
    node.said["uptime"] = (0, "x" * 25 + SECRETS["api_key"] + "y" * 30, "")
    node.said["journalctl --unit"] = (0, "y" * 30 + SECRETS["api_key"] + "x" * 20, "")
    found = node.diagnosis()
    for name in ("system/uptime.txt", "journal/spark-vllm.service.txt"):
        assert "endpoint" not in found.documents[name]
        assert "k3y" not in found.documents[name]


def test_what_is_too_long_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_diagnosis, "MAX_CHARS", 4)
    assert shorten("abcd") == "abcd"
    assert shorten("abcdef") == "abcd\n(2 more left out)\n"
    assert shorten("abcdef", keep_end=True) == "(2 characters before this are left out)\ncdef"


def test_the_nodes_secrets_are_known_by_the_names_of_their_files(tmp_path: Path) -> None:
    (tmp_path / "api_key").write_text("abcdefgh\n")
    (tmp_path / "short").write_text("x")
    (tmp_path / "folder").mkdir()
    assert read_secrets(tmp_path) == {"api_key": "abcdefgh"}
    assert read_secrets(tmp_path / "none") == {}


@pytest.mark.parametrize(
    ("names", "aliases"),
    [
        (["annas-box", "annas-box.lan"], {"annas-box": "spark-1", "annas-box.lan": "spark-1"}),
        (["spark", "localhost", "dgx.home", "ab"], {"dgx.home": "spark-1"}),
    ],
)
def test_the_machines_own_name_goes_unless_it_is_a_word(names: list[str], aliases: dict[str, str]) -> None:
    assert host_aliases(names, "spark-1") == aliases


def test_the_page_on_top() -> None:
    text = contents({"spark-1": Diagnosis({"a": "b"}, {"gpu/x": "not installed"})}, ["it hangs at night"])
    assert "spark-1: 1 documents\n  not there: gpu/x (not installed)" in text
    assert "it hangs at night" in text


@pytest.mark.parametrize(
    "line",
    [
        *(
            line
            for line in (Path(__file__).parents[4] / "field_cases/gb10/dmesg_cx7_hotplug.txt").read_text().splitlines()
            if not line.startswith("#")
        ),
        "Kernel panic - not syncing: Asynchronous SError Interrupt",
        "nvidia 000f:01:00.0: DOE: [2c8] ABORT timed out",
        "mlx5_core 0000:01:00.0: E-Switch: cleanup",
        "arm-smmu-v3 arm-smmu-v3.0.auto: event 0x10 received:",
        "Power key pressed short.",
        "Kernel command line: BOOT_IMAGE=/boot/vmlinuz ro iommu.passthrough=0",
        "NVRM: Xid (PCI:000f:01:00): 154, GPU recovery action changed",
    ],
)
def test_lines_of_the_kernel_that_explain_a_fault_are_kept(line: str) -> None:
    assert node_diagnosis._KERNEL.search(line)


@pytest.mark.parametrize(
    "line", ["usb 1-1: Product: somebody's camera", "wlP9s9: associated", "EXT4-fs (sda1): mounted"]
)
def test_lines_of_the_rest_of_the_house_are_not(line: str) -> None:
    assert not node_diagnosis._KERNEL.search(line)
