# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading a Spark from recorded outputs, and judging it and its sick variants. Sources: fixtures/gb10/README.md."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.runtime import (
    GPU_FIELDS,
    REASON_FIELDS,
    Gpu,
    Host,
    Runtime,
    clock_finding,
    collect,
    judge,
    no_gpu,
    number,
    parse_cuda,
    parse_dgx_release,
    parse_gpus,
    parse_holders,
    parse_kernel_module,
    parse_reasons,
    read_gpus,
    reason_words,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import GREEN, RED, YELLOW

RECORDED = Path(__file__).parents[1] / "fixtures" / "gb10"
FIELDS = (*GPU_FIELDS, REASON_FIELDS[0])
Answer = tuple[int, str, str]


def recorded(name: str) -> str:
    return (RECORDED / name).read_text(encoding="utf-8")


class Programs:
    """Answers for nvidia-smi and nvidia-ctk, by the first argument that tells them apart."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, argv: Sequence[str], seconds: float = 0) -> Answer:
        assert seconds == 30, "a driver that is stuck must not hold up the run"
        said = " ".join(argv)
        self.asked.append(said)
        for start, answer in self.answers.items():
            if said.startswith(start):
                return answer
        return 127, "", f"{argv[0]}: No such file or directory"


def spark(tmp_path: Path) -> Path:
    """Make the files of a Spark below a folder."""
    device = tmp_path / "sys/bus/pci/devices/000f:01:00.0"
    network = tmp_path / "sys/bus/pci/devices/0000:01:00.0"
    texts = {
        tmp_path / "proc/meminfo": recorded("meminfo.txt"),
        tmp_path / "proc/driver/nvidia/version": recorded("proc_driver_version.txt"),
        tmp_path / "proc/sys/kernel/osrelease": "6.17.0-1014-nvidia\n",
        tmp_path / "proc/sys/kernel/random/boot_id": "b00t\n",
        tmp_path / "etc/dgx-release": recorded("dgx_release.txt"),
        tmp_path / "var/run/cdi/nvidia.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n",
        device / "vendor": "0x10de\n",
        device / "class": "0x030200\n",
        network / "vendor": "0x15b3\n",
        network / "class": "0x020000\n",
    }
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


# `nvidia-ctk cdi list` as quoted in NVIDIA/nvidia-container-toolkit#146, its log line on standard error; the version line as
# a Spark printed it on 2026-05-09 (unnamed source: counts as invented).
WELL: dict[str, Answer] = {
    "nvidia-smi --query-gpu=": (0, recorded("smi_query_idle.csv"), ""),
    "nvidia-smi --query-compute-apps": (0, "4711, VLLM::Worker_TP0, 98304 MiB\n", ""),
    "nvidia-smi --version": (0, recorded("smi_version.txt"), ""),
    "nvidia-ctk --version": (
        0,
        "NVIDIA Container Toolkit CLI version 1.19.0\ncommit: ec7b4e2fa2caecad6d89be4a26029b831fe7503a\n",
        "",
    ),
    "nvidia-ctk cdi list": (0, "nvidia.com/gpu=0\nnvidia.com/gpu=all\n", "INFO[0000] Found 2 CDI devices\n"),
}


def read(tmp_path: Path) -> Runtime:
    return collect(Host(Programs(WELL), spark(tmp_path)))


def test_a_spark_that_is_well(tmp_path: Path) -> None:
    runtime = read(tmp_path)
    assert runtime.pci_gpus == ("000f:01:00.0",)
    gpu = runtime.gpus[0]
    assert (gpu.name, gpu.compute_capability, gpu.driver, gpu.is_gb10) == ("NVIDIA GB10", "12.1", "580.142", True)
    assert (gpu.memory_total_mib, gpu.memory_used_mib) == (None, None)
    assert (gpu.power_w, gpu.temperature_c, gpu.clock_sm_mhz, gpu.clock_sm_max_mhz) == (11.17, 35, 2405, 3003)
    assert (runtime.memory_total_gib, runtime.memory_available_gib) == (121.69, 112.0)
    assert (runtime.kernel_module, runtime.cuda, runtime.toolkit) == ("580.142", "13.0", "1.19.0")
    assert runtime.cdi_devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert runtime.cdi_files == ("/var/run/cdi/nvidia.yaml",)
    assert runtime.holders[0].process == "VLLM::Worker_TP0"
    assert "DGX_SERIAL_NUMBER" not in runtime.dgx_release
    assert runtime.dgx_release["DGX_OTA_VERSION"] == "7.3.1"
    assert {finding.level for finding in judge(runtime, min_available_gib=90)} == {GREEN}
    assert runtime.as_facts()["gpus"][0]["reasons"] == []


def test_an_older_driver_has_the_reasons_under_another_name(tmp_path: Path) -> None:
    # The sentence as nvidia-smi prints it (quoted from a GB10 for another field); exit status 2 is invented.
    refused = (2, 'Field "clocks_event_reasons.active" is not a valid field to query.\n', "")
    programs = Programs({f"nvidia-smi --query-gpu={','.join(FIELDS)}": refused, **WELL})
    runtime = collect(Host(programs, spark(tmp_path)))
    assert runtime.gpus
    assert runtime.smi_error == ""
    assert "clocks_throttle_reasons.active" in programs.asked[1]


def test_a_driver_that_knows_neither(tmp_path: Path) -> None:
    refused = (2, 'Field "x" is not a valid field to query.\n', "")
    line = recorded("smi_query_idle.csv").rpartition(",")[0] + "\n"
    answers = {f"nvidia-smi --query-gpu={','.join((*GPU_FIELDS, name))}": refused for name in REASON_FIELDS}
    runtime = collect(Host(Programs({**answers, **WELL, "nvidia-smi --query-gpu=": (0, line, "")}), spark(tmp_path)))
    assert runtime.gpus[0].reasons is None
    levels = {finding.check: finding.level for finding in judge(runtime)}
    assert (levels["gpu"], levels["clocks"]) == (GREEN, YELLOW)


def test_the_gpus_alone_by_one_question() -> None:
    programs = Programs(WELL)
    (gpu,) = read_gpus(programs)
    assert gpu.is_gb10 and len(programs.asked) == 1
    refused = (2, 'Field "x" is not a valid field to query.\n', "")
    line = recorded("smi_query_idle.csv").rpartition(",")[0] + "\n"
    answers = {f"nvidia-smi --query-gpu={','.join((*GPU_FIELDS, name))}": refused for name in REASON_FIELDS}
    (gpu,) = read_gpus(Programs({**answers, "nvidia-smi --query-gpu=": (0, line, "")}))
    assert gpu.reasons is None
    assert read_gpus(Programs({"nvidia-smi": (127, "", "not there")})) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((124, "", ""), "no answer in time"),
        ((9, "NVIDIA-SMI has failed\n", ""), "nvidia-smi failed: NVIDIA-SMI has failed"),
        ((6, "", "No devices were found"), "No devices were found"),
    ],
)
def test_a_question_without_an_answer_is_no_missing_gpu(answer: Answer, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_gpus(Programs({"nvidia-smi": answer}))


def test_a_gpu_that_is_lost_is_said() -> None:
    lost = ", ".join(["0", *["[GPU is lost]"] * (len(FIELDS) - 1)])
    with pytest.raises(ValueError, match="GPU 0 does not work: nvidia-smi says GPU is lost"):
        read_gpus(Programs({"nvidia-smi": (0, f"{lost}\n", "")}))


def test_the_cuda_version_comes_from_the_table_of_an_older_nvidia_smi(tmp_path: Path) -> None:
    # Table line as quoted in NVIDIA/nvidia-container-toolkit#394.
    table = "| NVIDIA-SMI 550.54.14              Driver Version: 550.54.14      CUDA Version: 12.4     |\n"
    answers = {key: value for key, value in WELL.items() if key != "nvidia-smi --version"}
    programs = Programs({**answers, "nvidia-smi --version": (1, "Invalid option", ""), "nvidia-smi": (0, table, "")})
    assert collect(Host(programs, spark(tmp_path))).cuda == "12.4"


def test_a_host_without_a_gpu(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(recorded("meminfo.txt"))
    runtime = collect(Host(Programs({}), tmp_path))
    assert no_gpu(runtime) == "this host has no NVIDIA GPU"
    red = judge(runtime)[0]
    assert (red.level, red.found) == (RED, "this host has no NVIDIA GPU")
    assert {finding.level for finding in judge(runtime, require_gpu=False)} == {GREEN}
    assert [finding.check for finding in judge(runtime, require_gpu=False)] == ["gpu", "memory"]


# What nvidia-smi says when it fails: the sentences are quoted in public issues (tinygrad/open-gpu-kernel-modules#47 and many more);
# the exit statuses 18 and 9 are NVML's codes, 6 is invented.
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.195\n"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
    "Make sure that the latest NVIDIA driver is installed and running.\n"
)


@pytest.mark.parametrize(
    ("answer", "module", "expected"),
    [
        ((18, MISMATCH, ""), True, ["driver and library differ", "the kernel has 580.142 loaded", "reboot this node"]),
        ((9, NO_DRIVER, ""), False, ["driver is not loaded", "6.17.0-1014-nvidia"]),
        (
            (6, "No devices were found\n", ""),
            True,
            ["nvidia-smi answers that it finds no device, though driver 580.142 is loaded", "(1) finish"],
        ),
        ((124, "", ""), False, ["nvidia-smi does not answer (no answer within 30 s)", "power supply"]),
        (
            (15, "Unable to determine the device handle for GPU0: 000F:01:00.0: GPU is lost.  Reboot the system\n", ""),
            True,
            ["nvidia-smi fails (Unable to determine the device handle", "power supply"],
        ),
        (
            (12, "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.\n", ""),
            True,
            ["nvidia-smi fails (NVIDIA-SMI couldn't find", "libnvidia-compute package of the driver's own release"],
        ),
        (
            (4, "Failed to initialize NVML: Insufficient Permissions\n", ""),
            True,
            ["nvidia-smi fails (Failed to initialize NVML", "run the play as root"],
        ),
        ((127, "", "not found"), False, ["GPU at 000f:01:00.0, but nvidia-smi is not installed", "580 branch"]),
    ],
)
def test_a_gpu_that_nvidia_smi_does_not_show(tmp_path: Path, answer: Answer, module: bool, expected: list[str]) -> None:
    root = spark(tmp_path)
    if not module:
        (root / "proc/driver/nvidia/version").unlink()
    runtime = collect(Host(Programs({"nvidia-smi --query-gpu=": answer}), root))
    assert no_gpu(runtime) == ""
    finding = judge(runtime)[0]
    assert finding.level == RED
    for words in expected:
        assert words in finding.sentence()


@pytest.mark.parametrize(
    ("said", "first", "level"),
    [
        ("[GPU requires reset]", 1, RED),
        ("[GPU is lost]", 2, RED),
        ("[Unknown Error]", 5, RED),
        # One sensor that cannot be read is no fault of the GPU.
        ("[Unknown Error]", 12, GREEN),
    ],
)
def test_a_gpu_that_does_not_work_says_so_in_the_place_of_values(
    tmp_path: Path, said: str, first: int, level: str
) -> None:
    """The words are NVML's; which fields they stand in is invented."""
    values = [part.strip() for part in recorded("smi_query_idle.csv").split(",")]
    row = ", ".join([*values[:first], *[said] * (len(values) - first)])
    answers = {
        "nvidia-smi --query-gpu=": (0, f"{row}\n", ""),
        "dmesg": (0, "[9.1] NVRM: Xid (PCI:000f:01:00): 79, GPU has fallen off the bus.\n", ""),
    }
    findings = judge(collect(Host(Programs(answers), spark(tmp_path))), checks=("gpu", "clocks"))
    assert findings[0].level == level
    if level == RED:
        assert [finding.code for finding in findings] == ["gpu.not_answering"]
        assert f"does not work: nvidia-smi says {said}" in findings[0].found
        assert "Xid 79" in findings[0].found
        assert "power supply" in findings[0].remedy


