# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Bringing weights from one node to the other over the fabric: our parallel streams against `rsync -a` over SSH.

Both are whole processes on the worker of the simulated pair, started the same way. Ours also proves every byte by sha256 and
brings it to the disk, theirs does neither. The nodes share this machine's cores: a real pair has twenty on each side.
"""

from __future__ import annotations

import io
import random
import shlex
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.start import on
from simulation import keys, settings

HEAD, WORKER = settings.node("spark-1"), settings.node("spark-2")
REPO = "benchmarks/copy"
COMMIT = "c" * 40
MIB = 1024 * 1024
SHARDS, SHARD = 8, 64 * MIB
FOLDER = "/srv/benchmark"
LIBRARY = Path(__file__).parents[1] / "plugins" / "module_utils"
# Runs on the head: a store with random shards, proven and stamped; then a share of it.
MAKE = f"""
import os, sys
from pathlib import Path
from library.hf_store import FileEntry, Manifest, Store, digest_file, make_folder
store = Store("{FOLDER}/store")
folder = store.snapshot("{REPO}", "{COMMIT}")
make_folder(folder)
entries = []
for number in range({SHARDS}):
    path = folder / f"model-{{number}}.safetensors"
    path.write_bytes(os.urandom({SHARD}))
    entries.append(FileEntry(path.name, {SHARD}, digest_file(path).sha256))
manifest = Manifest("{REPO}", "{COMMIT}", tuple(entries))
store.write_manifest(manifest)
store.stamp(manifest, "sha256")
print(manifest.sha256)
"""
# Runs on the worker.
FETCH = f"""
import sys
from library.fabric_share import ShareClient, share_token
from library.hf_peer import PeerSource
from library.hf_snapshot import Request, present
from library.hf_store import Store
client = ShareClient("{HEAD.fabric_address}", 8237, share_token("benchmark"))
request = Request("{REPO}", "{COMMIT}", manifest_sha256=sys.argv[1])
present(Store("{FOLDER}/store"), request, PeerSource(client, "{REPO}", "{COMMIT}", sys.argv[1]))
"""


def prepare(node: settings.Node) -> None:
    """Bring our code and rsync to a node."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(LIBRARY.glob("*.py")):
            archive.add(path, f"library/{path.name}")
    on(node, f"rm -rf {FOLDER}; mkdir -p {FOLDER}")
    argv = keys.ssh_command(node, "sudo", "tar", "--extract", "--directory", FOLDER)
    subprocess.run(argv, input=packed.getvalue(), check=True, timeout=60)
    on(node, "command -v rsync >/dev/null || (apt-get update -qq && apt-get install -qq -y rsync) >/dev/null 2>&1")


def python(node: settings.Node, program: str, *arguments: str) -> str:
    """Run a program with our library on a node."""
    return on(node, f"cd {FOLDER} && python3 -c {shlex.quote(program)} {shlex.join(arguments)}")


def timed(script: str) -> float:
    """Run a script on the worker and return the seconds."""
    began = time.monotonic()
    on(WORKER, script)
    return time.monotonic() - began


def measure(runs: int) -> dict[str, Any]:
    """Measure both, in turns."""
    series: dict[str, list[float]] = {"ours": [], "rsync -a over SSH": [], "rsync / ours": []}
    units = {"ours": "s", "rsync -a over SSH": "s", "rsync / ours": ""}
    key = f"{FOLDER}/key-{random.Random().randrange(10**9)}"
    try:
        for node in (HEAD, WORKER):
            prepare(node)
        on(HEAD, f"printf benchmark > {FOLDER}/token")
        digest = python(HEAD, MAKE).strip()
        share = f"import sys; from library.fabric_share import main; sys.exit(main({['serve', '--address', HEAD.fabric_address, '--port', '8237', '--store', f'{FOLDER}/store', '--token-file', f'{FOLDER}/token']!r}))"
        on(
            HEAD,
            f"systemd-run --quiet --unit=benchmark-share --working-directory={FOLDER} python3 -c {shlex.quote(share)}",
        )
        argv = keys.ssh_command(WORKER, "sudo", "sh", "-c", shlex.quote(f"umask 077; cat > {key}"))
        subprocess.run(argv, input=settings.key_file().read_bytes(), check=True, timeout=60)
        ssh = f"ssh -i {key} -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        source = f"{settings.USER}@{HEAD.fabric_address}:{FOLDER}/store/"
        ours = f"cd {FOLDER} && python3 -c {shlex.quote(FETCH)} {digest}"
        theirs = f"rsync -a -e {shlex.quote(ssh)} {source} {FOLDER}/rsync/"
        for turn in range(runs):
            on(WORKER, f"rm -rf {FOLDER}/store {FOLDER}/rsync; sync")
            seconds = {}
            for name, script in (
                (("ours", ours), ("theirs", theirs)) if turn % 2 else (("theirs", theirs), ("ours", ours))
            ):
                seconds[name] = timed(script)
            series["ours"].append(seconds["ours"])
            series["rsync -a over SSH"].append(seconds["theirs"])
            series["rsync / ours"].append(seconds["theirs"] / seconds["ours"])
    finally:
        on(HEAD, f"systemctl stop benchmark-share 2>/dev/null; rm -rf {FOLDER}")
        on(WORKER, f"rm -rf {FOLDER}")
    return {"series": series, "units": units, "facts": {"bytes": SHARDS * SHARD}}
