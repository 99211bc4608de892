# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The collection with modules of a test's own."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[3]


def empty_modules(place: Path) -> Path:
    """Link the collection into a folder, all but its modules; return the empty folder of these. ANSIBLE_COLLECTIONS_PATH is ``place / "collections"``."""
    base = place / "collections" / "ansible_collections" / "dgx_spark" / "vllm"
    modules = base / "plugins" / "modules"
    modules.mkdir(parents=True)
    for name in ("roles", "playbooks", "models", "meta", "galaxy.yml"):
        (base / name).symlink_to(ROOT / name)
    for folder in (ROOT / "plugins").iterdir():
        if folder.name != "modules" and folder.is_dir():
            (base / "plugins" / folder.name).symlink_to(folder)
    return modules
