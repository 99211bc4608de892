# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Configurations on two hosts made of one machine with two GPUs: ``python -m benchmarks.gpu --hosts 2``.

Ray, server and readiness proof are those of a real pair; the network between the hosts is TCP. Each result is written as it grows, so
that a run which is cut short leaves what it had. ``hosts: 1`` in an entry serves with both GPUs of this machine, without the cable.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpClient, HttpError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.units import VLLM
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import commands
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.graph_steps import GraphTrial, ModeFailed
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.graph_trial import TrialError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.health import read_server
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.start_causes import first_cause

from benchmarks.gpu import hosts, server_log
from benchmarks.gpu.client import Load
from benchmarks.gpu.cluster import Cluster, role_default
from benchmarks.gpu.containers import Containers, mounted
from benchmarks.gpu.entries import MODEL, blank, configurations, intents_of, model_config, versions, write_model
from benchmarks.gpu.faults import FAULTS, Stage, play
from benchmarks.gpu.predict import NVLINK_US, given_of, memory_gib, predict
from benchmarks.gpu.server import Server, StartError, gpu_memory, gpu_query, wait_for_memory
from benchmarks.gpu.units import Unit
from benchmarks.gpu.watch import Watch

#: Seconds for which a configuration's start and its measurement are thought to last; none is begun that would not end in time.
LEAST_S = 150.0


@dataclass
class Bench:
    """What every configuration of a run shares."""

    options: argparse.Namespace
    cluster: Cluster
    gpu: dict[str, str]
    memory: float
    network: dict[str, Any]
    deadline: float | None

    def left(self) -> float:
        """Return the seconds that are left."""
        return float("inf") if self.deadline is None else self.deadline - time.monotonic()


def tell(text: str) -> None:
    """Print a line at once."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def wanted_of(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the configurations to run, in the order of the file or of the names.

    Raises:
        ValueError: a name or a fault is unknown.
    """
    found = configurations(options.configurations)
    unknown = sorted(set(options.names) - {entry["name"] for entry in found})
    if unknown:
        raise ValueError(f"it has no {', '.join(unknown)}")
    for entry in found:
        strange = sorted(set(entry.get("faults", [])) - set(FAULTS))
        if strange:
            raise ValueError(f"{entry['name']} has the fault {', '.join(strange)}; known are {', '.join(FAULTS)}")
    if options.names:
        return [next(entry for entry in found if entry["name"] == name) for name in options.names]
    return found


def allreduce_us(entry: dict[str, Any], network: dict[str, Any]) -> float:
    """Return what an all-reduce of a token takes, as the product's probe saw it; what is assumed where it did not measure."""
    if entry.get("hosts", 2) == 1:
        return NVLINK_US
    return float(network.get("latency_us") or 40.0)


def stress(load: Load, batches: Sequence[Sequence[int]]) -> list[dict[str, float]]:
    """Send batches (requests, prompt tokens, new tokens) that keep a server as busy as it gets; return the seconds of each."""
    found = []
    for count, prompt_tokens, output_tokens in batches:
        batch = load.batch(count, prompt_tokens, output_tokens)
        found.append(
            {
                "concurrency": count,
                "prompt_tokens": prompt_tokens,
                "output_tokens": output_tokens,
                "wall_s": round(batch.wall_s, 2),
            }
        )
    return found


@contextlib.contextmanager
def on_one_host(entry: dict[str, Any], bench: Bench, folder: Path, log: Path) -> Iterator[tuple[Server, float]]:
    """Serve with both GPUs of this machine, without the cable; yield the server and the seconds of its start."""
    options = bench.options
    lines, _notes = commands(intents_of(entry, str(folder), options.port, "0.0.0.0"))
    url = f"http://127.0.0.1:{options.port}"
    with Server(lines[0], options.vllm, log, url, MODEL, environment=entry["environment"]) as server:
        yield server, server.wait(min(options.start_seconds, bench.left()))[0]


