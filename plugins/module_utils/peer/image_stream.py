# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A stream of ``docker save`` into ``docker load``: no copy lands on the disk beside Docker's own."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Sequence
from typing import Protocol

from ..docker.cli import DOCKER
from ..system.progress import Progress

CHUNK = 4 << 20
"""Bytes handed over at a time."""


class LoadError(Exception):
    """One sentence for the user."""


class Stream(Protocol):
    """What is read from, an HTTP answer for example."""

    def read(self, amount: int, /) -> bytes:
        """Return up to ``amount`` bytes, none at the end."""


def load_stream(
    stream: Stream,
    what: str,
    command: Sequence[str] = (DOCKER, "load", "--quiet"),
    *,
    total: int = 0,
    progress: Progress | None = None,
) -> None:
    """Hand a stream to ``docker load``.

    Args:
        stream: what ``docker save`` wrote.
        what: image and origin for sentences.
        command: the program that takes the stream on its standard input.
        total: about how many bytes come; 0 where nobody knows.
        progress: told how many came.

    Raises:
        LoadError: the stream broke off, or Docker refused it; Docker keeps no half image then.
    """
    loader = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if loader.stdin is None:  # for the type checker: a pipe was asked for
        raise LoadError(f"{command[0]} takes no input")
    broken, came = "", 0
    try:
        while chunk := stream.read(CHUNK):
            loader.stdin.write(chunk)
            came += len(chunk)
            if progress:
                progress.note(f"copying {what}", came, total)
    except BrokenPipeError:
        pass  # docker load says why below
    except (OSError, http.client.HTTPException) as error:
        broken = str(error) or type(error).__name__
        loader.kill()
    output, _none = loader.communicate()
    if broken:
        raise LoadError(f"the stream of {what} broke off ({broken}): run again")
    if loader.returncode != 0:
        raise LoadError(f"docker load of {what} failed: {output.decode(errors='replace').strip()}")
