# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The watchdog on the pair that serves: it runs, `status` shows what it says, and a rank that stops is found and healed under traffic."""

from __future__ import annotations

from testinfra.host import Host

from simulation import engine
from simulation.faults import catalog, suite
from tests.integration.conftest import Playbook


def test_watchdog_and_follower_run_and_come_back_at_boot(head: Host, worker: Host) -> None:
    for host, name in ((head, "spark-watchdog"), (worker, "spark-follower")):
        service = host.service(name)
        assert service.is_running and service.is_enabled
        with host.sudo():
            assert host.file("/etc/dgx-spark/watchdog.json").mode == 0o644


def test_a_stopped_rank_is_found_by_its_tokens_and_healed(playbook: Playbook) -> None:
    (fault,) = (fault for fault in catalog.FAULTS if fault.name == "SIGSTOP of the rank on spark-2")
    result = suite.Suite(engine.ensure(print), print).run(fault)
    assert result.problems == []
    # Mute where the rank stopped just between two requests: the engine's figures then say that none runs.
    assert result.verdict.startswith(("hung", "mute"))
    # How fast is measured by the fault suite; here it only was not vLLM's own time-out of 300 s.
    assert result.verdict_s is not None and result.verdict_s <= 120
    assert "last failure at" in playbook("playbooks/status.yml").output
