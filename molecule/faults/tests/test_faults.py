# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every quick fault ends with right answers; clients see right answers and clean errors alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))
from simulation import engine
from simulation.faults import catalog, suite


@pytest.mark.parametrize("fault", catalog.find([], quick=True), ids=lambda fault: fault.name)
def test_the_pair_serves_after_it(fault: catalog.Fault) -> None:
    result = suite.Suite(engine.ensure(print), print).run(fault)
    assert result.problems == []
