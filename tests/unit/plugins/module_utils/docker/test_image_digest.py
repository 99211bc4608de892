# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.image_digest import (
    architecture_of_archive,
    content_digest,
    content_of_archive,
    content_of_inspect,
)

LAYERS = ["sha256:1", "sha256:2"]
CONFIG = {"Env": ["PATH=/bin"], "Cmd": ["sh"], "Labels": {"a": "b"}}


def archive(path: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_archive_and_inspect_agree(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "image.tar",
        {
            "c.json": {"rootfs": {"diff_ids": LAYERS}, "config": CONFIG},
            "manifest.json": [{"Config": "c.json", "RepoTags": ["serving:1"]}],
        },
    )
    inspected = {
        "Id": "sha256:anything",
        "RootFS": {"Layers": LAYERS},
        "Config": {**CONFIG, "Hostname": "x", "Entrypoint": None},
    }
    assert content_of_archive(path) == (content_of_inspect(inspected), ["serving:1"])


def test_a_layer_or_the_run_configuration_changes_the_content() -> None:
    assert content_digest(LAYERS, CONFIG) != content_digest(LAYERS[:1], CONFIG)
    for other in (
        {"Cmd": ["bash"]},
        {"Entrypoint": ["sh"]},
        {"Env": ["NCCL_DEBUG=INFO"]},
        {"WorkingDir": "/elsewhere"},
        {"User": "nobody"},
    ):
        assert content_digest(LAYERS, CONFIG) != content_digest(LAYERS, {**CONFIG, **other}), other
    assert content_digest(LAYERS, CONFIG) == content_digest(LAYERS, {**CONFIG, "Labels": {}})


@pytest.mark.parametrize(
    "members", [{}, {"manifest.json": []}, {"manifest.json": [{"Config": "gone"}]}, {"manifest.json": [{}, {}]}]
)
def test_something_else_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="archive"):
        content_of_archive(archive(tmp_path / "x.tar", members))


def test_no_archive_at_all(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar file")
    with pytest.raises(ValueError, match="docker save"):
        content_of_archive(tmp_path / "x.tar")


def test_an_archive_says_what_machine_it_is_for(tmp_path: Path) -> None:
    members = {"c.json": {"architecture": "arm64"}, "manifest.json": [{"Config": "c.json"}]}
    assert architecture_of_archive(archive(tmp_path / "a.tar", members)) == "arm64"
    assert architecture_of_archive(archive(tmp_path / "b.tar", {**members, "c.json": {}})) == ""
    with pytest.raises(ValueError, match=r"write it again|has no manifest"):
        architecture_of_archive(archive(tmp_path / "c.tar", {"manifest.json": []}))