def changed(runtime: Runtime, gpu: dict[str, Any] | None = None, **node: Any) -> Runtime:
    gpus = [dataclasses.replace(runtime.gpus[0], **(gpu or {}))]
    return dataclasses.replace(runtime, **{"gpus": gpus, **node})


@pytest.mark.parametrize(
    ("gpu", "node", "check", "level", "words"),
    [
        ({"name": "Tesla P100", "compute_capability": "6.0"}, {}, "gpu", RED, "not supported"),
        ({"name": "NVIDIA H100 80GB HBM3", "compute_capability": "9.0"}, {}, "gpu", YELLOW, "DGX Spark"),
        ({"compute_capability": "12.0"}, {}, "gpu", YELLOW, "update the driver"),
        ({"driver": "570.124.06"}, {"kernel_module": "570.124.06"}, "driver", RED, "update DGX OS"),
        ({"driver": "590.48.01"}, {"kernel_module": "590.48.01"}, "driver", YELLOW, "not confirmed"),
        ({}, {"kernel_module": "580.126.09"}, "driver", RED, "reboot this node"),
        ({"reasons": 0x40}, {}, "clocks", RED, "thermal slowdown (hardware)"),
        ({"reasons": 0x80}, {}, "clocks", RED, "power brake (hardware)"),
        ({"reasons": 0x20}, {}, "clocks", YELLOW, "heat"),
        ({"reasons": 0x4}, {}, "clocks", GREEN, "power cap (software)"),
        ({"reasons": 0x1, "clock_sm_mhz": 210}, {}, "clocks", GREEN, "idle"),
        (
            {},
            {"memory_available_gib": 21.5},
            "memory",
            RED,
            "VLLM::Worker_TP0 (pid 4711, 98304 MiB): stop what holds it",
        ),
        ({}, {"memory_available_gib": 21.5, "holders": []}, "memory", RED, "ps aux"),
        ({}, {"memory_total_gib": 0.0}, "memory", RED, "cannot be read"),
        ({}, {"toolkit": ""}, "toolkit", RED, "not installed"),
        ({}, {"cdi_devices": ()}, "toolkit", RED, "nvidia-cdi-refresh"),
        (
            {},
            {"cdi_files": ("/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml")},
            "toolkit",
            YELLOW,
            "goes stale with the next driver",
        ),
    ],
)
def test_sick_variants(
    tmp_path: Path, gpu: dict[str, Any], node: dict[str, Any], check: str, level: str, words: str
) -> None:
    runtime = changed(read(tmp_path), gpu, **node)
    findings = judge(runtime, min_available_gib=90)
    found = next(finding for finding in findings if finding.check == check)
    assert (found.level, words in found.sentence()) == (level, True), found
    assert "\n" not in found.sentence()
    if level != GREEN:
        assert found.remedy
        assert [other.check for other in findings if other.level != GREEN] == [check]


