# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is kept of a failure before it is healed: bounded in time, size and number, readable by root alone."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..docker.cli import DOCKER
from ..system.files import write_atomic
from ..system.http_json import HttpClient, HttpError
from ..system.run import Runner
from .node_state import ranks

#: Folders that are kept, and the most characters of one file.
KEPT, LARGEST = 10, 500_000
#: Seconds for everything: clients hang meanwhile.
SECONDS = 12.0
_UNITS = ("spark-vllm", "spark-ray-head", "spark-watchdog")


def _commands() -> list[tuple[str, Sequence[str]]]:
    commands: list[tuple[str, Sequence[str]]] = [
        (f"journal-{unit}.txt", ("journalctl", "--unit", unit, "--lines", "400", "--output", "short-iso", "--no-pager"))
        for unit in _UNITS
    ]
    commands += [
        ("kernel.txt", ("dmesg", "--ctime", "--level", "emerg,alert,crit,err,warn")),
        ("nvidia-smi.txt", ("nvidia-smi",)),
        ("memory.txt", ("cat", "/proc/meminfo", "/proc/pressure/memory")),
        ("processes.txt", ("ps", "-eo", "pid,ppid,stat,rss,wchan:20,etimes,args", "--sort=-rss")),
    ]
    # The image may have py-spy; a rank whose stack can be read says in which call it waits.
    stacks = [
        (f"stack-{pid}.txt", (DOCKER, "exec", "spark-vllm", "py-spy", "dump", "--pid", str(pid))) for pid in ranks()
    ]
    return commands + list(stacks[:8])


def collect(
    folder: Path, cause: str, reason: str, state: Mapping[str, Any], config: Mapping[str, Any], run: Runner
) -> Path:
    """Keep what shows why a server is to be ended, and return the folder; never raises for what cannot be had."""
    began = time.monotonic()
    target = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{cause.split(':')[0].replace(' ', '-')}"
    with contextlib.suppress(OSError):
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.chmod(0o700)
        write_atomic(
            target / "verdict.json", json.dumps({"cause": cause, "reason": reason, "state": state}, indent=2), 0o600
        )
        _page(target / "metrics.txt", str(config["url"]))
        for name, argv in _commands():
            left = SECONDS - (time.monotonic() - began)
            if left <= 0:
                break
            status, out, err = run(argv, min(left, 4.0))
            if out or status == 0:
                write_atomic(target / name, (out or err)[-LARGEST:], 0o600)
        for old in sorted(path for path in folder.iterdir() if path.is_dir())[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return target


def _page(path: Path, url: str) -> None:
    with contextlib.suppress(HttpError, ValueError):
        write_atomic(path, HttpClient(url, timeout=3).get("/metrics").text[:LARGEST], 0o600)
