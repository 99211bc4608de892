# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One container under one systemd unit: what is wanted, the unit that runs it, and how a running one differs.

The container runs in the foreground of its unit and has no Docker restart policy: systemd knows order, gates and retry
limits, Docker does not (docs/decisions/0002).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..system.systemd_unit import CLOSED, exec_line, render
from .cli import DOCKER

GATE = "/opt/dgx-spark/bin/spark-gate"
#: The operator's stop flag: no unit of ours starts while this file exists (playbooks stop and start make and remove it).
STOP_FLAG = "/etc/dgx-spark/stopped"
#: Why spark-watchdog stopped a unit itself, in a file of the unit's name; ``container_service`` with state started removes it: the operator asked.
HOLDS = "/var/lib/dgx-spark/holds"
#: Records of trials: gone after a boot.
TRIALS = "/run/dgx-spark/containers"
#: Label that carries the digest of the specification that a container was started from.
DIGEST_LABEL = "dgx-spark.digest"
#: Containers of ours that stand beside the cluster: whether it serves, and what was verified of it, is not asked of them.
ASIDE = frozenset({"spark-chat"})
#: What CUDA took counts for no process, so that kernel and earlyoom would end others first; below the 1000 that Ray gives its workers.
OOM_SCORE = 500
SECRETS_IN_CONTAINER = "/run/secrets"
#: What a container with a read-only root can write beside its mounts. Compilers load what they write there, so it is not noexec; what lies there
#: takes memory, which is the GPU's too, so it is bounded.
TEMPORARY = "/tmp:rw,exec,nosuid,nodev,mode=1777,size=4g"
#: How mounts below a bind mount travel, after `docker run --volume`; rshared would let a container change the node's mounts.
PROPAGATIONS = ("", "rprivate", "rslave")
_NAME = re.compile(r"^[a-z0-9][a-z0-9-]{1,62}$")
_CAPABILITY = re.compile(r"^(?!ALL$)[A-Z][A-Z_]+$")
_ENVIRONMENT_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")


@dataclass(frozen=True)
class Mount:
    """A bind mount: absolute paths on the node (source) and in the container (target).

    ``propagation`` rslave shows the container what is mounted below the source after its start, an NFS mount that came back
    for example. Docker refuses it where the source's mount is private, as in a container that plays a machine; empty is
    Docker's own choice, rprivate.
    """

    source: str
    target: str
    read_only: bool = False
    propagation: str = ""

    def __post_init__(self) -> None:
        for name, path in (("source", self.source), ("target", self.target)):
            if not path.startswith("/") or ":" in path:
                raise ValueError(f"mounts: {name} is {path!r}, expected an absolute path without a colon")
        if self.propagation not in PROPAGATIONS:
            raise ValueError(f"mounts: propagation is {self.propagation!r}, expected {' or '.join(PROPAGATIONS[1:])}")

    def bind(self) -> str:
        """Return the form that ``docker run --volume`` takes and ``docker inspect`` shows under HostConfig.Binds."""
        mode = "ro" if self.read_only else "rw"
        return f"{self.source}:{self.target}:{mode}{f',{self.propagation}' if self.propagation else ''}"


@dataclass(frozen=True)
class Secret:
    """A file of the node mounted under /run/secrets; with ``environment`` its text is exported inside the container only.

    Neither the unit, nor the command line, nor ``docker inspect`` ever shows the text: a shell in the container reads the file.
    """

    name: str
    path: str
    environment: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.match(self.name.replace("_", "-")):
            raise ValueError(f"secrets: name is {self.name!r}, expected lower-case letters, digits, '-' or '_'")
        if not self.path.startswith("/"):
            raise ValueError(f"secrets: path is {self.path!r}, expected an absolute path on the node")
        if self.environment is not None and not _ENVIRONMENT_NAME.match(self.environment):
            raise ValueError(
                f"secrets: environment is {self.environment!r}, expected a variable name such as VLLM_API_KEY"
            )

    @property
    def target(self) -> str:
        return f"{SECRETS_IN_CONTAINER}/{self.name}"


