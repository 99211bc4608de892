# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The recipes of the simulation's images. (That they build is shown by building them.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from simulation import images

ROOT = Path(__file__).parents[3]


def test_the_chat_page_of_the_simulation_is_the_version_of_the_role() -> None:
    name = yaml.safe_load((ROOT / "roles/chat_ui/defaults/main.yml").read_text())["chat_ui_image"]
    pinned = re.findall(r"^open-webui==(.+)$", (images.HERE / "chat_page/requirements.txt").read_text(), re.MULTILINE)
    assert [name.rpartition(":v")[2]] == pinned


@pytest.mark.parametrize("recipe", ["serving", "chat_page"])
def test_every_package_is_pinned_and_none_is_for_cuda(recipe: str) -> None:
    rows = (images.HERE / recipe / "requirements.txt").read_text(encoding="utf-8").splitlines()
    packages = [row for row in rows if row and not row.startswith("#")]
    assert not [row for row in packages if "==" not in row or images.CUDA_WHEEL.match(row)]
