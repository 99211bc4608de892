#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Write the lists of Python packages, with hashes, that nodes and serving image get: ``python bin/locks.py``. Needs uv and PyPI.

What is asked for stands in the defaults of the roles; uv finds what that needs for each Python and machine, in wheels alone. Releases younger than a
week are left out: by then a bad one is known.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pip._internal.models.index import PyPI

ROOT = Path(__file__).resolve().parent.parent
#: Second numbers of the Pythons of nodes and images, and their machines.
PYTHONS = (10, 11, 12, 13, 14)
MACHINES = ("aarch64", "x86_64")
#: For which glibc wheels may be made: that of Debian 12, the oldest.
GLIBC = "manylinux_2_36"
AGE = "7 days"
#: Where PyPI keeps its files: another index may have made wheels of its own.
FILES = f"https://{PyPI.file_storage_domain}/"
#: What Ray brings into an image, held to versions that ask little of what the image has: protobuf before 6.33.5, OpenTelemetry before 1.44 and
#: packaging before 26.3 are enough for these.
HELD = ("google-api-core<2.31", "proto-plus<1.29", "virtualenv<21.14")
#: What takes the version of its sibling in the image (docker/image_layer.py): how many releases have their hashes in the list.
SIBLINGS = {"opentelemetry-exporter-prometheus": 12}

_HEADER = """# {wanted} and all that it needs: wheels of PyPI with their SHA-256, for Python 3.{first} to 3.{last} on Linux ({machines}).
# Written by `python bin/locks.py`.
"""

Package = Mapping[str, Any]
#: What uv found for each Python and machine.
Found = Mapping[tuple[int, str], Iterable[Package]]


class LockError(Exception):
    """One sentence for the user."""


@dataclass(frozen=True)
class Lock:
    """A list: what is asked for, its file, and bounds for what that needs."""

    wanted: str
    path: Path
    held: Sequence[str] = ()


def locks() -> list[Lock]:
    """Return the lists that the defaults of the roles ask for."""
    tools, image = ROOT / "roles" / "node_tools", ROOT / "roles" / "serving_image"
    hub = re.search(r"'([\w.-]+==[\w.]+)'", (tools / "defaults" / "main.yml").read_text(encoding="utf-8"))
    ray = re.search(
        r"^serving_image_ray_version: (\S+)$", (image / "defaults" / "main.yml").read_text(encoding="utf-8"), re.M
    )
    if not hub or not ray:
        raise LockError("node_tools_packages or serving_image_ray_version has no version in the defaults of its role")
    name = Path("files") / "requirements.txt"
    return [Lock(hub[1], tools / name), Lock(f"ray[default]=={ray[1]}", image / name, HELD)]


def resolve(wanted: Sequence[str], minor: int, machine: str, *more: str) -> list[dict[str, Any]]:
    """Return the packages that uv finds for one Python on a machine, each with the wheels that fit there."""
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "requirements.in", Path(folder) / "pylock.toml"
        asked.write_text("\n".join(wanted), encoding="utf-8")
        argv = [
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--only-binary",
            ":all:",
            "--exclude-newer",
            AGE,
            "--format",
            "pylock.toml",
            *more,
        ]
        argv += ["--python-version", f"3.{minor}", "--python-platform", f"{machine}-{GLIBC}"]
        try:
            done = subprocess.run([*argv, "--output-file", found, asked], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise LockError(
                "uv is not there: `pip install uv` in a virtual environment, and put its bin on PATH"
            ) from None
        if done.returncode:
            raise LockError(
                f"uv finds no {' with '.join(wanted)} for Python 3.{minor} on {machine}: {' '.join(done.stderr.split())}"
            )
        packages: list[dict[str, Any]] = tomllib.loads(found.read_text(encoding="utf-8"))["packages"]
        return packages


def releases(name: str, count: int) -> list[Package]:
    """Return the last releases of a package that is the same file for every Python and machine."""
    found: list[Package] = []
    while len(found) < count:
        bound = f"{name}<{found[-1]['version']}" if found else name
        found += resolve([bound], PYTHONS[-1], MACHINES[0], "--no-deps")
    return found


def marker(places: set[tuple[int, str]], what: str) -> str:
    """Return for which Pythons a version is, as pip's requirements say it; nothing for all of them.

    Raises:
        LockError: it is not one range of Pythons on every machine.
    """
    first, last = min(places)[0], max(places)[0]
    if places != {(minor, machine) for minor in PYTHONS if first <= minor <= last for machine in MACHINES}:
        raise LockError(
            f"{what} is for {sorted(places)}, which is no range of Pythons on each machine: pin another version"
        )
    bounds = [f"python_version >= '3.{first}'"] * (first > PYTHONS[0]) + [f"python_version < '3.{last + 1}'"] * (
        last < PYTHONS[-1]
    )
    return f" ; {' and '.join(bounds)}" if bounds else ""


def hashes(package: Package) -> set[str]:
    """Return the SHA-256 of each wheel of a package.

    Raises:
        LockError: one is not PyPI's.
    """
    for wheel in package["wheels"]:
        if not wheel["url"].startswith(FILES):
            raise LockError(f"{wheel['url']} is no file of PyPI: leave settings of another index away from uv")
    return {wheel["hashes"]["sha256"] for wheel in package["wheels"]}


def text(wanted: str, found: Found, siblings: Mapping[str, Sequence[Package]]) -> str:
    """Return the list of what is asked for and all that it needs; siblings are further releases whose hashes stand beside."""
    places: dict[tuple[str, str], set[tuple[int, str]]] = {}
    known: dict[tuple[str, str], set[str]] = {}
    for place, packages in found.items():
        for package in packages:
            key = package["name"], package["version"]
            places.setdefault(key, set()).add(place)
            known.setdefault(key, set()).update(hashes(package))
    asked = re.sub(r"\[.*\]", "", wanted).replace("_", "-")
    lines = _HEADER.format(wanted=wanted, first=PYTHONS[0], last=PYTHONS[-1], machines=" and ".join(MACHINES))
    for name, version in sorted(places):
        pin = f"{name}=={version}"
        for release in siblings.get(name, ()):
            known[name, version] |= hashes(release)
        if name in siblings:
            lines += f"# With the hashes of {', '.join(release['version'] for release in siblings[name])}: the image decides.\n"
        parts = [(wanted if pin == asked else pin) + marker(places[name, version], pin)]
        lines += " \\\n    ".join(parts + [f"--hash=sha256:{digest}" for digest in sorted(known[name, version])]) + "\n"
    return lines


def write(lock: Lock, pool: ThreadPoolExecutor) -> None:
    """Write one list."""
    places = [(minor, machine) for minor in PYTHONS for machine in MACHINES]
    tasks = {place: pool.submit(resolve, [lock.wanted, *lock.held], *place) for place in places}
    found = {place: task.result() for place, task in tasks.items()}
    names = {package["name"] for packages in found.values() for package in packages} & set(SIBLINGS)
    made = text(lock.wanted, found, {name: releases(name, SIBLINGS[name]) for name in names})
    lock.path.parent.mkdir(exist_ok=True)
    lock.path.write_text(made, encoding="utf-8")
    print(f"wrote {lock.path.relative_to(ROOT)}")


def main(arguments: Sequence[str]) -> int:
    """Write every list; return the exit status."""
    if arguments:
        print("ERROR: bin/locks.py takes no arguments", file=sys.stderr)
        return 2
    try:
        with ThreadPoolExecutor(4) as pool:
            for lock in locks():
                write(lock, pool)
    except LockError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