def test_a_latched_power_supply_is_seen_while_the_gpu_is_busy(tmp_path: Path) -> None:
    root = spark(tmp_path)
    answers = {**WELL, "nvidia-smi --query-gpu=": (0, recorded("smi_query_latched.csv"), "")}
    found = next(finding for finding in judge(collect(Host(Programs(answers), root))) if finding.check == "clocks")
    assert found.level == RED
    assert found.found == "GPU 0 runs at 721 MHz of 3003 under load"
    assert "power supply" in found.remedy


def test_a_low_clock_counts_under_load_alone() -> None:
    gpu = Gpu(0, "NVIDIA GB10", utilization_percent=96, clock_sm_mhz=721, clock_sm_max_mhz=3003, reasons=0)
    assert clock_finding(gpu, busy=False).level == GREEN
    # One look is none; five that agree on a latched supply's clock are one, and so is our own load.
    assert clock_finding(gpu, busy=True).code == "gpu.clock_unsure"
    assert clock_finding(gpu, busy=True, later=[gpu] * 4).level == RED
    assert clock_finding(gpu, busy=True, loaded=True).level == RED
    # 2100 of 3003 MHz is a cap that people set on purpose (NVIDIA/open-gpu-kernel-modules#1358).
    assert clock_finding(dataclasses.replace(gpu, clock_sm_mhz=2100), busy=True).level == GREEN


