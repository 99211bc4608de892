# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Runs inside a simulated node, as root: puts stand-ins of a GB10 on it and takes them away again.

`python3 -c <this file> <document>` with the document as JSON (see `world.World.document`), or the word `off`. Standard library
only. What is there is not overwritten: files of the kernel and programs of the node are covered by mounts, which go away again.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path("/run/gb10")
# Nothing below /run may be executed.
COVERS = Path("/var/lib/gb10")
STATE = Path("/var/lib/gb10-stand-ins.json")


def call(*argv: str, quiet: bool = False) -> str:
    """Run a command; ends this program with its last line when it fails, unless it may."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode and not quiet:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        sys.exit(f"{' '.join(argv)}: {said[-1]}")
    return done.stdout


class Stage:
    """What was put on this node, written down before each step, so that `off` finds it after a step that failed."""

    def __init__(self) -> None:
        try:
            self.done: list[list[str]] = json.loads(STATE.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.done = []

    def note(self, kind: str, *words: str) -> None:
        """Write down a step."""
        self.done.append([kind, *words])
        STATE.write_text(json.dumps(self.done), encoding="utf-8")

    def off(self) -> None:
        """Take everything away, the last first."""
        for kind, *words in reversed(self.done):
            if kind == "mount":
                call("umount", "--lazy", words[0], quiet=True)
            elif kind == "link":
                call("ip", "link", "delete", words[0], quiet=True)
            elif kind == "file":
                Path(words[0]).unlink(missing_ok=True)
            elif kind == "folder":
                shutil.rmtree(words[0], ignore_errors=True)
            elif kind == "undo":
                call(*words, quiet=True)
        for folder in (FOLDER, COVERS):
            shutil.rmtree(folder, ignore_errors=True)
        STATE.unlink(missing_ok=True)
        self.done = []

    def write(self, path: Path, text: str, mode: int = 0o644) -> None:
        """Write a file that was not there; its new folders are remembered with it."""
        missing = [folder for folder in path.parents if not folder.exists()]
        if missing:
            self.note("folder", str(missing[-1]))
        else:
            self.note("file", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def cover(self, path: str, source: Path) -> None:
        """Mount a file or a folder over another."""
        call("mount", "--bind", str(source), path)
        self.note("mount", path)

    def put(self, path: str, text: str, mode: int) -> None:
        """Make a path have this text: a new file, or a mount over the one that is there."""
        target = Path(path)
        if not target.exists():
            self.write(target, text, mode)
            return
        source = COVERS / path.lstrip("/")
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text, encoding="utf-8")
        source.chmod(mode)
        self.cover(path, source)

    def program(self, path: str, text: str) -> None:
        """Put a stand-in in a program's place; the program itself stays at hand below the stand-ins' folder."""
        if Path(path).exists():
            kept = FOLDER / "real" / Path(path).name
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.touch()
            self.cover(str(kept), Path(path))
        self.put(path, text, 0o755)

    def tree(self, target: str, entries: dict[str, Any]) -> None:
        """Lay files and links over a folder of the kernel's; what it holds otherwise is still seen."""
        upper = FOLDER / "trees" / target.strip("/").replace("/", "-")
        # A node without ports has nothing to lay over its interfaces.
        upper.mkdir(parents=True, exist_ok=True)
        for name, content in entries.items():
            path = upper / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif content is None:
                path.mkdir(exist_ok=True)
            else:
                path.symlink_to(content["link"])
        call("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={upper}:{target}", target)
        self.note("mount", target)

    def link(self, desired: dict[str, Any]) -> None:
        """Make a network interface that leads to its counterpart on the other node.

        A tunnel, because the simulation's direct link lets no other subnet pass. Its packets may be larger than the link's: they are
        taken apart below, and the route's MTU is locked, or the first one would lower it.
        """
        name, mtu = desired["name"], str(desired["mtu"])
        kind = ["type", "vxlan", "id", str(desired["id"]), "remote", desired["remote"], "dstport", "4789"]
        call("ip", "link", "add", name, "address", desired["mac"], *kind)
        self.note("link", name)
        call("ip", "link", "set", name, "addrgenmode", "none")
        call("ip", "link", "set", name, "mtu", mtu)
        if desired["up"]:
            call("ip", "link", "set", name, "up")
        for address in desired["addresses"]:
            call("ip", "address", "add", address, "dev", name, "noprefixroute")
            network = str(ipaddress.ip_interface(address).network)
            if desired["up"]:
                source = address.partition("/")[0]
                # Two devices in one subnet are one of the faults to show.
                call("ip", "route", "append", network, "dev", name, "src", source, "mtu", "lock", mtu)

    def stand(self, document: dict[str, Any]) -> None:
        """Put a document's world on the node."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        for undo in document["undo"]:
            self.note("undo", *undo)
        for desired in document["links"]:
            self.link(desired)
        for argv in document["commands"]:
            call(*argv)
        answers = document["answers"]
        for unit in document["pids"]:
            pid = call("systemctl", "show", "--property=MainPID", "--value", unit).strip()
            answers = answers.replace(f"@PID {unit}@", pid)
        self.write(FOLDER / "answers.json", answers)
        for path, (text, mode) in document["files"].items():
            self.put(path, text, mode)
        for target, entries in document["trees"].items():
            self.tree(target, entries)
        for path in document["programs"]:
            self.program(path, document["stand_in"])
        if document["driver"]:
            folder = FOLDER / "proc-driver/nvidia"
            folder.mkdir(parents=True)
            (folder / "version").write_text(document["driver"], encoding="utf-8")
            self.cover("/proc/driver", folder.parent)
        for unit in document["enable"]:
            call("systemctl", "enable", "--quiet", unit)
            self.note("undo", "systemctl", "disable", "--quiet", unit)


def main() -> None:
    """Put on, or take off."""
    os.umask(0o022)
    started = time.monotonic()
    stage = Stage()
    stage.off()
    if sys.argv[1] != "off":
        stage.stand(json.loads(sys.argv[1]))
    print(f"{time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
