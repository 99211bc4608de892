# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service import (
    DIGEST_LABEL,
    ContainerSpec,
    Mount,
    Secret,
    UnitSpec,
    differences,
    record,
    unit_text,
)

IMAGE = "sha256:" + "a" * 64


def spec(**changes: Any) -> ContainerSpec:
    values: dict[str, Any] = {
        "name": "spark-vllm",
        "image": "serving:1",
        "command": ("vllm", "serve", "/srv/models/m"),
        "environment": {"B": "2", "A": "1"},
        "mounts": (Mount("/srv/models", "/srv/models", read_only=True),),
        "secrets": (Secret("api_key", "/etc/dgx-spark/secrets/api_key", "VLLM_API_KEY"),),
    }
    return ContainerSpec(**{**values, **changes})


def running(container: ContainerSpec, digest: str) -> dict[str, Any]:
    """What ``docker inspect`` shows of a container started from the specification (fields as seen with Docker 20.10)."""
    program, *arguments = container.entrypoint()
    return {
        "Image": IMAGE,
        "Config": {
            "Entrypoint": [program],
            "Cmd": arguments,
            "Env": ["PATH=/bin", *(f"{name}={value}" for name, value in container.environment.items())],
            "Labels": {DIGEST_LABEL: digest},
        },
        "HostConfig": {"Binds": container.binds()},
    }


def test_a_secret_is_in_neither_command_nor_unit() -> None:
    container = spec()
    text = unit_text(container, UnitSpec("vLLM"), IMAGE, container.digest(IMAGE, {"api_key": "hash"}))
    assert "VLLM_API_KEY=" not in " ".join(container.run_argv(IMAGE, "d")).replace('VLLM_API_KEY="$(cat', "")
    assert "/etc/dgx-spark/secrets/api_key:/run/secrets/api_key:ro" in text
    # systemd must leave the dollar signs to the shell in the container
    assert 'VLLM_API_KEY=\\"$$(cat /run/secrets/api_key)\\"' in text


def test_without_an_exported_secret_the_program_is_the_entrypoint() -> None:
    container = spec(secrets=(Secret("cluster_token", "/etc/token"),))
    assert container.entrypoint() == container.command


def test_the_containers_are_ended_before_what_else_runs_on_the_node() -> None:
    words = spec().run_argv(IMAGE, "d")
    assert 0 < int(words[words.index("--oom-score-adj") + 1]) < 1000