@dataclass(frozen=True)
class ContainerSpec:
    """What one container is: everything that, when changed, asks for a new container."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    secrets: tuple[Secret, ...] = ()
    devices: tuple[str, ...] = ()
    ulimits: Mapping[str, str] = field(default_factory=dict)
    shm_size: str | None = None
    network: str = "host"
    ipc: str | None = None
    pid: str | None = None
    cap_add: tuple[str, ...] = ()
    read_only: bool = True
    memory_mib: int | None = None
    oom_score: int = OOM_SCORE

    def __post_init__(self) -> None:
        for capability in self.cap_add:
            if not _CAPABILITY.match(capability):
                raise ValueError(f"cap_add: {capability!r} is no capability, expected a name such as SYS_NICE")
        if not _NAME.match(self.name):
            raise ValueError(
                f"name is {self.name!r}, expected lower-case letters, digits and '-', at least two characters"
            )
        if self.memory_mib is not None and self.memory_mib < 16:
            raise ValueError(f"memory_mib of {self.name} is {self.memory_mib}, expected 16 or more")
        if not -1000 <= self.oom_score <= 1000:
            raise ValueError(f"oom_score of {self.name} is {self.oom_score}, expected -1000 to 1000")
        if not self.image:
            raise ValueError("image is empty, expected an image name or id")
        if not self.command:
            raise ValueError(f"command of {self.name} is empty, expected the program and its arguments as a list")
        for name, value in self.environment.items():
            if not _ENVIRONMENT_NAME.match(name):
                raise ValueError(f"environment: {name!r} is no variable name, expected letters, digits and '_'")
            if "\n" in value:
                raise ValueError(f"environment: {name} holds a line break, expected one line")

    @property
    def exported_secrets(self) -> tuple[Secret, ...]:
        return tuple(secret for secret in self.secrets if secret.environment)

    def entrypoint(self) -> tuple[str, ...]:
        """Return the program and arguments that the container runs.

        Where a secret is exported, a shell reads it from its mounted file and then becomes the real program.
        """
        if not self.exported_secrets:
            return self.command
        script = "; ".join(
            f'{secret.environment}="$(cat {secret.target})"; export {secret.environment}'
            for secret in self.exported_secrets
        )
        return ("/bin/sh", "-c", f'{script}; exec "$@"', self.name, *self.command)

    def binds(self) -> list[str]:
        """Return all bind mounts, secrets included, as Docker shows them."""
        secrets = [Mount(secret.path, secret.target, read_only=True) for secret in self.secrets]
        return [mount.bind() for mount in (*self.mounts, *secrets)]

    def digest(self, image_id: str, secret_hashes: Mapping[str, str]) -> str:
        """Return the digest of the desired state: the specification, the content of its image and of its secrets.

        Args:
            image_id: id of the image on this node, ``sha256:...``: a moved tag is a change.
            secret_hashes: SHA-256 of each secret's text by secret name: a new key is a change.
        """
        spec = asdict(self)
        # What came later is left out where it is as it was: a digest that changes restarts the container.
        for name, before in (("memory_mib", None), ("oom_score", OOM_SCORE)):
            if spec[name] == before:
                del spec[name]
        document = {"spec": spec, "image_id": image_id, "secrets": dict(sorted(secret_hashes.items()))}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def run_argv(self, image_id: str, digest: str) -> list[str]:
        """Return the ``docker run`` that starts the container in the foreground, from the image's id rather than its name."""
        program, *arguments = self.entrypoint()
        argv = [DOCKER, "run", "--rm", "--name", self.name, "--network", self.network]
        # The journal has the output already; a second copy in Docker's own log would grow without limit.
        argv += ["--log-driver", "none", "--label", f"{DIGEST_LABEL}={digest}"]
        argv += ["--oom-score-adj", str(self.oom_score)]
        if self.memory_mib:
            # Without swap of its own, which Docker would give it as much again of.
            argv += ["--memory", f"{self.memory_mib}m", "--memory-swap", f"{self.memory_mib}m"]
        # What is kept, and why, is in docs/security.md.
        argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        if self.read_only:
            argv += ["--read-only", "--tmpfs", TEMPORARY]
        if self.ipc:
            argv += ["--ipc", self.ipc]
        if self.pid:
            argv += ["--pid", self.pid]
        if self.shm_size:
            argv += ["--shm-size", self.shm_size]
        for name, value in sorted(self.ulimits.items()):
            argv += ["--ulimit", f"{name}={value}"]
        for capability in self.cap_add:
            argv += ["--cap-add", capability]
        for device in self.devices:
            argv += ["--device", device]
        for name, value in sorted(self.environment.items()):
            argv += ["--env", f"{name}={value}"]
        for bind in self.binds():
            argv += ["--volume", bind]
        return [*argv, "--entrypoint", program, image_id, *arguments]


