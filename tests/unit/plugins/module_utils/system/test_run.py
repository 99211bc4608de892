# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Programs are run for a limited time, and their end is always data."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.run import GIVEN_UP, MISSING, last_line, run, said


def test_status_output_and_errors() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == (3, "out\n", "err\n")
    assert run(["printf", "\\377"]) == (0, "\ufffd", "")


def test_a_program_that_is_not_there() -> None:
    assert run(["/no/such/program"]) == (MISSING, "", "/no/such/program: No such file or directory")


def ends(process: int) -> bool:
    """Say whether a process comes to its end; one that does not is killed."""
    for _look in range(200):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    os.kill(process, signal.SIGKILL)
    return False


def test_a_program_that_hangs_is_given_up_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code, out, err = run(["sh", "-c", f"sleep 600 & echo $! > {note}; wait"], 0.5)
    assert (code, out, err) == (GIVEN_UP, "", "no answer within 0.5 s")
    assert ends(int(note.read_text()))


def test_what_it_said_until_then_is_kept() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2; exec sleep 600"], 1) == (
        GIVEN_UP,
        "out\n",
        "err\nno answer within 1 s",
    )


def test_a_program_that_ignores_the_polite_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run.__globals__, "GRACE", 0.2)
    note = tmp_path / "pid"
    program = f"trap '' TERM; echo $$ > {note}; while :; do sleep 0.1; done"
    assert run(["sh", "-c", program], 0.5)[0] == GIVEN_UP
    assert ends(int(note.read_text()))


def test_a_program_without_input_does_not_wait_for_that_of_whoever_runs_the_tool() -> None:
    mine, other_end = os.pipe()
    kept = os.dup(0)
    os.dup2(mine, 0)
    try:
        assert run(["cat"], 10) == (0, "", "")
    finally:
        os.dup2(kept, 0)
        for handle in (mine, other_end, kept):
            os.close(handle)


def test_input_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["cat"], 20, data="hello") == (0, "hello", "")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert run(["sh", "-c", "echo $LC_ALL $MORE"], environment={"MORE": "yes"})[1] == "C.UTF-8 yes\n"


def test_the_administrators_programs_are_found_behind_those_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (folders,) = run(["/bin/sh", "-c", "echo $PATH"])[1].split()
    assert folders.split(":")[0] == str(tmp_path)
    assert {"/usr/sbin", "/sbin"} <= set(folders.split(":"))


def test_words() -> None:
    assert said("out\n", "err\n") == "err\nout"
    assert last_line("a\nb\n", "") == "b"
    assert last_line("a\n", "c\nd \n") == "d"
    assert last_line(" \n", "") == "no output"


def test_the_line_that_names_the_error_comes_first() -> None:
    assert last_line("fine\n", "Traceback\n  File x\nValueError: no tokenizer\nbye\n") == "ValueError: no tokenizer"
    hint = "docker: Error response from daemon: no such image\n\nRun 'docker run --help' for more information\n"
    assert last_line("", hint) == "docker: Error response from daemon: no such image"
    assert last_line("RuntimeError: no port\n", "100%|####|\n") == "RuntimeError: no port"
    assert last_line("done, 0 errors\n", "denied\n") == "denied"


#: Files of plugins/ that start programs without ``run``; docs/decisions/0022 says why.
DIRECT = {
    "module_utils/docker/pull.py",
    "module_utils/command/logs.py",
    "module_utils/fabric/bench.py",
    "module_utils/gpu/kernel_probe.py",
    "module_utils/hub/queue.py",
    "module_utils/peer/image_stream.py",
    "module_utils/peer/share.py",
    "module_utils/service/rank_watch.py",
    "module_utils/system/run.py",
}


def test_what_starts_programs_in_another_way_is_known() -> None:
    plugins = Path(__file__).parents[5] / "plugins"
    files = {
        str(path.relative_to(plugins))
        for path in plugins.rglob("*.py")
        if re.search(
            r"^\s*(import subprocess|from subprocess )|\.run_command\(|os\.(system|popen)\(", path.read_text(), re.M
        )
    }
    assert files == DIRECT
    decision = (plugins.parent / "docs/decisions/0022-one-way-to-run-write-and-ask.md").read_text(encoding="utf-8")
    assert all(name.removeprefix("module_utils/") in decision for name in DIRECT)
