# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is a network of somebody, and what is everybody."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.networks import is_everybody


@pytest.mark.parametrize(
    ("network", "everybody"),
    [
        ("0.0.0.0/0", True),
        ("128.0.0.0/1", True),
        ("10.0.0.0/8", False),
        ("192.168.1.20", False),
        ("::/0", True),
        ("2000::/3", True),
        ("2001:db8::/32", False),
    ],
)
def test_a_network_of_nearly_everybody(network: str, everybody: bool) -> None:
    assert is_everybody(ipaddress.ip_network(network)) is everybody