CASES = Path(__file__).parents[4] / "field_cases" / "gb10"


def cased(name: str) -> str:
    """A case of an owner, without the line that says what it is."""
    return "".join(line for line in (CASES / name).read_text().splitlines(keepends=True) if not line.startswith("#"))


def looked(tmp_path: Path, *lines: str) -> tuple[Runtime, list[float]]:
    """Read a Spark whose nvidia-smi gives these lines, one at each look, the last one from then on."""
    told = list(lines)
    waited: list[float] = []

    def run(argv: Sequence[str], seconds: float = 0) -> Answer:
        if argv[1].startswith("--query-gpu="):
            return 0, told.pop(0) if len(told) > 1 else told[0], ""
        return Programs(WELL)(argv, seconds)

    return collect(Host(run, spark(tmp_path), waited.append)), waited


def clocks(runtime: Runtime) -> tuple[str, str]:
    found = next(finding for finding in judge(runtime) if finding.check == "clocks")
    return found.level, found.code


def test_a_kernel_that_spins_at_22_w_is_no_fault(tmp_path: Path) -> None:
    runtime, waited = looked(tmp_path, cased("clocks_busy_cap.csv"))
    assert waited == [0.5] * 4
    assert clocks(runtime) == (YELLOW, "gpu.clock_unsure")
    found = next(finding for finding in judge(runtime) if finding.check == "clocks")
    assert "under load at 22 W: by 5 looks it may only wait" in found.found
    # The same clock at a power that waiting does not take is one, if it stays so.
    working = cased("clocks_busy_cap.csv").replace("22.00 W", "61.00 W")
    assert clocks(looked(tmp_path, working)[0]) == (RED, "gpu.clock_low")
    assert clocks(looked(tmp_path, working, cased("clocks_busy_cap.csv"))[0]) == (YELLOW, "gpu.clock_unsure")
    # Later at full speed, or idle: it was a moment.
    assert clocks(looked(tmp_path, working, working.replace("1400 MHz", "2400 MHz"))[0])[0] == GREEN
    assert clocks(looked(tmp_path, working.replace("0x0000000000000000", "0x0000000000000008"))[0])[0] == RED
    # A GPU that is well is asked once.
    assert looked(tmp_path, recorded("smi_query_idle.csv"))[1] == []


