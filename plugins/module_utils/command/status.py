# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark status``: the screen of playbooks/status.yml, made of what this node sees.

Of itself a node sees everything. Of the others the head sees what their followers report to its watchdog, and what Ray says; that is said, and what
cannot be seen from here is no figure.
"""

from __future__ import annotations

import contextlib
import json
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..docker.cli import DockerError, inspect_container
from ..report.finding import RED, Finding, as_dicts
from ..report.status import document, duration, screen
from ..service.follower import CONFIG
from ..service.gates import API_KEY_FILE, TOKEN_FILE
from ..service.pulse import PORT, STATE
from ..system.files import read_json
from ..system.http_json import HttpClient, HttpError, read_secret_file
from ..system.units import ORDER
from .cluster import Cluster
from .looks import Brief, looks
from .terminal import Terminal

#: Seconds for all looks at this node, and for an answer of the head's watchdog where this is another node: together less than 5.
SECONDS, ASK_S = 3.0, 1.5
#: A node that has not reported for this long is not there (service/watchdog.py).
ABSENT_S = 10.0
_MORE = "`spark status --json` has all"
Ask = Callable[[Cluster], Mapping[str, Any]]


def parameters(cluster: Cluster) -> dict[str, Any]:
    """Return what the looks at this node are asked for; Ray, server and weights where this is the head."""
    head = cluster.on_head
    server = {"base_url": cluster.server_url, "model": cluster.model, "api_key_file": API_KEY_FILE}
    weights = {"repo_id": cluster.repo_id, "revision": cluster.revision, "dest": cluster.store}
    ray = {
        "dashboard_url": cluster.dashboard_url,
        "token_file": TOKEN_FILE,
        "expected_nodes": list(cluster.addresses.values()),
        "expected_gpus": cluster.gpus,
    }
    return {
        "seconds": SECONDS,
        "disk": cluster.store,
        "reserve_gib": cluster.reserve_gib,
        "watchdog": head and cluster.watchdog,
        "ray": ray if head and cluster.ray else None,
        "server": server if head else None,
        "weights": weights if head else None,
    }


def ask_head(cluster: Cluster, config: Path = CONFIG) -> Mapping[str, Any]:
    """Return the state that the head's watchdog tells its followers.

    Raises:
        ValueError: it does not answer; one sentence.
    """
    told = read_json(config) or {}
    address = f"http://{cluster.addresses.get(cluster.head, '')}:{told.get('port', PORT)}"
    try:
        found = HttpClient(address, token=read_secret_file(TOKEN_FILE), timeout=ASK_S).get_json(STATE)
    except (HttpError, OSError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{address} answers with something else than its state")
    return found


def _said(name: str, code: str, found: str) -> dict[str, Any]:
    remedy = "see that the node runs, that its cable is in, and that spark-follower is active there"
    return {"findings": as_dicts([Finding(code, RED, name, found, remedy)]), "msg": found}


def seen(cluster: Cluster, name: str, state: Mapping[str, Any], ray: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return another node as this one sees it, in the form of a result of node_status_info, and a line on what that is.

    Args:
        cluster: the record.
        name: the other node.
        state: what the watchdog wrote or told; empty where it says nothing.
        ray: the look at Ray; empty where none was taken.
    """
    address = cluster.addresses[name]
    report = (state.get("nodes") or {}).get(address)
    there = f"`sudo spark status` on {name}, or playbooks/status.yml"
    if report and float(report.get("age_s", 0.0)) <= ABSENT_S:
        available, total = float(report["available_gib"]), float(report["total_gib"])
        memory = {"total_gib": total, "available_gib": available, "headroom_gib": available - cluster.reserve_gib}
        ranks, age = len(report.get("ranks") or ()), report.get("ray_age_s")
        parts = [f"{ranks} rank{'' if ranks == 1 else 's'} of the model"]
        if cluster.ray:
            parts.append(f"Ray for {duration(age)}" if age is not None else "no Ray")
        parts += [f"kernel: {line}" for line in report.get("warnings") or ()]
        line = f"{name} reports {', '.join(parts)}; its GPU, link, disk and units are not seen from here: {there}"
        return {"looks": {"memory": {**memory, "findings": []}, "seen": {"by": "watchdog", "findings": []}}}, line
    # Before Ray is asked, which has a node for another minute after its plug was pulled.
    if state:
        age = f"has not reported for {float(report['age_s']):.0f} s" if report else "never reported"
        return _said(name, "node.unreachable", f"{name} {age} to the watchdog of the head"), ""
    if address in (ray.get("alive") or ()):
        line = f"{name} is known to Ray alone; all else of it is not seen from here: {there}"
        return {"looks": {"seen": {"by": "ray", "findings": []}}}, line
    return {
        "findings": [],
        "msg": "not seen from here: no watchdog tells of it",
    }, f"{name} is not seen from here: {there}"


