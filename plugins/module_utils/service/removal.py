# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Takes away what the collection put on a node, and nothing of anybody else's.

What lies in folders of our own goes with them. A file in a folder that others use as well is ours by its first lines; a unit
also by the lists in restart_plan.py. Mounts, the export and netplan are undone by the modules that made them, before this.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from ..docker.cli import DOCKER, docker, inspect_container, inspect_image, is_absent
from ..docker.service import DIGEST_LABEL
from ..docker.service_snapshot import GOOD, images, kept_tags
from ..docker.service_state import RECORDS, read_record, unit_state
from ..docker.service_unit import Units
from ..system.files import read_json, read_text, write_atomic
from ..system.run import Runner, last_line
from ..system.units import ORDER
from .restart_plan import OTHERS

#: What may be kept.
KEEPABLE = ("weights", "image", "packages", "secrets", "caches", "chat")
#: Packages of the operating system that roles installed here.
INSTALLED = Path("/etc/dgx-spark/installed.json")
#: Folders that are ours alone.
CONFIG, CACHES = Path("/etc/dgx-spark"), Path("/var/cache/dgx-spark")
#: Accounts and conversations of the chat page, with the key that signs its sessions.
CHAT = Path("/var/lib/dgx-spark/chat")
#: The command for people: a link into a folder of ours (module node_tools).
COMMAND = Path("/usr/local/bin/spark")
FOLDERS = (CONFIG, Path("/opt/dgx-spark"), Path("/var/lib/dgx-spark"), CACHES, Path("/run/dgx-spark"))
#: Where files of ours lie beside those of others.
_UNIT_PLACES = tuple(
    f"etc/systemd/system/*.{kind}" for kind in ("service", "timer", "path", "mount", "automount", "target", "slice")
)
_PLACES = (
    "etc/systemd/system/*.d/*.conf",
    "run/systemd/system/*.d/*.conf",
    "etc/systemd/*.conf.d/*.conf",
    *(f"etc/{folder}/*" for folder in ("sysctl.d", "modprobe.d", "modules-load.d", "tmpfiles.d", "udev/rules.d")),
    "etc/bash_completion.d/*",
    *(f"etc/{folder}/*" for folder in ("nfs.conf.d", "exports.d", "netplan", "apt/sources.list.d", "default")),
)
#: What our files say in their first lines.
_MARK = "Written by dgx_spark.vllm"
_NEW_PACKAGES = "The following NEW packages will be installed:"
_REMOVED = re.compile(r"^(?:Purg|Remv) (\S+)", re.MULTILINE)


def is_ours(path: Path) -> bool:
    """Say whether a file in a folder of several was written by this collection."""
    if not path.is_file() or path.is_symlink():
        return False
    return path.stem in (*ORDER, *OTHERS) or any(_MARK in line for line in read_text(path).splitlines()[:3])


def new_packages(output: str) -> list[str]:
    """Return the packages that apt says it installs anew, dependencies included.

    Args:
        output: what ``apt-get install`` printed, in English.
    """
    _before, found, rest = output.partition(_NEW_PACKAGES)
    names: list[str] = []
    for line in rest.splitlines()[1:] if found else ():
        if not line.startswith("  "):
            break
        names += line.split()
    return sorted(set(names))


def recorded_packages() -> list[str]:
    """Return the packages that roles installed on this node."""
    return sorted(str(name) for name in (read_json(INSTALLED) or {}).get("packages") or [])


