# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Brings a container's unit to what is wanted: its files, its place at boot, whether it runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..system.files import Changes
from ..system.run import Runner
from .cli import DockerError, image_id
from .service import (
    HOLDS,
    ContainerSpec,
    Mount,
    Secret,
    UnitSpec,
    record,
    trial_text,
    unit_text,
)
from .service_state import (
    RECORDS,
    TRIAL_RECORDS,
    TRIAL_UNITS,
    UNITS,
    ContainerServiceError,
    secret_hashes,
    unit_state,
)


class Units(Changes):
    """What is done to units of systemd and their files."""

    def __init__(self, run: Runner, check: bool) -> None:
        super().__init__(check)
        self.run = run

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl, but not in check mode.

        Raises:
            ContainerServiceError: it refuses.
        """
        if self.check:
            return
        # A stop lets requests end: the unit's own limit bounds it.
        code, out, err = self.run(["systemctl", *arguments], None)
        if code != 0:
            raise ContainerServiceError(
                f"systemctl {' '.join(arguments)} failed: {(err or out).strip()}; see `journalctl -u {arguments[-1]}`"
            )

    def remove_unit(self, name: str) -> None:
        """Stop, disable and remove a unit and its record, as far as they are there."""
        state = unit_state(self.run, name)
        if state.loaded and state.active not in {"inactive", "failed"}:
            self.actions.append(f"stopped {name}.service")
            self.systemctl("stop", f"{name}.service")
        if state.enabled:
            self.actions.append(f"disabled {name}.service")
            self.systemctl("disable", f"{name}.service")
        for path in (UNITS / f"{name}.service", RECORDS / f"{name}.json"):
            self.remove(path)
        if self.actions:
            self.systemctl("daemon-reload")


class ContainerService(Units):
    """Brings one unit to its wanted state; ``actions`` says in words what was done."""

    def __init__(self, params: Mapping[str, Any], run: Runner, check: bool) -> None:
        super().__init__(run, check)
        self.params = params
        self.name: str = params["name"]
        self.unit_path = UNITS / f"{self.name}.service"
        self.record_path = RECORDS / f"{self.name}.json"
        self.trial_path = TRIAL_UNITS / f"{self.name}.service.d" / "50-trial.conf"
        self.trial_record_path = TRIAL_RECORDS / f"{self.name}.json"

    def present(self) -> dict[str, Any]:
        params = self.params
        container = ContainerSpec(
            name=self.name,
            image=params["image"],
            command=tuple(params["command"]),
            environment={key: str(value) for key, value in params["environment"].items()},
            mounts=tuple(Mount(**mount) for mount in params["mounts"]),
            secrets=tuple(Secret(**secret) for secret in params["secrets"]),
            devices=tuple(params["devices"]),
            ulimits={key: str(value) for key, value in params["ulimits"].items()},
            shm_size=params["shm_size"],
            network=params["network"],
            ipc=params["ipc"],
            pid=params["pid"],
            cap_add=tuple(params["cap_add"]),
            read_only=params["read_only"],
            memory_mib=params["memory_mib"],
            oom_score=params["oom_score"],
        )
        unit = UnitSpec(
            description=params["description"] or self.name,
            after=tuple(params["after"]),
            gates=tuple(tuple(str(part) for part in gate) for gate in params["gates"]),
            ready=tuple(params["ready"]),
            clear=tuple(params["clear"]),
            restart_sec=params["restart_sec"],
            start_limit_burst=params["start_limit_burst"],
            start_limit_interval_sec=params["start_limit_interval_sec"],
            stop_timeout_sec=params["stop_timeout_sec"],
            longest_start_sec=params["longest_start_sec"],
        )
        try:
            found_image = image_id(self.run, container.image)
        except DockerError:
            if not self.check:
                raise
            # A first run in check mode: image and secrets are still to come, so that the unit cannot be worked out.
            self.actions.append(f"wrote {self.unit_path}")
            return {"digest": "", "image_id": ""}
        digest = container.digest(
            found_image, secret_hashes({secret.name: secret.path for secret in container.secrets})
        )
        wanted = json.dumps(record(container, found_image, digest), indent=2) + "\n"
        for name in params["replaces"]:
            if (UNITS / f"{name}.service").exists():
                self.remove_unit(name)
        if params["trial"]:
            written = self.write(self.trial_path, trial_text(container, unit, found_image, digest))
            self.write(self.trial_record_path, wanted)
        else:
            written = self.write(self.unit_path, unit_text(container, unit, found_image, digest))
            self.write(self.record_path, wanted)
            written = self.end_trial() or written
        state = unit_state(self.run, self.name)
        if written or state.need_reload:
            # Only when needed: a daemon-reload can take the GPU from containers that got it by the legacy hook.
            self.systemctl("daemon-reload")
        if not state.enabled and not params["trial"]:
            self.actions.append(f"enabled {self.name}.service at boot")
            self.systemctl("enable", f"{self.name}.service")
        return {"digest": digest, "image_id": found_image}

    def end_trial(self) -> bool:
        """Take away what a trial left, and say whether there was something."""
        found = [self.remove(path) for path in (self.trial_path, self.trial_record_path)]
        return any(found)

    def absent(self) -> dict[str, Any]:
        self.end_trial()
        self.remove_unit(self.name)
        return {}

    def started(self) -> dict[str, Any]:
        state = self.known_state()
        if state.active not in {"active", "activating", "reloading"}:
            self.actions.append(f"started {self.name}.service")
            # Forgets earlier failures: the operator asked, so retry limit and watchdog start from zero.
            self.remove(Path(HOLDS, self.name))
            self.systemctl("reset-failed", f"{self.name}.service")
            self.systemctl("start", "--no-block", f"{self.name}.service")
        return {}

    def stopped(self) -> dict[str, Any]:
        state = unit_state(self.run, self.name)
        if state.loaded and state.active not in {"inactive", "failed"}:
            self.actions.append(f"stopped {self.name}.service")
            self.systemctl("stop", f"{self.name}.service")
        return {}

    def known_state(self) -> Any:
        state = unit_state(self.run, self.name)
        if not state.loaded and not self.check:
            raise ContainerServiceError(
                f"unit {self.name}.service does not exist on this node: write it first with state=present"
            )
        return state
