# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Tests of all scenarios look at the first node, by SSH as an ordinary user, as Ansible comes in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent / "shared")]
from simulation import settings  # noqa: E402 - the path is set just above


@pytest.fixture(scope="session")
def host() -> Host:
    return testinfra.get_host("ssh://spark-1", ssh_config=str(settings.ssh_config_file()))
