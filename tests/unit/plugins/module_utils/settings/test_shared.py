# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import (
    BASE_IMAGE,
    RENAMED,
    SHARED,
    Renamed,
    Values,
    missing_problems,
    renamed_notices,
    renamed_problems,
)

TABLE = {"ray_head_prot": Renamed("ray_head_port", "0.3.0")}


def test_an_outside_project_has_to_set_nothing_but_addresses() -> None:
    values = Values({"spark_fabric_address": "192.168.100.10"})
    assert missing_problems(values) == []
    assert values.facts() == {
        "spark_model": "qwen3-235b-awq",
        "spark_serving_image": "dgx-spark/serving:26.10-py3",
        "serving_image_base": BASE_IMAGE,
        "spark_store_path": "/srv/models",
        "spark_api_port": 8235,
        "spark_gpus_per_node": 1,
    }


@pytest.mark.parametrize(
    ("given", "image", "base"),
    [
        ({"serving_image_base": "nvcr.io/nvidia/vllm:26.05-py3"}, "dgx-spark/serving:26.05-py3", None),
        ({"serving_image_base": "x/vllm@sha256:abc"}, "dgx-spark/serving:abc", None),
        ({"spark_serving_image": "mine:1"}, None, None),
        ({}, "dgx-spark/serving:26.10-py3", BASE_IMAGE),
    ],
)
def test_the_image_follows_its_base(given: dict[str, str], image: str | None, base: str | None) -> None:
    facts = Values(given).facts()
    assert facts.get("spark_serving_image") == image
    assert facts.get("serving_image_base") == base


def test_without_a_base_the_image_must_be_named() -> None:
    values = Values({"serving_image_base": "", "spark_fabric_address": "192.168.100.10"})
    ((name, said),) = missing_problems(values)
    assert name == "spark_serving_image"
    assert "name the image, or the base" in said


def test_a_host_without_an_address() -> None:
    assert missing_problems(Values({})) == [
        ("spark_fabric_address", "is missing: add it to the settings file of your inventory")
    ]


def test_what_is_given_is_no_fact() -> None:
    given = dict.fromkeys(SHARED, "x")
    assert Values(given).facts() == {}


def test_an_old_name_counts_for_the_new_one_and_is_told() -> None:
    values = Values({"ray_head_prot": 6400}, TABLE)
    assert values["ray_head_port"] == 6400
    assert "ray_head_port" in values
    assert values.facts()["ray_head_port"] == 6400
    assert set(values) >= {"ray_head_prot", "ray_head_port", "spark_model"}
    assert renamed_notices(values.given, TABLE) == [
        "setting ray_head_prot is called ray_head_port now; the old name works until release 0.3.0: rename it where you set it"
    ]
    assert renamed_problems(values.given, TABLE) == []


def test_the_old_and_the_new_name_together_are_refused() -> None:
    ((name, said),) = renamed_problems(["ray_head_prot", "ray_head_port"], TABLE)
    assert name == "ray_head_prot"
    assert said == "is the old name of ray_head_port, which is given as well: delete ray_head_prot"


def test_a_value_is_worked_out_when_it_is_asked_for() -> None:
    class Broken(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            raise RuntimeError(name)

    values = Values(Broken(serving_image_base="{{ undefined }}"))
    assert "spark_serving_image" in values
    with pytest.raises(RuntimeError):
        values["spark_serving_image"]


def test_new_names_exist_and_old_ones_do_not(role_options: dict[str, Any]) -> None:
    known = {*role_options, *SHARED}
    for old, row in RENAMED.items():
        assert old not in known
        assert row.new in known
