# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a hand damages, the next run reports as changed, exactly that, and repairs; it restarts only what it touches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook

REPOSITORY = "/srv/models/dgx-spark--tiny-qwen3-moe"
SHARD = f"$(ls {REPOSITORY}/$(cat {REPOSITORY}/refs/main)/*.safetensors | head -n 1)"
Containers = Callable[[], dict[str, str]]


def sudo(host: Host, command: str) -> str:
    with host.sudo():
        return str(host.check_output(command))


def restarted(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before | after if before.get(name) != after.get(name)}


def test_damage_that_needs_no_restart(playbook: Playbook, head: Host, worker: Host, containers: Containers) -> None:
    before = containers()
    sudo(head, "sed -i 's/^Description=.*/Description=edited by hand/' /etc/systemd/system/spark-vllm.service")
    sudo(head, "chmod 0644 /etc/dgx-spark/secrets/api_key")
    # Same size, other content: only its time and its hash give it away.
    sudo(head, f"printf X | dd of={SHARD} bs=1 seek=4000 conv=notrunc")
    sudo(head, "rm /etc/dgx-spark/containers/spark-ray-head.json")
    sudo(head, "rm -rf /opt/dgx-spark/venv")
    sudo(head, "echo '[]' > /etc/dgx-spark/vllm/ray_non_carry_over_env_vars.json")
    sudo(worker, f"truncate --size=-10 {SHARD}")
    sudo(worker, "echo '# edited' >> /opt/dgx-spark/lib/dgx_spark_node/service/gates.py")
    sudo(worker, "systemctl disable spark-ray-worker.service")
    sudo(worker, "systemctl disable docker.service")
    sudo(worker, "docker rmi --force dgx-spark-sim/serving:current")

    run = playbook()

    assert run.status == "successful", run.output[-3000:]
    assert {(host, task) for host, task in run.changed} == {
        ("spark-1", "Write the unit of the endpoint"),
        ("spark-1", "Install the node tools"),
        ("spark-1", "Generate the secrets on the source node and read the fingerprints of the others"),
        ("spark-1", "Write the unit of the Ray head"),
        (
            "spark-1",
            "Start the download unless the verified snapshot is present (116 GiB take about an hour at 300 Mbit/s)",
        ),
        ("spark-2", "Install the node tools"),
        ("spark-2", "Write the unit of the Ray worker"),
        ("spark-2", "Start Docker and enable it at boot"),
        ("spark-2", "Fetch the image over the fabric (about half a minute for each 2 GB)"),
        ("spark-2", "Copy the weights over the fabric (116 GiB take two minutes at 1 GiB per second)"),
    }
    assert restarted(before, containers()) == set()
    assert sudo(worker, "systemctl is-enabled spark-ray-worker.service docker.service").split() == [
        "enabled",
        "enabled",
    ]
    assert playbook().changed == set()


def test_a_parser_that_does_not_fit_the_template_is_refused_and_nothing_is_changed(
    playbook: Playbook, containers: Containers
) -> None:
    before = containers()
    run = playbook(extra={"vllm_serve_tool_call_parser": "qwen3_xml"})
    assert run.status == "failed"
    assert "qwen3_xml" in run.failures[-1]
    assert "hermes" in run.failures[-1]
    assert run.changed_tasks == set()
    assert restarted(before, containers()) == set()


def test_a_changed_setting_restarts_vllm_alone_a_wrong_parser_does_not_pass_and_what_is_gone_comes_back(
    playbook: Playbook, head: Host, worker: Host, containers: Containers
) -> None:
    before = containers()
    # Without the look at the template it gets as far as the proof: the server came up, is green and answers; only a parsed tool call can tell.
    unseen = {"vllm_serve_inspect_model": False}
    wrong = playbook(extra={**unseen, "vllm_serve_tool_call_parser": "qwen3_xml", "vllm_serve_max_model_len": 4096})
    assert wrong.status == "failed"
    assert "tool call" in wrong.failures[-1]
    assert "hermes" in wrong.failures[-1]
    assert wrong.changed_tasks == {
        "Write the unit of the endpoint",
        # It judges by the longest prompt that the server takes.
        "Run the watchdog on the head and the followers on the further nodes",
        "Set the state of the unit: spark-vllm stopped",
        "Set the state of the unit: spark-vllm started",
    }
    assert restarted(before, containers()) == {"spark-vllm"}
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]

    before = containers()
    # Stopped with its unit: what is removed behind systemd's back, systemd brings back before a run could see it.
    sudo(worker, "systemctl stop spark-ray-worker.service")
    assert "spark-ray-worker" not in sudo(worker, "docker ps --all --format '{{.Names}}'")
    right = playbook()
    assert right.status == "successful", right.output[-3000:]
    assert right.changed_tasks == wrong.changed_tasks | {"Set the state of the unit: spark-ray-worker started"}
    assert restarted(before, containers()) == {"spark-ray-worker", "spark-vllm"}
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]


@pytest.mark.long
def test_a_server_that_cannot_start_is_given_up_with_its_own_words(playbook: Playbook, head: Host) -> None:
    # A flag that the parser accepts and the engine does not: the image is asked before, so a name that does not exist would not get here.
    run = playbook(extra={"vllm_serve_extra_arguments": ["--quantization", "awq"], "vllm_serve_start_limit": 2})
    assert run.status == "failed"
    assert "spark-vllm" in run.failures[-1]
    assert "awq" in run.failures[-1]
    # The watchdog gave it up, or systemd did.
    assert sudo(head, "systemctl is-active spark-vllm.service || true").strip() in ("failed", "inactive")

    run = playbook()
    assert run.status == "successful", run.output[-3000:]
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
