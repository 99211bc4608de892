# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What every node keeps of a failure before it is healed: bounded in time, size and number, readable by root alone."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..docker.cli import DOCKER, throwaway_command
from ..system.files import read_text, write_atomic
from ..system.http_json import HttpClient, HttpError
from ..system.run import Runner
from .node_state import engines, ranks

#: Folders that are kept, and the most characters of one file.
KEPT, LARGEST = 10, 500_000
#: Seconds for everything: clients hang meanwhile.
SECONDS = 12.0
#: Who may read another process: 0 its owner, 1 its parent, 2 and more nobody without CAP_SYS_PTRACE (Yama). Not there: its owner.
PTRACE_SCOPE = Path("/proc/sys/kernel/yama/ptrace_scope")
#: Where Ray writes the logs of its own processes and of the ranks, NCCL's lines among them.
_RAY_LOGS = "tail --lines 200 /tmp/ray/session_latest/logs/*.out /tmp/ray/session_latest/logs/*.err"


def folder_name(cause: str) -> str:
    """Return the name of the folder of a failure: when, and the first words of its cause."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{cause.split(':')[0].replace(' ', '-')}"


def _stack(container: str, pid: int, image: str) -> Sequence[str]:
    """Return the command that reads the stack of a process: in its container, or where an image is given in one of that image for this alone.

    The containers have no capability. Where the kernel's Yama lets a process read its children alone (Ubuntu's default), it takes CAP_SYS_PTRACE,
    which none of the containers that serve has.
    """
    dump = ("py-spy", "dump", "--pid", str(pid))
    if image:
        return throwaway_command(image, dump, ("--read-only", "--pid", "host", "--cap-add", "SYS_PTRACE"))
    return (DOCKER, "exec", container, *dump)


def _image_where_asked(container: str, run: Runner) -> str:
    """Return the image of a container where reading another process takes more than the container may; else nothing."""
    if read_text(PTRACE_SCOPE).strip() not in ("1", "2"):
        return ""
    return run((DOCKER, "ps", "--filter", f"name=^{container}$", "--format", "{{.Image}}"), 4.0)[1].strip()


def _commands(units: Sequence[str], containers: Sequence[str], image: str) -> list[tuple[str, Sequence[str]]]:
    # The image may have py-spy; a rank whose stack can be read says in which call it waits.
    stacks = [(f"stack-{pid}.txt", _stack(containers[0], pid, image)) for pid in (*ranks(), *engines())]
    return [
        *stacks[:8],
        *(
            (
                f"journal-{unit}.txt",
                ("journalctl", "--unit", unit, "--lines", "400", "--output", "short-iso", "--no-pager"),
            )
            for unit in units
        ),
        ("kernel.txt", ("dmesg", "--ctime", "--level", "emerg,alert,crit,err,warn")),
        ("nvidia-smi.txt", ("nvidia-smi",)),
        ("memory.txt", ("cat", "/proc/meminfo", "/proc/pressure/memory")),
        ("processes.txt", ("ps", "-eo", "pid,ppid,stat,rss,wchan:20,etimes,args", "--sort=-rss")),
        *(
            (f"ray-logs-{name}.txt", (DOCKER, "exec", name, "sh", "-c", _RAY_LOGS))
            for name in containers
            if name.startswith("spark-ray")
        ),
    ]


def collect(
    folder: Path,
    name: str,
    units: Sequence[str],
    containers: Sequence[str],
    run: Runner,
    texts: Mapping[str, str] | None = None,
    url: str = "",
) -> Path:
    """Keep what shows why a server is to be ended, and return the folder; never raises for what cannot be had.

    Args:
        folder: where the folders of failures are.
        name: of this one, as `folder_name` makes it; the same on every node.
        units: units whose journals are kept.
        containers: containers of the cluster here, that of the ranks first.
        texts: what is known already, by file name.
        url: of the server whose figures are kept; empty on a node without one.
    """
    began = time.monotonic()
    target = folder / name
    with contextlib.suppress(OSError):
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        target.chmod(0o700)
        for file, text in (texts or {}).items():
            write_atomic(target / file, text, 0o600)
        if url:
            _page(target / "metrics.txt", url)
        for file, argv in _commands(units, containers, _image_where_asked(containers[0], run)):
            left = SECONDS - (time.monotonic() - began)
            if left <= 0:
                break
            status, out, err = run(argv, min(left, 4.0))
            if out or status == 0:
                write_atomic(target / file, (out or err)[-LARGEST:], 0o600)
        for old in sorted(path for path in folder.iterdir() if path.is_dir())[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    return target


def _page(path: Path, url: str) -> None:
    with contextlib.suppress(HttpError, ValueError):
        write_atomic(path, HttpClient(url, timeout=3).get("/metrics").text[:LARGEST], 0o600)
