# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark on the pair: measured by vLLM's own, saved on the head, compared with the run before, and drawn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from tests.integration.conftest import Playbook, settings

FOLDER = "/var/lib/dgx-spark/benchmarks-test"


@pytest.fixture
def numbers(tmp_path: Path, head: Host) -> Iterator[dict[str, Any]]:
    """Loads of seconds, and folders of the test's own."""
    yield {
        "vllm_benchmark_concurrency": [1, 2],
        "vllm_benchmark_prompt_tokens": [64],
        "vllm_benchmark_output_tokens": 8,
        "vllm_benchmark_folder": FOLDER,
        "vllm_benchmark_page": str(tmp_path / "benchmark.html"),
    }
    with head.sudo():
        head.check_output(f"rm -rf {FOLDER}")


def test_check_mode_says_what_would_run(playbook: Playbook, numbers: dict[str, Any], head: Host) -> None:
    run = playbook("playbooks/benchmark.yml", extra=numbers, check=True)
    assert run.status == "successful", run.failures
    assert run.changed == set()
    assert "2 requests at a time, 64 tokens of prompt and 8 of answer, 4 requests" in " ".join(run.output.split())
    assert not Path(numbers["vllm_benchmark_page"]).exists()
    with head.sudo():
        assert not head.file(FOLDER).exists


def test_measured_twice(playbook: Playbook, numbers: dict[str, Any], head: Host, containers: Any) -> None:
    before = containers()
    for number in (1, 2):
        # A plan that no CPU fulfils: the second verdict is sure to be 'below'.
        plan = {"decode_tok_s_expected": [1e6, 2e6], "decode_tok_s_limit": 3e6} if number == 2 else {}
        run = playbook("playbooks/benchmark.yml", extra={**numbers, "vllm_benchmark_plan": plan})
        assert run.status == "successful", run.failures
    assert containers() == before, "nothing was restarted"
    with head.sudo():
        files = head.check_output(f"ls {FOLDER}").splitlines()
        documents = [json.loads(head.check_output(f"cat {FOLDER}/{name}")) for name in files]
        key = head.check_output("cat /etc/dgx-spark/secrets/api_key").strip()
        assert head.run("docker exec spark-vllm ls /tmp/dgx-spark-benchmark").rc != 0, (
            "nothing is left in the container"
        )
    first, second = documents
    assert first["key"] == second["key"]
    assert [point["concurrency"] for point in first["points"]] == [1, 2]
    assert all(
        point["completed"] == point["requests"] and point["decode_tok_s_request"] > 0 for point in first["points"]
    )
    assert {point["seed"] for point in first["points"]}.isdisjoint(point["seed"] for point in second["points"])
    assert (first["simulation"], first["verdict"]["level"], second["verdict"]["level"]) == (True, "alone", "below")
    assert second["verdict"]["earlier_runs"] == 1
    assert second["evidence"]["spark-2"]["link"]["tcp_bytes"] > 0
    assert sum(first["startup"].values()) > 1
    assert first["loading"]["text"].startswith("weights: ")
    page = Path(numbers["vllm_benchmark_page"])
    assert json.loads(page.with_suffix(".json").read_text())["made"] == second["made"]
    text = page.read_text()
    assert "say nothing about the speed of a DGX Spark" in text
    assert key not in text + page.with_suffix(".json").read_text()


def test_it_stops_where_others_use_the_endpoint(playbook: Playbook, numbers: dict[str, Any], head: Host) -> None:
    body = json.dumps({"model": "qwen3-235b-awq", "prompt": "Count from one.", "max_tokens": 8000, "ignore_eos": True})
    ask = (
        'curl -s -o /dev/null -H "Authorization: Bearer $(sudo cat /etc/dgx-spark/secrets/api_key)" '
        f"-H 'Content-Type: application/json' -d '{body}' http://127.0.0.1:8235/v1/completions"
    )
    ssh = ["ssh", "-F", str(settings.ssh_config_file()), "spark-1"]
    other = subprocess.Popen([*ssh, f"for n in 1 2 3; do timeout 120 {ask} || break; done"])
    try:
        run = playbook("playbooks/benchmark.yml", extra=numbers)
    finally:
        # vLLM drops a request whose client is gone.
        head.run("pkill -u spark curl")
        other.kill()
        other.wait()
    assert run.status == "failed"
    assert any(failure.startswith("others use the endpoint now (1 running request)") for failure in run.failures), (
        run.failures
    )
