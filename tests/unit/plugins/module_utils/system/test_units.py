# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.units import ORDER


def test_a_role_names_the_same_units() -> None:
    """It has no list of its own to read them from."""
    role = Path(__file__).parents[5] / "roles/container_runtime/vars/main.yml"
    given = yaml.safe_load(role.read_text(encoding="utf-8"))["__container_runtime_units"]
    assert set(given) == {f"{unit}.service" for unit in ORDER}
