# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Downloads through the real huggingface_hub from a hub on loopback, with everything that goes wrong."""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import fetch
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import snapshot as hf_snapshot
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import store as hf_store
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import (
    Request,
    absent,
    inspect,
    present,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import StoreError

from simulation.hub.server import running as hub_of
from tests.unit.plugins.module_utils.hub.world import REPO, SHARDS, World, open_world

pytest.importorskip("huggingface_hub")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


@pytest.fixture
def filled(world: World) -> World:
    """A world whose store holds the verified snapshot."""
    world.bring()
    world.asked()
    return world


def test_a_first_download_is_proven_stamped_and_readable_for_others(world: World) -> None:
    before = os.umask(0o077)
    try:
        outcome = world.bring()
    finally:
        os.umask(before)
    assert (outcome.changed, outcome.verified, outcome.commit) == (True, True, world.commit)
    assert outcome.bytes_downloaded == outcome.bytes_total
    assert outcome.path == str(world.snapshot())
    assert world.same()
    for path in [world.snapshot(), *world.snapshot().rglob("*")]:
        assert stat.S_IMODE(path.lstat().st_mode) == (0o755 if path.is_dir() else 0o644)
    repo = world.store().repo(REPO)
    assert sorted(path.name for path in repo.iterdir()) == [
        ".lock", ".staging", world.commit, f"{world.commit}.manifest.json", f"{world.commit}.verified", "refs",
    ]  # fmt: skip
    assert not list((repo / ".staging").iterdir())
    assert world.store().verified(REPO, "main")[0]


def test_a_second_run_asks_nobody_and_reads_nothing(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_snapshot, "digest_many", lambda *_: pytest.fail("weights were read"))
    outcome = filled.bring()
    assert (outcome.changed, outcome.verified, outcome.bytes_downloaded) == (False, True, 0)
    assert filled.asked() == []


def test_a_branch_stays_at_its_commit_until_asked(filled: World) -> None:
    first = filled.commit
    (filled.model / "config.json").write_text('{"architectures": ["Newer"]}')
    filled.hub.repositories[REPO].scan()
    assert filled.commit != first
    assert filled.bring().commit == first
    outcome = filled.bring(update=True)
    assert outcome.commit == filled.commit
    assert filled.same()
    assert filled.store().snapshot(REPO, first).is_dir()
    assert filled.bring(update=True).changed is False


def test_asking_again_where_a_branch_points_changes_nothing_by_itself(filled: World) -> None:
    assert filled.bring(update=True).changed is False
    assert len(filled.asked()) == 2


def harm(folder: Path, how: str) -> str:
    """Damage a snapshot; return the file that must come again."""
    shard = folder / SHARDS[1]
    content = bytearray(shard.read_bytes())
    kept = shard.stat().st_mtime_ns
    content[len(content) // 2] ^= 1
    if how == "content":
        shard.write_bytes(content)
    elif how == "content, back-dated":
        shard.write_bytes(content)
        os.utime(shard, ns=(kept, kept))
    elif how == "truncated":
        os.truncate(shard, 1000)
    elif how == "removed":
        shard.unlink()
    elif how == "link":
        shard.rename(folder.parent / "moved")
        shard.symlink_to(folder.parent / "moved")
    elif how == "folder":
        shard.unlink()
        (shard / "inside").mkdir(parents=True)
        (shard / "inside" / "x").touch()
    return SHARDS[1]


@pytest.mark.parametrize("how", ["content", "content, back-dated", "truncated", "removed", "link", "folder"])
def test_a_damaged_file_is_healed_and_only_that_is_fetched(filled: World, how: str) -> None:
    name = harm(filled.snapshot(), how)
    assert not filled.store().verified(REPO, "main")[0]
    foreseen = filled.bring(check=True)
    assert (foreseen.changed, foreseen.verified) == (True, False)
    assert filled.asked() == []
    outcome = filled.bring()
    assert outcome.changed is True
    assert outcome.bytes_downloaded == foreseen.bytes_downloaded == (filled.model / name).stat().st_size
    assert filled.fetched() == [name]
    assert filled.same()
    assert filled.bring().changed is False


def test_swapped_shards_are_both_healed(filled: World) -> None:
    one, two = (filled.snapshot() / name for name in SHARDS[:2])
    one.rename(filled.folder / "tmp")
    two.rename(one)
    (filled.folder / "tmp").rename(two)
    filled.bring()
    assert filled.fetched() == SHARDS[:2]
    assert filled.same()


def test_a_touched_file_is_read_again_and_nothing_more(filled: World) -> None:
    os.utime(filled.snapshot() / SHARDS[0])
    outcome = filled.bring()
    assert (outcome.changed, outcome.verified) == (False, True)
    assert filled.asked() == []
    assert filled.store().verified(REPO, "main")[0]


def test_what_does_not_belong_there_is_removed(filled: World) -> None:
    (filled.snapshot() / "stray" / "deep").mkdir(parents=True)
    (filled.snapshot() / "stray" / "deep" / "extra.safetensors").write_bytes(b"x")
    (filled.snapshot() / "modeling.py").symlink_to("/etc/hostname")
    (filled.snapshot() / "config.json").chmod(0o600)
    assert filled.bring(check=True).changed
    outcome = filled.bring()
    assert (outcome.changed, outcome.bytes_downloaded) == (True, 0)
    assert filled.same()
    assert not (filled.snapshot() / "stray").exists()
    assert Path("/etc/hostname").exists()
    assert filled.asked() == []


@pytest.mark.parametrize("what", ["stamp", "manifest", "ref", "stamp garbage", "manifest edited"])
def test_a_lost_note_is_made_anew_without_fetching_weights(filled: World, what: str) -> None:
    store = filled.store()
    manifest, stamp = store.manifest_path(REPO, filled.commit), store.stamp_path(REPO, filled.commit)
    content = manifest.read_bytes()
    if what == "stamp":
        stamp.unlink()
    elif what == "manifest":
        manifest.unlink()
    elif what == "ref":
        store.ref_path(REPO, "main").unlink()
    elif what == "stamp garbage":
        stamp.write_text("garbage")
    else:
        manifest.write_bytes(content.replace(b'"size": 2', b'"size": 3', 1))
    outcome = filled.bring()
    assert (outcome.changed, outcome.bytes_downloaded) == (True, 0)
    assert filled.fetched() == []
    assert manifest.read_bytes() == content
    assert store.verified(REPO, "main")[0]
    assert filled.bring().changed is False


def test_patterns_choose_and_a_change_of_them_fetches_or_removes_only_the_difference(world: World) -> None:
    world.bring(ignore=("*-00003-of-*", "*.index.json"))
    assert not (world.snapshot() / SHARDS[2]).exists()
    world.asked()
    wider = world.bring()
    assert wider.changed
    assert world.fetched() == [SHARDS[2], "model.safetensors.index.json"]
    assert world.same()
    narrower = world.bring(ignore=("extra/",))
    assert (narrower.changed, world.fetched()) == (True, [])
    assert not (world.snapshot() / "extra").exists()
    assert world.bring(ignore=("extra/",)).changed is False
    with pytest.raises(StoreError, match="choose none of the 8 files"):
        world.bring(allow=("*.gguf",))


def test_an_index_that_names_a_missing_shard_is_refused(world: World) -> None:
    with pytest.raises(StoreError, match=rf"names the shard '{SHARDS[2]}'"):
        world.bring(ignore=("*-00003-of-*",))
    assert not world.store().verified(REPO, world.commit)[0]


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"corrupt": {"path": SHARDS[0]}}, "another content"),
        ({"swap": {"path": SHARDS[0], "with": SHARDS[1]}}, "another content"),
        ({"corrupt": {"path": "config.json"}}, "git blob"),
        ({"fail": {"path": SHARDS[0], "status": 404, "error_code": "EntryNotFound"}}, "its own list names it"),
        ({"size": {"path": SHARDS[0], "bytes": 5}}, "5"),
    ],
)
def test_lies_are_caught_nothing_is_lost_and_the_next_run_heals(
    world: World, rules: dict[str, object], words: str
) -> None:
    world.faults(**rules)
    with pytest.raises(StoreError, match=words) as caught:
        world.bring()
    assert "\n" not in str(caught.value)
    assert not world.store().stamp_path(REPO, world.commit).exists()
    held = {path.name for path in world.snapshot().rglob("*") if path.is_file()}
    world.hub.faults.clear()
    world.asked()
    outcome = world.bring()
    assert outcome.verified
    assert world.same()
    # What was right the first time stays; the liar's file comes again.
    assert not held & {Path(path).name for path in world.fetched()}


