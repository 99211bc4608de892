# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import FileEntry, Manifest, Store, digest_file
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs.share import NfsMount
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import gates

from tests.unit.plugins.fake_server import Reply, closed_port, fake_server


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def answers(*texts: str) -> Callable[[], str]:
    """Each text once, the last one for ever."""
    left: Iterator[str] = iter(texts)
    last = texts[-1]
    return lambda: next(left, last)


def test_a_gate_says_what_it_waits_for_once_and_opens(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    gates.wait_for(answers("no peer", "no peer", "no memory", ""), sleep=clock.sleep, clock=clock)
    assert capsys.readouterr().out.splitlines() == ["waiting: no peer", "waiting: no memory", "no longer waiting"]


def test_a_gate_reminds_each_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    gates.wait_for(answers(*(["no peer"] * 260), ""), sleep=clock.sleep, clock=clock)
    assert capsys.readouterr().out.count("waiting: no peer") == 3


def test_an_open_gate_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    gates.wait_for(lambda: "")
    assert capsys.readouterr().out == ""


COMMIT = "c0ffee" + "0" * 34


@pytest.fixture
def verified(tmp_path: Path) -> Path:
    """A snapshot of two files, stamped."""
    store = Store(tmp_path)
    folder = store.snapshot("org/model", COMMIT)
    folder.mkdir(parents=True)
    entries = []
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(name.encode() * 100)
        entries.append(FileEntry(name, len(name) * 100, digest_file(folder / name).sha256))
    manifest = Manifest("org/model", COMMIT, tuple(entries))
    store.write_manifest(manifest)
    store.stamp(manifest, "sha256")
    return folder


def test_verified_weights_open_the_gate(verified: Path) -> None:
    assert gates.weights_obstacle(verified) == ""
    # Another link to a file comes and goes: its change time is another, its content is not.
    (verified.parent / "link").hardlink_to(verified / "model.safetensors")
    (verified.parent / "link").unlink()
    assert gates.weights_obstacle(verified) == ""


def test_weights_need_manifest_and_stamp(verified: Path) -> None:
    stamp = verified.with_name(f"{COMMIT}.verified")
    stamp.unlink()
    assert "not verified yet" in gates.weights_obstacle(verified)
    stamp.write_text("{}")
    assert "not verified yet" in gates.weights_obstacle(verified)
    # A stamp of what the manifest named before: the files are as it saw them, and they are other weights now.
    store = Store(verified.parents[1])
    manifest = store.local("org/model", COMMIT).manifest
    assert manifest is not None
    store.stamp(manifest, "sha256")
    other = [FileEntry(entry.path, entry.size, "0" * 64) for entry in manifest.files]
    store.write_manifest(Manifest("org/model", COMMIT, tuple(other)))
    assert "not verified yet" in gates.weights_obstacle(verified)
    verified.with_name(f"{COMMIT}.manifest.json").unlink()
    assert "not there yet" in gates.weights_obstacle(verified)
    assert "not there yet" in gates.weights_obstacle(verified.parents[1] / "org--other" / COMMIT)
    assert "cannot be judged" in gates.weights_obstacle(Path("/c0ffee/x/y"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "model.safetensors is missing"),
        (lambda path: path.write_bytes(b"short"), "model.safetensors changed size or modification time"),
        (
            lambda path: path.write_bytes(b"x" * path.stat().st_size),
            "model.safetensors changed size or modification time",
        ),
    ],
)
def test_weights_that_changed_since_they_were_verified(
    verified: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(verified / "model.safetensors")
    assert words in gates.weights_obstacle(verified)
    assert "run site.yml" in gates.weights_obstacle(verified)


def test_a_question_that_never_returns_is_told() -> None:
    asked = 0
    free = threading.Event()

    def look() -> str:
        nonlocal asked
        asked += 1
        free.wait(20)
        return ""

    patient = gates.Patient(look, 0.05, "nobody answers")
    assert [patient(), patient()] == ["nobody answers", "nobody answers"]
    assert asked == 1
    free.set()
    patient.seconds = 10
    assert patient() == ""


def test_a_question_that_breaks_is_told() -> None:
    assert gates.Patient(lambda: str(1 // 0), 5, "").__call__().startswith("ZeroDivisionError")


class Node:
    """A node below a folder: its unit, its table of mounts, and commands that answer from a table."""

    def __init__(self, root: Path, commands: dict[str, tuple[int, str]] | None = None) -> None:
        self.root = root
        self.commands = commands or {}
        self.ran: list[str] = []
        self.desired = NfsMount("192.168.100.10:/srv/models", "/srv/models")
        for folder in ("etc/systemd/system", "proc/self", "sys/class/bdi/0:43"):
            (root / folder).mkdir(parents=True)
        (root / "etc/systemd/system/srv-models.mount").write_text(self.desired.mount_text())
        (root / "sys/class/bdi/0:43/read_ahead_kb").write_text("128\n")
        self.umount()

    def umount(self) -> None:
        (self.root / "proc/self/mountinfo").write_text("71 24 0:40 / /srv/models rw - autofs systemd-1 rw,fd=46\n")

    def mount(self, source: str = "192.168.100.10:/srv/models") -> None:
        with (self.root / "proc/self/mountinfo").open("a") as table:
            table.write(f"90 71 0:43 / /srv/models ro - nfs4 {source} ro,vers=4.2,hard,proto=tcp\n")

    def run(self, argv: Sequence[str], seconds: float) -> tuple[int, str, str]:
        command = " ".join(argv)
        self.ran.append(command)
        answer = next((answer for start, answer in self.commands.items() if command.startswith(start)), (0, ""))
        if answer[0] == 0 and command == "systemctl start srv-models.mount":
            self.mount()
        if answer[0] == 0 and command == "systemctl stop srv-models.mount":
            self.umount()
        status, words = answer
        return (status, "", words) if status else (0, words, "")

    def obstacle(self, closed: str = "") -> str:
        return gates.mount_obstacle(
            "/srv/models", "192.168.100.10", run=self.run, root=self.root, port=lambda _address, _port: closed
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_a_mount_in_force_opens_the_gate_and_gets_its_read_ahead(node: Node) -> None:
    node.mount()
    assert node.obstacle() == ""
    assert (node.root / "sys/class/bdi/0:43/read_ahead_kb").read_text() == "15360\n"
    assert not [command for command in node.ran if command.startswith("systemctl")]


def test_nobody_touches_a_mount_whose_server_is_gone(node: Node) -> None:
    node.mount()
    assert "192.168.100.10, and nothing answers" in node.obstacle("nothing answers on 192.168.100.10:2049 yet")
    assert node.ran == []


def test_the_gate_mounts_what_is_not_mounted(node: Node) -> None:
    node.commands["systemctl show"] = (0, "failed")
    assert node.obstacle() == ""
    assert "systemctl start srv-models.automount" in node.ran
    assert "systemctl reset-failed srv-models.mount" in node.ran


def test_a_mount_that_fails_is_told_and_waited_for(node: Node) -> None:
    node.commands["systemctl start srv-models.mount"] = (1, "")
    node.commands["journalctl"] = (0, "mount.nfs: access denied by server while mounting x")
    assert node.obstacle().startswith("192.168.100.10:/srv/models cannot be mounted yet (the server does not export it")


@pytest.mark.parametrize("source", ["192.168.100.10:/srv/models", "192.168.100.99:/srv/models"])
def test_a_stale_or_foreign_mount_is_taken_away_and_mounted_anew(node: Node, source: str) -> None:
    node.mount(source)
    stat = iter(["stat: Stale file handle"] if source == node.desired.source else [])

    def run(argv: Sequence[str], seconds: float) -> tuple[int, str, str]:
        if argv[0] == "stat" and (words := next(stat, "")):
            return 1, "", words
        return node.run(argv, seconds)

    closed = gates.mount_obstacle(
        "/srv/models", "192.168.100.10", run=run, root=node.root, port=lambda _address, _port: ""
    )
    assert closed == ""
    assert "systemctl stop srv-models.mount" in node.ran
    assert "systemctl start srv-models.mount" in node.ran


def test_a_mount_that_hangs_is_told(node: Node) -> None:
    node.mount()
    node.commands["stat"] = (124, "no answer within 10 s")
    assert "does not answer (no answer within 10 s)" in node.obstacle()


def test_a_node_that_was_never_set_up_for_it(node: Node) -> None:
    assert "not set up to be mounted from 192.168.100.12" in gates.mount_obstacle(
        "/srv/models", "192.168.100.12", run=node.run, root=node.root
    )


def test_memory_is_the_kernels_available(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       127600748 kB\nMemAvailable:   94371840 kB\n")
    assert gates.memory_obstacle(90, meminfo) == ""
    assert gates.memory_obstacle(91, meminfo).startswith("90.0 GiB of memory are available, 91 GiB are needed")


def test_memory_follows_what_vllm_will_take(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    # 121.69 GiB and 90 GiB.
    meminfo.write_text("MemTotal:       127600748 kB\nMemAvailable:   94371840 kB\n")
    assert gates.memory_obstacle(None, meminfo, share=0.73) == ""
    said = gates.memory_obstacle(None, meminfo, share=0.75)
    assert said.startswith("90.0 GiB of memory are available, 91.27 GiB are needed (0.75 of 121.7, as vLLM will take)")
    # What the user set counts alone.
    assert gates.memory_obstacle(90, meminfo, share=0.9) == ""
    meminfo.write_text("MemAvailable:   94371840 kB\n")
    assert "has no MemTotal" in gates.memory_obstacle(None, meminfo, share=0.5)


def test_a_port_that_answers_and_one_that_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert gates.port_obstacle("127.0.0.1", port) == ""
    assert f"127.0.0.1:{port}" in gates.port_obstacle("127.0.0.1", port)


def test_a_start_that_serves() -> None:
    clock = Clock()
    seconds = gates.serve_proof(lambda: "", answers("loading", "loading", ""), 60, sleep=clock.sleep, clock=clock)
    assert seconds == 1


def test_a_start_that_lost_a_rank_is_given_up() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match=r"Ray cluster changed under it: 192\.168\.100\.11 is gone"):
        gates.serve_proof(lambda: "192.168.100.11 is gone", lambda: "loading", 3600, sleep=clock.sleep, clock=clock)
    assert 10 <= clock.now < 12


def test_one_bad_answer_of_ray_is_no_lost_rank() -> None:
    clock = Clock()
    ray = answers(*(["busy"] * 15), "", *(["busy"] * 15), "")
    assert gates.serve_proof(ray, answers(*(["loading"] * 40), ""), 60, sleep=clock.sleep, clock=clock) == 20


def test_a_start_whose_server_ended_is_given_up() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match="process 4711 ended 0 s after the start"):
        gates.serve_proof(
            lambda: "",
            lambda: "refused",
            3600,
            process=answers("", "the server's process 4711 ended"),
            sleep=clock.sleep,
            clock=clock,
        )


def test_a_process_that_lives_and_one_that_does_not(tmp_path: Path) -> None:
    (tmp_path / "17").mkdir()
    assert gates.process_obstacle("17", tmp_path) == ""
    assert "18" in gates.process_obstacle("18", tmp_path)
    assert gates.process_obstacle("", tmp_path) == ""


def test_a_start_has_a_time_limit() -> None:
    clock = Clock()
    with pytest.raises(gates.GateError, match=r"no completion within 60 s \(loading\)"):
        gates.serve_proof(lambda: "", lambda: "loading", 60, sleep=clock.sleep, clock=clock)
    assert 60 <= clock.now < 62


def test_the_exit_status_tells(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> float:
        raise gates.GateError("it is over")

    monkeypatch.setattr(gates, "serve_proof", never)
    assert (
        gates.main(
            [
                "serving",
                "--node",
                "192.0.2.1",
                "--gpus",
                "1",
                "--url",
                "http://127.0.0.1:1",
                "--model",
                "m",
                "--timeout",
                "1",
            ]
        )
        == 1
    )
    assert capsys.readouterr().out == "failed: it is over\n"
    assert gates.main(["memory", "0"]) == 0


def test_a_server_without_ray_watches_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    trouble: list[str] = []

    def proof(ray: Callable[[], str], *_: object, **__: object) -> float:
        trouble.append(ray())
        return 1.0

    monkeypatch.setattr(gates, "serve_proof", proof)
    assert gates.main(["serving", "--url", "http://127.0.0.1:1", "--model", "m", "--timeout", "1"]) == 0
    assert trouble == [""]


# --- gate start: what spark-watchdog says of this start


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "cluster_token"
    path.write_text("the-token")
    return str(path)


def test_a_start_waits_for_what_the_watchdog_says_and_names_itself(token: str) -> None:
    with fake_server({"POST /start": Reply({"waits_for": "192.168.100.11 makes itself ready"})}) as server:
        gate = gates.StartObstacle(server.url, token, "one")
        assert gate() == "192.168.100.11 makes itself ready"
        server.routes["POST /start"] = Reply({"waits_for": ""})
        assert gate() == ""
        assert [asked.body for asked in server.asked] == [{"start": "one"}] * 2
        assert server.asked[0].authorization == "Bearer the-token"


@pytest.mark.parametrize("kind", ["nothing listens", "error", "no token"])
def test_a_watchdog_that_is_away_keeps_a_start_for_a_minute_alone(
    kind: str, token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    with fake_server({"POST /start": Reply({"error": "broken"}, status=500)}) as server:
        url = f"http://127.0.0.1:{closed_port()}" if kind == "nothing listens" else server.url
        gate = gates.StartObstacle(url, "/nowhere" if kind == "no token" else token, "one", clock)
        assert gate().startswith("spark-watchdog does not answer (")
        clock.now = 59.0
        assert gate()
        clock.now = 60.0
        assert gate() == ""
    assert capsys.readouterr().out == "spark-watchdog does not answer: starting without it\n"


def test_a_watchdog_that_comes_back_is_waited_for_anew(token: str) -> None:
    clock = Clock()
    with fake_server({"POST /start": Reply({"waits_for": "a pause"})}) as server:
        gate = gates.StartObstacle(f"http://127.0.0.1:{closed_port()}", token, "one", clock)
        assert gate()
        clock.now = 50.0
        gate.url, away = server.url, gate.url
        assert gate() == "a pause"
        clock.now, gate.url = 70.0, away
        assert gate().startswith("spark-watchdog does not answer")


def test_the_gate_of_a_unit_names_the_start_by_systemds_id(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVOCATION_ID", "0123abcd")
    with fake_server({"POST /start": Reply({"waits_for": ""})}) as server:
        assert gates.main(["start", server.url, "--token-file", token]) == 0
        assert server.asked[0].body == {"start": "0123abcd"}
