# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What systemd and Docker say of a unit and its container, and what is to be changed to reach the desired state."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..report.finding import YELLOW, Finding, fine
from ..system.files import read_json, read_text
from ..system.run import Runner
from .cli import DockerError, inspect_container
from .service import ASIDE, HOLDS, TRIALS, differences

#: What was checked.
CHECK = "services"

RECORDS = Path("/etc/dgx-spark/containers")
UNITS = Path("/etc/systemd/system")
#: Records and drop-ins of trials: gone after a boot.
TRIAL_RECORDS = Path(TRIALS)
TRIAL_UNITS = Path("/run/systemd/system")
_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "NRestarts",
    "Result",
    "NeedDaemonReload",
    "InactiveExitTimestampMonotonic",
)


class ContainerServiceError(DockerError):
    """One sentence for the user."""


@dataclass(frozen=True)
class UnitState:
    """systemd's view of a unit; ``active`` and ``sub`` are ActiveState and SubState of systemctl(1)."""

    loaded: bool
    active: str
    sub: str
    enabled: bool
    restarts: int
    result: str
    need_reload: bool
    #: Seconds of the monotonic clock at which its last start began; 0 when it never did.
    begun: float = 0.0


def unit_state(run: Runner, name: str) -> UnitState:
    """Ask systemd for the state of ``<name>.service``; a unit that does not exist has ``loaded`` False."""
    code, out, err = run(["systemctl", "show", f"{name}.service", f"--property={','.join(_PROPERTIES)}"])
    if code != 0:
        raise ContainerServiceError(
            f"systemctl show {name}.service failed: {err.strip() or out.strip()}; is systemd running on this node?"
        )
    values = dict(line.partition("=")[::2] for line in out.splitlines())
    return UnitState(
        loaded=values.get("LoadState") == "loaded",
        active=values.get("ActiveState", "unknown"),
        sub=values.get("SubState", "unknown"),
        enabled=values.get("UnitFileState") == "enabled",
        restarts=int(values.get("NRestarts") or 0),
        result=values.get("Result", "unknown"),
        need_reload=values.get("NeedDaemonReload") == "yes",
        begun=int(values.get("InactiveExitTimestampMonotonic") or 0) / 1e6,
    )


def waits_behind_old_gates(state: UnitState, unit: Path) -> bool:
    """Say whether a unit that is starting began to do so before its file was written: it waits at gates that nobody wants any more."""
    if state.active != "activating" or not state.begun:
        return False
    try:
        written = unit.stat().st_mtime
    except OSError:
        return False
    return written > time.time() - time.monotonic() + state.begun


def secret_hashes(paths: Mapping[str, str]) -> dict[str, str]:
    """Return the SHA-256 of each secret file by name.

    Raises:
        ContainerServiceError: a file is missing or empty.
    """
    hashes = {}
    for name, path in paths.items():
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ContainerServiceError(
                f"secret {name!r} cannot be read from {path}: {error.strerror}; run role cluster_secrets first"
            ) from None
        if not text.strip():
            raise ContainerServiceError(
                f"secret {name!r} in {path} is empty: remove the file and run role cluster_secrets again"
            )
        hashes[name] = hashlib.sha256(text).hexdigest()
    return hashes


def clustered(records: Path = RECORDS) -> list[str]:
    """Return the names of the cluster's containers on this node: all that ``container_service`` wrote, but for those that stand beside it."""
    return sorted(path.stem for path in records.glob("*.json") if path.stem not in ASIDE)


def read_record(name: str, records: Path = RECORDS) -> dict[str, Any] | None:
    """Return the record that ``container_service`` wrote for a container, or None when there is none or it is unreadable."""
    document = read_json(records / f"{name}.json")
    return document if document is not None and "digest" in document else None