def test_a_lie_told_once_costs_one_more_fetch(world: World) -> None:
    world.faults(corrupt={"path": SHARDS[0], "times": 1})
    assert world.bring().verified
    assert world.fetched().count(SHARDS[0]) == 2
    assert world.fetched().count(SHARDS[1]) == 0
    assert world.same()


def test_verify_size_finds_no_wrong_content_and_a_stronger_wish_does(world: World) -> None:
    world.faults(corrupt={"path": SHARDS[0], "times": 1})
    outcome = world.bring(verify="size")
    assert outcome.verified
    assert not world.same()
    assert world.bring(verify="size").changed is False
    assert world.bring().changed is True
    assert world.same()
    assert world.bring(verify="size").changed is False


def test_verify_none_never_claims_to_have_verified(world: World) -> None:
    outcome = world.bring(verify="none")
    assert (outcome.changed, outcome.verified) == (True, False)
    assert world.bring(verify="none").changed is False
    assert world.same()


def test_reading_everything_again_finds_rot_that_no_date_shows(filled: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filled.bring(reverify=True).changed is False
    store, shard = filled.store(), filled.snapshot() / SHARDS[0]
    harm_at = bytearray(shard.read_bytes())
    harm_at[5] ^= 1
    shard.write_bytes(harm_at)
    known = store.local(REPO, "main")
    assert known.manifest
    # Rot changes no date: the stamp says what the file shows now.
    store.stamp(known.manifest, "sha256")
    assert filled.bring().changed is False
    assert filled.bring(reverify=True).changed is True
    assert filled.same()


def test_check_mode_writes_nothing(world: World) -> None:
    outcome = world.bring(check=True)
    assert (outcome.changed, outcome.verified, outcome.commit) == (True, False, world.commit)
    assert outcome.bytes_downloaded == outcome.bytes_total > 0
    assert not world.store().root.exists()
    assert world.fetched() == []


def test_errors_of_the_hub_stop_before_anything_is_written(world: World) -> None:
    with pytest.raises(StoreError, match="has no revision 'no-such-branch'"):
        world.bring(revision="no-such-branch")
    world.faults(gated={"token": "hf_right"})
    for check in (True, False):
        with pytest.raises(StoreError, match="gated"):
            world.bring(check=check)
    with pytest.raises(StoreError, match="gated"):
        hf_snapshot.preview(world.source(), hf_snapshot.Request(REPO, "main"), world.store())
    world.hub.faults.clear()
    world.faults(private={"repository": REPO, "token": "hf_right"})
    with pytest.raises(StoreError, match="no repository 'tests/tiny-model'"):
        world.bring(token="hf_wrong")
    snapshots = [path.name for path in world.store().repo(REPO).glob("*/*")]
    assert snapshots == []
    assert world.bring(token="hf_right").verified


def test_no_token_goes_to_another_host(world: World) -> None:
    world.faults(redirect={"host": f"localhost:{world.hub.server_port}"})
    world.bring(token="hf_secret")
    asked = world.asked()
    away = [request for request in asked if request.host.startswith("localhost")]
    assert away
    assert not any(request.authorization for request in away)
    assert all(request.authorization for request in asked if request.host.startswith("127.0.0.1"))
    assert world.same()


def test_a_stale_token_in_the_environment_is_not_used(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    world.bring()
    assert not any(request.authorization for request in world.asked())


def test_too_little_disk_stops_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf_store, "free_bytes", lambda path: 1000)
    for check in (True, False):
        with pytest.raises(StoreError, match=r"'tests/tiny-model' needs .* more in .*, 1000 bytes free"):
            world.bring(check=check)
    assert world.fetched() == []


def test_a_disk_that_fills_midway_is_survived(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real = hf_snapshot.sync
    content = hashlib.sha256((world.model / SHARDS[1]).read_bytes()).hexdigest()

    def full(path: Path, forget: bool = False) -> None:
        if forget and path.name.startswith(content):
            raise OSError(28, "No space left on device", str(path))
        real(path, forget=forget)

    monkeypatch.setattr(hf_snapshot, "sync", full)
    with pytest.raises(StoreError, match="disk is full"):
        world.bring()
    assert not world.store().verified(REPO, world.commit)[0]
    monkeypatch.setattr(hf_snapshot, "sync", real)
    held = {path.name for path in world.snapshot().rglob("*") if path.is_file()}
    world.asked()
    assert world.bring().verified
    # The shard that was whole when the disk was full is proven from where it lies.
    assert not {SHARDS[1], *held} & set(world.fetched())


def test_a_store_that_may_not_be_written(world: World) -> None:
    (world.folder / "store").write_text("a file where the store should be")
    with pytest.raises(StoreError, match="cannot keep 'tests/tiny-model' in") as caught:
        world.bring()
    assert "\n" not in str(caught.value)


def test_two_runs_at_once(world: World) -> None:
    with world.store().lock(REPO), pytest.raises(StoreError, match=r"another run .* is working on tests/tiny-model"):
        world.bring()
    assert world.bring().verified


PROGRAM = textwrap.dedent(f"""
    import sys
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.fetch import HubSource
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Request, present
    from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store
    source = HubSource(Hub(sys.argv[1]), "{REPO}", max_workers=2)
    present(Store(sys.argv[2]), Request("{REPO}", "main"), source)
""")


@contextlib.contextmanager
def running(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """Bring the snapshot in a process of its own, which does not outlive the test."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, world.endpoint, str(world.store().root)], env=environment
    ) as run:
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_killed_run_costs_at_most_what_was_in_flight(tmp_path: Path, part: float) -> None:
    with open_world(tmp_path, size=8_000_000) as world:
        world.faults(slow={"path": "*.safetensors", "rate": 8_000_000.0})
        store = world.store()
        with running(world) as run:
            deadline = time.monotonic() + 60
            while (watched := inspect(store, REPO, "main", "size")).bytes < part * (watched.bytes_total or 1):
                assert run.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert (watched.running, watched.complete, watched.commit) == (True, False, world.commit)
            assert 0 < watched.bytes < watched.bytes_total
        assert not inspect(store, REPO, "main", "size").running
        assert not store.verified(REPO, world.commit)[0]
        world.hub.faults.clear()
        # The hub notes a request when its answer ends, which for a killed peer may be a moment later.
        time.sleep(0.5)
        first = sum(request.bytes for request in world.asked())
        outcome = world.bring()
        second = sum(request.bytes for request in world.asked() if "/resolve/" in request.path)
        assert outcome.verified
        assert world.same()
        assert outcome.bytes_downloaded <= second <= outcome.bytes_total
        # Two workers lose a chunk each, and what the sockets hold is lost with the process.
        in_flight = 2 * (fetch.CHUNK + 6 * 1024 * 1024)
        assert outcome.bytes_total - outcome.bytes_downloaded >= part * outcome.bytes_total - in_flight
        assert first + second <= outcome.bytes_total + in_flight
        assert not list(store.repo(REPO).rglob("*.incomplete"))
        assert not list((store.repo(REPO) / ".staging").iterdir())


def test_a_part_that_was_altered_between_runs_is_fetched_anew(world: World) -> None:
    shard = (world.model / SHARDS[0]).read_bytes()
    parts = world.store().staging(REPO, world.commit) / "parts"
    parts.mkdir(parents=True)
    (parts / f"{hashlib.sha256(shard).hexdigest()}.part").write_bytes(bytes(150_000))
    (parts / "0000.part").write_bytes(b"of no file here")
    assert world.bring().verified
    assert world.same()
    assert world.fetched().count(SHARDS[0]) == 2


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"drop": {"path": SHARDS[0], "bytes": 1000, "times": 3}}, ""),
        ({"fail": {"path": SHARDS[0], "status": 503, "times": 2, "method": "GET"}}, ""),
        ({"fail": {"path": SHARDS[0], "status": 429, "retry_after": 0.0, "times": 2, "method": "GET"}}, ""),
        ({"fail": {"path": SHARDS[0], "status": 500, "method": "GET"}}, "failed with status 500"),
        ({"truncate": {"path": SHARDS[0], "bytes": 1000}}, "another size than it announced"),
    ],
)
def test_a_hub_that_stumbles_is_asked_again_and_one_that_stays_down_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, rules: dict[str, object], words: str
) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    world.faults(**rules)
    if not words:
        assert world.bring().verified
        assert world.same()
        return
    with pytest.raises(StoreError, match=words) as caught:
        world.bring()
    assert "\n" not in str(caught.value)
    world.hub.faults.clear()
    assert world.bring().verified
    assert world.same()


def test_a_hub_that_sends_more_than_it_announced_is_stopped(world: World) -> None:
    # What it lists is smaller than what it sends; without a bound the disk would fill.
    world.faults(size={"path": SHARDS[0], "bytes": 5})
    with pytest.raises(StoreError, match="5"):
        world.bring()
    assert all(path.stat().st_size <= 5 or path.name != SHARDS[0] for path in world.store().root.rglob("*"))


def test_the_libraries_own_road_brings_the_same(world: World) -> None:
    source = fetch.HubSource(Hub(world.endpoint), REPO, transport="xet")
    outcome = present(world.store(), Request(REPO, "main"), source)
    assert outcome.verified
    assert world.same()


def make_cache(world: World, folder: Path, *, shared: bool = False) -> Path:
    """Lay the model down as huggingface_hub's cache does: blobs by content, snapshots of links; return HF_HOME."""
    repo = folder / "hub" / f"models--{REPO.replace('/', '--')}"
    manifest = world.source().listing("main")
    (repo / "blobs").mkdir(parents=True)
    for entry in manifest.entries:
        name = entry.sha256 or entry.git_oid
        blob = repo / "blobs" / name
        real = folder / "hub" / "blobs" / name[:2] / name if shared else blob
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_bytes((world.model / entry.path).read_bytes())
        if shared and not blob.exists():
            blob.symlink_to(real)
        link = repo / "snapshots" / world.commit / entry.path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return folder


def linked_or_cloned(path: Path, inodes: set[int]) -> bool:
    """Say whether a file takes no room of its own; a clone shows only as the same blocks, which need a tool to see."""
    clones = subprocess.run(
        ["cp", "--reflink=always", path, path.parents[3] / "clone"], capture_output=True, check=False
    )
    return path.stat().st_ino in inodes or clones.returncode == 0


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("place", ["", "hub", "hub/models--tests--tiny-model"])
def test_files_of_a_hugging_face_cache_are_linked_and_not_fetched(world: World, place: str, shared: bool) -> None:
    home = make_cache(world, world.folder / "home", shared=shared)
    kept = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    places = (str(home / place),)
    foreseen = world.bring(check=True, places=places)
    outcome = world.bring(places=places)
    assert outcome.verified
    assert world.fetched() == []
    assert (outcome.bytes_imported, outcome.bytes_downloaded) == (outcome.bytes_total, 0)
    assert foreseen.bytes_imported == outcome.bytes_imported
    assert world.same()
    assert not any(path.is_symlink() for path in world.snapshot().rglob("*"))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == kept
    blobs = {path.stat().st_ino for path in kept}
    assert linked_or_cloned(world.snapshot() / SHARDS[0], blobs)


def test_a_private_or_damaged_file_of_a_cache_is_copied_or_left(world: World) -> None:
    home = make_cache(world, world.folder / "home")
    blobs = home / "hub" / "models--tests--tiny-model" / "blobs"
    by_name = {entry.path: blobs / entry.sha256 for entry in world.source().listing("main").entries if entry.sha256}
    by_name[SHARDS[0]].chmod(0o600)
    harmed = bytearray(by_name[SHARDS[1]].read_bytes())
    harmed[7] ^= 1
    by_name[SHARDS[1]].write_bytes(harmed)
    outcome = world.bring(places=(str(home), str(world.folder / "nowhere")))
    assert outcome.verified
    assert world.same()
    assert world.fetched() == [SHARDS[1]]
    assert outcome.bytes_downloaded == (world.model / SHARDS[1]).stat().st_size
    assert stat.S_IMODE(by_name[SHARDS[0]].stat().st_mode) == 0o600
    assert by_name[SHARDS[1]].read_bytes() == harmed


def test_a_folder_of_plain_files_serves_as_well_and_a_relative_one_is_refused(world: World) -> None:
    outcome = world.bring(places=(str(world.model),))
    assert (outcome.bytes_imported, outcome.verified) == (outcome.bytes_total, True)
    with pytest.raises(StoreError, match="import_from names 'models': expected an absolute folder"):
        world.bring("other", places=("models",))


def test_a_new_commit_fetches_only_what_changed(filled: World) -> None:
    first = filled.commit
    (filled.model / "config.json").write_text('{"architectures": ["Other"]}')
    filled.hub.repositories[REPO].scan()
    outcome = filled.bring(update=True)
    assert outcome.commit == filled.commit != first
    assert outcome.verified
    assert filled.same()
    assert filled.fetched() == ["config.json"]
    # The old commit stays proven; taken away, it leaves the new one proven.
    assert filled.store().verified(REPO, first)[0]
    absent(filled.store(), REPO, first)
    assert filled.store().verified(REPO, filled.commit)[0]
    assert filled.same()


def test_a_hub_with_a_private_certificate(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.fetch import HubSource
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.client import Hub
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import Request, present
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store
        hub = Hub(sys.argv[1], ca_bundle=sys.argv[3])
        print(present(Store(sys.argv[2]), Request("{REPO}", "main"), HubSource(hub, "{REPO}", sys.argv[3])).verified)
    """)
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with open_world(tmp_path) as world:
        world.hub.socket = context.wrap_socket(world.hub.socket, server_side=True)
        address = f"https://localhost:{world.hub.server_port}"
        run = subprocess.run(
            [sys.executable, "-c", program, address, str(world.store().root), str(certificate)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (run.stdout, run.returncode) == ("True\n", 0), run.stderr
        assert world.same()


def test_removing_a_model(filled: World) -> None:
    store = filled.store()
    assert absent(store, REPO, "main", check=True).changed
    assert filled.snapshot().is_dir()
    outcome = absent(store, REPO, "main")
    assert outcome.changed
    assert [path.name for path in store.repo(REPO).iterdir()] == [".lock"]
    assert absent(store, REPO, "main").changed is False
    assert absent(filled.store("other"), REPO, "main").changed is False


def test_a_preview_asks_only_what_the_store_does_not_know(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    request = hf_snapshot.Request(REPO, "main")
    before = hf_snapshot.preview(world.source(), request, world.store())
    assert (before.local, before.commit) == (False, world.commit)
    assert before.bytes_missing == before.bytes_total > 600_000
    monkeypatch.setattr(hf_store, "free_bytes", lambda path: 1000)
    with pytest.raises(StoreError, match="1000 bytes free"):
        hf_snapshot.preview(world.source(), request, world.store())
    monkeypatch.undo()
    world.bring()
    world.asked()
    after = hf_snapshot.preview(world.source(), request, world.store())
    assert (after.local, after.bytes_missing, after.bytes_total) == (True, 0, before.bytes_total)
    assert world.asked() == []


def test_inspection_names_what_is_wrong_without_writing(filled: World) -> None:
    store = filled.store()
    good = inspect(store, REPO, "main", "sha256")
    assert (good.complete, good.stamped, good.bytes) == (True, True, good.bytes_total)
    assert good.rate > 0
    (filled.snapshot() / SHARDS[0]).unlink()
    harm(filled.snapshot(), "content")
    (filled.snapshot() / "stray").touch()
    sized = inspect(store, REPO, "main", "size")
    assert (sized.complete, sized.stamped, sized.missing, sized.corrupt, sized.extra) == (
        False,
        False,
        [SHARDS[0]],
        [],
        ["stray"],
    )
    read = inspect(store, REPO, "main", "sha256")
    assert len(read.corrupt) == 1
    assert "another content" in read.corrupt[0]
    assert inspect(filled.store("none"), REPO, "main", "sha256").commit == ""


def test_an_index_comes_before_the_first_shard_and_stops_what_cannot_be_complete(world: World) -> None:
    (world.model / SHARDS[2]).unlink()
    with hub_of({REPO: {"main": world.model}}) as hub:
        short = World(hub, world.folder)
        with pytest.raises(StoreError, match="names the shard"):
            short.bring()
        assert [name for name in short.fetched() if name in SHARDS] == []


def test_an_index_in_a_folder_below_refuses_nothing(world: World) -> None:
    index = world.model / "extra" / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "gone-00001-of-00001.safetensors"}}')
    with hub_of({REPO: {"main": world.model}}) as hub:
        assert World(hub, world.folder).bring().verified


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o640])
def test_a_folder_that_is_imported_from_is_left_as_it_was(world: World, mode: int) -> None:
    place = world.folder / "cache"
    place.mkdir()
    for shard in SHARDS:
        (place / shard).write_bytes((world.model / shard).read_bytes())
        (place / shard).chmod(mode)
    world.bring(places=(str(place),))
    assert {(place / shard).stat().st_mode & 0o7777 for shard in SHARDS} == {mode}
    assert world.same()
