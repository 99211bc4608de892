# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The share and the copy over loopback: what is given out, to whom, and what becomes of copies that break off."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import snapshot as hf_snapshot
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Outcome, Request, present
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import FileEntry, Manifest, Store, StoreError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer import share as fabric_share
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer import snapshot as hf_peer
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.share import ShareClient, ShareServer
from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.snapshot import PeerSource, look_here, telling
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.progress import Progress

from tests.unit.plugins.fake_docker import World, fake_docker, image
from tests.unit.plugins.module_utils.hub.world import REPO, SHARDS, make_model

COMMIT = "0123456789" * 4
TOKEN = fabric_share.share_token("cluster secret")


class Pair:
    """A node that shares a verified snapshot, and one that copies it."""

    def __init__(self, folder: Path, size: int = 300_000) -> None:
        self.head = Store(folder / "head")
        self.worker = Store(folder / "worker")
        snapshot = make_model(self.head.snapshot(REPO, COMMIT), size)
        entries = []
        for path in sorted(p for p in snapshot.rglob("*") if p.is_file()):
            content = path.read_bytes()
            entries.append(
                FileEntry(str(path.relative_to(snapshot)), len(content), hashlib.sha256(content).hexdigest())
            )
        self.manifest = Manifest(REPO, COMMIT, tuple(entries), (FileEntry("README.md", 4, "", "1" * 40),))
        self.head.write_manifest(self.manifest)
        self.head.stamp(self.manifest, "sha256")
        self.server = ShareServer("127.0.0.1", 0, self.head.root, TOKEN, 600)
        self.asked: list[str] = []
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def request(self) -> Request:
        return Request(REPO, COMMIT, manifest_sha256=self.manifest.sha256, note="main")

    def client(self, token: str = TOKEN, port: int = 0) -> ShareClient:
        return ShareClient("127.0.0.1", port or self.port, token, timeout=5)

    def copy(self, client: ShareClient | None = None) -> Outcome:
        source = PeerSource(client or self.client(), REPO, COMMIT, self.manifest.sha256)
        return present(self.worker, self.request, source)

    def same(self) -> bool:
        left, right = (store.snapshot(REPO, COMMIT) for store in (self.head, self.worker))
        return all((left / e.path).read_bytes() == (right / e.path).read_bytes() for e in self.manifest.files)


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    opened = Pair(tmp_path)
    monkeypatch.setattr(
        fabric_share.ShareHandler, "log_message", lambda self, text, *args: opened.asked.append(str(args[0]))
    )
    yield opened
    opened.close()


def test_a_copy_is_the_same_down_to_its_manifest(pair: Pair) -> None:
    before, needed = look_here(pair.worker, pair.request)
    assert (before.changed, before.verified, needed) == (True, False, True)
    assert pair.asked == []
    outcome = pair.copy()
    assert (outcome.changed, outcome.verified) == (True, True)
    assert outcome.bytes_downloaded == pair.manifest.bytes_total
    assert pair.same()
    head, worker = (s.manifest_path(REPO, COMMIT).read_bytes() for s in (pair.head, pair.worker))
    assert head == worker
    assert pair.worker.resolve(REPO, "main") == COMMIT
    assert stat.S_IMODE((pair.worker.snapshot(REPO, COMMIT) / SHARDS[0]).stat().st_mode) == 0o644


def test_a_second_copy_contacts_nobody(pair: Pair) -> None:
    pair.copy()
    pair.asked.clear()
    again, needed = look_here(pair.worker, pair.request)
    assert (again.changed, again.verified, needed) == (False, True, False)
    assert pair.copy().changed is False
    assert pair.asked == []


def test_only_what_differs_comes(pair: Pair) -> None:
    pair.copy()
    pair.asked.clear()
    shard = pair.worker.snapshot(REPO, COMMIT) / SHARDS[1]
    shard.write_bytes(shard.read_bytes()[::-1])
    look, needed = look_here(pair.worker, pair.request)
    assert (look.changed, needed) == (True, True)
    outcome = pair.copy()
    assert (outcome.changed, outcome.bytes_downloaded) == (True, shard.stat().st_size)
    assert [line.split()[1].rpartition("/")[2] for line in pair.asked] == [SHARDS[1]]
    assert pair.same()


def test_a_touched_file_needs_no_peer(pair: Pair) -> None:
    pair.copy()
    os.utime(pair.worker.snapshot(REPO, COMMIT) / SHARDS[1])
    look, needed = look_here(pair.worker, pair.request)
    assert (look.changed, look.verified, needed) == (False, False, False)
    pair.close()
    assert pair.copy().changed is False
    assert look_here(pair.worker, pair.request)[0].verified


