# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The serving image to the second node over the fabric: role serving_image against `docker save | ssh | docker load`.

The nodes need the image (`make demo`, or playbooks/nodes.yml), and nothing may serve: what runs of the cluster is stopped, and stays so.
Ours is a whole run of the role with its comparison by content and the look into the image, started from nothing; theirs the bare pipe.
The nodes share this machine's cores.
"""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
import time
from typing import Any

from benchmarks.plays import play
from benchmarks.start import HEAD, LIMIT_S, UNITS, WORKER, on
from simulation import keys, settings

IMAGE = "dgx-spark-sim/serving:current"
FETCH = "Fetch the image over the fabric (about half a minute for each 2 GB)"
PLAYBOOK = "benchmarks/image.yml"


def forget() -> None:
    """Take the image from the second node, and what both keep in memory of it."""
    on(
        WORKER,
        f"docker image rm --force $(docker image inspect --format '{{{{.Id}}}}' {IMAGE}) >/dev/null 2>&1 || true; docker image prune --force >/dev/null",
    )
    if on(WORKER, f"docker image inspect {IMAGE} >/dev/null 2>&1 && echo there || true").strip():
        raise RuntimeError(f"{IMAGE} is still on {WORKER.name}: a container of it runs")
    on(WORKER, "sync")


def received() -> int:
    """Return the bytes that came to the second node over the fabric so far."""
    name = on(WORKER, f"ip -o -4 address show | grep 'inet {WORKER.fabric_address}/' | cut -d' ' -f2").strip()
    return int(on(WORKER, f"cat /sys/class/net/{name}/statistics/rx_bytes"))


def measure(runs: int) -> dict[str, Any]:
    """Measure both in turns, then a run that has nothing to do."""
    ratio = "ours / save, ssh, load"
    series: dict[str, list[float]] = {
        "ours": [],
        "of it the fetch": [],
        "docker save | ssh | docker load": [],
        ratio: [],
    }
    series["bytes over the fabric when nothing changed"] = []
    key = f"/root/benchmark-key-{random.Random().randrange(10**9)}"
    for node, unit in reversed(UNITS):
        on(node, f"systemctl stop {unit}.service 2>/dev/null || true")
    play(PLAYBOOK)
    size = int(on(HEAD, f"docker image inspect --format '{{{{.Size}}}}' {IMAGE}"))
    try:
        argv = keys.ssh_command(HEAD, "sudo", "sh", "-c", f"'umask 077; cat > {key}'")
        subprocess.run(argv, input=settings.key_file().read_bytes(), check=True, timeout=60)
        ssh = f"ssh -i {key} -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        pipe = f"docker save {IMAGE} | {ssh} {settings.USER}@{WORKER.fabric_address} sudo docker load --quiet"
        for turn in range(runs):
            seconds = {}
            for road in ("ours", "theirs") if turn % 2 else ("theirs", "ours"):
                forget()
                began = time.monotonic()
                if road == "ours":
                    series["of it the fetch"].append(play(PLAYBOOK).tasks[FETCH])
                else:
                    patient = keys.ssh_command(HEAD, "sudo", "sh", "-c", shlex.quote(pipe))
                    subprocess.run(patient, check=True, capture_output=True, timeout=LIMIT_S)
                seconds[road] = time.monotonic() - began
            series["ours"].append(seconds["ours"])
            series["docker save | ssh | docker load"].append(seconds["theirs"])
            series[ratio].append(seconds["ours"] / seconds["theirs"])
            print(
                f"image {turn + 1} of {runs}: ours {seconds['ours']:.1f} s, theirs {seconds['theirs']:.1f} s",
                file=sys.stderr,
            )
            before = received()
            play(PLAYBOOK)
            series["bytes over the fabric when nothing changed"].append(float(received() - before))
    finally:
        on(HEAD, f"rm -f {key}")
    units = {name: "" if name == ratio else "bytes" if name.startswith("bytes") else "s" for name in series}
    return {"series": series, "units": units, "facts": {"bytes": size}}
