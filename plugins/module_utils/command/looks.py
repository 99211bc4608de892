# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How a node is at this moment, and on the head the cluster: all looks at the same time, with one end for all of them."""

from __future__ import annotations

import functools
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..docker.cli import DockerError
from ..fabric.link import FabricError, Machine
from ..fabric.link import collect as read_link
from ..gpu.runtime import clock_finding, read_gpus
from ..hub.judge import judge_store
from ..hub.queue import Queue, watch
from ..hub.store import Store, StoreError
from ..node.guard import PACKAGE, GuardError, Node, guard_findings
from ..node.requirements import parse_meminfo
from ..ray.cluster import look as look_at_ray
from ..report.finding import GREEN, as_dicts
from ..service import unit_states, watchdog_report
from ..service.freeze import recent_warnings
from ..system.http_json import HttpClient, HttpError, secret_or_reason
from ..system.kernel_log import boot_journal
from ..system.run import run
from ..vllm.health import look as look_at_server
from ..vllm.health import parse_metrics, summarize_metrics

WATCHDOG = Path("/run/dgx-spark/watchdog.json")
#: Seconds between two readings of the counters that make a rate.
RATE_S = 1.0
_TOKENS = "generation_tokens_total"
#: Hours of this boot in which ended programs and lines of the kernel are looked for.
HOURS = 24
Params = Mapping[str, Any]


class Brief:
    """Runs programs for no longer than the looks may take: none is left behind."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, argv: Sequence[str], seconds: float | None = None, /, **more: Any) -> tuple[int, str, str]:
        return run(argv, self.seconds if seconds is None else min(seconds, self.seconds), **more)


def memory(params: Params, _run: Brief) -> dict[str, Any]:
    total, available = parse_meminfo(Path("/proc/meminfo").read_text(encoding="ascii"))
    headroom = round(available - params["reserve_gib"], 2)
    return {"total_gib": total, "available_gib": available, "headroom_gib": headroom, "findings": []}


def disk(params: Params, _run: Brief) -> dict[str, Any]:
    # The store may not be there yet: its file system is that of the nearest folder above.
    place = next(path for path in (Path(params["disk"]), *Path(params["disk"]).parents) if path.exists())
    use = shutil.disk_usage(place)
    return {"path": str(place), "total_gib": use.total / 2**30, "free_gib": use.free / 2**30, "findings": []}


def gpu(_params: Params, run: Brief) -> dict[str, Any]:
    gpus = read_gpus(run)
    found = [clock_finding(one, busy=False) for one in gpus]
    return {"gpus": [asdict(one) for one in gpus], "findings": as_dicts(found)}


def link(_params: Params, run: Brief) -> dict[str, Any]:
    ports = read_link(Machine(run)).ports()
    up = [twins for twins in ports.values() if any(twin.carrier for twin in twins)]
    speeds = [max((twin.speed or 0 for twin in twins if twin.carrier), default=0) for twins in up]
    state = "up" if up else "down" if ports else "no port"
    return {"state": state, "gbits": sum(speeds) / 1000 or None, "findings": []}


def services(_params: Params, run: Brief) -> dict[str, Any]:
    return unit_states.answer({"names": None, "startup_of": None, "snapshot": False}, run)


def guard(_params: Params, run: Brief) -> dict[str, Any]:
    ended = boot_journal(run, "--unit", PACKAGE, "--since", f"-{HOURS}h")
    return {"findings": as_dicts([*guard_findings(Node(run), ended), *recent_warnings(run, HOURS)])}


def ray(params: Params, run: Brief) -> dict[str, Any]:
    asked = params["ray"]
    token, no_token = secret_or_reason(None, asked["token_file"])
    client = HttpClient(asked["dashboard_url"], token=token, timeout=run.seconds)
    cluster, found = look_at_ray(client, asked["expected_nodes"], int(asked["expected_gpus"]), no_token)
    ready = found.level == GREEN
    return {
        **cluster.as_facts(),
        "ready": ready,
        "reason": "" if ready else found.found,
        "findings": as_dicts([found]),
    }


def server(params: Params, run: Brief) -> dict[str, Any]:
    _key, no_key = _secret(params)
    state, found = look_at_server(_client(params, run), params["server"]["model"], no_key)
    return {**state.as_facts(), "findings": as_dicts([found])}


def rate(params: Params, run: Brief) -> dict[str, Any]:
    client = _client(params, run)
    begun, before = time.monotonic(), _tokens(client)
    time.sleep(RATE_S)
    after, ended = _tokens(client), time.monotonic()
    known = before is not None and after is not None and after >= before
    return {"tokens_per_s": (after - before) / (ended - begun) if known else None, "findings": []}


def _secret(params: Params) -> tuple[Any, str]:
    return secret_or_reason(None, params["server"]["api_key_file"])


def _client(params: Params, run: Brief) -> HttpClient:
    return HttpClient(params["server"]["base_url"], token=_secret(params)[0], timeout=run.seconds)


def _tokens(client: HttpClient) -> Any:
    try:
        return summarize_metrics(parse_metrics(client.get("/metrics").text)).get(_TOKENS)
    except HttpError:
        return None


def weights(params: Params, run: Brief) -> dict[str, Any]:
    asked = params["weights"]
    found, error = watch(Store(asked["dest"]), asked["repo_id"], asked["revision"], "size", Queue(), run)
    return {"error": error, "findings": as_dicts(judge_store(found, error))}


def watchdog(_params: Params, _run: Brief) -> dict[str, Any]:
    state, found = watchdog_report.look(WATCHDOG)
    return {"state": state, "findings": as_dicts(found)}


#: Each look; those of the second line only where their option asks for them.
ALWAYS: tuple[Callable[[Params, Brief], dict[str, Any]], ...] = (services, guard, memory, gpu, link, disk)
ASKED = {"watchdog": (watchdog,), "server": (server, rate), "ray": (ray,), "weights": (weights,)}
EXPECTED = (OSError, ValueError, KeyError, DockerError, FabricError, GuardError, StoreError)


def look(kind: Callable[[Params, Brief], dict[str, Any]], params: Params, brief: Brief, into: dict[str, Any]) -> None:
    """Look, and put the answer or the reason for none into ``into``."""
    try:
        into[kind.__name__] = kind(params, brief)
    except EXPECTED as error:
        into[kind.__name__] = {"failed": True, "msg": f"{kind.__name__}: {error}"}


def looks(params: Params) -> dict[str, Any]:
    """Look at everything at once; what is not done in time is left behind, and says so."""
    brief, found = Brief(params["seconds"]), dict[str, Any]()
    kinds = [*ALWAYS, *(kind for name, those in ASKED.items() if params[name] for kind in those)]
    ends = time.monotonic() + params["seconds"]
    # Daemons: one that hangs in the kernel does not keep the module.
    threads = [
        threading.Thread(target=functools.partial(look, kind, params, brief, found), daemon=True) for kind in kinds
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    late = f"no answer within {params['seconds']:g} s"
    return {
        kind.__name__: found.get(kind.__name__, {"failed": True, "msg": f"{kind.__name__}: {late}"}) for kind in kinds
    }
