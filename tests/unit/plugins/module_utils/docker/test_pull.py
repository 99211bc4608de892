# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Bytes of a pull, read off what docker draws. The stand-in draws as pkg/jsonmessage does; a real registry is not asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.pull import Layers, pull
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.progress import Progress

A, B, C = "a1b2c3d4e5f6", "0123456789ab", "ffffffffffff"
DRAWN = (
    "26.10-py3: Pulling from nvidia/vllm\r\n"
    f"\r\n\x1b[1A\x1b[2K\r{A}: Pulling fs layer \x1b[1B\r\n\x1b[1A\x1b[2K\r{B}: Pulling fs layer \x1b[1B\r{C}: Already exists \r\n"
    f"\x1b[2A\x1b[2K\r{A}: Downloading [=>      ]  1.5MB/3MB\x1b[2B\r"
    f"\x1b[1A\x1b[2K\r{B}: Downloading [===>    ]  2GB/4.5GB\x1b[1B\r"
    f"\x1b[2A\x1b[2K\r{A}: Verifying Checksum \x1b[2B\r\x1b[2A\x1b[2K\r{A}: Download complete \x1b[2B\r"
    f"\x1b[2A\x1b[2K\r{A}: Extracting [==>     ]  65.5kB/3MB\x1b[2B\r\x1b[2A\x1b[2K\r{A}: Pull complete \x1b[2B\r\n"
)


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_layers_are_read_however_the_text_is_cut(size: int) -> None:
    layers = Layers()
    for start in range(0, len(DRAWN), size):
        layers.feed(DRAWN[start : start + size])
    assert layers.bytes == 3 * 10**6 + 2 * 10**9
    assert str(layers) == "2 of 3 layers done"


def test_a_pull_is_noted_and_its_failure_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker, note = tmp_path / "docker", tmp_path / "note"
    docker.write_text(
        f"#!/bin/sh\n[ -t 1 ] || exit 9\nprintf '%b' '{A}: Downloading [=> ]  1.5GB/3GB\\r\\n'\nsleep 0.3\necho 'manifest unknown' >&2\nexit 1\n"
    )
    docker.chmod(0o755)
    monkeypatch.setattr("ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.pull.DOCKER", str(docker))
    now = [0.0]

    def clock() -> float:
        now[0] += 10
        return now[0]

    assert pull("example/serving:1", Progress(str(note), clock)) == (1, "", "manifest unknown\n")
    assert note.read_text() == "pulling example/serving:1: 1.4 GiB, 0 of 1 layers done"


def test_without_docker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.pull.DOCKER", "/nowhere/docker")
    status, _out, err = pull("example/serving:1", Progress())
    assert (status, err) == (127, "/nowhere/docker: No such file or directory")
