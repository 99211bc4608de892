# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""An upgrade that does not verify goes back to the last state that did, and the endpoint serves it; one that does is the new state."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook

UPGRADE = "playbooks/upgrade.yml"
QUESTION = "What is the capital of France?"
Containers = Callable[[], dict[str, str]]


def good(host: Host) -> dict[str, str]:
    """Return the record of the verified state without what it holds of each service."""
    with host.sudo():
        document = json.loads(host.check_output("cat /var/lib/dgx-spark/good/services.json"))
    return {name: document[name] for name in ("digest", "verified", "cluster")}


@pytest.mark.long
def test_a_flag_that_ends_the_server_is_given_up(
    playbook: Playbook, head: Host, worker: Host, containers: Containers
) -> None:
    assert playbook().status == "successful"
    before, known = containers(), [good(head), good(worker)]
    assert known[0]["cluster"] == known[1]["cluster"]
    # The parser accepts it and the engine does not.
    bad = {"vllm_serve_extra_arguments": ["--quantization", "awq"], "vllm_serve_start_limit": 2}
    run = playbook(UPGRADE, extra=bad)
    assert run.status == "failed"
    assert "The new state was given up" in run.failures[-1]
    assert "awq" in run.failures[-1]
    assert f"verified on {known[0]['verified']} is back and serves" in run.failures[-1]
    assert "Paris" in chat(QUESTION, api_key(head))["content"]
    assert set(containers()) == set(before)
    assert [good(head), good(worker)] == known
    again = playbook()
    assert again.status == "successful", again.output[-3000:]
    assert again.changed == set()


@pytest.mark.long
def test_a_state_that_does_not_verify_is_given_up(playbook: Playbook, head: Host) -> None:
    # It starts and answers; only the parsed tool call can tell.
    bad = {"vllm_serve_inspect_model": False, "vllm_serve_tool_call_parser": "qwen3_xml"}
    run = playbook(UPGRADE, extra=bad)
    assert run.status == "failed"
    assert "The new state was given up" in run.failures[-1]
    assert "tool call" in run.failures[-1]
    assert "Paris" in chat(QUESTION, api_key(head))["content"]
    assert playbook().changed == set()


def test_what_the_image_refuses_stops_nothing(playbook: Playbook, containers: Containers) -> None:
    before = containers()
    run = playbook(UPGRADE, extra={"vllm_serve_extra_arguments": ["--no-such-flag"]})
    assert run.status == "failed"
    assert "--no-such-flag" in run.failures[0]
    assert containers() == before


@pytest.mark.long
def test_an_upgrade_that_verifies_is_the_new_state(playbook: Playbook, head: Host, worker: Host) -> None:
    known = good(head)
    run = playbook(UPGRADE, extra={"vllm_serve_max_model_len": 4096})
    assert run.status == "successful", run.output[-3000:]
    assert good(head)["digest"] != known["digest"]
    assert good(head)["cluster"] == good(worker)["cluster"]
    assert playbook().status == "successful"
    assert good(head)["digest"] == known["digest"]