def running_image() -> str:
    """Return the name of the image that a container of ours on this node was made of; empty where there is none.

    The settings may name another one, which a run that failed never brought here.
    """
    for unit in reversed(ORDER):
        with contextlib.suppress(DockerError):
            if found := inspect_container(Brief(1.0), unit):
                return str((found.get("Config") or {}).get("Image") or "")
    return ""


def gather(
    cluster: Cluster,
    look: Callable[[Mapping[str, Any]], dict[str, Any]] = looks,
    ask: Ask = ask_head,
    image: Callable[[], str] = running_image,
) -> tuple[dict[str, Any], list[str]]:
    """Return the document, and lines on what of the other nodes is seen from here."""
    found = look(parameters(cluster))
    nodes: dict[str, Any] = {cluster.node: {"looks": found}}
    notes = []
    if cluster.on_head:
        said = found.get("watchdog") or {}
        silent = any(one["code"] == "watchdog.silent" for one in said.get("findings") or ())
        state = {} if silent else said.get("state") or {}
    else:
        try:
            state = dict(ask(cluster))
        except ValueError as error:
            state = {}
            nodes[cluster.head] = _said(
                cluster.head, "node.unreachable", f"the watchdog of the head does not answer: {error}"
            )
    for name in cluster.others:
        if name not in nodes:
            nodes[name], line = seen(cluster, name, state, found.get("ray") or {})
            notes += [line] * bool(line)
    if state and not cluster.on_head and "looks" in nodes[cluster.head]:
        nodes[cluster.head]["looks"]["watchdog"] = {"state": state, "findings": []}
    about = {
        "model": cluster.model,
        "image": image(),
        "endpoint": cluster.endpoint,
        "expected_nodes": len(cluster.addresses),
        "expected_gpus": cluster.gpus,
        "addresses": dict(cluster.addresses),
    }
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    ordered = {name: nodes[name] for name in cluster.addresses if name in nodes} | nodes
    return document(ordered, cluster.head, about, made), notes


def lines(status: Mapping[str, Any], notes: list[str], width: int) -> list[tuple[str, str]]:
    """Return the screen, with what of the other nodes is seen from here."""
    fold = textwrap.TextWrapper(
        max(60, min(width, 140)), initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    # A line that the terminal folds itself would scroll the first ones of a watch away.
    told = [("", line) for note in notes for line in fold.wrap(note)]
    return [*screen(status, width, _MORE), *([("", ""), *told] if told else [])]


def run(
    cluster: Cluster,
    terminal: Terminal,
    *,
    watch: float | None,
    as_json: bool,
    look: Callable[[Cluster], tuple[dict[str, Any], list[str]]] = gather,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Show the status once, or every so many seconds until Ctrl-C."""
    try:
        while True:
            status, notes = look(cluster)
            if as_json:
                terminal.say(json.dumps(status, indent=None if watch else 2, sort_keys=True))
            elif watch is None:
                terminal.show(lines(status, notes, terminal.width))
            else:
                head = f"every {watch:g} s, Ctrl-C ends it; {status['made']}"
                terminal.draw([("", head), ("", ""), *lines(status, notes, terminal.width)])
            if watch is None:
                return 0
            sleep(watch)
    except KeyboardInterrupt:
        return 0
    finally:
        terminal.leave()
