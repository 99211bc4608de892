# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every setting of a role is specified and explained, and nothing is specified that no task knows."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = sorted(path for path in (Path(__file__).parents[2] / "roles").iterdir() if path.is_dir())
TASK_LINES = 110


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_defaults_and_argument_specs_name_the_same(role: Path) -> None:
    defaults = yaml.safe_load((role / "defaults" / "main.yml").read_text()) or {}
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]
    assert set(defaults) == set(specs.get("options") or {})


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_every_setting_has_its_prefix_and_a_reason(role: Path) -> None:
    explained = False
    for line in (role / "defaults" / "main.yml").read_text().splitlines():
        if line.startswith("#"):
            explained = True
        elif line and not line[0].isspace() and line != "---" and not line.startswith("- "):
            name = line.partition(":")[0]
            assert name.startswith(f"{role.name}_"), f"{name} lacks the prefix {role.name}_"
            assert explained, f"{name} has no comment above it"
        if line and not line.startswith("#") and not line[0].isspace():
            explained = explained and line.partition(":")[0].startswith(role.name)


@pytest.mark.parametrize(
    "path",
    sorted(path for role in ROLES for path in role.glob("tasks/*.yml")),
    ids=lambda path: f"{path.parts[-3]}-{path.name}",
)
def test_a_task_file_is_one_step(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= TASK_LINES


def test_at_most_ten_settings_are_shared() -> None:
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.check import SHARED

    assert len(SHARED) <= 10