@contextlib.contextmanager
def on_two_hosts(entry: dict[str, Any], bench: Bench, folder: Path) -> Iterator[tuple[Unit, Watch | None, float]]:
    """Serve on both hosts as the product's units do; yield the server's unit, what watches it, and the seconds of its start.

    Raises:
        StartError: it did not start; its first start counts.
    """
    cluster, options = bench.cluster, bench.options
    under_ray = entry["intents"].get("executor") == "ray"
    lines, _notes = commands(intents_of(entry, str(folder), options.port, "0.0.0.0"))
    seconds = min(options.start_seconds, bench.left())
    # The rate of prefill is measured by the watchdog's second completion: that it comes early keeps it out of what is measured here.
    watch = cluster.guard(MODEL, entry["intents"], 2.0, entry["name"]) if under_ray else None
    try:
        unit = cluster.serve(lines, MODEL, under_ray, entry["environment"], seconds)
        if not unit.wait_active(seconds + 30, starts=1):
            raise StartError(f"no proof within {seconds:.0f} s, or it ended")
        times = {event["what"]: event["at"] for event in unit.events}
        yield unit, watch, times["proven"] - times["loads"]
    finally:
        if watch is not None:
            watch.stop()
        cluster.unguard()
        cluster.end_server()


def trial_of(entry: dict[str, Any], bench: Bench, url: str, step: str, reason: str = "") -> dict[str, Any]:
    """Take one step of the product's trial of CUDA graphs, and return what it says; a mode that fails is an answer.

    Args:
        step: ``reference``, ``begin``, ``judge`` or ``fail``.
        reason: why it failed, for ``fail``.
    """
    params = {
        "record": str(bench.options.work / "graph-trials.json"),
        "image": "none",
        "model_commit": json.dumps([entry["shape"], entry.get("overrides", {})], sort_keys=True),
        "nodes": entry.get("hosts", 2),
        "nccl": "",
        "executor": entry["intents"].get("executor", "ray"),
        "mode": entry["intents"]["cuda_graphs"],
        "base_url": url,
        "model": MODEL,
        "api_key_file": "",
        "reason": reason or "it did not start",
        "answer_seconds": 120,
        "stall_seconds": 30,
        "soak_seconds": 10,
        "soak_concurrency": 4,
        "soak_tokens": 128,
    }
    trial = GraphTrial(params, no_image, False)
    begun = time.monotonic()
    try:
        said = getattr(trial, step)()["msg"]
    except (ModeFailed, TrialError, HttpError, OSError, ValueError, KeyError) as error:
        said = str(error)
    return {"step": step, "said": said, "seconds": round(time.monotonic() - begun, 1)}


def no_image(argv: Sequence[str], *_args: Any, **_more: Any) -> tuple[int, str, str]:
    """Stand in for Docker where a trial asks for the id of its image: there is none here, and all that is tried is of one."""
    return (0, json.dumps([{"Id": "sha256:none"}]), "") if "inspect" in argv else (1, "", "")


def measure_links(
    entry: dict[str, Any], bench: Bench, load: Load, given: Any, result: dict[str, Any], save: Any
) -> None:
    """Measure the points of an entry's ``links`` on a fabric that is held up."""
    cluster = bench.cluster
    for raw in entry.get("links", []):
        points = [(count, tokens) for count, tokens in raw.get("points", [[1, 128], [16, 128]])]
        limit = hosts.Limit(str(raw["name"]), float(raw.get("delay_us", 0)), float(raw.get("rate_mbit", 0)))
        found: dict[str, Any] = {"name": limit.name, "delay_us": limit.delay_us, "rate_mbit": limit.rate_mbit}
        result["links"].append(found)
        try:
            cluster.pair.limit(limit)
        except hosts.HostError as error:
            found["reason"] = str(error)
            tell(f"  {limit.name}: {error}")
            continue
        try:
            found["network"] = cluster.probe_network(mib=8)
            if "latency_us" in found["network"]:
                found["predicted"] = predict(
                    given_of(entry, result["config"], bench.gpu["name"], bench.memory, found["network"]["latency_us"]),
                    points,
                )
            tell(f"  {limit.name}: {found['network']}")
            save()
            found["points"] = load.measure(points, raw.get("prefill", []), lambda line: tell(f"    {line}"))
        finally:
            cluster.pair.limit(hosts.Limit("none"))
            save()


