# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Downloads that outlive whoever asked for them: orders in a folder of the node, and the unit that carries them out.

``spark-model-download`` takes the orders one after the other, each in a process of its own, and ends when none is left. Its
unit starts at boot where an order is left, so that a power cut costs what was in flight and nobody's attention::

    /var/lib/dgx-spark/downloads/queue/<org>--<name>@<revision>.json    what is wanted; removed once it is in the store
    /var/lib/dgx-spark/downloads/state/<org>--<name>@<revision>.json    why it failed, or why it waits
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from ..system.files import write_atomic
from ..system.run import Runner
from ..system.systemd_unit import CLOSED, exec_line, render
from .client import Hub, HubError, read_token
from .fetch import PASSING, HubSource
from .snapshot import Inspection, Outcome, Preview, Request, inspect, present
from .store import Store, StoreBusy, StoreError, explain, free_bytes

FOLDER = Path("/var/lib/dgx-spark/downloads")
UNIT = "spark-model-download.service"
UNIT_FOLDER = Path("/etc/systemd/system")
LAUNCHER = Path("/opt/dgx-spark/bin/spark-model-download")
# Seconds between tries while nothing comes, about a quarter of an hour in all; a try that brought something starts over.
PAUSES = (15.0, 30.0, 60.0, 120.0, 300.0, 300.0)
# EX_TEMPFAIL of sysexits.h: the same order may well succeed later.
TRY_LATER = 75


