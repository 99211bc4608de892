# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The follower of a further node: ``spark-follower``. It tells the head's watchdog what this node is, and follows its head.

A rank that lost its head lives on with all of its memory (seen on GPUs for as long as anyone looked), and the next start would find the
node full. So the node itself ends its ranks: when the head has been silent for ``leave_after_s``, and when the head's Ray is younger
than the Ray here, which then belongs to a cluster that is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..system import page_cache
from ..system.files import read_json
from ..system.http_json import HttpClient, HttpError, read_secret_file
from ..system.kernel_log import kernel_log
from ..system.notify import notify
from ..system.run import Runner, run
from .evidence import collect
from .freeze import freeze_warnings
from .node_state import compiling, container_age, end_container, memory, ranks
from .pulse import PORT, REPORT, Order, Report

CONFIG = Path("/etc/dgx-spark/watchdog.json")
#: Where every node keeps its evidence.
EVIDENCE = Path("/var/lib/dgx-spark/watchdog/evidence")
#: What the head may name a folder: nothing that leads out of EVIDENCE.
_FOLDER = re.compile(r"[\w][\w.-]{0,100}")
TOKEN_FILE = "/etc/dgx-spark/secrets/cluster_token"
#: Seconds between reports, and between looks at the kernel's log.
POLL_S, KERNEL_S = 2.0, 30.0
#: Seconds for an answer of the head.
ANSWER_S = 3.0
#: Seconds that the head's Ray may be younger than the Ray here before that counts: ages are read one after the other.
SLACK_S = 5.0
#: While the model is loaded the page cache is dropped as often as this, in seconds, where it holds more than this, in GiB.
DROP_S, DROP_GIB = 10.0, 4.0


def say(text: str) -> None:
    """Write a line to the unit's journal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def port_answers(address: str, port: int) -> bool:
    """Say whether something listens on a TCP port of another node."""
    try:
        with socket.create_connection((address, port), timeout=ANSWER_S):
            return True
    except OSError:
        return False


class CacheKeeper:
    """Keeps the page cache small before and while the model is loaded: on unified memory it lies where vLLM wants to put the KV cache."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._dropped_at = float("-inf")
        self._told = ""

    def drop(self) -> None:
        """Drop it, and say once why it cannot be done."""
        self._dropped_at = self.clock()
        trouble = page_cache.drop_page_cache()
        if trouble and trouble != self._told:
            say(trouble)
        self._told = trouble

    def keep_small(self, meminfo: Path = Path("/proc/meminfo")) -> None:
        """Drop it where it grew beyond DROP_GIB, at most every DROP_S seconds."""
        if self.clock() - self._dropped_at < DROP_S:
            return
        if page_cache.page_cache_gib(meminfo.read_text(encoding="ascii")) > DROP_GIB:
            self.drop()