class Removal(Units):
    """Takes everything away but what is kept.

    Attributes:
        found: what is there to be taken away, in words for people.
        notes: what stays although nobody asked for it, and why.
    """

    def __init__(
        self,
        run: Runner,
        check: bool,
        keep: Collection[str],
        store: Path,
        image_names: Sequence[str] = (),
        root: Path = Path("/"),
    ) -> None:
        super().__init__(run, check)
        self.keep = frozenset(keep)
        self.store = store
        self.image_names = tuple(name for name in image_names if name)
        self.root = root
        self.found: list[str] = []
        self.notes: list[str] = []

    def everything(self) -> None:
        """Take away units, containers, images, packages, files, weights and folders, in this order.

        Raises:
            DockerError: Docker or systemd refuses.
            OSError: a file cannot be removed.
        """
        # Said by records that go before the images do.
        ids = self._image_ids()
        self._units()
        if Path(DOCKER).exists():
            self._containers()
            self._images(ids)
        self._packages()
        self._files()
        self._command()
        self._weights()
        self._folders()

    def _below(self, path: Path) -> Path:
        return self.root / path.relative_to("/")

    def _image_ids(self) -> list[str]:
        records = [record for path in sorted(RECORDS.glob("*.json")) if (record := read_record(path.stem))]
        good = (read_json(GOOD) or {}).get("services") or {}
        return sorted({*(str(record["image_id"]) for record in records), *images(good)})

    def _unit_files(self) -> Iterator[Path]:
        for place in _UNIT_PLACES:
            yield from (path for path in sorted(self.root.glob(place)) if is_ours(path))

    def _units(self) -> None:
        files = {path.name: path for path in self._unit_files()}
        # What others start or heal goes first.
        names = [f"{name}.service" for name in (*OTHERS, *reversed(ORDER))]
        names += [name for name in files if name not in names]
        changed = False
        for name in names:
            there = self._end(name)
            if name in files:
                self.remove(files[name])
                changed = True
            if there or name in files:
                self.found.append(name)
        if changed:
            self.systemctl("daemon-reload")
        if not self.check:
            # One that failed before stays listed without its file; a unit that never failed has nothing to be forgotten.
            for name in self.found:
                self.run(["systemctl", "reset-failed", name])

    def _end(self, unit: str) -> bool:
        """Stop and disable a unit; return whether it ran."""
        if not unit.endswith(".service"):
            self.actions.append(f"stopped and disabled {unit}")
            self.systemctl("disable", "--now", unit)
            return True
        state = unit_state(self.run, unit.removesuffix(".service"))
        runs = state.loaded and state.active not in {"inactive", "failed"}
        if runs:
            self.actions.append(f"stopped {unit}")
            self.systemctl("stop", unit)
        if state.enabled:
            self.actions.append(f"disabled {unit}")
            self.systemctl("disable", unit)
        return runs

    def _containers(self) -> None:
        labelled = docker(
            self.run, "ps", "--all", "--filter", f"label={DIGEST_LABEL}", "--format", "{{.Names}}"
        ).split()
        for name in dict.fromkeys((*ORDER, *labelled)):
            # One that was just stopped with its unit is gone.
            if inspect_container(self.run, name) is not None:
                self._docker(f"removed container {name}", "rm", "--force", name)
                if f"{name}.service" not in self.found:
                    self.found.append(f"container {name}")

    def _images(self, ids: Sequence[str]) -> None:
        kept = kept_tags(self.run)
        if "image" in self.keep:
            for tag in sorted(kept):
                # Where it is the only name, it is what keeps the image.
                if len((inspect_image(self.run, tag) or {}).get("RepoTags") or []) > 1:
                    self._docker(f"removed the name {tag}", "image", "rm", tag)
            return
        for name in (*sorted(kept), *self.image_names, *ids):
            image = inspect_image(self.run, name)
            # An id that has a name left is somebody's.
            if image is None or (name in ids and image.get("RepoTags")):
                continue
            self.found.append(f"image {name.removeprefix('sha256:')[:12] if name in ids else name}")
            self.actions.append(f"removed image {name}")
            if not self.check:
                code, out, err = self.run([DOCKER, "image", "rm", name])
                if code and not is_absent(err):
                    self.actions.pop()
                    self.notes.append(f"image {name} stays: {last_line(out, err)}")

    def _docker(self, action: str, *arguments: str) -> None:
        self.actions.append(action)
        if not self.check:
            docker(self.run, *arguments)

    def _packages(self) -> None:
        names = recorded_packages()
        if "packages" in self.keep or not names:
            return
        if theirs := self._others_in_docker(names):
            self.notes.append(f"packages {', '.join(names)} stay: Docker has {theirs} of others")
            return
        code, out, err = self.run(["apt-get", "--simulate", "purge", *names])
        others = sorted(set(_REMOVED.findall(out)) - set(names))
        if code or others:
            why = f"{', '.join(others)} need them" if others else last_line(out, err)
            self.notes.append(f"packages {', '.join(names)} stay: {why}")
            return
        self.found.append(f"packages {', '.join(names)}")
        self.actions.append(f"removed packages {', '.join(names)}")
        if not self.check:
            code, out, err = self.run(
                ["apt-get", "--yes", "purge", *names], None, environment={"DEBIAN_FRONTEND": "noninteractive"}
            )
            if code:
                self.actions.pop()
                self.notes.append(f"packages {', '.join(names)} stay: {last_line(out, err)}")

    def _others_in_docker(self, names: Sequence[str]) -> str:
        """Return what would be lost with Docker, where it is among the packages."""
        if not any(name.startswith(("docker", "containerd")) for name in names) or not Path(DOCKER).exists():
            return ""
        containers = docker(self.run, "ps", "--all", "--format", "{{.Names}}").split()
        others = [
            name for name in containers if f"{name}.service" not in self.found and f"container {name}" not in self.found
        ]
        return f"container {others[0]}" if others else ""

    def _keeps_packages(self) -> bool:
        return bool(recorded_packages()) and ("packages" in self.keep or any("packages" in note for note in self.notes))

    def _files(self) -> None:
        for place in _PLACES:
            for path in sorted(self.root.glob(place)):
                # The source of packages that stay.
                if not is_ours(path) or ("sources.list.d" in place and self._keeps_packages()):
                    continue
                self.found.append(str(path))
                self.remove(path)
                if not self.check and path.parent.name.endswith(".service.d") and not any(path.parent.iterdir()):
                    path.parent.rmdir()

    def _command(self) -> None:
        link = self._below(COMMAND)
        if link.is_symlink() and str(link.readlink()).startswith("/opt/dgx-spark/"):
            self.found.append(str(COMMAND))
            self.actions.append(f"removed {COMMAND}")
            if not self.check:
                link.unlink()

    def _weights(self) -> None:
        store = self._below(self.store)
        if not store.is_dir():
            return
        for repository in sorted(
            path for path in store.iterdir() if "weights" not in self.keep and is_repository(path)
        ):
            self._tree(repository, f"weights {repository.name}")
        # An empty mount point of ours; a disk of the user's stays.
        if not store.is_mount() and not any(store.iterdir()):
            self.actions.append(f"removed the empty folder {store}")
            if not self.check:
                store.rmdir()

    def _folders(self) -> None:
        keep = {CONFIG / "secrets"} if "secrets" in self.keep else set()
        if self._keeps_packages():
            keep.add(CONFIG / INSTALLED.name)
        keep |= {path for name, path in (("caches", CACHES), ("chat", CHAT)) if name in self.keep}
        for folder in map(self._below, FOLDERS):
            kept = {self._below(path) for path in keep}
            if not folder.is_dir() or folder in kept:
                continue
            inside = sorted(folder.iterdir())
            if not kept & set(inside):
                self._tree(folder, str(folder))
                continue
            for path in inside:
                if path not in kept:
                    self._tree(path, str(path))

    def _tree(self, path: Path, name: str) -> None:
        """Remove a folder or a file with all that is in it."""
        self.found.append(name)
        self.actions.append(f"removed {path}")
        if self.check:
            return
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def is_repository(path: Path) -> bool:
    """Say whether a folder of the store holds weights that this collection fetched."""
    # A cache of Hugging Face's beside it has refs as well.
    own = any(path.glob("*.manifest.json")) or (path / ".staging").is_dir()
    return path.is_dir() and own and (path / "refs").is_dir()


def record_packages(names: Sequence[str]) -> list[str]:
    """Add packages to the record of what was installed here; return those that are new in it."""
    known = recorded_packages()
    fresh = sorted(set(names) - set(known))
    if fresh:
        write_atomic(INSTALLED, json.dumps({"packages": sorted({*known, *fresh})}, indent=2) + "\n")
    return fresh
