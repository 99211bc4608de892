# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every setting that is a number has a range, its default lies in it, and what lies outside is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.action.settings_check import role_options
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.ranges import RANGES, number_problems
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import RENAMED, SHARED

NUMBERS = {"int", "float"}
OPTIONS: dict[str, dict[str, Any]] = {
    name: option
    for options in (SHARED, *role_options().values())
    for name, option in options.items()
    if option.get("type") in NUMBERS or option.get("elements") in NUMBERS
}


def test_an_old_name_works_until_a_release_that_is_to_come() -> None:
    version = yaml.safe_load((Path(__file__).parents[5] / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert all(tuple(map(int, row.until.split("."))) > tuple(map(int, version.split("."))) for row in RENAMED.values())


def test_no_number_lacks_a_range() -> None:
    assert set(RANGES) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_default_is_allowed(name: str) -> None:
    default = OPTIONS[name].get("default")
    if not isinstance(default, str):
        assert number_problems({name: default}) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fabric_mtu", 90000, "is 90000, expected at most 9978"),
        ("fabric_confirm_seconds", -1, "is -1, expected at least 10"),
        ("cluster_restart_timeout", 0, "is 0, expected at least 1"),
        ("model_share_nfs_threads", "0", "is 0, expected at least 1"),
        ("vllm_plan_memory_gib", -5, "is -5, expected at least 0"),
        ("vllm_plan_memory_gib", float("nan"), "is nan, expected at least 0"),
        ("vllm_benchmark_concurrency", [1, 0], "holds 0, expected at least 1"),
        ("packet_filter_open_ports", [99999], "holds 99999, expected at most 65535"),
        ("vllm_serve_gpu_memory_utilization", 75, "is 75, expected 0.1 to 0.98: it is a part of the memory"),
    ],
)
def test_what_is_out_of_range_is_told(name: str, value: Any, said: str) -> None:
    ((named, sentence),) = number_problems({name: value})
    assert named == name
    assert sentence.startswith(said)