@pytest.mark.parametrize("damage", ["content", "size"])
def test_a_copy_that_is_damaged_at_its_source_is_refused(pair: Pair, damage: str) -> None:
    shard = pair.head.snapshot(REPO, COMMIT) / SHARDS[0]
    content = shard.read_bytes()
    shard.write_bytes(content[::-1] if damage == "content" else content[:-1])
    with pytest.raises(StoreError, match="another content" if damage == "content" else "damaged after the download"):
        pair.copy()
    assert not pair.worker.verified(REPO, COMMIT)[0]
    shard.write_bytes(content)
    pair.asked.clear()
    assert pair.copy().verified
    assert pair.same()
    assert not any(SHARDS[2] in line for line in pair.asked)


def test_another_manifest_than_the_announced_one_is_refused(pair: Pair) -> None:
    other = Manifest(REPO, COMMIT, pair.manifest.files[:3])
    pair.head.write_manifest(other)
    with pytest.raises(StoreError, match="not the one that was announced"):
        pair.copy()
    assert not pair.worker.snapshot(REPO, COMMIT).exists()


def test_a_half_file_goes_on_where_it_ended(pair: Pair) -> None:
    whole = (pair.head.snapshot(REPO, COMMIT) / SHARDS[0]).read_bytes()
    sha256 = hashlib.sha256(whole).hexdigest()
    part = pair.worker.staging(REPO, COMMIT) / "parts" / f"{sha256}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(whole[:123_456])
    (part.parent / "orphan.part").write_bytes(b"x")
    ranges: list[str] = []
    real = fabric_share.parse_range

    def spy(header: str | None, size: int) -> tuple[int, int] | None:
        ranges.append(header or "")
        return real(header, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fabric_share, "parse_range", spy)
        assert pair.copy().verified
    assert "bytes=123456-" in ranges
    assert pair.same()


def test_a_wrong_half_file_is_thrown_away_and_comes_whole(pair: Pair) -> None:
    whole = (pair.head.snapshot(REPO, COMMIT) / SHARDS[0]).read_bytes()
    part = pair.worker.staging(REPO, COMMIT) / "parts" / f"{hashlib.sha256(whole).hexdigest()}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 1000)
    assert pair.copy().verified
    assert pair.same()