def measure(
    entry: dict[str, Any], bench: Bench, url: str, given: Any, result: dict[str, Any], save: Callable[[], None]
) -> None:
    """Measure what an entry asks for on a server that was proven."""
    load = Load(url, MODEL, result["config"]["vocab_size"], timeout=240)
    points = [(point["concurrency"], point["prompt_tokens"]) for point in result["predicted"]["points"]]
    result["points"] = []
    for decode, prefill in [([point], []) for point in points] + [
        ([], [tokens]) for tokens in entry.get("prefill", [])
    ]:
        try:
            result["points"] += load.measure(decode, prefill, lambda line: tell(f"  {line}"))
        except (ValueError, HttpError) as error:
            result["points_missing"] = [*result.get("points_missing", []), f"{decode or prefill}: {error}"]
            tell(f"  {error}")
        save()
    result["status"] = "ok" if result["points"] else "failed"
    save()
    measure_links(entry, bench, load, given, result, save)
    if entry.get("stress"):
        result["stress"] = stress(load, entry["stress"])
        tell(f"  stress {result['stress']}")
        save()
    if step := entry.get("trial"):
        result["trial"] = trial_of(entry, bench, url, step)
        tell(f"  trial {result['trial']}")
        save()


def break_it(
    entry: dict[str, Any], bench: Bench, unit: Unit, url: str, result: dict[str, Any], save: Callable[[], None]
) -> None:
    """Put an entry's faults one after the other, each on a pair that serves."""
    cluster, every_s = bench.cluster, float(role_default("probe_every"))
    for number, name in enumerate(entry.get("faults", [])):
        expected = float(entry.get("expect", {}).get(name, {}).get("right_after_s", LEAST_S))
        if bench.left() < expected + 15:
            tell(f"  not tried, the time is over: {name}")
            continue
        tell(f"  fault {name}, expected {entry.get('expect', {}).get(name, {})}")
        place = len(result["faults"])
        result["faults"].append({"name": name, "expected": entry.get("expect", {}).get(name, {})})

        def keep(seen: dict[str, Any], place: int = place) -> None:
            result["faults"][place] |= seen
            save()

        attempt = f"{entry['name']}-{number}-{name}"
        stage = Stage(
            cluster,
            unit,
            lambda attempt=attempt: cluster.guard(MODEL, entry["intents"], every_s, attempt),  # type: ignore[misc]
            url,
            result["config"]["vocab_size"],
            bench.left,
        )
        try:
            keep(play(name, stage, keep))
        except (hosts.HostError, HttpError, OSError, KeyError) as error:
            keep({"reason": str(error)})
        seen = result["faults"][place]
        shown = (
            "reason",
            "verdict",
            "loads",
            "start_s",
            "right_after_s",
            "over_a_start_s",
            "gpu_free_after_s",
            "healed",
        )
        tell(f"    { ({key: seen[key] for key in shown if key in seen}) }")
        if not seen.get("healed"):
            tell("    not healed: the pair is made new")
            cluster.renew(min(180.0, max(bench.left() - 5, 0.0)))


