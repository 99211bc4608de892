# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Starts a vLLM server for one configuration, waits until it serves, and stops it with everything that it started."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.health import ServerState, read_server

#: Nothing is fetched, nothing reported, and the log has no colours.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}


class StartError(Exception):
    """The server did not come up; ``str()`` says what was seen."""


class Forge:
    """Servers forked from a process that has imported vLLM (benchmarks.gpu.warm)."""

    def __init__(self, python: str, *, patience_s: float = 240.0) -> None:
        self._process = subprocess.Popen(
            [*shlex.split(python), "-m", "benchmarks.gpu.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ENVIRONMENT},
        )
        timer = time.monotonic()
        answer = self._answer()
        if answer != "ready":
            self.close()
            raise StartError("vLLM could not be imported ahead")
        self.import_s = time.monotonic() - timer
        self.patience_s = patience_s

    def start(self, argv: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
        """Fork a server; return its process id."""
        order = {"argv": list(argv), "log": str(log), "environment": dict(environment)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._answer()
        if not answer.isdigit():
            raise StartError("the process that holds vLLM's imports is gone")
        return int(answer)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the process; servers forked from it stay."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Server:
    """One running server; ``with`` stops it."""

    def __init__(
        self,
        command: Sequence[str],
        vllm: str,
        log: Path,
        url: str,
        model: str,
        *,
        environment: Mapping[str, str],
        forge: Forge | None = None,
    ) -> None:
        self.log, self.url, self.model = log, url, model
        self._child: subprocess.Popen[bytes] | None = None
        self.started = time.monotonic()
        if forge:
            self.pid = forge.start(command[1:], log, environment)
        else:
            with log.open("wb") as stream:
                self._child = subprocess.Popen(
                    [*shlex.split(vllm), *command[1:]],
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env={**os.environ, **ENVIRONMENT, **environment},
                )
            self.pid = self._child.pid

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def alive(self) -> bool:
        """Say whether the server's first process is there."""
        if self._child is not None:
            return self._child.poll() is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def wait(self, patience_s: float) -> tuple[float, ServerState]:
        """Wait until the model is served; return the seconds since the start and what the server says.

        Raises:
            StartError: it ended, or took longer.
        """
        client = HttpClient(self.url, timeout=5)
        while True:
            if not self.alive():
                raise StartError("the server ended")
            state = read_server(client, self.model)
            if state.serving:
                return time.monotonic() - self.started, state
            if time.monotonic() - self.started > patience_s:
                why = state.trouble.sentence() if state.trouble else "no reason given"
                raise StartError(f"not serving after {patience_s:.0f} s: {why}")
            time.sleep(0.25)

    def stop(self, grace_s: float = 8.0) -> None:
        """Ask it to end, then end its whole session."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if self._child is not None:
            self._child.wait()


def gpu_query(fields: str) -> list[str]:
    """Return the first GPU's values of ``nvidia-smi --query-gpu``; empty without the tool."""
    rows = gpu_rows(fields)
    return rows[0] if rows else []


def gpu_memory() -> list[float]:
    """Return the MiB in use of each GPU; empty where they cannot be read."""
    try:
        return [float(row[0]) for row in gpu_rows("memory.used")]
    except ValueError:
        return []


def gpu_rows(fields: str) -> list[list[str]]:
    """Return the values of ``nvidia-smi --query-gpu`` of each GPU; empty without the tool."""
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = done.stdout.splitlines() if done.returncode == 0 else []
    return [[value.strip() for value in line.split(",")] for line in lines]


def wait_for_memory(patience_s: float = 30.0, limit_mib: float = 1500.0) -> None:
    """Wait until the GPU's memory is free again; what runs beside it is none of ours and is left alone."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        if all(used < limit_mib for used in gpu_memory()):
            return
        time.sleep(0.5)
    print(f"GPU memory is still in use after {patience_s:.0f} s", file=sys.stderr)
