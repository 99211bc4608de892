# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What tests ask of a Ray cluster: its nodes, its token, and where its secrets could be seen."""

from __future__ import annotations

import json
import time
from typing import Any

from testinfra.host import Host

STATE = "http://127.0.0.1:8265/api/v0/nodes?detail=true"


def nodes(host: Host) -> dict[str, Any]:
    """Return how many GPUs each living node brought, by its address, as the head's dashboard says it; nothing where it does not answer."""
    with host.sudo():
        asked = host.run(
            f'curl --silent --header "Authorization: Bearer $(cat /etc/dgx-spark/secrets/cluster_token)" {STATE!r}'
        )
    if asked.rc != 0:
        return {}
    found = json.loads(asked.stdout)["data"]["result"]["result"]
    return {node["node_ip"]: node["resources_total"].get("GPU") for node in found if node["state"] == "ALIVE"}


def wait_for_nodes(host: Host, addresses: list[str], seconds: float = 120) -> None:
    """Wait until the cluster lives at just these addresses, with one GPU each."""
    wanted = dict.fromkeys(addresses, 1.0)
    deadline = time.monotonic() + seconds
    while (found := nodes(host)) != wanted:
        assert time.monotonic() < deadline, f"after {seconds:.0f} s Ray has {found}, expected {wanted}"
        time.sleep(2)


def status_without_token(host: Host) -> str:
    """Return the HTTP status of the same question without the token."""
    return str(host.check_output(f"curl --silent --output /dev/null --write-out '%{{http_code}}' {STATE!r}"))


def places_of_secrets(host: Host, container: str) -> dict[str, str]:
    """Return what other users and tools see of a container, by the name of the place; each is seen to hold something."""
    with host.sudo():
        places = {
            "unit": host.run(
                f"cat /etc/systemd/system/{container}.service /etc/dgx-spark/containers/{container}.*"
            ).stdout,
            "process list": host.run("ps -eo args").stdout,
            "docker inspect": host.run(f"docker inspect {container}").stdout,
            "journal": host.run(f"journalctl --no-pager --unit {container} --output cat").stdout,
        }
    for place, text in places.items():
        assert len(text) > 100, f"the {place} of {container} is empty, so that it proves nothing"
    return {place: str(text) for place, text in places.items()}


def cluster_token(host: Host) -> str:
    """Return the cluster's token of a node."""
    with host.sudo():
        return str(host.check_output("cat /etc/dgx-spark/secrets/cluster_token")).strip()
