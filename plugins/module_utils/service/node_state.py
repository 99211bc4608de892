# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a node is at this moment, for watchdog and follower: its containers' ages, the model's ranks, memory, compilers.

Ages come from /proc and the kernel's uptime, not from Docker's time stamps: those move when the clock does.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..docker.cli import DOCKER, GONE, DockerError, inspect_container
from ..system.run import Runner

#: How the processes of ranks begin (vllm/utils/system_utils.py set_process_title; Ray's actors). The engine core holds no memory of the GPU.
_RANKS = ("VLLM::Worker", "ray::RayWorkerWrapper", "ray::RayWorkerProc")
_ENGINES = ("VLLM::EngineCore",)
#: Compilers that Triton, torch.compile, FlashInfer and CUDA start for new kernels; while one runs, a step takes long.
_COMPILERS = frozenset({"ptxas", "nvcc", "cicc", "cudafe++", "ninja", "cc1plus", "nvlink", "fatbinary"})

#: Seconds for an answer of Docker's.
ANSWER_S = 10.0


class _Brief:
    """Runs programs for at most ANSWER_S seconds: a daemon that hangs must not hold the caller."""

    def __init__(self, run: Runner) -> None:
        self.run = run

    def __call__(
        self,
        argv: Sequence[str],
        seconds: float | None = ANSWER_S,
        /,
        *,
        data: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        return self.run(argv, ANSWER_S, data=data, environment=environment)


def uptime(proc: Path = Path("/proc")) -> float:
    """Return the seconds since boot."""
    return float((proc / "uptime").read_text(encoding="ascii").split()[0])


def process_age(pid: int, proc: Path = Path("/proc")) -> float | None:
    """Return the seconds since a process started (proc_pid_stat(5), field 22); None when it is gone."""
    try:
        # The name in brackets may hold spaces and brackets itself.
        fields = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return uptime(proc) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None


def container_age(run: Runner, name: str, proc: Path = Path("/proc")) -> float | None:
    """Return the seconds since a container's first process started; None when it does not run, or Docker gives no answer."""
    try:
        found = inspect_container(_Brief(run), name)
    except DockerError:
        return None
    state = (found or {}).get("State") or {}
    return process_age(int(state["Pid"]), proc) if state.get("Running") and state.get("Pid") else None


def _processes(proc: Path) -> Iterator[tuple[int, Path]]:
    for entry in proc.iterdir():
        if entry.name.isdigit():
            yield int(entry.name), entry


def ranks(proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return the process ids of the ranks on this node that run in a container, in whatever state."""
    return _titled(_RANKS, proc)


def engines(proc: Path = Path("/proc")) -> tuple[int, ...]:
    """Return the process ids of the engine cores in containers of this node; on a single GPU its rank is part of it."""
    return _titled(_ENGINES, proc)


def _titled(titles: tuple[str, ...], proc: Path) -> tuple[int, ...]:
    found = []
    for pid, entry in _processes(proc):
        with contextlib.suppress(OSError):
            title = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            if title.startswith(titles) and "docker" in (entry / "cgroup").read_text(encoding="utf-8"):
                found.append(pid)
    return tuple(sorted(found))


def compiling(proc: Path = Path("/proc")) -> bool:
    """Say whether a compiler of kernels runs on this node."""
    for _pid, entry in _processes(proc):
        with contextlib.suppress(OSError):
            if (entry / "comm").read_text(encoding="utf-8", errors="replace").strip() in _COMPILERS:
                return True
    return False


def memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[float, float, float]:
    """Return GiB of memory available, in all, and of swap in use."""
    figures = {}
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _colon, rest = line.partition(":")
        with contextlib.suppress(ValueError, IndexError):
            figures[name] = int(rest.split()[0]) / 2**20
    swap = figures.get("SwapTotal", 0.0) - figures.get("SwapFree", 0.0)
    return figures.get("MemAvailable", 0.0), figures.get("MemTotal", 0.0), swap


def end_container(run: Runner, name: str) -> str:
    """End a container with force; return why it could not be done, or an empty text. One that is gone already is no failure.

    A daemon that gives no answer is not waited for: the ranks' processes are ended directly.
    """
    status, _out, err = run([DOCKER, "kill", name], 20)
    if status == 0 or GONE in err or "is not running" in err:
        return ""
    for pid in ranks():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return f"docker kill {name} failed ({err.strip() or f'status {status}'}); its ranks were ended directly"
