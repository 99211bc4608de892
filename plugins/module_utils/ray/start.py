# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line of ``ray start`` for a head and for a worker."""

from __future__ import annotations

from dataclasses import dataclass

#: Ports that every node takes, by flag. All are pinned, so that preflight can look at them and a packet filter can name them.
NODE_PORTS: dict[str, int] = {
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "metrics-export-port": 6382,
    "dashboard-agent-grpc-port": 6383,
    "dashboard-agent-listen-port": 52365,
    "runtime-env-agent-port": 6384,
}
#: Ports of Ray's worker processes, first and last.
WORKER_PORTS = (10100, 10199)
#: Port of Ray's client server on the head.
CLIENT_PORT = 10001


@dataclass(frozen=True)
class RayIntents:
    """What the node is to be in Ray.

    ``port`` and ``dashboard_port`` make it the head; ``join`` (``address:port``) makes it a worker of that head. Sizes: GPUs and
    CPUs in pieces, the object store in bytes.
    """

    address: str
    gpus: int
    cpus: int
    object_store_bytes: int
    port: int | None = None
    dashboard_port: int | None = None
    join: str | None = None

    def __post_init__(self) -> None:
        if (self.join is None) == (self.port is None):
            raise ValueError("expected either port (of a head) or join (of a worker), and not both")


def ray_start(intents: RayIntents) -> list[str]:
    """Return ``ray start --block ...`` as a list."""
    command = ["ray", "start", "--block"]
    command += [f"--address={intents.join}"] if intents.join else ["--head"]
    command.append(f"--node-ip-address={intents.address}")
    if intents.port:
        command.append(f"--port={intents.port}")
    command += [f"--num-gpus={intents.gpus}", f"--num-cpus={intents.cpus}"]
    command.append(f"--object-store-memory={intents.object_store_bytes}")
    if intents.port:
        # The dashboard's jobs API runs code, so it listens on loopback.
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={intents.dashboard_port}"]
        command.append(f"--ray-client-server-port={CLIENT_PORT}")
    command += [f"--{flag}={port}" for flag, port in NODE_PORTS.items()]
    command += [f"--min-worker-port={WORKER_PORTS[0]}", f"--max-worker-port={WORKER_PORTS[1]}"]
    return [*command, "--disable-usage-stats"]
