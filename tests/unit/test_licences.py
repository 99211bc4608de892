# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/licences.md has a row for each package that is pinned and for each model, and no other."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")


def rows(title: str) -> list[list[str]]:
    """Return the cells of each row below a heading."""
    part = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
    return table[1:]


def pinned(file: str) -> list[str]:
    return re.findall(r"^([\w.-]+)==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    ("title", "file"), [("On the controller", "requirements.txt"), ("For tests", "requirements-dev.txt")]
)
def test_every_package_has_its_licence(title: str, file: str) -> None:
    listed = rows(title)
    assert [name for name, _licence in listed] == pinned(file)
    assert all(licence and licence != "None" for _name, licence in listed)


@pytest.mark.parametrize("name", pinned("requirements.txt"))
def test_the_licence_is_the_one_that_the_package_states(name: str) -> None:
    stated = importlib.metadata.metadata(name).get("License-Expression")
    if not stated:
        pytest.skip(f"{name} states its licence in no expression")
    assert dict(rows("On the controller"))[name] == stated


def test_every_model_has_the_licence_of_its_file() -> None:
    models = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "models").glob("*.yml")}
    expected = [[f"`{name}`", models[name]["repo_id"], models[name]["license"]] for name in sorted(models)]
    assert rows("Models") == expected
