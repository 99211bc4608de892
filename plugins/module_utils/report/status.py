# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The state of the cluster on one screen: one document made of what the nodes answered, and its lines for a terminal.

The document is what machines read: docs/status.schema.json describes it, and what is named there keeps its name and meaning under one
number of SCHEMA. What is not known is null, never 0.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .finding import GREEN, LEVELS, RED, YELLOW, Finding, worst
from .report import counts, findings_of, once

#: Name and version of the document; the number rises when a name goes or means something else.
SCHEMA = "dgx_spark.vllm.status/1"
#: States of the watchdog in which clients are served, and those in which it waits for something.
_SERVED = ("serving", "busy")
_BETWEEN = ("waiting", "loading", "draining", "saturated", "stopped")
_CHAT = "spark-chat"
_AWAY, _NOTICED = "node.unreachable", ("watchdog", "vllm", "ray")
#: Findings that the screen names; the page and the document have all.
MOST = 6
NOTHING = "nothing to do"


# --- the document -------------------------------------------------------------------------------------------------


def document(nodes: Mapping[str, Mapping[str, Any]], head: str, about: Mapping[str, Any], made: str) -> dict[str, Any]:
    """Return the document.

    Args:
        nodes: the registered result of module node_status_info by the node's inventory name.
        head: inventory name of the head.
        about: what the settings say: ``model``, ``image``, ``endpoint``, ``expected_nodes``, ``expected_gpus``, ``addresses`` by node.
        made: the time in UTC.

    Raises:
        ValueError: a result has findings that are none; one sentence.
    """
    found = {name: _findings(result) for name, result in nodes.items()}
    answer = _looks(nodes.get(head, {}))
    rows = [{"node": name, **finding.as_dict()} for name, findings in found.items() for finding in findings]
    # The gravest first; of one level a node that is not there, from which much follows, then what clients notice.
    rows.sort(key=lambda row: (LEVELS.index(row["level"]), row["code"] != _AWAY, row["source"] not in _NOTICED))
    every = [finding for findings in found.values() for finding in findings]
    server, watchdog = _look(answer, "server"), _look(_look(answer, "watchdog"), "state")
    metrics = _look(server, "metrics")
    models = server.get("models") or [{}]
    kv = metrics.get("kv_cache_usage_perc")
    rates = _look(watchdog, "tokens_per_s")
    state = _state(nodes.get(head, {}), server, watchdog, found.get(head, []))
    return {
        "schema": SCHEMA,
        "made": made,
        "level": worst(every),
        "state": state,
        "endpoint": {
            "url": str(about.get("endpoint", "")),
            "model": str(about.get("model", "")),
            "image": _image(found.get(head, []), str(about.get("image", ""))),
            "vllm": str(server.get("version") or ""),
            "max_model_len": models[0].get("max_model_len"),
        },
        "load": {
            "tokens_per_s": _number(_look(answer, "rate").get("tokens_per_s")),
            "tokens_per_s_hour": _number(rates.get("hour")),
            "requests_running": _number(metrics.get("num_requests_running")),
            "requests_waiting": _number(metrics.get("num_requests_waiting")),
            "kv_cache_percent": None if kv is None else round(100 * float(kv), 1),
        },
        "ray": _ray(answer, about),
        "chat": _chat(answer),
        "nodes": [
            _node(name, result, name == head, _look(about, "addresses").get(name), found[name])
            for name, result in nodes.items()
        ],
        "recovery": _recovery(watchdog),
        "findings": rows,
        "next": _next(rows, state["level"]),
    }


def _image(findings: Sequence[Finding], name: str) -> str:
    """Return the image with where it came from, which is what pins it, where the head says so; else its name."""
    return next((one.found for one in findings if one.check == "image" and one.subject == name), name)


