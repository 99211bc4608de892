# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The filters of the scan: whose port an address is, and what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.dgx_spark.vllm.plugins.filter.ports import port_rows, port_targets

RAY = {"protocol": "tcp", "first": 6379, "last": 6379, "name": "Ray", "reach": "fabric"}


def answer(address: str) -> dict[str, Any]:
    listening = [{"address": "0.0.0.0", "port": 6379, "container": "spark-ray-head"}]
    return {"listening": listening, "addresses": [address], "dynamic": [32768, 60999]}


FOUND = {"spark-1": answer("10.0.0.1"), "spark-2": answer("10.0.0.2")}


def test_a_machine_does_not_try_itself() -> None:
    assert port_targets(FOUND, "spark-1") == [{"address": "10.0.0.2", "port": 6379}]
    assert len(port_targets(FOUND)) == 2


def test_each_address_belongs_to_its_node() -> None:
    at = [{"address": "10.0.0.2", "port": 6379}]
    found = port_rows(FOUND, {"spark-1": [RAY], "spark-2": [RAY]}, {"spark-1": at, "spark-2": []}, at, True)
    assert [finding["found"][:23] for finding in found["findings"]] == ["port 6379 of spark-2 (s"]
    assert found["table"][1].split()[:4] == ["spark-1", "6379", "spark-ray-head", "-"]
    assert "outside and the nodes" in found["table"][2]


def test_what_was_not_found_is_told() -> None:
    with pytest.raises(AnsibleFilterError, match="port_targets: KeyError"):
        port_targets({"spark-1": {}})
    with pytest.raises(AnsibleFilterError, match="port_rows: KeyError"):
        port_rows({"spark-1": {}}, {}, {}, [], True)
