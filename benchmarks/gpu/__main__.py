# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Run a list of configurations on one CUDA GPU, or on two as two hosts: ``python -m benchmarks.gpu [--hosts 2] --out FOLDER [NAME...]``.

Each is started with the command that this collection renders, waited for as the playbooks wait, measured and stopped; its figures are
in FOLDER/NAME.json as soon as they are there. A configuration that fails is told there, too, and the next one starts. The models are
shapes (benchmarks/gpu/shapes) with random weights and a tokenizer of made-up words; ``--config FOLDER NAME`` takes a model of yours with
the flags of NAME instead.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpError

from benchmarks.gpu import server_log, two_hosts
from benchmarks.gpu.client import Load
from benchmarks.gpu.entries import HERE, MODEL, blank, command_of, configurations, model_config, versions, write_model
from benchmarks.gpu.hosts import HostError
from benchmarks.gpu.server import Forge, Server, StartError, gpu_query, wait_for_memory


def run(entry: dict[str, Any], options: argparse.Namespace, forge: Forge | None) -> dict[str, Any]:
    """Start, measure and stop one configuration; whatever fails is in ``reason``."""
    folder = options.config or options.work / "models" / entry["name"]
    config = (
        json.loads((options.config / "config.json").read_text(encoding="utf-8"))
        if options.config
        else model_config(entry)
    )
    if options.config:
        # A folder with weights is served with them.
        if any(folder.glob("*.safetensors")):
            entry = {**entry, "intents": {**entry["intents"], "load_format": None}}
        entry = {**entry, "shape": "", "overrides": {}}
    else:
        write_model(folder, config)
    command = command_of(entry, str(folder), options.port)
    result = blank(entry, config, command, str(folder))
    result["imports_ahead"] = forge is not None and not entry.get("cold")
    log = options.work / "logs" / f"{entry['name']}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    wait_for_memory()
    url = f"http://127.0.0.1:{options.port}"
    state = None
    try:
        with Server(
            command,
            options.vllm,
            log,
            url,
            MODEL,
            environment=entry["environment"],
            forge=forge if result["imports_ahead"] else None,
        ) as server:
            ready_s, state = server.wait(options.start_seconds)
            used = gpu_query("memory.used")
            if entry.get("measure", True):
                load = Load(url, MODEL, config["vocab_size"])
                limit = entry["intents"].get("max_num_seqs") or 1024
                points = [(count, tokens) for count, tokens in entry["points"] if count <= limit]
                result["points"] = load.measure(points, entry["prefill"], lambda line: print(f"  {line}", flush=True))
        result["status"] = "ok"
        result["ready_s"] = round(ready_s, 2)
        if used:
            result["gpu_used_mib_idle"] = float(used[0])
    except (StartError, HttpError, ValueError, OSError) as error:
        result["reason"] = str(error)
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    result.update(server_log.parse(text))
    if state is not None:
        result["cache"] = {
            key: value
            for key, value in state.metrics.get("cache_config", {}).items()
            if key in ("block_size", "num_gpu_blocks", "cache_dtype", "gpu_memory_utilization")
        }
        result["server_version"] = state.version
    if result["status"] != "ok":
        result["reason"] = f"{result['reason']}: {server_log.cause(text)}".replace(str(folder), MODEL)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description="Measure vLLM on one CUDA GPU.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="configurations to run; all of the file when left out")
    parser.add_argument("--out", type=Path, required=True, help="folder for one JSON file a configuration")
    parser.add_argument("--configurations", type=Path, default=HERE / "h200.yml", help="the list; h200.yml unless told")
    parser.add_argument(
        "--config", type=Path, help="folder of a model to serve in place of a shape, with its weights if it has any"
    )
    parser.add_argument(
        "--hosts", type=int, choices=(1, 2), default=1, help="2: a GPU on each of two hosts made of this machine (root)"
    )
    parser.add_argument("--ray", default="ray", help="how Ray is called, for --hosts 2")
    parser.add_argument("--vllm", default="vllm", help="how vLLM is called, 'vllm' unless told")
    parser.add_argument("--python", default=sys.executable, help="the Python that has vLLM, for --warm and --hosts 2")
    parser.add_argument("--warm", action="store_true", help="import vLLM once and fork the servers from there")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "benchmarks-gpu", help="for shapes and server logs"
    )
    parser.add_argument("--port", type=int, default=18235)
    parser.add_argument("--start-seconds", type=float, default=400.0, help="patience with one server's start")
    parser.add_argument("--until", type=float, help="start nothing more after this many seconds")
    options = parser.parse_args(arguments)
    if options.hosts == 2:
        if options.config or options.warm:
            parser.error("--hosts 2 goes neither with --config nor with --warm")
        try:
            return two_hosts.main(options)
        except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
            parser.error(f"{options.configurations} cannot be used: {error}")
        except (HostError, StartError) as error:
            parser.error(str(error))
    try:
        wanted = configurations(options.configurations)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        parser.error(f"{options.configurations} cannot be used: {error}")
    unknown = sorted(set(options.names) - {entry["name"] for entry in wanted})
    if unknown:
        parser.error(f"{options.configurations} has no {', '.join(unknown)}")
    if options.config and not options.names:
        parser.error("with --config, name the configurations whose flags it is to be served with")
    if options.names:
        wanted = [next(entry for entry in wanted if entry["name"] == name) for name in options.names]
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    gpu = gpu_query("name,memory.total,driver_version,compute_cap")
    machine = dict(zip(("name", "memory_mib", "driver", "compute_capability"), gpu, strict=False))
    packages = versions()
    forge: Forge | None = None
    if options.warm:
        try:
            forge = Forge(options.python)
            print(f"imports took {forge.import_s:.1f} s", flush=True)
        except StartError as error:
            print(f"{error}; every server imports by itself", file=sys.stderr)
    failed = 0
    proven = False
    for entry in wanted:
        if options.until is not None and time.monotonic() - began > options.until:
            print(f"not started, the time is over: {entry['name']}", flush=True)
            continue
        print(f"{entry['name']}, {time.monotonic() - began:.0f} s", flush=True)
        result = run(entry, options, forge)
        if result["status"] != "ok" and forge and not proven:
            print(f"  failed: {result['reason']}; again, without imports ahead", flush=True)
            forge.close()
            forge = None
            result = run(entry, options, None)
        proven = proven or result["status"] == "ok"
        result.update(gpu=machine, versions=packages)
        if result["status"] != "ok":
            failed += 1
            print(f"  failed: {result['reason']}", flush=True)
        else:
            memory = result["memory"]
            print(f"  up after {result['ready_s']} s, {memory}", flush=True)
        path = options.out / f"{entry['name']}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if forge:
        forge.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
