# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Speed, measured as ratios within one run, and the runs and the fit behind the planner's constants; nothing here is a test."""

import sys
from pathlib import Path

# What is measured and fitted is the collection's own code, found here without an installed collection.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collections"))
