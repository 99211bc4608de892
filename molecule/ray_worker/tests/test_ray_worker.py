# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A worker joins its head from its unit, leaves with it and comes again, also after both plugs were pulled."""

from __future__ import annotations

from endpoint import wait_until_active
from ray_cluster import cluster_token, places_of_secrets, wait_for_nodes
from testinfra.host import Host

ADDRESSES = ["192.168.100.10", "192.168.100.11"]


def test_the_unit_becomes_active_and_starts_at_boot(worker: Host) -> None:
    wait_until_active(worker, "spark-ray-worker", seconds=120)
    assert worker.service("spark-ray-worker").is_enabled


def test_the_cluster_is_both_nodes_with_their_gpus(host: Host) -> None:
    wait_for_nodes(host, ADDRESSES)


def test_both_have_the_heads_token_and_it_is_nowhere_to_be_seen(host: Host, worker: Host) -> None:
    token = cluster_token(worker)
    assert token == cluster_token(host)
    for place, text in places_of_secrets(worker, "spark-ray-worker").items():
        assert token not in text, f"the cluster's token is in the {place}"


def test_the_worker_leaves_with_its_head_and_joins_the_next(host: Host, worker: Host) -> None:
    def container() -> str:
        with worker.sudo():
            return str(worker.check_output("docker inspect --format '{{.Id}}' spark-ray-worker"))

    before = container()
    with host.sudo():
        host.check_output("systemctl restart spark-ray-head")
    wait_for_nodes(host, ADDRESSES)
    assert container() != before