@dataclass
class Follower:
    """One node that follows its head.

    Args:
        address: this node's fabric address.
        head: address and port of the head's watchdog.
        container: name of the container that holds the node's ranks.
        with_ray: whether the ranks run under Ray.
        alive_port: port on the head that listens as long as the ranks' cluster is whole: Ray's control store, or the ranks' own rendezvous.
        leave_after_s: seconds of silence after which the ranks are ended.
        drop_cache: whether the page cache is dropped before and while a model is loaded.
    """

    address: str
    head: tuple[str, int]
    container: str
    with_ray: bool
    alive_port: int
    leave_after_s: float
    drop_cache: bool = True
    token_file: str = TOKEN_FILE
    run: Runner = run
    clock: Callable[[], float] = time.monotonic
    prepared: str = ""
    left: str = ""
    collected: str = ""
    evidence: Path = EVIDENCE
    _collects: str = ""
    _heard_at: float = float("nan")
    _silent: bool = False
    _gone: bool = False
    _refused: str = ""
    _kernel_at: float = float("-inf")
    _warnings: tuple[str, ...] = ()
    cache: CacheKeeper = field(default_factory=CacheKeeper)

    def __post_init__(self) -> None:
        self._heard_at = self.clock()

    def report(self) -> Report:
        """Return what this node is now."""
        if self.clock() - self._kernel_at >= KERNEL_S:
            self._kernel_at = self.clock()
            found = freeze_warnings(kernel_log(self.run).splitlines())
            self._warnings = tuple(finding.found[:300] for finding in found)[:5]
        available, total, swap = memory()
        return Report(
            self.address,
            container_age(self.run, self.container) if self.with_ray else None,
            ranks(),
            available,
            total,
            swap,
            self.prepared,
            compiling(),
            self._warnings,
            self.left,
            self.collected,
        )

    def round(self) -> None:
        """Report once, and act on the answer or on the silence."""
        report = self.report()
        try:
            client = HttpClient(
                f"http://{self.head[0]}:{self.head[1]}", token=read_secret_file(self.token_file), timeout=ANSWER_S
            )
            order = Order.from_json(client.post_json(REPORT, asdict(report)))
        except (HttpError, OSError, ValueError) as error:
            if getattr(error, "status", None) is None:
                self.silence(str(error))
                return
            # It refuses, for example another token, but it is there: no order, and nothing to leave for.
            if str(error) != self._refused:
                say(f"the head refuses the report: {error}")
            order, self._refused = Order(), str(error)
        else:
            self._refused = ""
        if self._silent:
            say("the head answers again")
        self._heard_at, self._silent, self._gone = self.clock(), False, False
        self.follow(order, report)

    def silence(self, reason: str) -> None:
        """Note that the head's watchdog did not answer; end the ranks when the head of the ranks does not answer either and it lasts."""
        if port_answers(self.head[0], self.alive_port):
            # The watchdog alone is away: the cluster is whole.
            self._heard_at = self.clock()
            return
        silent = self.clock() - self._heard_at
        if not self._silent:
            say(f"the head is silent ({reason})")
        self._silent = True
        # The next round would be too late.
        if silent + POLL_S + ANSWER_S >= self.leave_after_s and not self._gone:
            self._gone = True
            self.leave(f"the head has been silent for {silent:.0f} s")

    def follow(self, order: Order, report: Report) -> None:
        """Do what the answer of the head asks of this node."""
        if order.collect and order.collect != self._collects and _FOLDER.fullmatch(order.collect):
            self._collects = order.collect
            # In a thread: the head goes on hearing of this node meanwhile.
            threading.Thread(target=self.collect, args=(order.collect,), name="evidence", daemon=True).start()
        if (
            self.with_ray
            and order.ray_age_s is not None
            and report.ray_age_s is not None
            and report.ray_age_s > order.ray_age_s + SLACK_S
        ):
            self.leave(
                f"the Ray here is {report.ray_age_s:.0f} s old and the head's {order.ray_age_s:.0f} s: it belongs to a cluster that is gone"
            )
        if order.prepare and order.prepare != self.prepared:
            if self.drop_cache:
                self.cache.drop()
            self.prepared = order.prepare
        elif order.loading and self.drop_cache:
            self.cache.keep_small()

    def collect(self, name: str) -> None:
        """Keep this node's evidence of a failure that the head is about to heal."""
        collect(self.evidence, name, (self.container, "spark-follower"), (self.container,), self.run)
        self.collected = name

    def leave(self, reason: str) -> None:
        """End the ranks of this node; the unit starts again by itself and waits for the head at its gate."""
        self.left = reason
        say(f"ending {self.container}: {reason}")
        if trouble := end_container(self.run, self.container):
            say(trouble)


def load_config(path: Path = CONFIG) -> dict[str, Any]:
    """Return the configuration that role vllm_watchdog wrote.

    Raises:
        ValueError: there is none; one sentence.
    """
    document = read_json(path)
    if document is None:
        raise ValueError(f"{path} is missing or no JSON: run playbooks/site.yml")
    return document


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow until stopped; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="spark-follower", description="Tells the head what this node is, and follows it."
    )
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args(arguments)
    try:
        config = load_config(options.config)
        follower = Follower(
            str(config["address"]),
            (str(config["head"]), int(config.get("port", PORT))),
            str(config["container"]),
            bool(config["ray"]),
            int(config["alive_port"]),
            float(config["leave_after_s"]),
            bool(config.get("drop_cache", True)),
        )
    except (KeyError, TypeError, ValueError) as error:
        say(f"failed: {error}")
        return 1
    say(f"following the head {follower.head[0]}")
    notify("READY=1")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            begun = time.monotonic()
            follower.round()
            notify("WATCHDOG=1")
            time.sleep(max(0.1, POLL_S - (time.monotonic() - begun)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
