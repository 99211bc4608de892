# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Bad input stops before anything is changed, with one sentence that names the value and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

from tests.integration.conftest import REPOSITORY, SIMULATION, Playbook, Run, rows

#: The first task that changes something; bad input stops before it.
FIRST_CHANGE = "Install the node tools"


def refused(run: Run, *words: str, sentences: int = 1) -> None:
    """Assert one sentence for each node concerned, with these words, before anything is changed and without a traceback."""
    assert run.status == "failed", run.output[-2000:]
    assert run.changed == set()
    assert FIRST_CHANGE not in run.tasks
    text = " ".join(run.failures)
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"
    assert "Traceback" not in run.output
    assert len(set(run.failures)) == sentences, run.failures


def stopped(playbook: Playbook, tmp_path: Path, *words: str, **run: Any) -> None:
    """Assert that the preflight stops a run, with these words in its red rows: ``spark-1: interface: eth9 does not exist: ...``."""
    page = tmp_path / "report.html"
    run["extra"] = {**run.get("extra", {}), "node_report_page": str(page)}
    refused(playbook(**run), " red and ", "do what the table above says")
    red = "\n".join(f"{node}: {check}: {text}" for node, check, level, text in rows(page) if level == "red")
    for word in words:
        assert word in red, f"{word!r} is not in {red!r}"


def inventory(tmp_path: Path, **changes: Any) -> Path:
    """Write the simulation's inventory with its groups changed; group_vars come along."""
    folder = tmp_path / "inventory"
    folder.mkdir()
    hosts = yaml.safe_load((SIMULATION / "hosts.yml").read_text())
    children = hosts["sparks"]["children"]
    for group, names in changes.pop("groups", {}).items():
        every = {
            name: values
            for child in yaml.safe_load((SIMULATION / "hosts.yml").read_text())["sparks"]["children"].values()
            for name, values in child["hosts"].items()
        }
        children[group]["hosts"] = {name: every[name] for name in names}
    for host, values in changes.items():
        for child in children.values():
            if host in (child["hosts"] or {}):
                child["hosts"][host] = {**(child["hosts"][host] or {}), **values}
    (folder / "hosts.yml").write_text(yaml.safe_dump(hosts))
    (folder / "group_vars").symlink_to(SIMULATION / "group_vars")
    return folder


def test_the_shipped_inventory_says_what_to_edit(playbook: Playbook) -> None:
    run = playbook(inventory=REPOSITORY / "inventory" / "sparks")
    refused(run, "inventory/sparks/hosts.yml", "make demo")
    assert run.unreachable == []


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"spark_model": "qwen3-235b-awk"}, ("'qwen3-235b-awk'", "did you mean 'qwen3-235b-awq'?")),
        ({"vllm_serve_tensor_parallel_size": 4}, ("vllm_serve_tensor_parallel_size is 4", "give 2")),
        ({"vllm_serve_prot": 1}, ("vllm_serve_prot", "did you mean vllm_serve_port?")),
        ({"vllm_serve_swap_space": 16}, ("vllm_serve_swap_space", "0.18.0")),
        ({"vllm_serve_extra_arguments": ["--swap-space", "16"]}, ("--swap-space", "0.18.0")),
        ({"vllm_serve_max_model_len": "many"}, ("vllm_serve_max_model_len", "many")),
        ({"spark_api_port": 22}, ("spark_api_port is 22", "SSH")),
        ({"spark_api_port": 99999}, ("spark_api_port of spark-1, spark-2 is 99999", "at most 65535")),
        ({"spark_serving_image": "Serving Image"}, ("spark_serving_image", "no image name")),
        ({"fabric_addresses": {"a": "10.9.0.1/24", "b": "10.9.0.2/24"}}, ("puts a and b into one subnet",)),
        ({"runtime_check_kernel": False}, ("runtime_check_kernel", "did you mean runtime_check_kernels?")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting(playbook: Playbook, extra: dict[str, Any], words: tuple[str, ...]) -> None:
    run = playbook(extra=extra)
    refused(run, *words)
    assert run.unreachable == []
    assert len(run.tasks) == 1, "a machine was touched before the settings were checked"


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"head": [], "workers": ["spark-1", "spark-2"]}, ("group 'head' has 0 hosts",)),
        ({"head": ["spark-1", "spark-2"], "workers": []}, ("group 'head' has 2 hosts (spark-1, spark-2)",)),
    ],
    ids=["no head", "two heads"],
)
def test_an_odd_group(playbook: Playbook, tmp_path: Path, groups: dict[str, list[str]], words: tuple[str, ...]) -> None:
    refused(playbook(inventory=inventory(tmp_path, groups=groups)), *words)


def test_a_node_that_does_not_answer(playbook: Playbook, tmp_path: Path) -> None:
    elsewhere = inventory(tmp_path, **{"spark-2": {"ansible_host": "172.31.235.99"}})
    stopped(playbook, tmp_path, "spark-2: ", "172.31.235.99", "does not answer", inventory=elsewhere)


def test_a_revision_that_does_not_exist(playbook: Playbook, tmp_path: Path) -> None:
    extra = {"model_download_revision": "no-such-branch"}
    stopped(playbook, tmp_path, "no-such-branch", "dgx-spark/tiny-qwen3-moe", extra=extra)


def test_a_hub_that_does_not_answer(playbook: Playbook, tmp_path: Path) -> None:
    extra = {"model_download_endpoint": "http://172.31.235.2:9", "model_download_revision": "other"}
    stopped(playbook, tmp_path, "http://172.31.235.2:9", extra=extra)


@pytest.fixture
def taken_port(head: Host) -> Iterator[int]:
    """A port of the head on which another program listens."""
    with head.sudo():
        head.check_output("systemd-run --unit=port-taken python3 -m http.server 8333")
    yield 8333
    with head.sudo():
        head.check_output("systemctl stop port-taken")


def test_a_port_that_someone_else_has(playbook: Playbook, tmp_path: Path, taken_port: int) -> None:
    stopped(playbook, tmp_path, "spark-1: ", str(taken_port), "port-taken", extra={"spark_api_port": taken_port})


def test_an_interface_that_does_not_exist(playbook: Playbook, tmp_path: Path) -> None:
    words = ("spark-1: ", "spark-2: ", "interface eth9 does not exist on this node")
    stopped(playbook, tmp_path, *words, extra={"fabric_interfaces": ["eth9"]})


def test_an_image_that_is_not_there(playbook: Playbook) -> None:
    extra = {"spark_serving_image": "dgx-spark-sim/none:1", "serving_image_archive": "", "serving_image_pull": False}
    run = playbook(extra=extra)
    assert (run.status, run.changed) == ("failed", set())
    assert len(set(run.failures)) == 1
    assert "dgx-spark-sim/none:1" in run.failures[0]


@pytest.fixture
def small_disk(head: Host, worker: Host) -> Iterator[str]:
    """A file system of 2 MiB on both nodes."""
    path = "/mnt/small"
    for host in (head, worker):
        with host.sudo():
            host.check_output(f"mkdir -p {path} && mount -t tmpfs -o size=2m tmpfs {path}")
    yield path
    for host in (head, worker):
        with host.sudo():
            host.check_output(f"umount {path} && rmdir {path}")


def test_too_little_disk(playbook: Playbook, tmp_path: Path, small_disk: str) -> None:
    words = ("GiB", small_disk, "spark-1: ", "spark-2: ")
    stopped(playbook, tmp_path, *words, extra={"spark_store_path": small_disk})