#: Seconds of a start limit's window at the least.
_SHORTEST_WINDOW = 3600
#: Seconds that a start may wait at its gates and still count into the window.
_AT_GATES = 60


@dataclass(frozen=True)
class UnitSpec:
    """How systemd runs the container: order, gates, readiness and limits. Changing it asks for no new container.

    ``longest_start_sec`` is how long a start may take before it counts as failed. ``start_limit_interval_sec`` 0 is worked out
    from it (:meth:`window`): a window shorter than that many slow starts would never be full, and systemd would never give up.
    ``start_limit_burst`` 0 is no limit of systemd's: spark-watchdog counts failures instead.
    """

    description: str
    after: tuple[str, ...] = ()
    gates: tuple[tuple[str, ...], ...] = ()
    ready: tuple[str, ...] = ()
    clear: tuple[str, ...] = ()
    restart_sec: int = 10
    start_limit_burst: int = 5
    start_limit_interval_sec: int = 0
    stop_timeout_sec: int = 60
    longest_start_sec: int = 3600

    def __post_init__(self) -> None:
        if self.start_limit_interval_sec and self.start_limit_interval_sec <= self.start_limit_burst * self._cycle():
            raise ValueError(
                f"start_limit_interval_sec is {self.start_limit_interval_sec}, expected more than {self.start_limit_burst * self._cycle()}: "
                f"{self.start_limit_burst} failed starts of up to {self.longest_start_sec} s would never fill a shorter window, and systemd "
                "would start for ever; leave it unset"
            )

    def _cycle(self) -> int:
        """Return the most seconds from one failing start to the next."""
        # 30 s as in TimeoutStopSec below.
        return self.longest_start_sec + self.stop_timeout_sec + 30 + self.restart_sec + _AT_GATES

    def window(self) -> int:
        """Return the seconds in which ``start_limit_burst`` starts are the limit (StartLimitIntervalSec)."""
        if not self.start_limit_burst:
            return 0
        return self.start_limit_interval_sec or max(_SHORTEST_WINDOW, self.start_limit_burst * self._cycle() + 1)


def unit_text(container: ContainerSpec, unit: UnitSpec, image_id: str, digest: str) -> str:
    """Return the unit file.

    A gate may wait for ever (TimeoutStartSec=infinity): waiting for a peer is no failure. Failed starts are bounded, because
    an endless restart loop on unified memory can freeze the machine (docs/decisions/0002).
    """
    service: list[tuple[str, str]] = [("Type", "exec"), ("TimeoutStartSec", "infinity")]
    service += [(key, value) for key, lines in _start_lines(container, unit, image_id, digest) for value in lines]
    stop = exec_line([DOCKER, "stop", "--time", str(unit.stop_timeout_sec), container.name], may_fail=True)
    service += [
        ("ExecStop", stop),
        # Also after a failed start: a container must not outlive its unit.
        ("ExecStopPost", exec_line([DOCKER, "rm", "--force", container.name], may_fail=True)),
        ("TimeoutStopSec", str(unit.stop_timeout_sec + 30)),
        ("Restart", "always"),
        ("RestartSec", str(unit.restart_sec)),
        *_sandbox(unit),
    ]
    after = ["docker.service", "network-online.target", *unit.after]
    header = [
        ("Description", unit.description),
        ("Requires", "docker.service"),
        ("Wants", "network-online.target"),
        ("After", " ".join(after)),
        # What stands beside the cluster is not stopped with it.
        *([("ConditionPathExists", f"!{STOP_FLAG}")] if container.name not in ASIDE else []),
        ("StartLimitIntervalSec", str(unit.window())),
        ("StartLimitBurst", str(unit.start_limit_burst)),
    ]
    body = render([("Unit", header), ("Service", service), ("Install", [("WantedBy", "multi-user.target")])])
    return (
        "# Written by dgx_spark.vllm.container_service; the next run of site.yml replaces what is changed here.\n"
        + body
    )


