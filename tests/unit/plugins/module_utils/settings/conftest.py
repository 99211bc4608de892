# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="session")
def role_options() -> dict[str, Any]:
    """The options of all roles, by name."""
    found: dict[str, Any] = {}
    for path in Path(__file__).parents[5].glob("roles/*/meta/argument_specs.yml"):
        for spec in yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"].values():
            found |= spec.get("options") or {}
    return found
