# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the gateway costs beside the bare port: a real HAProxy with the role's configuration, a stand-in that streams, both asked in turns.

It proves nothing of vLLM: the stand-in says a word every so many milliseconds, whoever asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import yaml

ROLE = Path(__file__).parents[1] / "roles" / "gateway"
KEY = "sk-benchmark"
#: Short requests whose median counts, one after the other on one connection.
REQUESTS = 500
#: Streams at once, words of each, and seconds between two words: 64 x 40 words/s, several times what two Sparks write.
STREAMS, WORDS, GAP_S = 64, 200, 0.025
_WORD = b'data: {"choices": [{"delta": {"content": "word"}}]}\n\n'
_CHUNK = b"%x\r\n%s\r\n" % (len(_WORD), _WORD)


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"POST"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                continue
            await reader.readexactly(2)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            # By the clock, so that a late word makes the next ones no later.
            begun = time.monotonic()
            for number in range(WORDS):
                await asyncio.sleep(begun + number * GAP_S - time.monotonic())
                writer.write(_CHUNK)
                await writer.drain()
            writer.write(b"0\r\n\r\n")
    writer.close()


def _serve(port: int) -> None:
    async def forever() -> None:
        server = await asyncio.start_server(_answer, "127.0.0.1", port, backlog=512)
        await server.serve_forever()

    asyncio.run(forever())


def _configuration(folder: Path, port: int, server_port: int) -> Path:
    given = {
        **yaml.safe_load((ROLE / "defaults" / "main.yml").read_text()),
        "gateway_routes": yaml.safe_load((ROLE / "vars" / "main.yml").read_text())["gateway_routes"],
        "gateway_addresses": ["127.0.0.1"],
        "gateway_port": port,
        "gateway_server": f"127.0.0.1:{server_port}",
        "gateway_folder": str(folder),
        "gateway_socket": str(folder / "a.sock"),
        "gateway_user": "",
        # What an ordinary user may open.
        "gateway_max_connections": 400,
        "ansible_managed": "benchmark",
    }
    for name, row in (
        ("names", f"{hashlib.sha256(KEY.encode()).hexdigest()} benchmark"),
        ("server", "key the-internal-key"),
        *((name, "") for name in ("roles", "rates", "slots", "ends")),
    ):
        (folder / f"{name}.map").write_text(f"{row}\n" if row else "")
    loader = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROLE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    path = folder / "haproxy.cfg"
    path.write_text(loader.get_template("haproxy.cfg.j2").render(given))
    return path


def _request(method: str, path: str) -> bytes:
    body = b"{}" if method == "POST" else b""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def _short(port: int) -> float:
    """Return the median seconds of a short request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    taken = []
    for _number in range(REQUESTS):
        begun = time.perf_counter()
        writer.write(_request("GET", "/v1/models"))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"port {port} answers {head[:40]!r}")
        await reader.readexactly(2)
        taken.append(time.perf_counter() - begun)
    writer.close()
    return statistics.median(taken)


async def _stream(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(_request("POST", "/v1/chat/completions"))
    words, last = 0, b""
    while not last.endswith(b"0\r\n\r\n"):
        block = await asyncio.wait_for(reader.read(65536), 60)
        if not block:
            raise RuntimeError(f"port {port} cut a stream after {words} words")
        words += block.count(b"data:")
        last = (last + block)[-5:]
    writer.close()
    return words


async def _streams(port: int) -> float:
    """Return words a second of all streams together."""
    begun = time.perf_counter()
    words = sum(await asyncio.gather(*(_stream(port) for _number in range(STREAMS))))
    taken = time.perf_counter() - begun
    if words != STREAMS * WORDS:
        raise RuntimeError(f"port {port} gave {words} words of {STREAMS * WORDS}")
    return words / taken


@contextlib.contextmanager
def _both() -> Iterator[tuple[int, int]]:
    """Run stand-in and gateway; yield the bare port and the gateway's."""
    haproxy = shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    if haproxy is None:
        raise RuntimeError("haproxy is not installed here: apt install haproxy")
    bare, port = _free_port(), _free_port()
    server = multiprocessing.Process(target=_serve, args=(bare,), daemon=True)
    server.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = _configuration(Path(folder), port, bare)
            gateway = subprocess.Popen([haproxy, "-f", str(path)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            try:
                # Until it has seen the stand-in.
                for _second in range(100):
                    time.sleep(0.1)
                    if gateway.poll() is not None:
                        raise RuntimeError(f"haproxy ended: {gateway.stderr.read().decode() if gateway.stderr else ''}")
                    with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                        asyncio.run(_short(port))
                        break
                yield bare, port
            finally:
                gateway.kill()
                gateway.wait()
    finally:
        server.kill()
        server.join()


def measure(runs: int) -> dict[str, Any]:
    """Return the added milliseconds of a short request and the words a second of 64 streams, of each run."""
    series: dict[str, list[float]] = {"added latency": [], "bare port": [], "through the gateway": [], "lost": []}
    with _both() as (bare, port):
        for number in range(runs):
            # In turns, the first one changing: what else the machine does then meets both.
            order = (bare, port) if number % 2 == 0 else (port, bare)
            short = {each: asyncio.run(_short(each)) for each in order}
            words = {each: asyncio.run(_streams(each)) for each in order}
            series["added latency"].append((short[port] - short[bare]) * 1000)
            series["bare port"].append(words[bare])
            series["through the gateway"].append(words[port])
            series["lost"].append((1 - words[port] / words[bare]) * 100)
            print(
                f"gateway {number + 1} of {runs}: {series['added latency'][-1]:.2f} ms, {series['lost'][-1]:.2f} %",
                file=sys.stderr,
            )
    units = {"added latency": "ms", "bare port": "words/s", "through the gateway": "words/s", "lost": "%"}
    return {"series": series, "units": units, "facts": {"streams": STREAMS, "words": WORDS, "gap_s": GAP_S}}