def test_memory_is_bounded_where_that_is_said() -> None:
    words = " ".join(spec(memory_mib=2048, oom_score=900).run_argv(IMAGE, "d"))
    assert "--oom-score-adj 900 --memory 2048m --memory-swap 2048m " in words
    assert "--memory" not in spec().run_argv(IMAGE, "d")
    for wrong in ({"memory_mib": 8}, {"oom_score": 1001}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            spec(**wrong)


def test_what_came_later_restarts_no_container_that_does_not_use_it() -> None:
    """The digest of a container as an earlier release worked it out: without the names that it did not know."""
    known = {key: value for key, value in asdict(spec()).items() if key not in ("memory_mib", "oom_score")}
    document = {"spec": known, "image_id": IMAGE, "secrets": {}}
    assert spec().digest(IMAGE, {}) == hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def test_what_stands_beside_the_cluster_starts_while_that_is_stopped() -> None:
    for name, stops in (("spark-vllm", True), ("spark-chat", False)):
        text = unit_text(ContainerSpec(name, "image", ("program",)), UnitSpec("x"), IMAGE, "d")
        assert ("ConditionPathExists=" in text) is stops


def test_a_container_has_no_capability_and_gains_none() -> None:
    words = " ".join(spec().run_argv(IMAGE, "d"))
    assert "--cap-drop ALL --security-opt no-new-privileges --read-only --tmpfs /tmp:rw,exec," in words
    assert "--privileged" not in words and "--cap-add" not in words
    assert "--cap-drop ALL" in (kept := " ".join(spec(cap_add=("SYS_NICE",), read_only=False).run_argv(IMAGE, "d")))
    assert "--cap-add SYS_NICE" in kept and "--read-only" not in kept and "--tmpfs" not in kept


@pytest.mark.parametrize("name", ["ALL", "sys_nice", "SYS_NICE --privileged", ""])
def test_what_is_no_capability_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no capability"):
        spec(cap_add=(name,))


def test_only_the_gate_of_a_mount_leaves_the_sandbox() -> None:
    unit = UnitSpec(
        "worker", gates=(("address", "192.0.2.1"), ("mount", "/srv/models", "192.0.2.2")), clear=("/var/lib/x",)
    )
    text = unit_text(spec(), unit, IMAGE, "d")
    assert [line for line in text.splitlines() if "=+" in line or "=-+" in line] == [
        "ExecStartPre=+/opt/dgx-spark/bin/spark-gate mount /srv/models 192.0.2.2"
    ]
    assert {"NoNewPrivileges=yes", "ProtectSystem=strict", "ReadWritePaths=-/var/lib/x"} <= set(text.splitlines())
    assert "ReadWritePaths" not in unit_text(spec(), UnitSpec("vLLM"), IMAGE, "d")


def test_the_image_runs_by_id() -> None:
    assert IMAGE in spec().run_argv(IMAGE, "d")
    assert "serving:1" not in spec().run_argv(IMAGE, "d")


@pytest.mark.parametrize(
    "other",
    [
        {"command": ("vllm", "serve", "/other")},
        {"environment": {"A": "1"}},
        {"mounts": ()},
        {"devices": ("nvidia.com/gpu=all",)},
        {"ulimits": {"memlock": "-1"}},
        {"ipc": "host"},
        {"cap_add": ("SYS_NICE",)},
        {"read_only": False},
        {"memory_mib": 2048},
        {"oom_score": 900},
    ],
)
def test_whatever_the_container_is_made_of_changes_the_digest(other: dict[str, Any]) -> None:
    assert spec(**other).digest(IMAGE, {}) != spec().digest(IMAGE, {})


def test_image_and_secrets_change_the_digest() -> None:
    assert spec().digest(IMAGE, {"api_key": "1"}) != spec().digest(IMAGE, {"api_key": "2"})
    assert spec().digest(IMAGE, {}) != spec().digest("sha256:" + "b" * 64, {})


def test_how_systemd_runs_it_does_not_change_the_digest_but_the_unit() -> None:
    container = spec()
    digest = container.digest(IMAGE, {})
    one, other = (unit_text(container, UnitSpec("vLLM", start_limit_burst=burst), IMAGE, digest) for burst in (5, 6))
    assert one != other


SLOW = Path(__file__).parents[4] / "field_cases" / "journals" / "slow-failing-start.tsv"


@pytest.mark.parametrize("line", SLOW.read_text(encoding="utf-8").splitlines()[1:])
def test_systemd_gives_up_on_slow_starts_too(line: str) -> None:
    start, burst, _interval, _gives_up = line.split("\t")
    unit = UnitSpec("vLLM", start_limit_burst=int(burst), longest_start_sec=int(start))
    text = unit_text(spec(), unit, IMAGE, "d")
    window = int(next(row for row in text.splitlines() if row.startswith("StartLimitIntervalSec=")).partition("=")[2])
    # systemd.unit(5): the start after the burst is refused while the first of them lies within the window.
    assert window > int(burst) * (int(start) + unit.restart_sec + unit.stop_timeout_sec)
    assert window >= 3600
    assert spec().digest(IMAGE, {}) in unit_text(spec(), unit, IMAGE, spec().digest(IMAGE, {}))


def test_without_a_burst_systemd_has_no_limit() -> None:
    text = unit_text(spec(), UnitSpec("vLLM", start_limit_burst=0, longest_start_sec=3600), IMAGE, "d").splitlines()
    # systemd.unit(5): an interval of 0 disables the limit, whatever the burst is.
    assert "StartLimitIntervalSec=0" in text


def test_a_window_that_is_never_full_is_refused() -> None:
    with pytest.raises(ValueError, match="5 failed starts of up to 900 s would never fill a shorter window"):
        UnitSpec("vLLM", start_limit_interval_sec=3600, longest_start_sec=900)
    assert UnitSpec("vLLM", start_limit_interval_sec=3600, longest_start_sec=300).window() == 3600


def test_the_order_of_the_environment_does_not_matter() -> None:
    assert spec(environment={"A": "1", "B": "2"}).digest(IMAGE, {}) == spec().digest(IMAGE, {})


def test_gates_come_before_the_start_and_readiness_after() -> None:
    unit = UnitSpec(
        "vLLM",
        gates=(("address", "192.168.100.10"), ("memory", "90")),
        ready=("serving", "--url", "http://x"),
        clear=("/var/lib/x",),
    )
    lines = unit_text(spec(), unit, IMAGE, "d").splitlines()
    keys = [line.partition("=")[0] for line in lines if line.startswith("Exec")]
    assert keys == ["ExecStartPre"] * 4 + ["ExecStart", "ExecStartPost", "ExecStop", "ExecStopPost"]
    assert "TimeoutStartSec=infinity" in lines
    assert "StartLimitBurst=5" in lines
    assert "ConditionPathExists=!/etc/dgx-spark/stopped" in lines
    assert "ExecStopPost=-/usr/bin/docker rm --force spark-vllm" in lines


def test_the_wanted_container_does_not_differ() -> None:
    container = spec()
    wanted = record(container, IMAGE, "d1")
    assert differences(wanted, running(container, "d1")) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"command": ("vllm", "serve", "/other")}, "command: argument"),
        ({"environment": {"A": "9", "B": "2"}}, "environment A is '9', wanted '1'"),
        ({"mounts": ()}, "mounts differ"),
    ],
)
def test_a_difference_is_named(change: dict[str, Any], words: str) -> None:
    found = differences(record(spec(), IMAGE, "d1"), running(spec(**change), "d1"))
    assert len(found) == 1
    assert words in found[0]


