# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The weights' road against what people use today, on this machine alone: a local hub, random shards, whole processes.

download      hf_model against `hf download`, from the same hub over plain HTTP, once as fast as loopback goes and once through a
              line of 25 MB/s a connection. Ours also proves every byte; theirs does so with `hf cache verify` after it.
verification  bytes a second of hf_model_info (sha256) against the smaller of `openssl speed sha256` on all cores and the disk.
no-op         one task that finds everything in place, Ansible's own start included.
killed        bytes that come twice when the download is killed at 25, 50 and 75 %.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from simulation.hub.faults import parse
from simulation.hub.server import Hub, running

ROOT = Path(__file__).parents[1]
REPO = "benchmarks/weights"
MIB = 1024 * 1024
SHARDS, SHARD = 8, 64 * MIB
TOTAL = SHARDS * SHARD
LINE = 25_000_000.0
OURS = """
import sys
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.queue import Order
Order(sys.argv[1], "main", sys.argv[2], sys.argv[3]).perform()
"""
VERIFY = """
import sys
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.snapshot import inspect
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.store import Store
seen = inspect(Store(sys.argv[2]), sys.argv[1], "main", "sha256")
print(seen.rate if seen.complete else 0)
"""


def make_shards(folder: Path) -> None:
    """Write the shards; random, so that nothing on the way can compress them."""
    folder.mkdir(parents=True)
    dice = random.Random(3)
    names = [f"model-{number:05}-of-{SHARDS:05}.safetensors" for number in range(1, SHARDS + 1)]
    for name in names:
        with (folder / name).open("wb") as stream:
            for _block in range(SHARD // MIB):
                stream.write(dice.randbytes(MIB))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {name: name for name in names}}))


