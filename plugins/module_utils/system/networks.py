# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of those who may reach something."""

from __future__ import annotations

import ipaddress

#: Shortest prefix that is still somebody's network, by the version of IP: a private /8, and a provider's /32.
_WIDEST = {4: 8, 6: 32}


def is_everybody(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    """Say whether a network is nearly everybody: 0.0.0.0/1 and 128.0.0.0/1 together are."""
    return network.prefixlen < _WIDEST[network.version]
