# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Repositories as hubs list them, brought into a store from a hub on loopback that lists the same; and a cache that is imported from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.fetch import HubSource
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Request, present
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store, StoreError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.against_flags import SnapshotError, read_config

from benchmarks.field_cases import CASES, Row, Section

COMMIT = "c" * 40
ABOUT = (
    "Each repository of `tests/field_cases/hub` is listed and given out by a hub on loopback and brought into an empty store by the collection's own client. Right is what is "
    "fetched, what is left out because no server reads it, or the refusal; the words that it must have stand under reported. Where the snapshot has no config.json, what "
    "module vllm_flags says of it stands in a second row. `hf-cache-shared-blobs` is a cache of huggingface_hub that is imported from."
)
OPEN = (
    "Sizes are cut to some hundred kB. Xet itself is not spoken here: `xet` is fetched by plain HTTP, which hubs offer beside it up to 50 GB a file.",
)
_WHOLE = "all {} files"
#: By case: its source, what is right of the fetch, and of the look at the model where that matters.
_RIGHT: dict[str, tuple[str, str, str]] = {
    "bin-beside": ("weights of three frameworks in one repository", "2 of 5 files", ""),
    "case-redirect": ("a name in other letters, which the hub redirects", _WHOLE.format(2), ""),
    "case-twins": ("names that differ by letter case alone", _WHOLE.format(3), ""),
    "gated-weights-only": ("a gated repository whose small files are open", "'acme/gate' is gated", ""),
    "gguf-only": ("a repository for llama.cpp", _WHOLE.format(3), "it holds GGUF files"),
    "gpt-oss-three-formats": ("gpt-oss: original/ and metal/ beside the safetensors", "4 of 7 files", ""),
    "index-absolute-and-sub": ("an index that names shards in a folder below", _WHOLE.format(3), ""),
    "index-names-missing-shards": (
        "a repository without one of its shards",
        "names the shard 'model-00002-of-00002.safetensors'",
        "",
    ),
    "lfs-null-size": ("a hub of another maker that states no size of its own beside git LFS's", _WHOLE.format(2), ""),
    "lora-only": ("an adapter taken for a model", _WHOLE.format(2), "it is an adapter"),
    "mistral-consolidated": ("Mistral: consolidated.safetensors beside the shards", "4 of 5 files", ""),
    "no-config-mistral": ("Mistral's own format alone", _WHOLE.format(2), "read"),
    "odd-names": ("names with blanks, brackets, percent and umlauts", _WHOLE.format(12), ""),
    "pickle-index-missing-shard": (
        "a repository of pickles without one of its shards",
        "refused after 0 shards: 'pytorch_model.bin.index.json' names the shard 'pytorch_model-00002-of-00002.bin'",
        "",
    ),
    "pickle-only": ("a repository of pickles", _WHOLE.format(2), ""),
    "prefix": ("a mirror below a path", _WHOLE.format(2), ""),
    "sha512": (
        "a hub that states a sum in another form than sha256",
        "gives no usable checksum for 'model.safetensors'",
        "",
    ),
    "short-hash": ("a shortened commit as revision, which the hub resolves", _WHOLE.format(2), ""),
    "stray-shard": ("model.safetensors beside the shards of an index", "3 of 4 files", ""),
    "submodule": ("folders and a submodule in the list", _WHOLE.format(2), ""),
    "xet": ("a repository on Xet", _WHOLE.format(2), ""),
}


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Weights", ABOUT, [*rows(), imported()], OPEN)


def rows() -> Iterator[Row]:
    """Return the rows of each case; a file without one is an error."""
    for path in sorted((CASES / "hub").glob("*.json")):
        source, right, looked = _RIGHT[path.stem]
        with tempfile.TemporaryDirectory() as folder:
            said, snapshot = brought(json.loads(path.read_text(encoding="utf-8")), Path(folder))
            yield Row(path.stem, source, "download", said, right, right in said)
            if looked:
                seen = look(snapshot)
                yield Row(path.stem, source, "config.json", seen, looked, looked in seen)


def look(snapshot: Path) -> str:
    """Return what is said of a snapshot without config.json, without its folder."""
    try:
        read_config(snapshot)
    except SnapshotError as error:
        return str(error).replace(f" in {snapshot}", "")
    return "read from params.json"


