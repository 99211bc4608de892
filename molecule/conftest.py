# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Tests of all scenarios reach the nodes by SSH as an ordinary user, as Ansible comes in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "shared")]
from simulation import settings  # noqa: E402 - the path is set just above


def _node(name: str) -> Host:
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(settings.ssh_config_file()))


@pytest.fixture(scope="session")
def host() -> Host:
    """The first node, which is the head."""
    return _node("spark-1")


@pytest.fixture(scope="session")
def worker() -> Host:
    """The second node, in scenarios of two."""
    return _node("spark-2")
