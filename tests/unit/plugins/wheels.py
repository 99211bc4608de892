# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Invented Python packages for tests with a real pip that asks no index."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest


def wheel(folder: Path, name: str, version: str, needs: str = "", content: str = "") -> str:
    """Write the wheel of a package of one file; return its lines of a list with hashes."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    file = folder / f"{name}-{version}-py3-none-any.whl"
    asked = f"Requires-Dist: {needs}\n" if needs else ""
    texts = {
        f"{name}.py": content,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: default\n{asked}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(file, "w") as packed:
        for path, text in texts.items():
            packed.writestr(zipfile.ZipInfo(path), text)
    return (
        f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"
    )


def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep settings of this machine away from pip."""
    for name in ("PIP_FIND_LINKS", "PIP_CONSTRAINT", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
