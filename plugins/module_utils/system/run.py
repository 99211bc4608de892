# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The one way to run a program: for a limited time, in a locale that can be parsed, never with a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

#: Exit statuses of a program that was given up, as of timeout(1), and of one that is not there, as of a shell.
GIVEN_UP, MISSING = 124, 127
#: Seconds for a program whose caller names no limit of its own: a stop of a unit takes the longest, up to 90.
SECONDS = 300.0
#: Seconds between the polite and the other end of a program whose time is up.
GRACE = 2.0
#: A line that names an error, as `ValueError: ...` and `Error response from daemon` do; "0 errors" does not.
_ERROR = re.compile(r"error\b", re.IGNORECASE)
#: What programs colour their output with on a terminal; in a journal it says nothing.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: Folders of the administrator's programs, which the PATH of a login without root lacks.
_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Runner(Protocol):
    """Runs a program: arguments and at most so many seconds in; exit status, standard output and standard error out.

    Status 124 is one that was given up, 127 one that is not there; standard error says so.
    """

    def __call__(
        self,
        argv: Sequence[str],
        seconds: float | None = ...,
        /,
        *,
        data: str | None = ...,
        environment: Mapping[str, str] | None = ...,
    ) -> tuple[int, str, str]: ...


def run(
    argv: Sequence[str],
    seconds: float | None = SECONDS,
    /,
    *,
    data: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> tuple[int, str, str]:
    """Run a program; return its exit status, output and errors.

    One that is not done in time is ended and not waited for: a process that waits for a dead NFS server or a stuck driver may outlive
    even SIGKILL, and whoever waits for it would hang as well.

    Args:
        argv: program and arguments.
        seconds: time limit; None for what takes as long as it takes, a pull of 20 GB for example.
        data: text for its standard input; nothing by default.
        environment: what is added to the environment.

    Returns:
        Status, output, errors. Status 124: no answer in time, with what it said until then; 127: there is no such program, or it cannot be started.
    """
    words = {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    path = os.pathsep.join(dict.fromkeys([*filter(None, os.environ.get("PATH", "").split(os.pathsep)), *_FOLDERS]))
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL if data is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PATH": path, **words, **(environment or {})},
            start_new_session=True,
        )
    except OSError as error:
        return MISSING, "", f"{argv[0]}: {error.strerror}"
    try:
        out, err = process.communicate(None if data is None else data.encode(), timeout=seconds)
    except subprocess.TimeoutExpired as late:
        _end(process)
        # What it said until then may be all that tells where it hangs.
        told = _text(late.stderr).rstrip("\n")
        return GIVEN_UP, _text(late.stdout), f"{told}\n" * bool(told) + f"no answer within {seconds:g} s"
    return process.returncode, _text(out), _text(err)


def _text(said: bytes | None) -> str:
    return (said or b"").decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children, and wait for none of them beyond the grace."""
    for kill in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, kill)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
            break
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def said(out: str, err: str) -> str:
    """Return all that a program said, errors first, without blank ends."""
    return "\n".join(filter(None, (err.strip(), out.strip())))


def last_line(out: str, err: str, otherwise: str = "no output") -> str:
    """Return the last line that names an error, on either stream; without one the last line of stderr, else of stdout.

    A traceback is cut to its error, and a hint after the error ("See 'docker run --help'") does not hide it.
    """
    lines = [line.strip() for line in f"{out}\n{err}".splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors or lines or [otherwise])[-1]
