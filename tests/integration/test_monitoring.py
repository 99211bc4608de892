# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Role monitoring on the pair: every target gives figures, every query of every panel and every alert has something to look at, off leaves nothing."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from endpoint import api_key
from testinfra.host import Host

from tests.integration.conftest import REPOSITORY, Playbook

FILES = REPOSITORY / "roles" / "monitoring" / "files"
ON = {"monitoring_enabled": True, "gateway_enabled": True, "gateway_tls": "own", "gateway_tls_authority": ""}
UNITS = ("spark-prometheus", "spark-node-exporter", "spark-metrics")
#: The pair has no GPU: what nvidia-smi says of one.
SMI = "#!/bin/sh\necho 0, 61.20, 58, 96, 2405, 3003, 0x0000000000000000\n"
SMI_PATH = "/usr/local/bin/nvidia-smi"
#: Alerts on what the pair has not: interfaces with RDMA.
WITHOUT = {"SparkLinkSlow"}


def sudo(host: Host, command: str) -> str:
    with host.sudo():
        return str(host.check_output(command))


def ask(head: Host, expression: str) -> list[dict[str, Any]]:
    """Return what Prometheus on the head answers to a query."""
    said = json.loads(
        head.check_output(f"curl --silent 'http://127.0.0.1:8240/api/v1/query?query={quote(expression, safe='')}'")
    )
    assert said["status"] == "success", (expression, said)
    return list(said["data"]["result"])


def wait(done: Any, seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()) and time.monotonic() < end:
        time.sleep(3)
    return found


@pytest.fixture
def measured(playbook: Playbook, head: Host, worker: Host) -> Iterator[None]:
    run = playbook(extra=ON)
    assert run.status == "successful", run.output[-3000:]
    yield
    for host in (head, worker):
        sudo(host, f"rm -f {SMI_PATH}")
    assert playbook().status == "successful"


def queries() -> list[str]:
    found = []
    for path in sorted((FILES / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            found += [target["expr"] for target in panel["targets"]]
    return found


def sides(expression: str) -> list[str]:
    """Return what an alert looks at: the figures of its expression."""
    return re.findall(r"\b(?:dgx_spark_\w+|node_\w+|vllm:\w+|up)\b(?:\{[^}]*\})?", expression)


@pytest.mark.long
@pytest.mark.usefixtures("measured")
def test_everything_is_measured_and_asked_for_what_is_there(playbook: Playbook, head: Host, worker: Host) -> None:
    again = playbook(extra=ON)
    assert (again.status, again.changed) == ("successful", set()), again.output[-2000:]
    body = '{"model": "qwen3-235b-awq", "messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 30}'
    asked = "curl --silent --insecure https://127.0.0.1:8235/v1/chat/completions -H 'Content-Type: application/json'"
    said = head.check_output(f"{asked} -H 'Authorization: Bearer {api_key(head)}' -d '{body}'")
    assert "Paris" in said

    # Not before: a machine with nvidia-smi and without a driver is refused.
    for host in (head, worker):
        sudo(host, f"printf '%s' '{SMI}' > {SMI_PATH} && chmod 755 {SMI_PATH}")
    targets = {("node", "spark-1"), ("node", "spark-2"), ("ray", "spark-1"), ("ray", "spark-2")}
    targets |= {(job, "spark-1") for job in ("vllm", "gateway", "prometheus")}

    def up() -> set[tuple[str, str]]:
        return {(row["metric"]["job"], row["metric"]["node"]) for row in ask(head, "up == 1")}

    assert wait(lambda: up() == targets), up()
    # Rates need two figures of each.
    empty = wait(lambda: not [text for text in queries() if not ask(head, text)] or None, 180)
    assert empty, [text for text in queries() if not ask(head, text)]
    for rule in yaml.safe_load((FILES / "rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]:
        ask(head, rule["expr"])
        missing = [text for text in sides(rule["expr"]) if not ask(head, text)]
        assert missing == [] or rule["alert"] in WITHOUT, (rule["alert"], missing)
    assert ask(head, 'ALERTS{alertstate="firing"}') == []

    # A wrong key is counted, and a server that ends is seen.
    before = float(ask(head, "dgx_spark_key_failures_total")[0]["value"][1])
    for _try in range(3):
        head.run("curl --silent --insecure https://127.0.0.1:8235/v1/models -H 'Authorization: Bearer wrong'")
    assert wait(lambda: float(ask(head, "dgx_spark_key_failures_total")[0]["value"][1]) >= before + 3)

    # Nobody outside of the link reaches the exporters, and Prometheus is the node's own.
    listening = sudo(head, "ss -Hltn")
    assert "127.0.0.1:8240" in listening
    for port in (8239, 8241):
        assert f"192.168.100.10:{port}" in listening
        assert f"*:{port}" not in listening and f"0.0.0.0:{port}" not in listening

    for host in (head, worker):
        sudo(host, f"rm -f {SMI_PATH}")
    off = playbook(extra={**ON, "monitoring_enabled": False})
    assert off.status == "successful", off.output[-3000:]
    for host in (head, worker):
        for unit in UNITS:
            assert not host.file(f"/etc/systemd/system/{unit}.service").exists
        # 8241 is the gateway's: its configuration has no such door any more.
        assert not re.search(r":(8239|8240|8241)\b", sudo(host, "ss -Hltn"))
