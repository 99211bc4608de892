# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray's head runs from its unit, alone and closed, also after the plug was pulled."""

from __future__ import annotations

from endpoint import wait_until_active
from ray_cluster import cluster_token, places_of_secrets, status_without_token, wait_for_nodes
from testinfra.host import Host

ADDRESS = "192.168.100.10"


def test_the_unit_becomes_active_and_starts_at_boot(host: Host) -> None:
    wait_until_active(host, "spark-ray-head", seconds=120)
    assert host.service("spark-ray-head").is_enabled


def test_the_cluster_is_this_node_with_its_gpu(host: Host) -> None:
    wait_for_nodes(host, [ADDRESS])


def test_ray_asks_for_its_token(host: Host) -> None:
    assert status_without_token(host) == "401"


def test_the_token_is_nowhere_to_be_seen(host: Host) -> None:
    token = cluster_token(host)
    assert len(token) >= 32
    for place, text in places_of_secrets(host, "spark-ray-head").items():
        assert token not in text, f"the cluster's token is in the {place}"


def test_the_control_store_is_on_the_fabric_and_the_dashboard_on_loopback(host: Host) -> None:
    with host.sudo():
        listening = host.check_output("ss --listening --tcp --numeric --no-header")
    addresses = [line.split()[3] for line in listening.splitlines()]
    assert [one for one in addresses if one.endswith(":8265")] == ["127.0.0.1:8265"]
    assert any(one.endswith(":6379") for one in addresses), addresses


def test_systemd_restarts_the_container_and_docker_does_not(host: Host) -> None:
    with host.sudo():
        policy = host.check_output("docker inspect --format '{{.HostConfig.RestartPolicy.Name}}' spark-ray-head")
    assert policy == "no"
