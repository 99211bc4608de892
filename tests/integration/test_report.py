# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The report on a pair that serves: what our own containers hold, ports, memory and disk, is no obstacle."""

from __future__ import annotations

from pathlib import Path

from endpoint import wait_until_active
from testinfra.host import Host

from tests.integration.conftest import Playbook, rows


def test_a_pair_that_serves_is_green(playbook: Playbook, head: Host, tmp_path: Path) -> None:
    wait_until_active(head, "spark-vllm")
    page = tmp_path / "report.html"
    run = playbook("playbooks/report.yml", extra={"node_report_page": str(page), "node_report_fail_on_red": True})
    assert run.status == "successful", run.output[-3000:]
    found = rows(page)
    assert [row for row in found if row[2] == "red"] == []
    assert " red" not in page.read_text(encoding="utf-8").partition("<nav ")[2].partition("</nav>")[0]
    for node in ("spark-1", "spark-2"):
        said = {check: (level, text) for name, check, level, text in found if name == node}
        assert {check: said[check][0] for check in ("TCP ports", "memory", "disk", "services")} == dict.fromkeys(
            ("TCP ports", "memory", "disk", "services"), "green"
        )
        # It is green because these are ours, not because nothing runs.
        assert "held by our own spark-" in said["TCP ports"][1]
        assert "our own spark-" in said["memory"][1]
        assert said["services"][1].startswith("in the desired state and active: spark-")