class Race:
    """Our download and theirs, each into an empty folder of its own."""

    def __init__(self, hub: Hub, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.endpoint = f"http://127.0.0.1:{hub.server_port}"

    @property
    def store(self) -> Path:
        """Where our download goes."""
        return self.folder / "store"

    @property
    def plain(self) -> Path:
        """Where theirs goes."""
        return self.folder / "plain"

    def start(self, ours: bool) -> subprocess.Popen[bytes]:
        """Start one of the two."""
        if ours:
            argv = [sys.executable, "-c", OURS, REPO, str(self.store), self.endpoint]
        else:
            argv = [str(Path(sys.executable).parent / "hf"), "download", REPO, "--local-dir", str(self.plain)]
        return subprocess.Popen(argv, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run(self, ours: bool) -> float:
        """Run one of the two to its end and return the seconds. Raises RuntimeError where it fails."""
        began = time.monotonic()
        if self.start(ours).wait():
            raise RuntimeError(f"{'our download' if ours else '`hf download`'} failed")
        return time.monotonic() - began

    def prove(self) -> float:
        """Have what theirs downloaded verified by `hf cache verify`, and return the seconds."""
        argv = [str(Path(sys.executable).parent / "hf"), "cache", "verify", REPO, "--local-dir", str(self.plain)]
        began = time.monotonic()
        done = subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"`hf cache verify` failed: {(done.stdout + done.stderr)[-300:]}")
        return time.monotonic() - began

    @property
    def environment(self) -> dict[str, str]:
        """What both find in their environment."""
        found = {**os.environ, "PYTHONPATH": str(ROOT / "collections"), "HF_HOME": str(self.folder / "home")}
        found |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_ENDPOINT": self.endpoint}
        return found

    def clear(self) -> None:
        """Forget what was downloaded."""
        for folder in (self.store, self.plain, self.folder / "home"):
            shutil.rmtree(folder, ignore_errors=True)

    def here(self, ours: bool) -> int:
        """Return the bytes that are on the disk by now, half files included."""
        total = 0
        for root, _folders, files in os.walk(self.store if ours else self.plain):
            for name in files:
                with contextlib.suppress(OSError):
                    total += (Path(root) / name).stat().st_size
        return total

    def sent(self) -> int:
        """Return the bytes of files that the hub sent since the last call."""
        time.sleep(1)  # a request is noted when its answer ends, for a killed peer a moment later
        with self.hub.lock:
            sent = sum(request.bytes for request in self.hub.log if "/resolve/" in request.path)
            self.hub.log.clear()
        return sent

    def killed_at(self, ours: bool, part: float) -> float:
        """Kill a download at a part of its bytes, run it again, and return the MiB that came twice."""
        self.clear()
        self.sent()
        run = self.start(ours)
        while self.here(ours) < part * TOTAL:
            if run.poll() is not None:
                raise RuntimeError("the download ended before it could be killed")
            time.sleep(0.02)
        run.kill()
        run.wait()
        self.run(ours)
        return (self.sent() - TOTAL) / MIB


def openssl_rate() -> float:
    """Return what `openssl speed` gives for sha256 on all cores, in bytes a second."""
    cores = len(os.sched_getaffinity(0))
    argv = ["openssl", "speed", "-seconds", "2", "-bytes", str(4 * MIB), "-multi", str(cores), "-evp", "sha256"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^(?:evp|sha256)\s.*?([0-9.]+)k\s*$", text, re.IGNORECASE | re.MULTILINE)
    if not found:
        raise RuntimeError("`openssl speed` prints no rate for sha256")
    return float(found[-1]) * 1000


def disk_rate(folder: Path) -> float:
    """Return the bytes a second that the disk gives when the shards are read past the page cache, as many at once as cores."""
    shards = sorted(folder.glob("*.safetensors"))
    began = time.monotonic()
    cores = len(os.sched_getaffinity(0))
    for at in range(0, len(shards), cores):
        runs = [
            subprocess.Popen(["dd", f"if={shard}", "of=/dev/null", "bs=4M", "iflag=direct"], stderr=subprocess.DEVNULL)
            for shard in shards[at : at + cores]
        ]
        if any(run.wait() for run in runs):
            raise RuntimeError("`dd iflag=direct` failed: the temporary folder must be on a disk (set TMPDIR)")
    return TOTAL / (time.monotonic() - began)


def verify_rate(store: Path) -> float:
    """Return the bytes a second of a whole verification."""
    argv = [sys.executable, "-c", VERIFY, REPO, str(store)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "collections")}
    rate = float(subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout)
    if not rate:
        raise RuntimeError("the verification found the store incomplete")
    return rate


def noop_seconds(store: Path, endpoint: str) -> float:
    """Return the seconds of one Ansible task that finds everything in place."""
    request = {"repo_id": REPO, "dest": str(store), "endpoint": endpoint}
    argv = [str(Path(sys.executable).parent / "ansible"), "localhost", "-c", "local", "-i", "localhost,"]
    argv += [
        "-m",
        "dgx_spark.vllm.hf_model",
        "-a",
        json.dumps(request),
        "-e",
        f"ansible_python_interpreter={sys.executable}",
    ]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode or ('"changed": false' not in done.stdout + done.stderr and "changed: false" not in done.stdout):
        raise RuntimeError(f"the no-op task did something else: {done.stdout[-300:]}")
    return time.monotonic() - began


def measure(runs: int) -> dict[str, Any]:
    """Measure all of it; ``runs`` times each."""
    series: dict[str, list[float]] = {}
    units: dict[str, str] = {}

    def note(name: str, value: float, unit: str) -> None:
        print(f"{name}: {value:.2f} {unit}".rstrip(), flush=True)
        series.setdefault(name, []).append(value)
        units[name] = unit

    with tempfile.TemporaryDirectory(prefix="benchmark-weights-") as text:
        folder = Path(text)
        make_shards(folder / "model")
        with running({REPO: {"main": folder / "model"}}) as hub:
            race = Race(hub, folder)
            rules: list[tuple[str, dict[str, Any]]] = [
                ("loopback", {}),
                ("25 MB/s a connection", {"slow": {"path": "*.safetensors", "rate": LINE}}),
            ]
            for line, rule in rules:
                hub.faults.clear()
                hub.faults.add(parse(rule))
                for turn in range(runs):
                    race.clear()
                    seconds = {ours: race.run(ours) for ours in ((True, False) if turn % 2 else (False, True))}
                    note(f"download, {line}: ours", seconds[True], "s")
                    note(f"download, {line}: hf download", seconds[False], "s")
                    note(f"download, {line}: hf download / ours", seconds[False] / seconds[True], "")
                    proven = seconds[False] + race.prove()
                    note(f"download, {line}: hf download and hf cache verify / ours", proven / seconds[True], "")
            for _turn in range(runs):
                limit = min(openssl_rate(), disk_rate(folder / "model"))
                rate = verify_rate(race.store)
                note("verification", rate / MIB, "MiB/s")
                note("verification: limit of openssl or disk", limit / MIB, "MiB/s")
                note("verification / limit", rate / limit, "")
                note("no-op task", noop_seconds(race.store, race.endpoint), "s")
            for part in (0.25, 0.5, 0.75):
                for _turn in range(runs):
                    for ours in (True, False):
                        who = "ours" if ours else "hf download"
                        note(f"killed at {part:.0%}: {who}", race.killed_at(ours, part), "MiB twice")
    return {"series": series, "units": units, "facts": {"bytes": TOTAL, "shards": SHARDS}}
