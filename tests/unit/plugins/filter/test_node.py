# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The filters as Ansible finds them."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.dgx_spark.vllm.plugins.filter.node import FilterModule


def test_interface_of() -> None:
    facts = {"interfaces": ["eth0"], "eth0": {"ipv4": {"address": "10.0.0.1"}}}
    interface_of = FilterModule().filters()["interface_of"]
    assert interface_of(facts, "10.0.0.1") == "eth0"
    with pytest.raises(AnsibleFilterError, match=r"interface_of: no interface holds the address 10\.0\.0\.2"):
        interface_of(facts, "10.0.0.2")
    with pytest.raises(AnsibleFilterError, match="no network facts"):
        interface_of(None, "10.0.0.2")


def test_reach_findings() -> None:
    reach_findings = FilterModule().filters()["reach_findings"]
    assert reach_findings({"ansible_facts": {}}, "spark-1", {}) == []
    (found,) = reach_findings({"unreachable": True, "msg": "Connection refused"}, "spark-1", {})
    assert (found["code"], found["level"]) == ("node.unreachable", "red")
    assert reach_findings(None, "spark-1", {})[0]["code"] == "node.no_task_runs"
