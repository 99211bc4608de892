# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The page names what is in the way, the archive holds no secret, and the node is as it was."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from testinfra.host import Host

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def test_the_page_names_the_shared_cache() -> None:
    page = FOLDER / "report.html"
    assert page.stat().st_mode & 0o777 == 0o600
    assert "exports a Hugging Face cache over NFS: /home/anna/.cache/huggingface" in page.read_text()


@pytest.fixture(scope="module")
def archive() -> dict[str, str]:
    with tarfile.open(FOLDER / "diagnosis.tar.gz") as tar:
        return {name: tar.extractfile(name).read().decode() for name in tar.getnames()}  # type: ignore[union-attr]


def test_the_archive_holds_what_was_read(archive: dict[str, str]) -> None:
    assert "MemTotal" in archive["diagnosis/spark-1/system/meminfo.txt"]
    assert "wlan0" in archive["diagnosis/spark-1/network/netplan-files.txt"]
    assert "diagnosis/spark-1/results/survey.json" in archive


def test_the_archive_holds_no_secret(archive: dict[str, str]) -> None:
    text = "".join(archive.values())
    for secret in ("molecule-made-up-key", "molecule-made-up-password", "/home/anna"):
        assert secret not in text
    assert "<redacted api_key>" in archive["diagnosis/spark-1/network/netplan-files.txt"]


def test_nothing_was_changed_on_the_node(host: Host) -> None:
    with host.sudo():
        assert host.file("/etc/exports").content_string.endswith("no_root_squash)\n")
        assert not host.file("/opt/dgx-spark").exists