def _findings(result: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of all looks at a node, each once; of the call itself where it brought none."""
    looks = _looks(result)
    if not looks:
        return findings_of("node", result)
    return once({name: findings_of(name, said) for name, said in looks.items()})


def _looks(result: Mapping[str, Any]) -> Mapping[str, Any]:
    looks = result.get("looks")
    return looks if isinstance(looks, Mapping) else {}


def _look(within: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = within.get(name)
    return found if isinstance(found, Mapping) else {}


def _number(value: Any) -> float | None:
    return None if value is None else round(float(value), 1)


def _state(
    result: Mapping[str, Any], server: Mapping[str, Any], watchdog: Mapping[str, Any], findings: Sequence[Finding]
) -> dict[str, Any]:
    """Return what the watchdog says, where it runs; else what the server says of itself."""
    silent = next((finding for finding in findings if finding.code == "watchdog.silent"), None)
    if watchdog.get("state") and silent is None:
        name = str(watchdog["state"])
        level = GREEN if name in _SERVED else YELLOW if name in _BETWEEN else RED
        return _say(name, level, "watchdog", str(watchdog.get("reason", "")), watchdog.get("for_s"))
    if not _looks(result):
        reason = str(result.get("msg") or "the head does not answer").strip()
        return _say("unknown", RED, "nobody", f"the head did not answer: {reason}")
    if server.get("serving"):
        said = silent.found if silent else "it lists its model; no watchdog proves that tokens come"
        return _say("serving", YELLOW if silent else GREEN, "server", said)
    return _say("not serving", RED, "server", str(server.get("reason") or "the server was not read in time"))


def _say(name: str, level: str, by: str, reason: str, since: Any = None) -> dict[str, Any]:
    return {"name": name, "level": level, "said_by": by, "reason": reason, "for_s": _number(since)}


def _ray(answer: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any] | None:
    ray = _look(answer, "ray")
    if not ray:
        return None
    return {
        "ready": bool(ray.get("ready")),
        "version": str(ray.get("ray_version") or ""),
        "nodes": len(ray["alive"]) if ray.get("reachable") else None,
        "nodes_expected": about.get("expected_nodes"),
        "gpus": _number(ray.get("gpus_alive")) if ray.get("reachable") else None,
        "gpus_expected": about.get("expected_gpus"),
        "reason": str(ray.get("reason") or ray.get("msg") or ""),
    }


def _chat(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    found = next((unit for unit in _look(answer, "services").get("aside") or [] if unit["name"] == _CHAT), None)
    return {"port": found["port"], "active": str(found["active"])} if found else None


def _node(
    name: str, result: Mapping[str, Any], head: bool, address: Any, findings: Sequence[Finding]
) -> dict[str, Any]:
    looks = _looks(result)
    memory, disk, link = _look(looks, "memory"), _look(looks, "disk"), _look(looks, "link")
    return {
        "name": name,
        "role": "head" if head else "worker",
        "address": str(address or ""),
        "answers": bool(looks),
        # Another node's word on it has no figures of GPU, link and disk.
        "seen_by": str(_look(looks, "seen").get("by") or "itself") if looks else "",
        "reason": "" if looks else str(result.get("msg") or "the node does not answer").strip(),
        "level": worst(findings),
        "gpus": [
            {
                "name": str(gpu.get("name") or ""),
                "temperature_c": _number(gpu.get("temperature_c")),
                "clock_mhz": gpu.get("clock_sm_mhz"),
                "clock_max_mhz": gpu.get("clock_sm_max_mhz"),
                "utilization_percent": _number(gpu.get("utilization_percent")),
                "power_w": _number(gpu.get("power_w")),
            }
            for gpu in _look(looks, "gpu").get("gpus") or []
        ],
        "memory": {key: _number(memory.get(key)) for key in ("total_gib", "available_gib", "headroom_gib")},
        "disk": {
            "path": str(disk.get("path") or ""),
            **{key: _number(disk.get(key)) for key in ("total_gib", "free_gib")},
        },
        "link": {"state": str(link.get("state") or ""), "gbits": _number(link.get("gbits"))},
        "units": {str(unit["name"]): str(unit["active"]) for unit in _look(looks, "services").get("units") or []},
    }


def _recovery(watchdog: Mapping[str, Any]) -> dict[str, Any] | None:
    last = _look(watchdog, "recovery")
    if not last.get("at"):
        return None
    return {
        "at": str(last["at"]),
        "cause": str(last.get("cause") or ""),
        "seconds": _number(last.get("seconds")),
        "evidence": str(last.get("evidence") or ""),
    }


def _next(rows: Sequence[Mapping[str, Any]], state: str) -> list[str]:
    """Return what to do, the gravest first: the remedies of what is red; of what is yellow only where nothing is red."""
    level = RED if any(row["level"] == RED for row in rows) else YELLOW
    told: dict[str, None] = {}
    for row in rows:
        if row["level"] == level:
            told[f"{row['node']}: {row['remedy'] or '; '.join(f'`{command}`' for command in row['commands'])}"] = None
    steps = [line for line in told if not line.endswith(": ")]
    return steps or [NOTHING if state == GREEN else "run playbooks/report.yml, which looks at everything"]


# --- words that screen and page share -----------------------------------------------------------------------------


def figure(value: float | None, unit: str = "", places: int = 0) -> str:
    """Return a figure with its unit; a dash for what is not known."""
    return "-" if value is None else f"{value:.{places}f}{unit}"


def duration(seconds: float | None) -> str:
    """Return a span as people say it: ``45 s``, ``12 min``, ``3 h 5 min``, ``2 d 4 h``; empty for none."""
    if seconds is None:
        return ""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if hours < 1:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if days < 1 else f"{days} d {hours % 24} h"


def facts(status: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the rows on the cluster as a whole: a name, and what there is to say."""
    endpoint, load, ray = status["endpoint"], status["load"], status["ray"]
    context = endpoint["max_model_len"]
    model = [endpoint["model"], f"up to {context} tokens" if context else ""]
    server = [f"vLLM {endpoint['vllm']}" if endpoint["vllm"] else "", endpoint["image"]]
    hour = load["tokens_per_s_hour"]
    rows = [
        ("endpoint", endpoint["url"]),
        ("model", ", ".join(filter(None, model))),
        ("server", ", ".join(filter(None, server))),
        (
            "tokens/s",
            f"{figure(load['tokens_per_s'], places=1)} now, "
            + ("no record of the last hour" if hour is None else f"{hour:.1f} in the last hour"),
        ),
        ("requests", f"{figure(load['requests_running'])} running, {figure(load['requests_waiting'])} waiting"),
        ("KV cache", f"{figure(load['kv_cache_percent'], ' %')} in use"),
    ]
    if ray:
        said = f"{figure(ray['nodes'])} of {figure(ray['nodes_expected'])} nodes, {figure(ray['gpus'])} of {figure(ray['gpus_expected'])} GPUs"
        rows.append(("Ray", said if ray["nodes"] is not None else ray["reason"]))
    if chat := status["chat"]:
        said = "" if chat["active"] == "active" else f", see `journalctl -u {_CHAT}`"
        rows.append(("chat page", f"port {figure(chat['port'])} of the head: {chat['active']}{said}"))
    last = status["recovery"]
    if last:
        took = f", served again after {duration(last['seconds'])}" if last["seconds"] else ""
        rows.append(("recovery", f"last failure at {last['at']}: {last['cause']}{took}"))
    else:
        rows.append(("recovery", "none recorded"))
    return rows


HEADS = ("node", "GPU", "at work", "temp.", "clock", "memory free", "headroom", "link", "disk free")


def node_rows(status: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Return a row of figures for each node under HEADS, with its level; a node that did not answer has its reason alone."""
    rows = []
    for node in status["nodes"]:
        if not node["answers"]:
            rows.append((RED, [node["name"], node["reason"]]))
            continue
        gpu = node["gpus"][0] if node["gpus"] else {}
        more = f" x{len(node['gpus'])}" if len(node["gpus"]) > 1 else ""
        none = "none" if node["seen_by"] == "itself" else "not seen"
        memory, disk, link = node["memory"], node["disk"], node["link"]
        rows.append(
            (
                node["level"],
                [
                    node["name"],
                    (gpu.get("name", "").removeprefix("NVIDIA ") + more) or none,
                    figure(gpu.get("utilization_percent"), " %"),
                    figure(gpu.get("temperature_c"), " C"),
                    figure(gpu.get("clock_mhz"), " MHz"),
                    f"{figure(memory['available_gib'])} of {figure(memory['total_gib'], ' GiB')}",
                    figure(memory["headroom_gib"], " GiB"),
                    " ".join(filter(None, (link["state"], figure(link["gbits"], " Gb/s") if link["gbits"] else "")))
                    or "-",
                    figure(disk["free_gib"], " GiB"),
                ],
            )
        )
    return rows


def errors(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is wrong or wants a look, the gravest first."""
    return [row for row in status["findings"] if row["level"] != GREEN]


# --- the terminal -------------------------------------------------------------------------------------------------


def screen(
    status: Mapping[str, Any], width: int = 100, all_of_it: str = "add -e status_page=status.html"
) -> list[tuple[str, str]]:
    """Return the status as lines of at most ``width`` columns, each with the level that colours it ('' for none).

    Args:
        status: the document.
        width: columns.
        all_of_it: where the findings are for which there is no room.
    """
    width = max(60, min(width, 140))
    state = status["state"]
    since = f" ({duration(state['for_s'])})" if state["for_s"] is not None else ""
    lines = [(state["level"], line) for line in _fold(f"{state['name'].upper()}{since}: ", state["reason"], width, 2)]
    lines.append(("", ""))
    lines += [("", _cut(f"  {name:<9} {said}", width)) for name, said in facts(status)]
    lines += [("", ""), *_table(status, width), ("", "")]
    wrong = errors(status)
    for row in wrong[:MOST]:
        said = _fold(f"  {row['level']:<6}  ", f"{row['node']}: {row['found']} [{row['code']}]", width, 3)
        lines += [(row["level"], line) for line in said]
    if len(wrong) > MOST:
        lines.append(("", f"  and {len(wrong) - MOST} more: {all_of_it}"))
    if not wrong:
        lines.append((GREEN, f"  no errors; green: {counts(_levels(status))[GREEN]}"))
    for number, said in enumerate(status["next"][:3]):
        lines += [("", line) for line in _fold(f"  {'' if number else 'next':<6}  ", said, width, 3)]
    return lines


def _levels(status: Mapping[str, Any]) -> Iterable[Finding]:
    return [Finding.from_dict(row) for row in status["findings"]]


def _table(status: Mapping[str, Any], width: int) -> list[tuple[str, str]]:
    rows = node_rows(status)
    cells = [list(HEADS), *(row for _level, row in rows if len(row) == len(HEADS))]
    sizes = [max(len(row[column]) for row in cells) for column in range(len(HEADS))]
    sizes[0] = max(len(row[0]) for row in [list(HEADS), *(row for _level, row in rows)])
    # Without any figures the heads of their columns say nothing.
    lines = [("", _line(HEADS if len(cells) > 1 else HEADS[:1], sizes, width))]
    return lines + [(level, _line(row, sizes, width)) for level, row in rows]


def _line(row: Sequence[str], sizes: Sequence[int], width: int) -> str:
    return _cut("  " + "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)).rstrip(), width)


def _fold(start: str, text: str, width: int, most: int) -> list[str]:
    """Return a text behind its start on at most so many lines; those that follow are set in."""
    inner = " " * min(len(start), 10)
    return textwrap.wrap(
        start + " ".join(text.split()),
        width,
        subsequent_indent=inner,
        max_lines=most,
        placeholder=" ...",
        drop_whitespace=True,
        break_on_hyphens=False,
    )


def _cut(text: str, width: int) -> str:
    """Return a text as one line that fits."""
    line = text.replace("\n", " ").rstrip()
    return line if len(line) <= width else f"{line[: width - 3].rstrip()}..."
