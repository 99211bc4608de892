# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`spark diagnose`: the archive of this node, without its secrets. Every key here is invented."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command import diagnose
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.cluster import CommandError

from tests.unit.plugins.module_utils.command.world import PAIR, paper

KEY = "k3y-of-the-endpoint"


def packed(tmp_path: Path, output: str) -> str:
    (tmp_path / "secrets").mkdir(exist_ok=True)
    (tmp_path / "secrets" / "api_key").write_text(KEY)

    def program(argv: Any, *_rest: Any, **_more: Any) -> tuple[int, str, str]:
        return 0, f"{argv[0]} {KEY}", ""

    terminal, out = paper()
    diagnose.run(
        PAIR,
        terminal,
        output,
        status=lambda: {"state": KEY},
        program=program,
        secrets_folder=tmp_path / "secrets",
        units=lambda: ["spark-vllm"],
    )
    return out.getvalue()


def test_the_archive_is_the_caller_s_and_holds_no_secret(tmp_path: Path) -> None:
    place = tmp_path / "d.tar.gz"
    text = packed(tmp_path, str(place))
    assert text.startswith(f"{place}: ") and "spark-2: not in it" in text
    assert place.stat().st_mode & 0o777 == 0o600
    with tarfile.open(fileobj=io.BytesIO(place.read_bytes()), mode="r:gz") as tar:
        files = {member.name: tar.extractfile(member).read().decode() for member in tar.getmembers()}  # type: ignore[union-attr]
    assert "d/spark-1/journal/spark-vllm.service.txt" in files and "d/spark-1/results/status.json" in files
    assert "other nodes are not in it" in files["d/README.txt"]
    assert KEY not in "".join(files.values())


@pytest.mark.parametrize(
    ("output", "told"),
    [("d.zip", "expected a file that ends in .tar.gz"), ("/proc/no/d.tar.gz", "name another file with --output")],
)
def test_a_place_that_is_none(tmp_path: Path, output: str, told: str) -> None:
    with pytest.raises(CommandError, match=told):
        packed(tmp_path, output)


def test_who_called_sudo() -> None:
    assert diagnose.owner({"SUDO_UID": "1000", "SUDO_GID": "1001"}) == (1000, 1001)
    assert diagnose.owner({}) is None
