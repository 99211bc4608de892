# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The local hub against the real huggingface_hub, and what it does wrong on purpose."""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulation.hub.__main__ import parse_repositories
from simulation.hub.faults import BadRule, Faults, parse
from simulation.hub.server import Hub, running

# Read when huggingface_hub is imported, which the tests do inside.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

NAME = "dgx-spark/tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A little model of two shards."""
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text('{"model_type": "qwen3_moe"}')
    (model / "tokenizer.json").write_text("{}")
    (model / "sub" / "note.txt").write_text("hello")
    (model / "model-00001-of-00002.safetensors").write_bytes(bytes(range(256)) * 400)
    (model / "model-00002-of-00002.safetensors").write_bytes(bytes(reversed(range(256))) * 300)
    return model


@pytest.fixture
def hub(folder: Path) -> Iterator[Hub]:
    with running({NAME: {"main": folder}}) as server:
        yield server


def url(hub: Hub, path: str = "") -> str:
    return f"http://127.0.0.1:{hub.server_port}{path}"


def ask(hub: Hub, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
    """The answer as an http.client response with its body read into `.content`."""
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(url(hub, path), data=data, method=method, headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        response.content = response.read()
        return response


def control(hub: Hub, **rules: Any) -> None:
    ask(hub, "/__control", "POST", rules)


def download(hub: Hub, target: Path, **options: Any) -> Path:
    from huggingface_hub import snapshot_download

    options.setdefault("token", False)
    return Path(snapshot_download(NAME, endpoint=url(hub), local_dir=target, **options))


def same(one: Path, other: Path) -> bool:
    files = [path.relative_to(one) for path in one.rglob("*") if path.is_file()]
    return bool(files) and all((one / path).read_bytes() == (other / path).read_bytes() for path in files)


def test_snapshot_download(hub: Hub, folder: Path, tmp_path: Path) -> None:
    assert same(folder, download(hub, tmp_path / "copy"))
    assert not any(request.authorization for request in hub.log)


def test_pinned_commit_needs_no_request_again(hub: Hub, tmp_path: Path) -> None:
    commit = hub.repositories[NAME].heads["main"]
    assert len(commit) == 40
    download(hub, tmp_path / "copy", revision=commit)
    ask(hub, "/__control/requests", "DELETE")
    download(hub, tmp_path / "copy", revision=commit)
    assert json.loads(ask(hub, "/__control/requests").content) == []


def test_commit_follows_content(hub: Hub, folder: Path) -> None:
    before = hub.repositories[NAME].heads["main"]
    ask(hub, "/__control/scan", "POST")
    assert hub.repositories[NAME].heads["main"] == before
    (folder / "config.json").write_text("{}")
    ask(hub, "/__control/scan", "POST")
    after = hub.repositories[NAME].heads["main"]
    assert after != before
    assert {before, after} <= set(hub.repositories[NAME].commits)


def test_model_info_and_verification(hub: Hub, folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=url(hub), token=False)
    info = api.model_info(NAME, files_metadata=True)
    shard = next(item for item in info.siblings or [] if item.rfilename == "model-00001-of-00002.safetensors")
    assert shard.lfs is not None
    assert shard.lfs.sha256 == hashlib.sha256((folder / shard.rfilename).read_bytes()).hexdigest()
    assert shard.size == (folder / shard.rfilename).stat().st_size
    assert {ref.name: ref.target_commit for ref in api.list_repo_refs(NAME).branches} == {"main": info.sha}
    copy = download(hub, tmp_path / "copy")
    assert not api.verify_repo_checksums(NAME, local_dir=copy).mismatches
    assert [entry.path for entry in api.get_paths_info(NAME, ["config.json"])] == ["config.json"]


def test_unknown_names(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import HfApi, errors, hf_hub_download

    with pytest.raises(errors.RevisionNotFoundError):
        download(hub, tmp_path / "a", revision="no-such-branch")
    with pytest.raises(errors.RepositoryNotFoundError):
        HfApi(endpoint=url(hub), token=False).model_info("dgx-spark/none")
    with pytest.raises(errors.RemoteEntryNotFoundError):
        hf_hub_download(NAME, "none.txt", endpoint=url(hub), token=False, local_dir=tmp_path / "b")


def test_gated(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import errors, hf_hub_download

    control(hub, gated={"token": "hf_right"})
    place = {"endpoint": url(hub), "local_dir": tmp_path / "copy"}
    for token in (False, "hf_wrong"):
        with pytest.raises(errors.GatedRepoError):
            hf_hub_download(NAME, "config.json", token=token, **place)
    assert Path(hf_hub_download(NAME, "config.json", token="hf_right", **place)).exists()


def test_redirect_to_another_host_carries_no_token(hub: Hub, folder: Path, tmp_path: Path) -> None:
    control(hub, redirect={"host": f"localhost:{hub.server_port}"})
    assert same(folder, download(hub, tmp_path / "copy", token="hf_secret"))
    elsewhere = [request for request in hub.log if request.host.startswith("localhost")]
    assert len(elsewhere) == 3
    assert not any(request.authorization for request in elsewhere)
    assert any(request.authorization for request in hub.log)


def test_failures_end(hub: Hub, folder: Path, tmp_path: Path) -> None:
    from huggingface_hub import errors

    control(hub, fail={"status": 500, "times": 1, "path": "*.safetensors", "method": "GET"})
    with pytest.raises(errors.HfHubHTTPError, match="500"):
        download(hub, tmp_path / "copy", max_workers=1)
    assert same(folder, download(hub, tmp_path / "copy"))
    assert [request.status for request in hub.log].count(500) == 1


def test_retry_after(hub: Hub) -> None:
    control(hub, fail={"status": 429, "retry_after": 2, "times": 1, "path": "config.json"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(hub, f"/{NAME}/resolve/main/config.json")
    assert caught.value.code == 429
    assert caught.value.headers["Retry-After"] == "2"
    assert ask(hub, f"/{NAME}/resolve/main/config.json").status == 200


def test_corrupt_content_has_the_right_size(hub: Hub, folder: Path, tmp_path: Path) -> None:
    shard = "model-00001-of-00002.safetensors"
    control(hub, corrupt={"path": shard})
    copy = download(hub, tmp_path / "copy")
    assert (copy / shard).stat().st_size == (folder / shard).stat().st_size
    assert (copy / shard).read_bytes() != (folder / shard).read_bytes()


def test_swapped_content_has_the_right_size(hub: Hub, folder: Path) -> None:
    one, other = "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"
    control(hub, swap={"path": one, "with": other})
    got = ask(hub, f"/{NAME}/resolve/main/{one}").content
    assert got == (folder / other).read_bytes()[: (folder / one).stat().st_size]


def test_dropped_connection_is_resumed(hub: Hub, folder: Path, tmp_path: Path) -> None:
    control(hub, drop={"path": "model-00001*", "bytes": 5000, "times": 1})
    assert same(folder, download(hub, tmp_path / "copy"))


def test_truncated_and_wrong_sizes(hub: Hub, tmp_path: Path) -> None:
    path = f"/{NAME}/resolve/main/model-00001-of-00002.safetensors"
    control(hub, truncate={"bytes": 100, "path": "model-00001*", "method": "GET"})
    assert len(ask(hub, path).content) == 100
    with pytest.raises(OSError, match="size"):
        download(hub, tmp_path / "copy")
    ask(hub, "/__control", "DELETE")
    control(hub, size={"bytes": 7, "path": "model-00001*"})
    tree = json.loads(ask(hub, f"/api/models/{NAME}/tree/main?recursive=true").content)
    assert [entry["lfs"]["size"] for entry in tree if entry["path"].startswith("model-00001")] == [7]
    assert ask(hub, path, "HEAD").headers["X-Linked-Size"] == "7"


def test_slow(hub: Hub) -> None:
    import time

    control(hub, slow={"rate": 100000, "path": "model-00001*"})
    started = time.monotonic()
    ask(hub, f"/{NAME}/resolve/main/model-00001-of-00002.safetensors")
    assert time.monotonic() - started > 0.8


@pytest.mark.parametrize(
    ("wanted", "status", "got"),
    [
        ("bytes=0-3", 206, bytes([0, 1, 2, 3])),
        ("bytes=102396-", 206, bytes([252, 253, 254, 255])),
        ("bytes=-2", 206, bytes([254, 255])),
        ("bytes=102398-999999", 206, bytes([254, 255])),
    ],
)
def test_ranges(hub: Hub, wanted: str, status: int, got: bytes) -> None:
    response = ask(hub, f"/{NAME}/resolve/main/model-00001-of-00002.safetensors", Range=wanted)
    assert (response.status, response.content) == (status, got)


def test_unsatisfiable_range(hub: Hub) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(hub, f"/{NAME}/resolve/main/config.json", Range="bytes=9999-")
    assert caught.value.code == 416


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([], "expected an object"),
        ({"explode": {}}, "unknown kind 'explode'"),
        ({"fail": {"statuss": 1}}, "unknown option 'statuss'"),
        ({"fail": {"status": "500"}}, "expected int"),
        ({"fail": {}}, "'status' is missing"),
        ({"slow": [{"rate": 5}, 3]}, "expected an object, got int"),
    ],
)
def test_bad_rules(rules: Any, words: str) -> None:
    with pytest.raises(BadRule, match=words):
        parse(rules)


def test_rules_count() -> None:
    faults = Faults()
    faults.add(parse({"fail": {"status": 500, "times": 2, "after": 1, "path": "a*"}}))
    struck = [faults.strike("fail", path) is not None for path in ("b", "a1", "a2", "a3", "a4")]
    assert struck == [False, False, True, True, False]


def test_bad_control_request(hub: Hub) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        control(hub, explode={})
    assert caught.value.code == 400
    assert "unknown kind" in json.loads(caught.value.read())["error"]


def test_parse_repositories() -> None:
    assert parse_repositories(["a/b=/x", "a/b@v2=/y"]) == {"a/b": {"main": Path("/x"), "v2": Path("/y")}}
    for wrong in ("a=/x", "a/b", "a/b=", "/b=/x"):
        with pytest.raises(ValueError, match="is not owner/name"):
            parse_repositories([wrong])
