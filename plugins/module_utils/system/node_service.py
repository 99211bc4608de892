# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One of our own programs as a service of systemd on a node: its configuration, its unit, and that it runs what is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import Changes
from .run import Runner
from .systemd_unit import SANDBOX, exec_line, render

UNITS = Path("/etc/systemd/system")
BIN = Path("/opt/dgx-spark/bin")
LIBRARY = Path("/opt/dgx-spark/lib/dgx_spark_node")
#: Folder below /var/lib and /run where the programs keep holds, evidence and their memory of failures.
STATE = "dgx-spark"
#: Signs of life are sent every other second; a program that is silent for so many seconds is started again.
WATCHDOG_SEC = 90
#: What only measures goes before the system's own programs when memory is short, and has an upper limit: the machine's memory is the model's.
_LIMITS = {"spark-metrics": (("OOMScoreAdjust", "500"), ("MemoryMax", "96M"))}


class NodeServiceError(Exception):
    """One sentence for the user."""


def library_digest(library: Path = LIBRARY) -> str:
    """Return a digest of the installed programs' source: a service that runs an older one is restarted."""
    digest = hashlib.sha256()
    for path in sorted(library.rglob("*.py")) if library.is_dir() else ():
        digest.update(f"{path.relative_to(library)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def unit_text(name: str, description: str, config: Path, digest: str) -> str:
    """Return the unit file of a program in BIN that takes ``--config`` and sends signs of life.

    It ranks before everything else when memory is short, but for what only measures, and has no stop flag: it says that the cluster is stopped.
    """
    unit = [
        ("Description", description),
        ("Wants", "network-online.target"),
        ("After", "network-online.target docker.service"),
    ]
    service = [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", exec_line([str(BIN / name), "--config", str(config)])),
        ("WatchdogSec", str(WATCHDOG_SEC)),
        ("Restart", "always"),
        ("RestartSec", "2"),
        *_LIMITS.get(name, (("OOMScoreAdjust", "-900"),)),
        *SANDBOX,
        ("ProtectSystem", "strict"),
        ("StateDirectory", STATE),
        # Others keep files there as well.
        ("RuntimeDirectory", STATE),
        ("RuntimeDirectoryPreserve", "yes"),
        ("ProtectHome", "yes"),
        # dmesg for the evidence; a rank that has to end may be anybody's.
        ("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH CAP_KILL CAP_SYSLOG"),
        ("SystemCallFilter", "@system-service syslog"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ]
    text = render([("Unit", unit), ("Service", service), ("Install", [("WantedBy", "multi-user.target")])])
    return f"# Written by dgx_spark.vllm.node_service. Programs: {digest}\n{text}"


class NodeService(Changes):
    """Brings one service to its wanted state; ``actions`` says in words what was done."""

    def __init__(self, name: str, run: Runner, check: bool, units: Path = UNITS, library: Path = LIBRARY) -> None:
        super().__init__(check)
        self.name = name
        self.run = run
        self.unit = units / f"{name}.service"
        self.library = library

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl, unless in check mode; raises NodeServiceError where it fails."""
        if self.check:
            return
        status, out, err = self.run(["systemctl", *arguments])
        if status:
            raise NodeServiceError(
                f"systemctl {' '.join(arguments)} failed: {(err or out).strip()}; see `journalctl -u {self.name}`"
            )

    def _state(self) -> tuple[str, str]:
        _status, out, _err = self.run(["systemctl", "show", self.unit.name, "--property=ActiveState,UnitFileState"])
        values = dict(line.partition("=")[::2] for line in out.splitlines())
        return values.get("ActiveState", ""), values.get("UnitFileState", "")

    def present(self, description: str, config_path: Path, config: Mapping[str, Any]) -> None:
        """Write configuration and unit, enable it, and see that it runs what is written."""
        self.folder(config_path.parent)
        written = self.write(config_path, json.dumps(config, indent=2, sort_keys=True) + "\n")
        digest = library_digest(self.library)
        unit = self.write(self.unit, unit_text(self.name, description, config_path, digest))
        if unit:
            self.systemctl("daemon-reload")
        active, enabled = self._state()
        if enabled != "enabled":
            self.actions.append(f"enabled {self.unit.name} at boot")
            self.systemctl("enable", self.unit.name)
        if active not in ("active", "activating"):
            self.actions.append(f"started {self.unit.name}")
            self.systemctl("start", self.unit.name)
        elif written or unit:
            self.actions.append(f"restarted {self.unit.name}")
            self.systemctl("restart", self.unit.name)

    def absent(self, config_path: Path) -> None:
        """Stop, disable and remove it, as far as it is there."""
        active, enabled = self._state()
        if active in ("active", "activating", "reloading"):
            self.actions.append(f"stopped {self.unit.name}")
            self.systemctl("stop", self.unit.name)
        if enabled == "enabled":
            self.actions.append(f"disabled {self.unit.name}")
            self.systemctl("disable", self.unit.name)
        if self.remove(self.unit):
            self.systemctl("daemon-reload")
            self.remove(config_path)