def test_another_image_is_named() -> None:
    inspected = {**running(spec(), "d1"), "Image": "sha256:" + "b" * 64}
    assert differences(record(spec(), IMAGE, "d1"), inspected) == ["image is bbbbbbbbbbbb, wanted aaaaaaaaaaaa"]


def test_a_changed_secret_shows_by_the_digest_alone() -> None:
    assert differences(record(spec(), IMAGE, "new"), running(spec(), "old")) == [
        "a secret or a limit changed since it was started"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Spark VLLM"}, "name is 'Spark VLLM'"),
        ({"command": ()}, "command of spark-vllm is empty"),
        ({"image": ""}, "image is empty"),
        ({"environment": {"A B": "1"}}, "'A B' is no variable name"),
        ({"environment": {"A": "1\n2"}}, "A holds a line break"),
    ],
)
def test_bad_input_gets_a_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(**change)


def test_a_mount_that_follows_the_nodes_mounts() -> None:
    assert Mount("/srv/models", "/srv/models", True, "rslave").bind() == "/srv/models:/srv/models:ro,rslave"
    assert Mount("/srv/models", "/srv/models", True).bind() == "/srv/models:/srv/models:ro"
    with pytest.raises(ValueError, match="propagation is 'rshared', expected rprivate or rslave"):
        Mount("/srv/models", "/srv/models", True, "rshared")


@pytest.mark.parametrize(("source", "target"), [("relative", "/x"), ("/x", "relative"), ("/a:b", "/x")])
def test_a_mount_needs_absolute_paths(source: str, target: str) -> None:
    with pytest.raises(ValueError, match="absolute path"):
        Mount(source, target)
