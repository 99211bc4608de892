# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Each sick Spark got its colour, its row and its remedy; the bundle of two GB10s holds no secret; a GPU that serves is left alone."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

from simulation.gb10.variants import VARIANTS, Variant

FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Any]:
    """What the playbooks said."""
    return json.loads((FOLDER / "gb10.json").read_text())  # type: ignore[no-any-return]


def test_a_healthy_pair_is_green(verdicts: dict[str, Any]) -> None:
    assert verdicts["healthy"] == []


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_a_sick_spark_gets_its_verdict(verdicts: dict[str, Any], variant: Variant) -> None:
    (said,) = [entry for entry in verdicts["variants"] if entry["variant"] == variant.name]
    assert said["fits"], said["why"]
    assert said["level"] == variant.level
    assert variant.found in said["found"]
    assert variant.remedy in said["remedy"] + said["found"]


@pytest.fixture(scope="module")
def bundle() -> dict[str, str]:
    """The files of the diagnosis."""
    with tarfile.open(FOLDER / "diagnosis.tar.gz") as archive:
        return {name: archive.extractfile(name).read().decode() for name in archive.getnames()}  # type: ignore[union-attr]


def test_the_bundle_holds_what_was_asked_for(bundle: dict[str, str]) -> None:
    everything = "".join(bundle.values())
    assert {name.split("/")[1] for name in bundle if "/spark-" in name} == {"spark-1", "spark-2"}
    for words in ("NVIDIA GB10", "127600748", "rocep1s0f1", "awq_marlin_moe"):
        assert words in everything


def test_the_bundle_holds_no_secret(bundle: dict[str, str]) -> None:
    everything = "".join(bundle.values())
    for secret in ("molecule-made-up-key", "GPU-00000000-0000-0000-0000-000000000001"):
        assert secret not in everything


def test_the_record_is_kept(host: Host) -> None:
    with host.sudo():
        record = json.loads(host.file("/var/lib/dgx-spark/kernel-check.json").content_string)
        assert {"digest", "document"} == set(record)
        assert host.check_output("docker ps --all --quiet --filter name=spark-kernel-check") == ""