@pytest.mark.parametrize(
    ("log", "packages", "words"),
    [
        (
            "[9.1] NVRM: Xid (PCI:000f:01:00): 119, pid=88, name=nvidia-smi, Timeout\n",
            "",
            "does not answer (Xid 119 in",
        ),
        (
            "[9.1] NVRM: Xid (PCI:000f:01:00): 154, GPU recovery action changed\n",
            "",
            "take it off its power supply for a minute",
        ),
        (
            "[9.1] NVRM: GPU 000f:01:00.0: RmInitAdapter failed! (0x62:0x65:2028)\n",
            "",
            "the kernel's log says: [9.1] NVRM",
        ),
        (
            "",
            "ii  bash\niF  nvidia-driver-580-open\niU  linux-image-7.0.0-1019-nvidia\nrc  old\n",
            "an update was not finished (linux-image-7.0.0-1019-nvidia, nvidia-driver-580-open): finish it (`sudo dpkg --configure -a`",
        ),
        (
            "[9.1] NVRM: Xid (PCI:000f:01:00): 13, pid=88\n",
            "ii  bash\n",
            "in the order of what owners found: (1) finish",
        ),
    ],
)
def test_no_devices_were_found_is_an_answer(tmp_path: Path, log: str, packages: str, words: str) -> None:
    answers = {
        "nvidia-smi --query-gpu=": (6, "No devices were found\n", ""),
        "dmesg": (0, log, ""),
        "dpkg-query": (0, packages, ""),
    }
    found = judge(collect(Host(Programs(answers), spark(tmp_path))))[0]
    assert (found.level, found.code) == (RED, "gpu.no_devices")
    assert "nvidia-smi answers that it finds no device" in found.found
    assert words in found.sentence()


