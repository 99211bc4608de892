# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs a server's ranks beside those of other nodes, and ends them when another node's are gone.

Without Ray nobody tells a rank that its peers died: it waits for them in the next collective, for ever. So each node's container
runs this in front of vLLM. The watches tell each other once a second, on a port of the fabric, who they are and whom they
have met; ranks start once all have met. When a peer that was met falls silent for SILENT_S, or comes back as another, the ranks
here are ended, systemd restarts the unit, and all meet again. A new instance never meets an old one: an old one says whom it
has met, and that is not the new one. So a restart anywhere leads to one restart everywhere, not to a chain of them.

    python3 rank_watch.py --listen 192.168.100.11:29502 --peer 192.168.100.10:29502 -- vllm serve ... --headless

Standard library only: it runs on the image's Python, as the container's first process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

#: A sign of life is sent each second; a peer silent for this long is gone. Shorter than any collective's own time limit.
BEAT_S, SILENT_S = 1.0, 10.0
#: Seconds that ranks get to end before they are killed: one in a collective does not listen.
PATIENCE_S = 5.0
_REMIND_S = 60.0


def say(text: str) -> None:
    """Write a line to the container's log, at once."""
    sys.stdout.write(f"rank watch: {text}\n")
    sys.stdout.flush()


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``host:port``; raises ValueError with one sentence."""
    host, _colon, port = text.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{text!r} is no address: expected host:port, for example 192.168.100.10:29502")
    return host, int(port)


class Peer:
    """What is known of another node's watch."""

    def __init__(self, address: tuple[str, int], me: str, my_address: str, silent_s: float = SILENT_S) -> None:
        self.address = address
        self.name = f"{address[0]}:{address[1]}"
        self.me = me
        self.my_address = my_address
        self.silent_s = silent_s
        #: Instance that this one would meet, and the one that it has met.
        self.offer = ""
        self.met = ""
        self.heard_at = 0.0
        self.replaced = False

    def hear(self, beat: Mapping[str, Any], now: float) -> None:
        """Take a sign of life: who sends it, and whom it has met or would meet."""
        self.heard_at = now
        sender = str(beat["id"])
        if self.met:
            self.replaced = self.replaced or sender != self.met
            return
        self.offer = sender
        if beat["offers"].get(self.my_address) == self.me:
            self.met = sender

    def lost(self, now: float) -> bool:
        """Say whether a peer that was met is gone; one that has not come yet is not lost."""
        return bool(self.met) and (self.replaced or now - self.heard_at > self.silent_s)

    def listen(self) -> None:
        """Take signs of life for ever; calls again whenever the line breaks."""
        while True:
            with (
                contextlib.suppress(OSError, ValueError, KeyError, AttributeError),
                socket.create_connection(self.address, timeout=self.silent_s) as line,
                line.makefile("rb") as beats,
            ):
                for text in beats:
                    self.hear(json.loads(text), time.monotonic())
            time.sleep(min(BEAT_S, self.silent_s / 4))


class Voice:
    """Tells every caller who this is."""

    def __init__(self, me: str, peers: Sequence[Peer], beat_s: float = BEAT_S) -> None:
        self.me = me
        self.peers = peers
        self.beat_s = beat_s

    def beat(self) -> bytes:
        """Return one sign of life."""
        return json.dumps({"id": self.me, "offers": {peer.name: peer.offer for peer in self.peers}}).encode() + b"\n"

    def serve(self, listener: socket.socket) -> None:
        """Speak to callers for ever."""
        while True:
            caller, _address = listener.accept()
            threading.Thread(target=self.speak, args=(caller,), daemon=True).start()

    def speak(self, caller: socket.socket) -> None:
        """Speak to one caller until it hangs up."""
        with caller, contextlib.suppress(OSError):
            while True:
                caller.sendall(self.beat())
                time.sleep(self.beat_s)


def meet(peers: Sequence[Peer], stopped: threading.Event, poll_s: float = 0.1) -> bool:
    """Wait until every peer was met; False when this was stopped meanwhile."""
    said_at = 0.0
    while missing := [peer.address[0] for peer in peers if not peer.met]:
        if time.monotonic() - said_at > _REMIND_S:
            say(f"waiting for the ranks on {', '.join(missing)}")
            said_at = time.monotonic()
        if stopped.wait(poll_s):
            return False
    return True


def watch(
    child: subprocess.Popen[bytes],
    peers: Sequence[Peer],
    stopped: threading.Event,
    poll_s: float = 0.2,
    patience_s: float = PATIENCE_S,
) -> int:
    """Return the child's exit status, or 1 once a peer is lost and the child was ended; a stop lets it go on for ``patience_s`` at the most."""
    while True:
        if stopped.is_set():
            end(child, patience_s)
        status = child.poll()
        if status is not None:
            return status if status >= 0 else 128 - status
        now = time.monotonic()
        for peer in peers:
            if peer.lost(now):
                say(f"the ranks on {peer.address[0]} are gone: ending those here, so that all restart together")
                end(child)
                return 1
        stopped.wait(poll_s)


def end(child: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """End the child, with force when it does not listen: a rank in a collective does not."""
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and watch; returns the exit status."""
    parser = argparse.ArgumentParser(prog="rank_watch", description="Runs ranks and ends them when a peer's are gone.")
    parser.add_argument("--listen", required=True, help="host:port of this node's fabric address")
    parser.add_argument("--peer", action="append", default=[], help="host:port of another node's watch")
    parser.add_argument("--silent", type=float, default=SILENT_S, help="seconds after which a silent peer is gone")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, help="seconds that the ranks get to end at a stop"
    )
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    me = os.urandom(8).hex()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        peers = [Peer(split_address(text), me, options.listen, options.silent) for text in options.peer]
        listener = socket.create_server(split_address(options.listen), backlog=16)
    except (OSError, ValueError) as error:
        say(f"failed: {error}")
        return 2
    threading.Thread(target=Voice(me, peers, options.silent / 10).serve, args=(listener,), daemon=True).start()
    for peer in peers:
        threading.Thread(target=peer.listen, daemon=True).start()
    if not meet(peers, stopped):
        return 0
    return watch(subprocess.Popen(options.command), peers, stopped, patience_s=options.patience)


if __name__ == "__main__":
    raise SystemExit(main())
