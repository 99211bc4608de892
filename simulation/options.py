# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""How a simulated node and the hub are run as containers: plain data, so that it can be compared and tested."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simulation import settings
from simulation.settings import FABRIC, MANAGEMENT, Node

# Shared memory of a node in bytes: Ray's object store and vLLM's message queues live there. Docker's default of 64 MB is
# none of a real machine's; a Spark has half of its memory.
SHARED_MEMORY = 2 * 1024**3
# Seconds that systemd gets for a clean shutdown before it is killed.
SHUTDOWN_TIMEOUT = 90

# What systemd, sshd and a Docker engine inside need where the engine may not give all capabilities (CAP_SYS_RESOURCE is
# missing on some hosts, and `--privileged` fails there).
CAPABILITIES = (
    *("SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "SYS_BOOT", "SYS_TIME", "MKNOD"),
    *("DAC_READ_SEARCH", "SYSLOG", "AUDIT_WRITE", "IPC_LOCK", "SYS_NICE"),
)


class Form(enum.Enum):
    """How a node gets the rights of a machine."""

    PRIVILEGED = "privileged"
    CAPABILITIES = "capabilities"

    @property
    def words(self) -> str:
        """What the user is told."""
        if self is Form.PRIVILEGED:
            return "privileged containers"
        return f"containers with a list of {len(CAPABILITIES)} capabilities, because this engine cannot run privileged ones"


@dataclass(frozen=True)
class Container:
    """Everything that a container is made from."""

    name: str
    image: str
    """Image id, `sha256:...`."""
    host: Mapping[str, Any]
    """Docker's HostConfig."""
    network: str
    """Network that the container starts in."""
    address: str
    hostname: str | None = None
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = ""
    aliases: tuple[str, ...] = ()
    stop_signal: str | None = None
    exposed_ports: tuple[int, ...] = ()
    kind: str = "node"
    """Value of the simulation's label."""
    salt: str = ""
    """Digest of what the container runs beside its image, such as code in a mounted folder."""

    def digest(self) -> str:
        """Digest of all of the above: a container with another digest is an outdated one."""
        data = {**self.__dict__, "host": dict(self.host), "environment": dict(self.environment)}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def volumes_of(node: Node) -> dict[str, str]:
    """Named volumes of a node and where they are mounted.

    A Docker engine inside a container needs a file system for its layers that is not an overlay itself; newer engines keep
    them with containerd.
    """
    return {f"{node.name}-docker": "/var/lib/docker", f"{node.name}-containerd": "/var/lib/containerd"}


def node_container(
    node: Node, image: str, form: Form, cgroup_version: int, folders: Mapping[str, Path] | None = None
) -> Container:
    """The container of a simulated node.

    image: id of the node image. cgroup_version: 1 (also hybrid) or 2. folders: mount point in the node -> folder of this
    machine, read-only.
    """
    binds = [f"{volume}:{target}:rw" for volume, target in volumes_of(node).items()]
    binds += [f"{source}:{target}:ro" for target, source in sorted((folders or {}).items())]
    host: dict[str, Any] = {
        "NetworkMode": MANAGEMENT.name,
        "RestartPolicy": {"Name": "no"},
        "Tmpfs": {"/run": "", "/run/lock": ""},
        "ShmSize": SHARED_MEMORY,
    }
    if form is Form.PRIVILEGED:
        host["Privileged"] = True
    else:
        host["CapAdd"] = list(CAPABILITIES)
        host["SecurityOpt"] = ["seccomp=unconfined", "apparmor=unconfined"]
        # `--security-opt systempaths=unconfined` of the docker command.
        host["MaskedPaths"] = []
        host["ReadonlyPaths"] = []
        host["DeviceCgroupRules"] = ["a *:* rwm"]
    if cgroup_version == 2 and form is Form.PRIVILEGED:
        host["CgroupnsMode"] = "private"
    else:
        # On version 1, and where a private name space would be mounted read-only, systemd gets the host's hierarchy.
        host["CgroupnsMode"] = "host"
        binds.append("/sys/fs/cgroup:/sys/fs/cgroup:rw")
    host["Binds"] = binds
    ports: tuple[int, ...] = ()
    if node.published_port:
        ports = (node.published_port,)
        host["PortBindings"] = {
            f"{node.published_port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(node.published_port)}]
        }
    return Container(
        name=node.name,
        image=image,
        host=host,
        network=MANAGEMENT.name,
        address=node.management_address,
        hostname=node.name,
        exposed_ports=ports,
        # The second network is joined after creation (older engines take one network at creation).
        salt=f"{FABRIC.name}={node.fabric_address}",
    )


def hub_container(image: str, model: Path, user: str) -> Container:
    """The container of the local model hub.

    image: id of the node image (it has a Python). model: folder of the model. user: `uid:gid` that may read it.
    """
    code = settings.REPOSITORY / "simulation" / "hub"
    sources = sorted(code.glob("*.py"))
    host: dict[str, Any] = {
        "NetworkMode": MANAGEMENT.name,
        "RestartPolicy": {"Name": "no"},
        "Binds": [f"{code}:/opt/simulation/hub:ro", f"{model}:/srv/model:ro"],
        "CapDrop": ["ALL"],
        "Init": True,
    }
    return Container(
        name=settings.HUB_NAME,
        image=image,
        host=host,
        network=MANAGEMENT.name,
        address=settings.HUB_ADDRESS,
        hostname=settings.HUB_NAME,
        command=(
            *("python3", "-m", "hub", "--address", "0.0.0.0", "--port", str(settings.HUB_PORT)),
            *("--repository", f"{settings.HUB_MODEL}=/srv/model"),
        ),
        environment={"PYTHONPATH": "/opt/simulation", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        user=user,
        aliases=(settings.HUB_CDN_NAME,),
        stop_signal="SIGTERM",
        kind="hub",
        salt=hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16],
    )