def brought(case: dict[str, Any], folder: Path) -> tuple[str, Path]:
    """Return what a download of a repository ends with, and the folder of its snapshot.

    Args:
        case: the repository, with its files and what its hub does otherwise than others.
        folder: for the store.
    """
    repo = case["repo"].lower() if case["repo"] == "Acme/Tiny" else case["repo"]
    revision = case.get("sha", "main")[: 7 if "revs" in case else None]
    with _served(case) as (endpoint, asked):
        source = HubSource(Hub(f"{endpoint}{case.get('prefix', '')}", attempts=1), repo)
        store = Store(folder / "store")
        try:
            found = present(store, Request(repo, revision), source)
        except StoreError as error:
            shards = sum(name.endswith(".safetensors") for name in asked)
            told = str(error).replace(endpoint, "http://hub").replace(str(folder), "")
            return f"refused after {shards} shards: {told}", folder
    every, taken = len(case["files"]), found.files
    return f"all {every} files" if taken == every else f"{taken} of {every} files", Path(found.path)


def _content(file: dict[str, Any]) -> bytes:
    if "json" in file:
        return json.dumps(file["json"]).encode()
    return str(file["text"]).encode() if "text" in file else bytes(min(file["size"], 300_000))


def _entry(file: dict[str, Any]) -> dict[str, Any]:
    content = _content(file)
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry = {"type": "file", "path": file["path"], "size": len(content), "oid": blob}
    if file.get("lfs"):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    if file.get("xet"):
        entry["xetHash"] = "0" * 64
    return {**entry, **file.get("entry", {})}


@contextlib.contextmanager
def _served(case: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Serve a repository; yields the address of the hub and the files whose content was sent."""
    files = {file["path"]: file for file in case["files"]}
    entries = [_entry(file) for file in case["files"]] + case.get("extra_entries", [])
    commit, prefix, sent = case.get("sha", COMMIT), case.get("prefix", ""), list[str]()

    class Handler(BaseHTTPRequestHandler):
        """Answers as the real hub does, as far as the client asks."""

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            """Answer for the revision, the list of files, or a file."""
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).removeprefix(prefix)
            api, name = f"/api/models/{case['repo']}", f"/{case['repo']}/resolve/{commit}/"
            if case["repo"] not in path and case["repo"].lower() in path:
                self._say(307, b"", Location=self.path.replace(case["repo"].lower(), case["repo"]))
            elif path.startswith(f"{api}/revision/"):
                self._say(200, json.dumps({"sha": commit, "gated": case.get("gated", False)}).encode())
            elif path.startswith(f"{api}/tree/"):
                self._say(200, json.dumps(entries).encode())
            elif path.startswith(name) and (file := files.get(path.removeprefix(name))) is not None:
                if file.get("gated"):
                    self._say(401, b"", **{"X-Error-Code": "GatedRepo"})
                    return
                if self.command == "GET":
                    sent.append(file["path"])
                self._say(200, _content(file), **{"X-Repo-Commit": commit})
            else:
                self._say(404, b"", **{"X-Error-Code": "EntryNotFound"})

        def _say(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()
            thread.join()


def imported() -> Row:
    """Return the row of a cache whose blob is of another mode than the store's files."""
    case = json.loads((CASES / "hub" / "xet.json").read_text(encoding="utf-8"))
    source = (CASES / "trees" / "hf-cache-shared-blobs.txt").read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
    content = _content(case["files"][1])
    name = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        hub = Path(folder) / "hub"
        blob = hub / "blobs" / "ab" / "xet"
        link = hub / "models--acme--xet" / "blobs" / name
        seen = hub / "models--acme--xet" / "snapshots" / COMMIT / case["files"][1]["path"]
        for place in (blob, link, seen):
            place.parent.mkdir(parents=True)
        blob.write_bytes(content)
        blob.chmod(0o444)
        link.symlink_to(Path("../../blobs/ab/xet"))
        seen.symlink_to(Path("../../blobs") / name)
        with _served(case) as (endpoint, asked):
            request = Request(case["repo"], "main", places=(folder,))
            present(Store(Path(folder) / "store"), request, HubSource(Hub(endpoint), case["repo"]))
        taken = "fetched" if case["files"][1]["path"] in asked else "imported"
        said = f"{taken}; the blob is {blob.stat().st_mode & 0o7777:04o}, {blob.stat().st_nlink} link"
    right = "imported; the blob is 0444, 1 link"
    return Row("hf-cache-shared-blobs", source, "import", said, right, said == right)
