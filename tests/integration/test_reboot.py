# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One plug pulled: the endpoint serves again without Ansible. (Both at once: the molecule scenario `site`.)"""

from __future__ import annotations

import time

import pytest
from endpoint import api_key, chat, wait_until_active
from testinfra.host import Host

from tests.integration.conftest import Playbook, simulation


def serves_again(head: Host, seconds: float = 360) -> None:
    """Wait for an answer, not for a status: right after the loss systemd still calls the old server active."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
            return
        except (AssertionError, OSError):
            if time.monotonic() > deadline:
                wait_until_active(head, "spark-vllm", seconds=1)
                raise
            time.sleep(3)


@pytest.mark.parametrize("node", ["spark-2", pytest.param("spark-1", marks=pytest.mark.long)])
def test_a_node_that_lost_power_comes_back(node: str, head: Host) -> None:
    simulation("reboot", node, "--hard")
    # The loss of a rank takes some seconds to show; an answer before that would prove nothing.
    time.sleep(20)
    serves_again(head)


@pytest.mark.parametrize("check", [False, True], ids=["run", "check mode"])
def test_nothing_is_left_to_do(playbook: Playbook, check: bool) -> None:
    run = playbook(check=check)
    assert run.status == "successful", run.output[-3000:]
    assert run.changed == set()
