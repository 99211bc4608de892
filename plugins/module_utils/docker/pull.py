# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``docker pull`` with the bytes that it draws for a terminal: without one it says nothing of them, and 20 GB are a long silence."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import tempfile
import termios

from ..system.progress import Progress
from ..system.run import MISSING
from .cli import DOCKER

# As docker's CLI draws a layer (pkg/jsonmessage): `a1b2c3d4e5f6: Downloading [===>   ]  12.3MB/45.6MB`.
_LAYER = re.compile(
    r"\b([0-9a-f]{12}): ([A-Z][a-z]+(?: [a-z]+)*)(?:\s+\[[=> ]*\]\s+([\d.]+)([kMG]?B)/([\d.]+)([kMG]?B))?"
)
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
_HERE = ("Verifying Checksum", "Download complete", "Extracting", "Pull complete")
# Rows and columns: in a narrow one docker leaves the figures out.
_WINDOW = (50, 200)


class Layers:
    """What is known of the layers of a pull, from the text that docker draws."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.held: dict[str, int] = {}
        self.done: set[str] = set()
        self.rest = ""

    def feed(self, text: str) -> None:
        """Take the next piece of the text; pieces may be cut anywhere."""
        lines = re.split(r"[\r\n]|\x1b\[\d*[A-Z]", self.rest + text)
        self.rest = lines.pop()
        for line in lines:
            if not (found := _LAYER.search(line)):
                continue
            layer, status, now, unit, size, size_unit = found.groups()
            self.held.setdefault(layer, 0)
            if status == "Downloading" and now:
                self.held[layer] = int(float(now) * _UNITS[unit])
                self.sizes[layer] = int(float(size) * _UNITS[size_unit])
            elif status in _HERE:
                self.held[layer] = self.sizes.get(layer, self.held[layer])
            if status in ("Pull complete", "Already exists"):
                self.done.add(layer)

    @property
    def bytes(self) -> int:
        """Bytes that came, as compressed in the registry."""
        return sum(self.held.values())

    def __str__(self) -> str:
        return f"{len(self.done)} of {len(self.held)} layers done"


def pull(image: str, progress: Progress) -> tuple[int, str, str]:
    """Pull an image and note how far it is; return exit status, nothing and what docker said of a failure, as ``run`` does."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", *_WINDOW, 0, 0))
    layers, what = Layers(), f"pulling {image}"
    progress.note(what)
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                [DOCKER, "pull", image],
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=errors,
                env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"},
            )
        except OSError as error:
            os.close(ours)
            return MISSING, "", f"{DOCKER}: {error.strerror}"
        finally:
            os.close(theirs)
        try:
            # A terminal whose last program has ended answers with an error.
            while piece := os.read(ours, 65536):
                layers.feed(piece.decode("utf-8", "replace"))
                progress.note(what, layers.bytes, more=str(layers))
        except OSError:
            pass
        finally:
            os.close(ours)
        status = process.wait()
        errors.seek(0)
        return status, "", errors.read().decode("utf-8", "replace")
