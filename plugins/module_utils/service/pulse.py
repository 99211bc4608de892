# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the nodes hear of each other: followers report to the watchdog of the head, and its answer says what the head does.

Nothing is ordered from outside: a follower asks, every other second, and acts on its own node alone. So no port opens on the further
nodes, a head that is gone is noticed by its silence, and a watchdog that comes back knows everything after one round. All times are
ages in seconds, never moments: the nodes' clocks may differ, and jump.
"""

from __future__ import annotations

import hmac
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Port of the watchdog on the head's fabric address.
PORT = 8237
REPORT, STATE, START = "/report", "/state", "/start"
#: A report is some hundred bytes; kernel lines are cut by the follower.
_LARGEST = 65536


@dataclass(frozen=True)
class Report:
    """What a node is: sent by its follower, and made by the watchdog of the head for the head itself.

    Attributes:
        address: the node's fabric address.
        ray_age_s: seconds since the container of the node's Ray started; None where it does not run.
        ranks: process ids of the model's ranks in the node's containers.
        available_gib, total_gib: MemAvailable and MemTotal.
        swap_used_gib: swap in use.
        prepared: the start that the node made itself ready for: the page cache was dropped.
        compiling: a compiler of kernels runs.
        warnings: kernel lines that announce a freeze, in sentences.
        left: why the node's ranks were ended last; empty where they were not.
        collected: the evidence that the node kept last, by the name of its folder.
    """

    address: str
    ray_age_s: float | None = None
    ranks: tuple[int, ...] = ()
    available_gib: float = 0.0
    total_gib: float = 0.0
    swap_used_gib: float = 0.0
    prepared: str = ""
    compiling: bool = False
    warnings: tuple[str, ...] = ()
    left: str = ""
    collected: str = ""

    @classmethod
    def from_json(cls, raw: Any) -> Report:
        """Return the report that a follower sent.

        Raises:
            ValueError: it is none; one sentence.
        """
        if not isinstance(raw, Mapping) or not isinstance(raw.get("address"), str):
            raise ValueError("a report is an object with the address of its node")
        known = {one.name: raw[one.name] for one in fields(cls) if one.name in raw}
        try:
            age = known.get("ray_age_s")
            known["ray_age_s"] = None if age is None else float(age)
            known["ranks"] = tuple(int(pid) for pid in known.get("ranks", ()))
            known["warnings"] = tuple(str(line) for line in known.get("warnings", ()))
            for name in ("available_gib", "total_gib", "swap_used_gib"):
                known[name] = float(known.get(name, 0.0))
            known["compiling"] = bool(known.get("compiling", False))
            return cls(**known)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the report of {raw['address']} cannot be read: {error}") from None


@dataclass(frozen=True)
class Order:
    """What the head does, as its answer to a report.

    Attributes:
        ray_age_s: seconds since the Ray head started; a worker that is older belongs to another cluster. None where none runs.
        prepare: the start for which the node is to make itself ready; empty for none.
        loading: the model is being loaded: the page cache is kept small.
        collect: name of the folder in which evidence is to be kept; empty for none.
    """

    ray_age_s: float | None = None
    prepare: str = ""
    loading: bool = False
    collect: str = ""

    @classmethod
    def from_json(cls, raw: Any) -> Order:
        """Return the order in an answer of the head; what a newer head adds is passed over.

        Raises:
            ValueError: it is none; one sentence.
        """
        if not isinstance(raw, Mapping):
            raise ValueError("the head's answer is no object: does its watchdog listen on this port?")
        age = raw.get("ray_age_s")
        try:
            return cls(
                None if age is None else float(age),
                str(raw.get("prepare") or ""),
                bool(raw.get("loading", False)),
                str(raw.get("collect") or ""),
            )
        except (TypeError, ValueError):
            raise ValueError(f"the head's answer has ray_age_s {age!r}, expected seconds") from None


@dataclass
class Board:
    """What the nodes said last, and when."""

    clock: Callable[[], float] = time.monotonic
    reports: dict[str, tuple[float, Report]] = field(default_factory=dict)

    def take(self, report: Report) -> None:
        """Keep a report."""
        self.reports[report.address] = (self.clock(), report)

    def age(self, address: str) -> float | None:
        """Return the seconds since a node reported; None when it never did."""
        found = self.reports.get(address)
        return None if found is None else self.clock() - found[0]

    def of(self, address: str) -> Report | None:
        """Return what a node said last."""
        found = self.reports.get(address)
        return None if found is None else found[1]

    def as_facts(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            address: {**asdict(report), "age_s": round(self.clock() - at, 1)}
            for address, (at, report) in sorted(self.reports.items())
        }


class PulseServer:
    """Serves followers, the gate of vLLM's unit, and whoever asks for the state, with the cluster's token.

    Args:
        address: host and port.
        token: the cluster's token; compared in constant time.
        answer: path and JSON body in, JSON out; a ValueError becomes an answer of status 400.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self, address: tuple[str, int], token: str, answer: Callable[[str, Any], Mapping[str, Any] | None]
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            # One that connects and says nothing must not hold a thread for ever.
            timeout = 10

            def do_POST(self) -> None:
                self.handle_one()

            def do_GET(self) -> None:
                self.handle_one()

            def handle_one(self) -> None:
                given = self.headers.get("Authorization", "").encode("utf-8", "replace")
                if not hmac.compare_digest(given, f"Bearer {token}".encode()):
                    return self.reply(401, {"error": "the cluster's token is needed"})
                try:
                    size = int(self.headers.get("Content-Length") or 0)
                    if not 0 <= size <= _LARGEST:
                        return self.reply(413, {"error": f"a body has at most {_LARGEST} bytes"})
                    body = json.loads(self.rfile.read(size)) if size else None
                    found = answer(self.path, body)
                except ValueError as error:
                    return self.reply(400, {"error": str(error)})
                if found is None:
                    return self.reply(404, {"error": f"there is no {self.path}"})
                return self.reply(200, found)

            def reply(self, status: int, document: Mapping[str, Any]) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: a line every other second would bury what matters."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                # One that hung up is nothing to report.
                if not isinstance(sys.exc_info()[1], ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server(address, Handler)

    @property
    def port(self) -> int:
        """Return the port that is bound."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
