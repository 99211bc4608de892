# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the weights are read. Sizes are the default model's where none else is named; memory and mounts are invented."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.load_strategy import (
    Checkpoint,
    Reader,
    Source,
    choose_loading,
    filesystem_of,
    load_facts,
    load_rate,
    source_of,
)

BIG = {"weights_gib": 115.5, "ranks": 2}


@pytest.mark.parametrize(
    ("files", "strategy", "said"),
    [
        (Checkpoint(**BIG, available_gib=62, filesystem="ext4"), "eager", "whole files from the local disk"),
        (Checkpoint(**BIG, available_gib=62, filesystem="nfs4"), "eager", "whole files over nfs4"),
        (Checkpoint(**BIG, available_gib=6, filesystem="nfs4"), "lazy", "mapped over nfs4, which is slow"),
        (Checkpoint(**BIG, available_gib=6, filesystem="xfs", file_gib=2), "eager", "4.0 GiB beside"),
        (Checkpoint(**BIG), None, "not known"),
        (Checkpoint(20, 60, "nfs4"), None, "all of it fits beside"),
        # vLLM prefetches over NFS and Lustre only.
        (Checkpoint(20, 60, "ceph"), "eager", "whole files over ceph"),
        (Checkpoint(0.1, 60, "overlay"), "eager", "0.2 GiB beside"),
    ],
)
def test_auto(files: Checkpoint, strategy: str | None, said: str) -> None:
    found = choose_loading("auto", files)
    assert (found.load_format, found.safetensors_load_strategy) == (None, strategy)
    assert said in found.reason


@pytest.mark.parametrize(
    ("name", "files", "flags"),
    [
        ("lazy", Checkpoint(**BIG), (None, "lazy")),
        ("eager", Checkpoint(**BIG, available_gib=20), (None, "eager")),
        ("prefetch", Checkpoint(**BIG, available_gib=200), (None, "prefetch")),
        ("torchao", Checkpoint(**BIG), (None, "torchao")),
        ("fastsafetensors", Checkpoint(**BIG, available_gib=60), ("fastsafetensors", None)),
        ("runai_streamer", Checkpoint(**BIG, load_formats=("auto", "runai_streamer")), ("runai_streamer", None)),
    ],
)
def test_by_name(name: str, files: Checkpoint, flags: tuple[str | None, str | None]) -> None:
    found = choose_loading(name, files)
    assert (found.load_format, found.safetensors_load_strategy) == flags
    assert "as set" in found.reason


def test_a_prefetch_in_vain_is_said() -> None:
    found = choose_loading("prefetch", Checkpoint(**BIG, available_gib=62))
    assert found.safetensors_load_strategy == "prefetch"
    assert "read in vain" in found.reason


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("fast", Checkpoint(**BIG), "'fast', expected auto, lazy"),
        ("eager", Checkpoint(**BIG, available_gib=6), "needs 10.0 GiB beside the weights and 6.0 GiB are left"),
        ("instanttensor", Checkpoint(**BIG, load_formats=("auto", "fastsafetensors")), "it has fastsafetensors"),
        ("runai_streamer", Checkpoint(**BIG, load_formats=("auto",)), "it has none of them"),
        ("fastsafetensors", Checkpoint(100, 20), "100.0 GiB of weights in 120.0 GiB of memory is known to fail"),
    ],
)
def test_what_cannot_be(name: str, files: Checkpoint, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        choose_loading(name, files)


@pytest.mark.parametrize(
    "values", [{"weights_gib": -1}, {"weights_gib": 1, "ranks": 0}, {"weights_gib": 1, "available_gib": -1}]
)
def test_values_that_are_none(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must not be below 0|expected at least 1"):
        Checkpoint(**values)


MOUNTS = """\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 0:35 / /srv/models ro,noatime - nfs4 10.0.0.1:/ ro,vers=4.2
41 22 0:36 / /srv/models\\040old rw shared:1 master:2 - xfs /dev/sdb1 rw
42 22 0:37 / /srv/mod rw - tmpfs tmpfs rw
43 22 0:35 / /srv/auto rw - autofs systemd-1 rw
44 43 0:38 / /srv/auto rw - nfs4 10.0.0.1:/ ro
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/models", "nfs4"),
        ("/srv/models/org--name/abc", "nfs4"),
        ("/srv/models old/x", "xfs"),
        ("/srv/modelsx", "ext4"),
        ("/srv/auto/x", "nfs4"),
        ("/", "ext4"),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert filesystem_of(path, MOUNTS) == kind
    assert filesystem_of(path, "") == ""


def test_rates() -> None:
    assert load_rate(115.5, 420) == "weights: 115.5 GiB in 420 s = 0.275 GiB/s"
    assert load_rate(0, 420) == load_rate(1, 0) == ""


@pytest.mark.parametrize(
    ("readers", "measured", "kind", "words"),
    [
        ([], 0, "", "; the rate of the disk or link was not measured"),
        ([Reader("ext4", 200), Reader("ext4", 200)], 0, "disk", "; the rate of the disk was not measured"),
        ([Reader("ext4"), Reader("nfs4")], 0, "link", "; the rate of the link was not measured"),
        ([Reader("ext4"), Reader("autofs")], 0, "link", "; the rate of the link was not measured"),
        # 200 Gbit/s are 23.28 GiB/s; the slowest link of those who read over it counts.
        (
            [Reader("ext4", 100), Reader("nfs4", 200), Reader("autofs", 400)],
            0,
            "link",
            ", 1.18 % of the 23.3 GiB/s that the link is set to (200 Gbit/s); the rate of the disk behind it was not measured",
        ),
        ([Reader("ext4")], 2.5, "disk", ", 11 % of the 2.5 GiB/s that were measured of the disk"),
        ([Reader("nfs4", 200)], 2.5, "link", ", 11 % of the 2.5 GiB/s that were measured of the link"),
    ],
)
def test_a_load_beside_what_disk_or_link_give(readers: list[Reader], measured: float, kind: str, words: str) -> None:
    source = source_of(readers, measured)
    assert source.kind == kind
    assert load_rate(115.5, 420, source) == f"weights: 115.5 GiB in 420 s = 0.275 GiB/s{words}"


def test_what_a_start_says_of_its_weights() -> None:
    report = {"phases": {"weights": 420.0}, "weights_gib": 115.5, "gib_per_s": 0.275}
    facts = load_facts(report, Source("link", 23.283, "200 Gbit/s"))
    text = facts.pop("text")
    assert text.startswith("weights: 115.5 GiB in 420 s = 0.275 GiB/s, 1.18 % of")
    assert facts == {
        "weights_gib": 115.5,
        "seconds": 420.0,
        "gib_per_s": 0.275,
        "source": "link",
        "source_gib_s": 23.283,
        "source_measured": False,
    }
    assert load_facts(report, Source("disk", 2.5))["source_measured"] is True
    unknown = load_facts(report, Source("disk"))
    assert (unknown["source_gib_s"], unknown["source_measured"]) == (None, False)
    # Where nothing was asked of the source, nothing is said of it.
    assert load_facts(report) == {
        "weights_gib": 115.5,
        "seconds": 420.0,
        "gib_per_s": 0.275,
        "text": "weights: 115.5 GiB in 420 s = 0.275 GiB/s",
    }
    assert load_facts({"phases": {"weights": 7.0}})["text"] == "weights: 7 s; how many bytes that were is not known"
    assert load_facts({"phases": {}})["text"] == "weights: the server's log does not say how long they took"