def test_a_newer_branch_is_told_by_its_own_number(tmp_path: Path) -> None:
    assert parse_cuda(cased("smi_610_q.txt")) == "13.3"
    line = recorded("smi_query_idle.csv").replace("580.142", "610.57.04 [Deprecated; will be removed]")
    runtime = dataclasses.replace(looked(tmp_path, line)[0], kernel_module="610.57.04")
    found = next(finding for finding in judge(runtime) if finding.check == "driver")
    assert (found.level, found.code) == (YELLOW, "gpu.driver_unproven")
    assert "driver 610.57.04" in found.found
    assert "branch 610" in found.remedy and "590" not in found.remedy


def test_words_of_owners_machines() -> None:
    assert parse_kernel_module(cased("nvrm_banner.txt")) == "580.173.02"
    assert parse_dgx_release(cased("dgx_release_7.2.3_ota_7.5.0.txt"))["DGX_OTA_VERSION"] == "7.5.0"


def test_numbers_and_words() -> None:
    assert [number(text) for text in ("11.17 W", "[N/A]", "[Not Supported]", "0 %", "", "2405 MHz")] == [
        11.17,
        None,
        None,
        0.0,
        None,
        2405.0,
    ]
    assert parse_reasons("0x0000000000000004") == 4
    assert parse_reasons("[N/A]") is None
    assert reason_words(0x24) == ["power cap (software)", "thermal slowdown (software)"]
    assert parse_cuda("nothing of it") == ""
    # Quoted in nix-community/nixGL#186 and illinois-scicomp/machine-shop-maintenance#70.
    opened = (
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  565.57.01  Release Build  (dvs-builder@U16-A24-9-2)"
    )
    closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  520.56.06  Thu Oct  6 21:38:55 UTC 2022"
    assert (parse_kernel_module(opened), parse_kernel_module(closed)) == ("565.57.01", "520.56.06")
    assert parse_kernel_module("") == ""
    assert parse_dgx_release("") == {}
    assert parse_gpus("No devices were found\n", FIELDS) == []
    assert parse_holders("No running processes found\n") == []
    assert parse_holders("7, python3, with a comma, 512 MiB\n8, x, [N/A]\n")[0].process == "python3,with a comma"


@pytest.mark.parametrize(
    "line",
    [
        "",
        ",",
        '"',
        "\x00",
        "0",
        "0, x",
        "²" + ", x" * (len(FIELDS) - 1),
        "x" * 200_000,
        '0, "' + "y" * 200_000,
        ", " * len(FIELDS),
    ],
    ids=range(10),
)
def test_lines_that_nvidia_smi_should_not_print(line: str) -> None:
    """Invented; none of them hides the good line behind it."""
    good = ", ".join(["0", *["[N/A]"] * (len(FIELDS) - 1)])
    assert [gpu.index for gpu in parse_gpus(f"{line}\n{good}\n", FIELDS)] == [0]
    assert [holder.pid for holder in parse_holders(f"{line[:20]}\n7, x, 512 MiB\n") if holder.process == "x"] == [7]