def service_status(
    run: Runner,
    name: str,
    records: Path = RECORDS,
    trial_records: Path = TRIAL_RECORDS,
    units: Path = UNITS,
    holds: Path = Path(HOLDS),
) -> dict[str, Any]:
    """Return what the cluster play needs of one unit. While a trial is prepared, what it wants is what is wanted.

    A unit that spark-watchdog holds has failed, although systemd calls it inactive: nothing starts it again by itself.

    Returns:
        ``name``, ``present`` (a record exists), ``active``, ``sub``, ``enabled``, ``restarts``, ``result``, ``running`` (container runs),
        ``settled`` (the unit is active: gates passed and readiness proven), ``differs`` (reasons; empty means that the
        wanted container runs, or that its unit is on the way to it).
    """
    wanted = read_record(name, trial_records) or read_record(name, records)
    state = unit_state(run, name)
    held = read_text(holds / name).strip()
    if held and state.active == "inactive":
        state = replace(state, active="failed", result=held)
    status: dict[str, Any] = {
        "name": name,
        "present": wanted is not None,
        "active": state.active,
        "sub": state.sub,
        "enabled": state.enabled,
        "restarts": state.restarts,
        "result": state.result,
        "running": False,
        "settled": state.active == "active",
        "differs": [],
    }
    if wanted is None:
        return status
    inspected = inspect_container(run, name)
    status["running"] = bool(inspected and (inspected.get("State") or {}).get("Running"))
    if inspected is not None and status["running"]:
        status["differs"] = differences(wanted, inspected)
        if state.active in {"inactive", "failed"}:
            status["differs"].append(f"a container of this name runs outside of its unit (systemd says {state.active})")
    elif state.active != "activating":
        status["differs"] = [f"it is not running (systemd says {state.active}, last result {state.result})"]
    elif held:
        # After a boot: a start by the operator takes the hold away, and only what differs is started.
        status["differs"] = [f"spark-watchdog holds it ({held})"]
    elif waits_behind_old_gates(state, units / f"{name}.service"):
        status["differs"] = ["it waits at the gates that it had before its unit was changed"]
    return status


def judge_units(units: Sequence[Mapping[str, Any]], *, stopped: bool, message: str) -> Finding:
    """Return what the report says of our units together.

    Args:
        units: what ``service_status`` returned of each.
        stopped: whether the operator set the stop flag.
        message: the units in one sentence.
    """
    failed = [str(unit["name"]) for unit in units if unit["active"] == "failed"]
    if failed:
        commands = tuple(f"journalctl --unit {name} --lines 50 --no-pager" for name in failed)
        # Not red: site.yml, which stops at red, is what starts it again.
        return Finding(
            "service.failed", YELLOW, CHECK, message, "read why; site.yml starts it again", commands, ", ".join(failed)
        )
    if stopped:
        return Finding(
            "service.stopped",
            YELLOW,
            CHECK,
            "the stop flag is set (playbooks/stop.yml)",
            "run playbooks/start.yml to serve again",
        )
    if not all(unit["settled"] for unit in units):
        return Finding("service.waits", YELLOW, CHECK, message, "wait for it, or read `systemctl status` of what waits")
    return fine("service", CHECK, message)


def judge_remote_code(
    names: Sequence[str], records: Path = RECORDS, trial_records: Path = TRIAL_RECORDS
) -> list[Finding]:
    """Return one finding where a container lets code from the model's repository run, else none."""
    wanted = {name: read_record(name, trial_records) or read_record(name, records) or {} for name in names}
    trusting = [name for name, record in wanted.items() if "--trust-remote-code" in record.get("argv", [])]
    if not trusting:
        return []
    found = f"{' and '.join(trusting)} run{'s' if len(trusting) == 1 else ''} code from the model's repository, with the rights of the container"
    remedy = "set vllm_serve_trust_remote_code: false where vLLM has the class, else read that code and pin model_download_revision to its commit"
    return [Finding("service.remote_code", YELLOW, "code of the model", found, remedy, subject=", ".join(trusting))]