def _sandbox(unit: UnitSpec) -> list[tuple[str, str]]:
    """Return the sandbox of what runs on the node: Docker's client and the gates. The container is Docker's own child, not the unit's."""
    return [
        *CLOSED,
        ("ProtectSystem", "strict"),
        # A store below somebody's home is looked at by a gate.
        ("ProtectHome", "read-only"),
        ("CapabilityBoundingSet", "CAP_DAC_READ_SEARCH"),
        ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
        ("UMask", "0077"),
        *([("ReadWritePaths", " ".join(f"-{path}" for path in unit.clear))] if unit.clear else []),
    ]


def _start_lines(container: ContainerSpec, unit: UnitSpec, image_id: str, digest: str) -> list[tuple[str, list[str]]]:
    """Return what a start runs, in order: the values of each Exec directive."""
    # The gate of a mount heals it as well: it mounts, detaches and sets the read-ahead, in the node's own table of mounts.
    before = [exec_line([GATE, *gate], full=gate[0] == "mount") for gate in unit.gates]
    before.append(exec_line([DOCKER, "rm", "--force", container.name], may_fail=True))
    before += [exec_line(["/usr/bin/find", path, "-mindepth", "1", "-delete"], may_fail=True) for path in unit.clear]
    return [
        ("ExecStartPre", before),
        ("ExecStart", [exec_line(container.run_argv(image_id, digest))]),
        ("ExecStartPost", [exec_line([GATE, *unit.ready])] if unit.ready else []),
    ]


def trial_text(container: ContainerSpec, unit: UnitSpec, image_id: str, digest: str) -> str:
    """Return the drop-in that lets a unit run another container until the next boot, for one start only.

    An empty directive clears the unit's own lines (systemd.unit(5)). It lies under /run: whatever the trial does to the
    machine, the next boot starts what the unit on disk says.
    """
    service: list[tuple[str, str]] = []
    for key, lines in _start_lines(container, unit, image_id, digest):
        service += [(key, ""), *((key, line) for line in lines)]
    service.append(("Restart", "no"))
    return "# Written by dgx_spark.vllm.container_service for a trial; gone after a boot.\n" + render(
        [("Service", service)]
    )


def record(container: ContainerSpec, image_id: str, digest: str) -> dict[str, Any]:
    """Return what ``container_service_info`` compares a running container with: no secret's text is in it."""
    return {
        "name": container.name,
        "digest": digest,
        "image": container.image,
        "image_id": image_id,
        "argv": list(container.entrypoint()),
        "environment": dict(sorted(container.environment.items())),
        "binds": sorted(container.binds()),
    }


def differences(wanted: Mapping[str, Any], inspected: Mapping[str, Any]) -> list[str]:
    """Return in words how a running container differs from its record; empty when it is the wanted one.

    Args:
        wanted: what :func:`record` returned.
        inspected: one element of ``docker inspect`` for the container.
    """
    config = inspected.get("Config") or {}
    host_config = inspected.get("HostConfig") or {}
    found: list[str] = []
    if inspected.get("Image") != wanted["image_id"]:
        found.append(f"image is {_short(inspected.get('Image'))}, wanted {_short(wanted['image_id'])}")
    argv = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    if argv != list(wanted["argv"]):
        found.append(f"command: {_first_difference(argv, wanted['argv'])}")
    environment = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    for name, value in wanted["environment"].items():
        if environment.get(name) != value:
            found.append(f"environment {name} is {environment.get(name)!r}, wanted {value!r}")
    binds = sorted(host_config.get("Binds") or [])
    if binds != list(wanted["binds"]):
        extra, missing = sorted(set(binds) - set(wanted["binds"])), sorted(set(wanted["binds"]) - set(binds))
        found.append(f"mounts differ (unexpected: {extra or 'none'}; missing: {missing or 'none'})")
    label = (config.get("Labels") or {}).get(DIGEST_LABEL)
    if not found and label != wanted["digest"]:
        found.append("a secret or a limit changed since it was started")
    return found


def _short(identifier: object) -> str:
    return str(identifier or "none").removeprefix("sha256:")[:12]


def _first_difference(have: Sequence[str], want: Sequence[str]) -> str:
    for index in range(max(len(have), len(want))):
        left = have[index] if index < len(have) else "nothing"
        right = want[index] if index < len(want) else "nothing"
        if left != right:
            return f"argument {index} is {left!r}, wanted {right!r}"
    return "equal"