def run(entry: dict[str, Any], bench: Bench) -> dict[str, Any]:
    """Predict, start, prove, measure, break and stop one configuration; whatever fails is in ``reason``."""
    options, cluster = bench.options, bench.cluster
    folder = options.work / "models" / entry["name"]
    config = model_config(entry)
    write_model(folder, config)
    lines, _notes = commands(intents_of(entry, str(folder), options.port, "0.0.0.0"))
    result = blank(entry, config, lines[0], str(folder))
    count = int(entry.get("hosts", 2))
    limit = entry["intents"].get("max_num_seqs") or 1024
    points = [(number, tokens) for number, tokens in entry["points"] if number <= limit]
    given = given_of(entry, config, bench.gpu["name"], bench.memory, allreduce_us(entry, bench.network))
    result |= {
        "hosts": count,
        "imports_ahead": False,
        "gpu": bench.gpu,
        "versions": versions(),
        "network": bench.network if count == 2 else {},
        "ray_unproven": cluster.unproven,
        "predicted": predict(given, points),
        "links": [],
        "faults": [],
        "gpu_mib_before": gpu_memory(),
    }
    path = options.out / f"{entry['name']}.json"
    log = options.work / "logs" / f"{entry['name']}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    journal = log if count == 1 else options.work / f"{VLLM}.journal"
    watch: Watch | None = None

    def save() -> None:
        if watch is not None:
            result["watch"] = watch.summary()
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    def proven(seconds: float, url: str) -> None:
        result["ready_s"] = round(seconds, 2)
        result.update(server_log.parse(journal.read_text(encoding="utf-8", errors="replace")))
        result["gpu_mib_idle"] = gpu_memory()
        result["server_version"] = read_server(HttpClient(url, timeout=10), MODEL).version
        tell(f"  proven after {result['ready_s']} s, {result['memory']}")
        save()

    save()
    tell(f"{entry['name']}: predicted {result['predicted']}")
    tried = entry.get("trial") == "judge"
    try:
        if tried:
            trial_of(entry, bench, "", "begin")
        if count == 1:
            url = f"http://127.0.0.1:{options.port}"
            with on_one_host(entry, bench, folder, log) as (_server, seconds):
                proven(seconds, url)
                measure(entry, bench, url, given, result, save)
        else:
            url = f"http://{hosts.CONTROL_NET[1]}:{options.port}"
            with on_two_hosts(entry, bench, folder) as (unit, watch, seconds):
                proven(seconds, url)
                if watch is not None:
                    watch.wait_for(lambda: watch is not None and watch.prefill is not None, 30)
                measure(entry, bench, url, given, result, save)
                if entry.get("faults"):
                    if watch is not None:
                        watch.stop()
                    break_it(entry, bench, unit, url, result, save)
    except (StartError, HttpError, ValueError, OSError, hosts.HostError) as error:
        text = journal.read_text(encoding="utf-8", errors="replace") if journal.exists() else ""
        cause = first_cause(text)
        result["reason"] = f"{error}: {cause.sentence() if cause else server_log.cause(text)}".replace(
            str(folder), MODEL
        )
        result.update(server_log.parse(text))
        if tried and "ready_s" not in result:
            result["trial"] = trial_of(entry, bench, "", "fail", result["reason"])
        tell(f"  failed: {result['reason']}")
    wait_for_memory()
    result["gpu_mib_after"] = gpu_memory()
    if journal != log and journal.exists():
        shutil.copyfile(journal, log)
    save()
    return result


def main(options: argparse.Namespace) -> int:
    """Run the configurations; returns the exit status."""
    wanted = wanted_of(options)
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    deadline = None if options.until is None else time.monotonic() + options.until
    fields = ("name", "memory.total", "driver_version", "compute_cap", "memory.reserved")
    row = gpu_query(",".join(fields))
    if len(row) != len(fields):
        raise hosts.HostError("nvidia-smi names no GPU")
    gpu = dict(zip(("name", "memory_mib", "driver", "compute_capability"), row, strict=False))
    if reason := hosts.missing() or hosts.taken():
        raise hosts.HostError(reason)
    failed = 0
    containers = Containers(mounted(options.work))
    try:
        with hosts.Pair() as pair:
            cluster = Cluster(pair, containers, options.ray, options.vllm, options.python, options.work, options.port)
            network = cluster.probe_network()
            tell(f"network between the hosts: {network}")
            bench = Bench(options, cluster, gpu, memory_gib(float(row[1]), float(row[4])), network, deadline)
            tell(f"Ray is up after {cluster.up():.1f} s {cluster.unproven}")
            for entry in wanted:
                if bench.left() < float(entry.get("least_s", LEAST_S)):
                    tell(f"not started, the time is over: {entry['name']}")
                    continue
                failed += run(entry, bench)["status"] != "ok"
            cluster.down()
    finally:
        containers.close()
    return 1 if failed else 0
