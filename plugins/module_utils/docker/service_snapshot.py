# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The last state of a node's units that was verified: written down once it answered, put back when a later one does not.

One file holds all of it, so that it is there whole or not at all. Every node keeps its own; ``cluster`` in each says which states of the other
nodes it was verified with (docs/decisions/0034).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..system.files import read_json, read_text
from ..system.run import Runner
from .cli import docker, inspect_image
from .service_state import (
    RECORDS,
    TRIAL_RECORDS,
    TRIAL_UNITS,
    UNITS,
    ContainerServiceError,
    clustered,
    read_record,
    service_status,
    unit_state,
)
from .service_unit import Units

#: Where the state is kept.
GOOD = Path("/var/lib/dgx-spark/good/services.json")
#: Name that keeps an image of the state from `docker image prune`; its tag is the beginning of the image's id.
KEPT = "dgx-spark-good"


def _tag(image_id: str) -> str:
    return f"{KEPT}:{image_id.removeprefix('sha256:')[:12]}"


def names_here() -> list[str]:
    """Return the names of the cluster's containers on this node."""
    return clustered(RECORDS)


def services_here() -> dict[str, dict[str, Any]]:
    """Return unit file (``unit``) and record (``record``) of each container of this node, by name."""
    found = {}
    for name in names_here():
        record = read_record(name)
        if record is not None:
            found[name] = {"unit": read_text(UNITS / f"{name}.service"), "record": record}
    return found


def digest(services: Mapping[str, Any]) -> str:
    """Return the digest of what :func:`services_here` returned; empty for no services."""
    return hashlib.sha256(json.dumps(services, sort_keys=True).encode()).hexdigest()[:16] if services else ""


def unproven(run: Runner) -> list[str]:
    """Return why what runs is not what the units on disk say, so that an answer proves nothing of them; empty where it is."""
    reasons = []
    for name in names_here():
        if (TRIAL_RECORDS / f"{name}.json").exists():
            reasons.append(f"{name} runs a trial")
            continue
        status = service_status(run, name)
        reasons += [f"{name}: {reason}" for reason in status["differs"]]
        if not status["differs"] and not status["settled"]:
            reasons.append(f"{name} is {status['active']}")
    return reasons


def images(services: Mapping[str, Any]) -> list[str]:
    """Return the ids of the images that the services run."""
    return sorted({str(entry["record"]["image_id"]) for entry in services.values()})


def kept_tags(run: Runner) -> set[str]:
    """Return the names that keep images of a state."""
    out = docker(run, "image", "ls", "--filter", f"reference={KEPT}", "--format", "{{.Repository}}:{{.Tag}}")
    return set(out.split())


def images_kept(run: Runner, ids: Iterable[str]) -> bool:
    """Say whether all of these images are kept from being pruned; without any, Docker is not asked, and need not be there."""
    wanted = {_tag(image) for image in ids}
    return not wanted or wanted <= kept_tags(run)


def good_state(run: Runner) -> dict[str, Any]:
    """Return the state that was written down.

    Returns:
        ``digest``, ``verified`` (when, in UTC), ``cluster`` (digest of each node), ``proof`` (how it was verified), ``images`` (ids), ``problem``
        (why it cannot be put back, one sentence; empty where it can).
    """
    document = read_json(GOOD)
    empty = {"digest": "", "verified": "", "cluster": {}, "proof": {}, "images": []}
    if document is None:
        return {**empty, "problem": "no verified state is recorded on this node"}
    services = document.get("services") or {}
    if digest(services) != document.get("digest"):
        return {**empty, "problem": f"the record of the verified state in {GOOD} is damaged"}
    gone = [image for image in images(services) if inspect_image(run, image) is None]
    problem = (
        f"image {gone[0].removeprefix('sha256:')[:12]} of the verified state is not on this node any more"
        if gone
        else ""
    )
    return {
        **{name: document[name] for name in ("digest", "verified", "cluster", "proof")},
        "images": images(services),
        "problem": problem,
    }


def snapshot(run: Runner) -> dict[str, Any]:
    """Return what module service_snapshot_info documents, but for its sentence; raises DockerError where Docker does not answer."""
    good = good_state(run)
    return {
        "digest": digest(services_here()),
        "unproven": unproven(run),
        "good": good,
        "kept": images_kept(run, good["images"]),
    }


class ServiceSnapshot(Units):
    """Writes the state down, or puts it back; ``actions`` says in words what was done."""

    def recorded(self, cluster: Mapping[str, str], proof: Mapping[str, Any]) -> None:
        """Write down what the units are now, and keep their images.

        Args:
            cluster: digest of each node that it was verified with, by name.
            proof: how it was verified, to be asked again once it was put back.

        Raises:
            ContainerServiceError: what runs is not what the units say.
            DockerError: Docker does not answer.
        """
        services = services_here()
        if reasons := unproven(self.run):
            raise ContainerServiceError(f"the state cannot be recorded as verified: {'; '.join(reasons)}")
        document = {
            "digest": digest(services),
            "cluster": dict(sorted(cluster.items())),
            "proof": dict(proof),
            "services": services,
        }
        before = read_json(GOOD) or {}
        same = {name: value for name, value in before.items() if name != "verified"} == document
        now = datetime.now(UTC).isoformat(timespec="seconds")
        # Images first: a state without its image is none.
        wanted = {_tag(image): image for image in images(services)}
        there = kept_tags(self.run)
        for tag in sorted(wanted.keys() - there):
            self.docker(f"kept image {tag}", "tag", wanted[tag], tag)
        self.write(
            GOOD, json.dumps({"verified": before["verified"] if same else now, **document}, indent=1) + "\n", 0o600
        )
        for tag in sorted(there - wanted.keys()):
            self.docker(f"no longer kept {tag}", "rmi", tag)

    def docker(self, action: str, *arguments: str) -> None:
        self.actions.append(action)
        if not self.check:
            docker(self.run, *arguments)

    def restored(self) -> None:
        """Put unit files and records back as they were verified; units that were not part of it are stopped and removed. Starts nothing.

        Raises:
            ContainerServiceError: there is no state that could be put back, or systemd refuses.
        """
        if problem := good_state(self.run)["problem"]:
            raise ContainerServiceError(f"{problem}, so nothing was put back")
        services: dict[str, Any] = (read_json(GOOD) or {})["services"]
        changed = False
        for name in sorted(set(names_here()) - services.keys()):
            self.remove_unit(name)
        for name, entry in services.items():
            for trial in (TRIAL_UNITS / f"{name}.service.d" / "50-trial.conf", TRIAL_RECORDS / f"{name}.json"):
                changed = self.remove(trial) or changed
            changed = self.write(UNITS / f"{name}.service", entry["unit"]) or changed
            self.write(RECORDS / f"{name}.json", json.dumps(entry["record"], indent=2) + "\n")
        if changed:
            self.systemctl("daemon-reload")
        for name in services:
            if not unit_state(self.run, name).enabled:
                self.actions.append(f"enabled {name}.service at boot")
                self.systemctl("enable", f"{name}.service")
