# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The probe's frame: children that die or hang, signatures that differ, fat binaries. Its kernels need a GPU."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu import kernel_probe
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.kernel_probe import (
    CHECKS,
    MARKER,
    Unavailable,
    Unsupported,
    Wrong,
    fatbin_architectures,
    fitting,
    main,
    nccl_version,
    ptxas_facts,
    run_all,
    run_one,
)

SOURCE = Path(kernel_probe.__file__)


def passes(_options: dict[str, Any]) -> dict[str, Any]:
    return {"pid": os.getpid()}


def is_wrong(_options: dict[str, Any]) -> dict[str, Any]:
    raise Wrong("the product is off by 1.1 against the CPU, expected at most 0.02")


def fails(_options: dict[str, Any]) -> dict[str, Any]:
    raise RuntimeError(
        "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be"
    )


def is_unavailable(_options: dict[str, Any]) -> dict[str, Any]:
    raise Unavailable("torch sees no GPU")


def is_unsupported(_options: dict[str, Any]) -> dict[str, Any]:
    raise Unsupported("not compiled for compute capability 9.0")


def does_not_fit(_options: dict[str, Any]) -> dict[str, Any]:
    raise TypeError("fused_marlin_moe() got an unexpected keyword argument 'w1'")


def dies(_options: dict[str, Any]) -> dict[str, Any]:
    faulthandler.disable()
    os.write(1, b"last line\n")
    ctypes.string_at(0)
    return {}


def leaves(_options: dict[str, Any]) -> dict[str, Any]:
    os._exit(3)


def hangs(_options: dict[str, Any]) -> dict[str, Any]:
    time.sleep(60)
    return {}


TABLE = {
    function.__name__: function
    for function in (passes, is_wrong, fails, is_unavailable, is_unsupported, does_not_fit, dies, leaves, hangs)
}


def states(names: list[str], seconds: float = 30) -> list[dict[str, Any]]:
    return run_all(names, {}, seconds, {**TABLE, "again": passes, "last": passes})


def test_a_check_that_dies_costs_only_itself() -> None:
    found = states(["passes", "dies", "again", "leaves", "last"])
    assert [check["state"] for check in found] == ["passed", "crashed", "passed", "crashed", "passed"]
    assert found[1]["name"] == "dies"
    assert found[1]["reason"] == "its process was killed by SIGSEGV"
    assert found[1]["details"]["output"] == ["last line"]
    assert found[3]["reason"] == "its process ended with status 3"
    assert len({found[index]["details"]["pid"] for index in (0, 2, 4)}) == 3


def test_a_check_that_hangs_is_killed() -> None:
    began = time.monotonic()
    found = states(["hangs", "last"], seconds=0.5)
    assert [check["state"] for check in found] == ["timed_out", "passed"]
    assert found[0]["reason"] == "no result after 0.5 s"
    assert time.monotonic() - began < 10


def test_nothing_runs_in_a_process_where_a_kernel_failed() -> None:
    found = states(["fails", "passes", "is_wrong", "again", "is_unavailable", "last"])
    assert [check["state"] for check in found] == ["failed", "passed", "wrong", "passed", "unavailable", "passed"]
    assert found[0]["reason"].endswith("no kernel image is available for execution on the device")
    pids = [found[index]["details"]["pid"] for index in (1, 3, 5)]
    assert pids[0] != pids[1]
    assert pids[1] == pids[2], "a check that could not be made leaves nothing behind, so the next shares its process"


def test_what_does_not_fit_the_image_is_no_verdict_on_the_kernel() -> None:
    found = run_one("does_not_fit", {}, TABLE)
    assert found["state"] == "unavailable"
    assert run_one("is_unsupported", {}, TABLE)["state"] == "unsupported"
    assert "does not fit this image (TypeError" in found["reason"]


def test_arguments_are_chosen_by_the_signature() -> None:
    def moe(hidden_states: int, w1: int, is_k_full: bool = True) -> None: ...

    def older(hidden_states: int, gating_output: int, *rest: int) -> None: ...

    offered = {"hidden_states": 1, "w1": 2, "gating_output": 3, "is_k_full": False}
    assert fitting(moe, offered) == {"hidden_states": 1, "w1": 2, "is_k_full": False}
    assert fitting(older, offered) == {"hidden_states": 1, "gating_output": 3}

    def newer(hidden_states: int, routing: int) -> None: ...

    with pytest.raises(Unavailable, match="asks for routing"):
        fitting(newer, offered)


def fatbin(*entries: tuple[int, int]) -> bytes:
    """Return a fat binary with programs of (kind, architecture), in the layout that cuobjdump reads."""
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 8)
        + b"\0" * 12
        + struct.pack("<I", architecture)
        + b"\0" * 32
        + b"programs"
        for kind, architecture in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_architectures_of_a_library() -> None:
    data = b"\x7fELF" + b"\0" * 100 + fatbin((2, 120), (2, 90), (1, 80)) + b"\0" * 7 + fatbin((2, 120))
    assert fatbin_architectures(data) == {"ptx_80": 1, "sm_120": 2, "sm_90": 1}
    assert fatbin_architectures(b"") == {}
    # The magic number alone, a cut header, and numbers that are no architecture are passed over.
    magic = struct.pack("<I", 0xBA55ED50)
    assert fatbin_architectures(magic) == {}
    assert fatbin_architectures(magic * 9) == {}
    assert fatbin_architectures(fatbin((2, 120))[:-1]) == {}
    assert fatbin_architectures(fatbin((2, 9999), (2, 120))) == {}


@pytest.mark.parametrize(("code", "text"), [(23004, "2.30.4"), (22809, "2.28.9"), (2708, "2.7.8")])
def test_nccl_version(code: int, text: str) -> None:
    assert nccl_version(code) == text


def test_assemblers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Version line as CUDA 12.8 prints it; the list of names in the help is shortened.
    script = tmp_path / "ptxas"
    script.write_text(
        "#!/bin/sh\n[ $1 = --help ] && echo \"'sm_120','sm_120a'\"\n"
        "[ $1 = --version ] && echo 'Cuda compilation tools, release 12.8, V12.8.93'\nexit 0\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(script))
    assert ptxas_facts()[0] == {"path": str(script), "release": "12.8", "sm_121a": False}


def test_it_runs_from_standard_input_without_torch() -> None:
    command = [sys.executable, "-I", "-", "--seconds=20", "versions", "device", "awq_marlin_moe"]
    done = subprocess.run(command, input=SOURCE.read_text(), capture_output=True, text=True, timeout=60, check=True)
    document = json.loads(done.stdout.splitlines()[-1].removeprefix(MARKER))
    assert [check["name"] for check in document["checks"]] == ["versions", "device", "awq_marlin_moe"]
    assert document["checks"][0]["state"] == "passed"
    assert {check["state"] for check in document["checks"][1:]} == {"unavailable"}


def test_an_unknown_check_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seconds=1", "nonsense"]) == 2
    assert "unknown check 'nonsense': expected versions, device" in capsys.readouterr().err


def test_the_probe_stands_alone() -> None:
    lines = [line for line in SOURCE.read_text().splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in lines if line.startswith("from .") or "ansible" in line or "torch" in line]
    assert list(CHECKS) == ["versions", "device", "bf16_matmul", "awq_marlin_moe", "nvfp4_gemm", "cuda_graph", "load"]
