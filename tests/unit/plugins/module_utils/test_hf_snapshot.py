# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Downloads through the real huggingface_hub from a hub on loopback, with everything that goes wrong."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils import hf_snapshot, hf_store
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_snapshot import absent, inspect
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_store import StoreError

from tests.unit.plugins.module_utils.hf_world import REPO, SHARDS, World, open_world

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
    world.hub.faults.clear()
    world.asked()
    outcome = world.bring()
    assert outcome.verified
    assert world.same()
    # What was right the first time stays; the liar's file comes again.
    assert SHARDS[2] not in world.fetched()


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
    real = hf_snapshot.fsync_path

    def full(path: Path, forget: bool = False) -> None:
        if forget and path.name == SHARDS[1]:
            raise OSError(28, "No space left on device", str(path))
        real(path, forget)

    monkeypatch.setattr(hf_snapshot, "fsync_path", full)
    with pytest.raises(StoreError, match="disk is full"):
        world.bring()
    assert not world.store().verified(REPO, world.commit)[0]
    monkeypatch.setattr(hf_snapshot, "fsync_path", real)
    world.asked()
    assert world.bring().verified
    assert SHARDS[0] not in world.fetched()


def test_a_store_that_may_not_be_written(world: World) -> None:
    (world.folder / "store").write_text("a file where the store should be")
    with pytest.raises(StoreError, match="cannot keep 'tests/tiny-model' in") as caught:
        world.bring()
    assert "\n" not in str(caught.value)


def test_two_runs_at_once(world: World) -> None:
    with world.store().lock(REPO), pytest.raises(StoreError, match=r"another run .* is working on tests/tiny-model"):
        world.bring()
    assert world.bring().verified


@pytest.mark.parametrize("kill_after", [1, 2])
def test_a_killed_run_is_continued_and_whole_files_are_kept(tmp_path: Path, kill_after: int) -> None:
    program = textwrap.dedent(f"""
        import sys
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_fetch import HubSource
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_hub import Hub
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_snapshot import Request, present
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_store import Store
        present(Store(sys.argv[2]), Request("{REPO}", "main"), HubSource(Hub(sys.argv[1]), "{REPO}", max_workers=1))
    """)
    with open_world(tmp_path, size=2_000_000) as world:
        world.faults(slow={"path": "*.safetensors", "rate": 4_000_000.0})
        store = world.store()
        run = subprocess.Popen(
            [sys.executable, "-c", program, world.endpoint, str(store.root)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        deadline = time.monotonic() + 60
        while sum((world.snapshot() / shard).exists() for shard in SHARDS) < kill_after:
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        watched = inspect(store, REPO, "main", "size")
        assert (watched.running, watched.complete, watched.commit) == (True, False, world.commit)
        assert 0 < watched.bytes < watched.bytes_total
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not inspect(store, REPO, "main", "size").running
        assert not store.verified(REPO, world.commit)[0]
        held = {shard for shard in SHARDS if (world.snapshot() / shard).exists()}
        world.hub.faults.clear()
        # The hub notes a request when it is answered, which may be a moment after the file was whole here.
        logged: set[str] = set()
        while not held <= logged:
            assert time.monotonic() < deadline
            logged |= set(world.fetched())
        outcome = world.bring()
        assert outcome.verified
        assert world.same()
        assert len(held) >= kill_after
        assert not held & set(world.fetched())
        assert not list(store.repo(REPO).rglob("*.incomplete"))


def test_a_hub_with_a_private_certificate(tmp_path: Path) -> None:
    program = textwrap.dedent(f"""
        import sys
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_fetch import HubSource
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_hub import Hub
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_snapshot import Request, present
        from ansible_collections.dgx_spark.vllm.plugins.module_utils.hf_store import Store
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
