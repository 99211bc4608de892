# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.start import (
    CLIENT_PORT,
    NODE_PORTS,
    WORKER_PORTS,
    RayIntents,
    ray_start,
)


def test_a_head() -> None:
    command = ray_start(RayIntents("192.168.100.10", 1, 4, 100, port=6379, dashboard_port=8265))
    assert command[:5] == ["ray", "start", "--block", "--head", "--node-ip-address=192.168.100.10"]
    assert {"--port=6379", "--dashboard-host=127.0.0.1", "--dashboard-port=8265", "--num-gpus=1"} <= set(command)


def test_a_worker() -> None:
    command = ray_start(RayIntents("192.168.100.11", 1, 4, 100, join="192.168.100.10:6379"))
    assert command[3] == "--address=192.168.100.10:6379"
    assert not [
        part for part in command if part.startswith(("--head", "--port", "--dashboard-port", "--dashboard-host"))
    ]


@pytest.mark.parametrize("ports", [{}, {"port": 6379, "join": "192.168.100.10:6379"}])
def test_a_node_is_head_or_worker(ports: dict[str, int | str]) -> None:
    with pytest.raises(ValueError, match="either port"):
        RayIntents("192.168.100.10", 1, 4, 100, **ports)  # type: ignore[arg-type]


def test_every_port_is_pinned_once() -> None:
    ports = [*NODE_PORTS.values(), CLIENT_PORT]
    assert len(set(ports)) == len(ports)
    assert not [port for port in ports if WORKER_PORTS[0] <= port <= WORKER_PORTS[1]]