@dataclass(frozen=True)
class Order:
    """What shall come into a store: the parameters of the module ``hf_model`` that matter for a download.

    A token is named by its file only, never by its text.
    """

    repo_id: str
    revision: str
    dest: str
    endpoint: str
    token_file: str = ""
    ca_bundle: str = ""
    allow_patterns: tuple[str, ...] = ()
    ignore_patterns: tuple[str, ...] = ()
    import_from: tuple[str, ...] = ()
    max_workers: int = 8
    verify: str = "sha256"
    reverify: bool = False
    update_revision: bool = False
    transport: str = "http"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """One name for repository and revision, fit for a file."""
        return order_name(self.repo_id, self.revision)

    @property
    def request(self) -> Request:
        """What is wanted of the store."""
        return Request(
            self.repo_id,
            self.revision,
            self.allow_patterns,
            self.ignore_patterns,
            self.verify,
            self.reverify,
            self.update_revision,
            places=self.import_from,
        )

    def source(self, token: str = "") -> HubSource:
        """Return the hub as a source; StoreError where a file that is named cannot be used."""
        if self.max_workers < 1:
            raise StoreError(f"max_workers is {self.max_workers}: expected 1 or more.")
        secret, note = read_token(token, self.token_file)
        hub = Hub(self.endpoint, secret, note, self.ca_bundle)
        return HubSource(hub, self.repo_id, self.ca_bundle, self.max_workers, self.transport)

    def perform(self, token: str = "") -> Outcome:
        """Bring the snapshot into the store, here and now; StoreError with one sentence where that fails."""
        # huggingface_hub reads its environment when it is imported, which is later.
        os.environ.update(self.environment)
        return present(Store(self.dest), self.request, self.source(token))

    def encode(self) -> bytes:
        """Return the order's bytes."""
        return (json.dumps(asdict(self), indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def decode(cls, raw: bytes) -> Order:
        """Return the order in ``raw``; StoreError where it is damaged."""
        try:
            data = json.loads(raw)
            data |= {name: tuple(data[name]) for name in ("allow_patterns", "ignore_patterns", "import_from")}
            return cls(**{one.name: data[one.name] for one in fields(cls)})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"a queued download is damaged ({error}): run site.yml, which writes it again.") from None


def order_name(repo_id: str, revision: str) -> str:
    """Return the name of the order for a repository and a revision."""
    return f"{repo_id.replace('/', '--')}@{urllib.parse.quote(revision, safe='')}"


class Queue:
    """The orders of a node, and what became of them."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    def order_path(self, name: str) -> Path:
        """Return where an order lies."""
        return self.folder / "queue" / f"{name}.json"

    def state_path(self, name: str) -> Path:
        """Return where it says what became of an order."""
        return self.folder / "state" / f"{name}.json"

    def put(self, order: Order) -> bool:
        """Add an order and forget how an earlier one ended; return whether it was not there just so."""
        path = self.order_path(order.name)
        self.state_path(order.name).unlink(missing_ok=True)
        if path.is_file() and path.read_bytes() == order.encode():
            return False
        # An order may hold a proxy with a password.
        write_atomic(path, order.encode(), 0o600)
        return True

    def forget(self, name: str) -> bool:
        """Take an order back, and what became of it; return whether there was one."""
        self.state_path(name).unlink(missing_ok=True)
        there = self.order_path(name).is_file()
        self.order_path(name).unlink(missing_ok=True)
        return there

    def names(self) -> list[str]:
        """Return the names of the orders, the oldest first."""
        folder = self.folder / "queue"
        found = [path for path in folder.glob("*.json") if not path.name.startswith(".")] if folder.is_dir() else []
        return [path.name.removesuffix(".json") for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def say(self, name: str, text: str, failed: bool) -> None:
        """Note why an order failed or waits."""
        write_atomic(self.state_path(name), json.dumps({"failed": failed, "text": text}).encode(), 0o600)

    def state(self, name: str) -> tuple[bool, str]:
        """Return whether an order failed, and why it failed or waits; an empty text where all is well."""
        try:
            noted = json.loads(self.state_path(name).read_bytes())
            return bool(noted["failed"]), str(noted["text"])
        except (OSError, ValueError, KeyError, TypeError):
            return False, ""

    def pending(self, name: str) -> bool:
        """Say whether an order waits or is being carried out."""
        return self.order_path(name).is_file()


# ---------------------------------------------------------------------------------------------------------------
# asking for a download


def unit_text(launcher: Path = LAUNCHER, folder: Path = FOLDER) -> str:
    """Return the unit that carries orders out: now, and at boot where one is left."""
    return render(
        [
            (
                "Unit",
                [
                    ("Description", "Download of model weights into the store"),
                    ("ConditionDirectoryNotEmpty", str(folder / "queue")),
                    ("Wants", "network-online.target"),
                    ("After", "network-online.target local-fs.target"),
                    ("StartLimitIntervalSec", "3600"),
                    ("StartLimitBurst", "20"),
                ],
            ),
            (
                "Service",
                [
                    ("Type", "exec"),
                    ("ExecStart", exec_line([str(launcher)])),
                    # Where Ansible's sudo finds a proxy, the download finds it as well.
                    ("EnvironmentFile", "-/etc/environment"),
                    ("Restart", "on-failure"),
                    ("RestartSec", "10"),
                    # On unified memory a download must be the first to go, before what serves.
                    ("OOMScoreAdjust", "500"),
                    *CLOSED,
                    # Not strict: a store of its own mount could not be given links to files that lie elsewhere.
                    ("ProtectSystem", "full"),
                    ("CapabilityBoundingSet", "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER"),
                    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
                ],
            ),
            ("Install", [("WantedBy", "multi-user.target")]),
        ]
    )


def active(run: Runner) -> bool:
    """Say whether the unit runs or is about to."""
    _code, out, _err = run(["systemctl", "is-active", UNIT])
    return out.strip() in ("active", "activating", "reloading", "deactivating")


def under_way(order: Order, run: Runner, queue: Queue) -> bool:
    """Say whether just this order is being carried out: then nobody needs to ask the hub, which may be away for a while."""
    path = queue.order_path(order.name)
    try:
        return path.read_bytes() == order.encode() and active(run)
    except OSError:
        return False


def start(order: Order, run: Runner, queue: Queue, unit_folder: Path = UNIT_FOLDER, launcher: Path = LAUNCHER) -> bool:
    """Order a download and see that the unit runs; return False where just this order is being carried out already.

    StoreError where the node cannot do that.
    """
    if not launcher.is_file():
        raise StoreError(f"{launcher} is missing on the node: run the role node_tools, which installs it.")
    joined = under_way(order, run, queue)
    queue.put(order)
    path = unit_folder / UNIT
    text = unit_text(launcher, queue.folder)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text.encode())
        systemctl(run, "daemon-reload")
    systemctl(run, "enable", "--quiet", UNIT)
    # A unit that ends in this very moment has looked for orders for the last time: hence the second look.
    for _try in range(3):
        systemctl(run, "start", UNIT)
        time.sleep(0.2)
        if active(run) or not queue.pending(order.name):
            break
    return not joined


def systemctl(run: Runner, *words: str) -> None:
    """Run systemctl; StoreError where it fails."""
    code, _out, err = run(["systemctl", *words])
    if code:
        told = (err.strip().splitlines() or ["no reason given"])[-1]
        raise StoreError(
            f"`systemctl {' '.join(words)}` failed on the node ({told}): a detached download needs systemd."
        )


def watch(store: Store, repo_id: str, revision: str, verify: str, queue: Queue, run: Runner) -> tuple[Inspection, str]:
    """Return what the store holds and whether a run works on it, and why the last order for it failed (or nothing)."""
    seen = inspect(store, repo_id, revision, verify)
    name = order_name(repo_id, revision)
    failed, text = queue.state(name)
    if not queue.pending(name):
        return seen, text if failed else ""
    if not active(run):
        told = f"a download of '{repo_id}' is queued, but {UNIT} does not run: see `journalctl --unit {UNIT}`"
        return replace(seen, running=False), f"{told}."
    if text:
        seen = replace(seen, msg=f"{seen.msg.rstrip('.')}; {text}")
    return replace(seen, running=True), ""


def preview_under_way(store: Store, request: Request, queue: Queue, run: Runner) -> Preview | None:
    """Return what is known of a download that is under way, without a word of the hub; None where none is."""
    if not queue.pending(order_name(request.repo_id, request.revision)):
        return None
    seen, error = watch(store, request.repo_id, request.revision, "none", queue, run)
    if error or not seen.running:
        return None
    left = max(0, seen.bytes_total - seen.bytes)
    told = f"a download is under way: {seen.msg}"
    return Preview(False, seen.commit, seen.files, seen.bytes_total, left, free_bytes(store.root), told)


# ---------------------------------------------------------------------------------------------------------------
# carrying it out


def say(text: str) -> None:
    """Write a line to the unit's journal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def carry_out(path: Path, queue: Queue) -> int:
    """Carry out the order in a file; return the exit status: 0, 1, or TRY_LATER."""
    name = path.name.removesuffix(".json")
    try:
        outcome = Order.decode(path.read_bytes()).perform()
    except StoreError as error:
        passing = isinstance(error, StoreBusy) or (isinstance(error, HubError) and error.kind in (*PASSING, "busy"))
        say(str(error))
        queue.say(name, str(error), failed=not passing)
        return TRY_LATER if passing else 1
    say(outcome.msg)
    return 0


def work(queue: Queue, sleep: Callable[[float], None] = time.sleep, program: Sequence[str] = ()) -> None:
    """Carry out all orders, the oldest first; a hub that fails for a while is asked again, for about a quarter of an hour."""
    program = program or [sys.executable, "-B", "-m", __name__ if __name__ != "__main__" else str(__spec__.name)]
    while names := queue.names():
        name = names[0]
        path = queue.order_path(name)
        pauses, held = list(PAUSES), -1
        while True:
            try:
                raw = path.read_bytes()
            except FileNotFoundError:
                break  # taken back meanwhile
            code = subprocess.run([*program, "--folder", str(queue.folder), "one", str(path)], check=False).returncode
            if path.is_file() and path.read_bytes() != raw:
                continue  # ordered again with other settings meanwhile
            if code == 0:
                queue.forget(name)
                break
            if code != TRY_LATER:
                if not queue.state(name)[0]:
                    queue.say(
                        name, f"the download ended with status {code}: see `journalctl --unit {UNIT}`.", failed=True
                    )
                path.unlink(missing_ok=True)
                break
            now = bytes_here(raw)
            if now > held:
                pauses, held = list(PAUSES), now
            text = queue.state(name)[1]
            if not pauses:
                queue.say(name, text, failed=True)
                path.unlink(missing_ok=True)
                break
            pause = pauses.pop(0)
            queue.say(name, f"trying again in {pause:.0f} s: {text}", failed=False)
            sleep(pause)


def bytes_here(raw: bytes) -> int:
    """Return the bytes that the store holds for an order."""
    try:
        order = Order.decode(raw)
        return inspect(Store(order.dest), order.repo_id, order.revision, "none").bytes
    except StoreError:
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns the exit status."""
    parser = argparse.ArgumentParser(prog="spark-model-download", description="Runs the queued downloads of this node.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="folder of the queue")
    kinds = parser.add_subparsers(dest="kind")
    one = kinds.add_parser("one", help="run the queued download in one file")
    one.add_argument("order", type=Path)
    options = parser.parse_args(arguments)
    queue = Queue(options.folder)
    try:
        if options.kind == "one":
            return carry_out(options.order, queue)
        work(queue)
    except OSError as error:
        say(explain(error, f"run the queued downloads in {options.folder}"))
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
