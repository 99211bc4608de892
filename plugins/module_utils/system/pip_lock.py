# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Lists of Python packages with their hashes, in the form of pip's requirements (bin/locks.py writes them), and what pip says of a file that is not in one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: With these pip installs what has a hash in its list, in wheels alone, and nothing else.
HASHED = ("--only-binary", ":all:", "--require-hashes")

_ENTRY = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)[^\n\\]*(?:\\\n[^\n\\]*)*\n?", re.MULTILINE)
# pip 22 to 26: "    six==1.17.0 from https://... (from ...):", "Expected sha256 ...", "Got ..."; Docker puts its own words before a line.
_REFUSED = re.compile(r"DO NOT MATCH THE HASHES.*?(\S+==\S+) from ([^\s#]+).*?\bGot\s+([0-9a-f]{64})", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """One package of a list: its name as packages are compared, its version, and its lines."""

    name: str
    version: str
    text: str


def canonical(name: str) -> str:
    """Return a package's name as packages are compared: `huggingface_hub` and `Huggingface.Hub` are `huggingface-hub`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> list[Entry]:
    """Return the packages of a list; one that differs between Pythons is in it several times."""
    return [Entry(canonical(found[1]), found[2], found[0].rstrip("\n") + "\n") for found in _ENTRY.finditer(text)]


def covers(lock: Iterable[Entry], pins: Mapping[str, str]) -> bool:
    """Return whether a list has each of the wanted packages in its version."""
    return pins.items() <= {(entry.name, entry.version) for entry in lock}


def outdated(lock: Iterable[Entry], have: Mapping[str, str]) -> set[str]:
    """Return the installed packages that a list has in other versions alone."""
    listed: dict[str, set[str]] = {}
    for entry in lock:
        listed.setdefault(entry.name, set()).add(entry.version)
    return {name for name, versions in listed.items() if name in have and have[name] not in versions}


def refused(output: str) -> str:
    """Return which file pip refused because its hash is not in the list; empty where that is not what it complains about."""
    found = _REFUSED.search(output)
    if not found:
        return ""
    place = re.sub(r"//[^/@]*@", "//", found[2])
    return f"{found[1]} from {place} has the SHA-256 {found[3]}, which is not in the list of this collection"
