# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside the serving image as ``python3 - <arguments>``: what the container sees of RDMA, and what NCCL makes of it.

Standard library only; torch is imported late, and only where NCCL is measured. It stands alone, since it is piped into the container. Its last line is
``FABRIC-PROBE-RESULT`` with JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any


def look(folder: Path = Path("/dev/infiniband")) -> dict[str, Any]:
    """Return the RDMA devices of the container, which of them cannot be opened, and how much memory may be locked (-1: no limit, else bytes)."""
    names = sorted(path.name for path in folder.glob("uverbs*"))
    denied = []
    reason = ""
    for name in names:
        try:
            os.close(os.open(folder / name, os.O_RDWR))
        except OSError as error:
            denied.append(name)
            reason = error.strerror or str(error)
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return {
        "uverbs": names,
        "uverbs_denied": denied,
        "uverbs_error": reason,
        "memlock": -1 if limit == resource.RLIM_INFINITY else limit,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return bandwidth and latency of NCCL's collectives between all ranks, with their results checked."""
    import torch
    import torch.distributed as group

    torch.cuda.set_device(0)
    group.init_process_group(
        "nccl",
        init_method=f"tcp://{options.master}:{options.port}",
        rank=options.rank,
        world_size=options.world,
        timeout=datetime.timedelta(seconds=options.timeout),
    )
    try:
        # Sizes as nccl-tests counts them: the whole that every rank holds in the end. Kept small: 16 GB froze nodes whose memory was in use.
        total = options.mib * 1024 * 1024
        part = torch.full((total // options.world,), options.rank + 1, dtype=torch.uint8, device="cuda")
        whole = torch.zeros(part.numel() * options.world, dtype=torch.uint8, device="cuda")
        seconds = _time(lambda: group.all_gather_into_tensor(whole, part), options.rounds, torch)
        chunks = whole.view(options.world, -1)
        right = all(bool((chunks[rank] == rank + 1).all()) for rank in range(options.world))
        # The size of one token's hidden state of a large model: decoding waits for this, not for bandwidth.
        small = torch.ones(8192, dtype=torch.bfloat16, device="cuda")
        group.all_reduce(small)
        right = right and bool((small == options.world).all())
        small.fill_(1)
        latency = _time(lambda: group.all_reduce(small), 200, torch)
        moved = whole.numel() / seconds / 1e9
        return {
            "right": right,
            "mib": options.mib,
            "bus_gbytes": round(moved * (options.world - 1) / options.world, 2),
            "latency_us": round(latency * 1e6, 1),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "torch": torch.__version__,
        }
    finally:
        group.destroy_process_group()


def _time(action: Any, rounds: int, torch: Any) -> float:
    """Return seconds a round, after rounds that do not count."""
    for _round in range(5):
        action()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _round in range(rounds):
        action()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / rounds


def main(arguments: list[str]) -> int:
    """Look, measure where asked to, and say the result in the last line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--look-only", action="store_true")
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--master", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=12100)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--timeout", type=int, default=60)
    options = parser.parse_args(arguments)
    result = look()
    if not options.look_only:
        try:
            result |= measure(options)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            result["error"] = f"{type(error).__name__}: {lines[0][:300]}"
    sys.stdout.flush()
    sys.stdout.write(f"\nFABRIC-PROBE-RESULT {json.dumps(result)}\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
