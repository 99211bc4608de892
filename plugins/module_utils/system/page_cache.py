# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The page cache: how much of the memory it holds, and how to give that back before a program measures what is free.

On unified memory the GPU allocates from what the kernel calls free. A page cache full of weights (the NFS cache of the head, a copy, a download)
counts as available to the kernel, but CUDA and vLLM may meet it as memory that is taken.
"""

from __future__ import annotations

import os
from pathlib import Path

#: /proc/meminfo counts in KiB, which it calls kB.
_KIB_PER_GIB = 1024**2


def drop_page_cache(root: Path = Path("/")) -> str:
    """Give the clean pages of the page cache back to the kernel, on the whole machine.

    It writes 1 and not 3: the weights' pages are all in the page cache, while 2 and 3 also drop the directory entries and inodes, which are small, take
    locks that every program on the machine waits for, and send each later look at the NFS share back to its server. It does not call sync first:
    that would wait for everybody's writes, and for ever where one of them goes to a dead NFS server. Pages that are not written yet simply stay.

    Args:
        root: where the machine's files lie; another in tests.

    Returns:
        Nothing where it was done, else one sentence why not: in a container /proc/sys is read-only, and without root it is not allowed.
    """
    path = root / "proc/sys/vm/drop_caches"
    try:
        # For writing alone: it has mode 0200 (seen with Linux 6.18), which below /proc/sys keeps root from reading too. One that is not there is not made.
        control = os.open(path, os.O_WRONLY)
        try:
            os.write(control, b"1\n")
        finally:
            os.close(control)
    except OSError as error:
        return f"the page cache was not dropped: {path}: {error.strerror or error}"
    return ""


def page_cache_gib(meminfo_text: str) -> float:
    """Return what dropping the page cache can free at most, in GiB: Cached + Buffers - Shmem - Mapped of /proc/meminfo.

    Shmem (shared memory, tmpfs) counts as cached and has no disk to come back from; what is mapped is in use. Unwritten pages are still in it.
    A figure that is missing counts as 0, and the result is never negative.
    """
    figures = dict.fromkeys(("Cached", "Buffers", "Shmem", "Mapped"), 0)
    for line in meminfo_text.splitlines():
        name, _colon, value = line.partition(":")
        words = value.split()
        if name in figures and words and words[0].isdigit():
            figures[name] = int(words[0])
    kib = figures["Cached"] + figures["Buffers"] - figures["Shmem"] - figures["Mapped"]
    return max(0, kib) / _KIB_PER_GIB
