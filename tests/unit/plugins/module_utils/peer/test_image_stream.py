# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import http.client
import io
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.image_stream import LoadError, load_stream


class Broken(io.BytesIO):
    """A stream that breaks off after its first piece."""

    def read(self, amount: int | None = -1, /) -> bytes:
        if self.tell():
            raise http.client.IncompleteRead(b"")
        return super().read(3)


def test_the_loader_gets_the_whole_stream(tmp_path: Path) -> None:
    target = tmp_path / "got"
    load_stream(io.BytesIO(b"x" * 9_000_000), "image", ["/bin/sh", "-c", f"cat > {target}"])
    assert target.stat().st_size == 9_000_000


def test_a_stream_that_breaks_off_is_no_image() -> None:
    with pytest.raises(LoadError, match="broke off"):
        load_stream(Broken(b"abcdef"), "image", ["/bin/cat"])


@pytest.mark.parametrize("script", ["cat >/dev/null; echo no space left; exit 1", "echo no space left; exit 1"])
def test_what_docker_says_is_passed_on(script: str) -> None:
    with pytest.raises(LoadError, match="no space left"):
        load_stream(io.BytesIO(b"x" * 9_000_000), "image", ["/bin/sh", "-c", script])