@contextlib.contextmanager
def cutting(port: int, most: int, cuts: int) -> Iterator[int]:
    """Forward to ``port`` but cut the first ``cuts`` long answers after ``most`` bytes; yield the own port."""
    left = [cuts]
    listener = socket.create_server(("127.0.0.1", 0))

    def forward(near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", port)) as far:
            far.sendall(near.recv(65536))
            sent = 0
            while data := far.recv(65536):
                with contextlib.suppress(OSError):
                    near.sendall(data)
                sent += len(data)
                if sent > most and left[0] > 0:
                    left[0] -= 1
                    return

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_streams_that_break_off_go_on(pair: Pair) -> None:
    with cutting(pair.port, 100_000, 5) as port:
        assert pair.copy(pair.client(port=port)).verified
    assert pair.same()


def test_a_killed_copy_fetches_no_byte_twice_but_the_last_ones(tmp_path: Path) -> None:
    pair = Pair(tmp_path, size=30_000_000)
    program = f"""if True:
        import sys
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.share import ShareClient
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.snapshot import PeerSource
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Request, present
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store
        request = Request("{REPO}", "{COMMIT}", manifest_sha256="{pair.manifest.sha256}")
        client = ShareClient("127.0.0.1", {pair.port}, "{TOKEN}")
        present(Store(sys.argv[1]), request, PeerSource(client, "{REPO}", "{COMMIT}", "{pair.manifest.sha256}", 1))
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    parts = pair.worker.staging(REPO, COMMIT) / "parts"
    try:
        run = subprocess.Popen([sys.executable, "-c", program, str(pair.worker.root)], env=environment)
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size > 1_000_000 for path in parts.glob("*")):
            assert run.poll() is None
            assert time.monotonic() < deadline
        run.kill()
        run.wait()
        held = sum(path.stat().st_size for path in parts.glob("*"))
        assert not pair.worker.verified(REPO, COMMIT)[0]
        sent: list[int] = []
        real = fabric_share.parse_range

        def spy(header: str | None, size: int) -> tuple[int, int] | None:
            part = real(header, size)
            sent.append(part[1] if part else 0)
            return part

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fabric_share, "parse_range", spy)
            assert pair.copy().verified
        assert held > 1_000_000
        # The manifest came again; of the weights nothing that lay on the disk did.
        assert sum(sent) <= pair.manifest.bytes_total - held + len(pair.manifest.encode())
        assert pair.same()
    finally:
        pair.close()


def test_a_share_that_is_not_there_is_one_sentence(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_peer.time, "sleep", lambda seconds: None)
    port = pair.port
    pair.close()
    with pytest.raises(StoreError, match=rf"127.0.0.1:{port} cannot be reached \(Connection refused\)") as caught:
        pair.copy()
    assert "\n" not in str(caught.value)


def test_a_share_that_ends_midway_keeps_what_came(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_peer.time, "sleep", lambda seconds: None)
    with cutting(pair.port, 100_000, 10_000) as port, pytest.raises(StoreError):
        # Every answer is cut, and after the first bytes nothing new comes any more.
        monkeypatch.setattr(hf_peer, "TRIES", 1)
        monkeypatch.setattr(fabric_share, "parse_range", lambda header, size: (0, size) if not header else None)
        pair.copy(pair.client(port=port))
    assert any((pair.worker.staging(REPO, COMMIT) / "parts").iterdir())
    monkeypatch.undo()
    assert pair.copy().verified


def ask(pair: Pair, path: str, token: str | None = TOKEN, **headers: str) -> tuple[int, bytes, Any]:
    """Ask without the client, which would never ask such things."""
    connection = http.client.HTTPConnection("127.0.0.1", pair.port, timeout=5)
    with contextlib.closing(connection):
        all_headers = {**({"Authorization": f"Bearer {token}"} if token is not None else {}), **headers}
        connection.request("GET", path, headers=all_headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers


@pytest.mark.parametrize("token", [None, "", "wrong", "cluster secret", TOKEN.upper()])
def test_nothing_is_given_to_who_does_not_know_the_token(pair: Pair, token: str | None) -> None:
    for path in ("/status", f"/files/tests--tiny-model/{COMMIT}/config.json", "/image/x", "/"):
        assert ask(pair, path, token)[0] == 401
    with pytest.raises(StoreError, match="refuses this node's token"):
        pair.client(token or "x").status()


@pytest.mark.parametrize(
    "path",
    [
        "/files/../head/x",
        "/files/%2e%2e/secret",
        "/files/tests--tiny-model/../../secret",
        "/files/tests--tiny-model/..%2f..%2fsecret",
        "/files//etc/passwd",
        "/files/%2fetc/passwd",
        "/files/tests--tiny-model/.staging/x/half",
        "/files/tests--tiny-model/.lock",
        "/files/.hidden/x",
        "/files/tests--tiny-model/away/hostname",
        "/files/tests--tiny-model/link",
        "/files/tests--tiny-model/x%00y",
        f"/files/tests--tiny-model/{COMMIT}",
        "/files/",
        "/files",
        "/secret",
        "/image/--help",
        "/image/a%20b",
        "/image/",
    ],
)
def test_nothing_beside_the_models_is_given_out(pair: Pair, path: str) -> None:
    (pair.head.root.parent / "secret").write_text("hidden words")
    repo = pair.head.repo(REPO)
    (repo / ".staging" / "x").mkdir(parents=True)
    (repo / ".staging" / "x" / "half").touch()
    (repo / ".lock").touch()
    (repo / "away").symlink_to("/etc")
    (repo / "link").symlink_to(pair.head.root.parent / "secret")
    (pair.head.root / ".hidden").mkdir()
    (pair.head.root / ".hidden" / "x").touch()
    status, body, _headers = ask(pair, path)
    assert status == 404
    assert b"hidden words" not in body
    assert "error" in json.loads(body)


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        (None, 10, (0, 10)),
        ("bytes=0-", 10, (0, 10)),
        ("bytes=4-", 10, (4, 6)),
        ("bytes=4-5", 10, (4, 2)),
        ("bytes=4-99", 10, (4, 6)),
        ("bytes=-3", 10, (7, 3)),
        ("bytes=-99", 10, (0, 10)),
        ("bytes=10-", 10, None),
        ("bytes=5-4", 10, None),
        ("bytes=-0", 10, None),
        ("bytes=1-2,4-5", 10, (0, 10)),
        ("lines=1-2", 10, (0, 10)),
        ("bytes=-", 10, (0, 10)),
        (None, 0, (0, 0)),
    ],
)
def test_ranges(header: str | None, size: int, expected: tuple[int, int] | None) -> None:
    assert fabric_share.parse_range(header, size) == expected


def test_ranges_over_the_wire(pair: Pair) -> None:
    path = f"/files/tests--tiny-model/{COMMIT}/{SHARDS[0]}"
    whole = (pair.head.snapshot(REPO, COMMIT) / SHARDS[0]).read_bytes()
    status, body, headers = ask(pair, path, Range="bytes=1000-1999")
    assert (status, body, headers["Content-Range"]) == (206, whole[1000:2000], f"bytes 1000-1999/{len(whole)}")
    assert ask(pair, path, Range=f"bytes={len(whole)}-")[0] == 416
    assert ask(pair, path)[1] == whole
    assert ask(pair, f"/files/tests--tiny-model/{COMMIT}/empty.txt")[:2] == (200, b"")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = fake_docker(tmp_path, monkeypatch)
    world.set(images={"known:1": image("abc")}, saved="x" * 3000000)
    return world


@pytest.mark.usefixtures("docker")
def test_an_image_is_streamed(pair: Pair) -> None:
    with pair.client().image("known:1") as stream:
        assert stream.headers["X-Image-Id"] == "sha256:abc"
        assert len(stream.read()) == 3_000_000
    with pytest.raises(StoreError, match="no image 'other:1' to give out"), pair.client().image("other:1"):
        pass


def test_an_image_that_breaks_off_never_looks_complete(pair: Pair, docker: World) -> None:
    docker.set(save_status=1)
    with pair.client().image("known:1") as stream, pytest.raises(http.client.IncompleteRead):
        stream.read()


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """Start the program as the node does, with the modules copied into a package of another name."""
    return subprocess.Popen([sys.executable, "-m", "dgx_spark_node.peer.share", "serve", *arguments],
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lib = tmp_path / "lib" / "dgx_spark_node"
    lib.mkdir(parents=True)
    shutil.copytree(Path(str(fabric_share.__file__)).parents[1], lib, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(lib.parent))


@pytest.mark.usefixtures("package")
def test_the_program_ends_when_nobody_asks(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("cluster secret\n")
    program = start(
        [
            "--address",
            "127.0.0.1",
            "--port",
            "0",
            "--store",
            str(tmp_path),
            "--token-file",
            str(token),
            "--idle-timeout",
            "1.5",
        ]
    )
    assert program.stderr
    port = int(program.stderr.readline().rpartition(":")[2])
    assert ShareClient("127.0.0.1", port, TOKEN).status() == {"store": str(tmp_path)}
    assert program.wait(20) == 0
    told = program.stderr.read()
    assert "GET /status" in told
    assert TOKEN not in told


@pytest.mark.usefixtures("package")
def test_the_program_says_in_one_sentence_why_it_does_not_start(tmp_path: Path) -> None:
    token = tmp_path / "token"
    options = ["--address", "127.0.0.1", "--port", "0", "--store", str(tmp_path), "--token-file", str(token)]
    missing = start(options).communicate(timeout=20)[1]
    assert (
        missing
        == f"the cluster token {token} cannot be read (No such file or directory): run the whole site.yml, which writes it.\n"
    )
    token.write_text("x")
    foreign = start(["--address", "192.0.2.1", *options[2:]]).communicate(timeout=20)[1]
    assert "cannot listen on 192.0.2.1:0" in foreign
    assert foreign.count("\n") == 1
    with socket.create_server(("127.0.0.1", 0)) as taken:
        busy = start([*options[:3], str(taken.getsockname()[1]), *options[4:]]).communicate(timeout=20)[1]
    assert "Address already in use" in busy


def test_a_worker_without_manifest_digest_can_only_look(pair: Pair) -> None:
    look, needed = look_here(pair.worker, hf_snapshot.Request(REPO, COMMIT))
    assert (look.changed, needed, look.files) == (True, True, 0)


def test_who_waits_is_told_how_far_the_copy_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.dgx_spark.vllm.plugins.module_utils.peer.snapshot.EVERY", 0.01)
    store, note = Store(tmp_path / "store"), tmp_path / "note"
    run = store.staging(REPO, COMMIT) / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text(json.dumps({"revision": COMMIT, "bytes_total": 2**31, "bytes": 2**30, "rate": 0}))
    with telling(Progress(str(note)), "copying the weights from spark-1", store, Request(REPO, COMMIT)):
        end = time.monotonic() + 10
        while not (note.exists() and note.read_text()) and time.monotonic() < end:
            time.sleep(0.01)
    assert note.read_text() == "copying the weights from spark-1: 1.0 GiB of 2.0 GiB"
