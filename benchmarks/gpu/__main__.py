# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Run a list of configurations on one CUDA GPU: ``python -m benchmarks.gpu --out FOLDER [NAME...]``.

Each is started with the command that this collection renders, waited for as the playbooks wait, measured and stopped; its figures are
in FOLDER/NAME.json as soon as they are there. A configuration that fails is told there, too, and the next one starts. The models are
shapes (benchmarks/gpu/shapes) with random weights and a tokenizer of made-up words; ``--config FOLDER NAME`` takes a model of yours with
the flags of NAME instead.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import ServeIntents, render

from benchmarks.gpu import server_log
from benchmarks.gpu.client import Load
from benchmarks.gpu.server import Forge, Server, StartError, gpu_query, wait_for_memory

HERE = Path(__file__).resolve().parent
MODEL = "shape"


def configurations(path: Path) -> list[dict[str, Any]]:
    """Return the list in a file, each with the file's defaults filled in."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    defaults = document.get("defaults", {})
    merged = []
    for entry in document["configurations"]:
        whole = {**copy.deepcopy(defaults), **entry}
        for key in ("intents", "environment"):
            whole[key] = {**defaults.get(key, {}), **entry.get(key, {})}
        merged.append(whole)
    names = [entry["name"] for entry in merged]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has more than one configuration called {', '.join(twice)}")
    return merged


def model_config(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the config.json of a configuration's model: its shape with the overrides."""
    shape: dict[str, Any] = json.loads((HERE / "shapes" / f"{entry['shape']}.json").read_text(encoding="utf-8"))
    shape.pop("_source", None)
    shape.update(entry.get("overrides", {}))
    return shape


def write_model(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json and a tokenizer that knows every id of the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    words = {f"w{index}": index for index in range(config["vocab_size"])}
    tokenizer: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w0"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "w2",
        "unk_token": "w0",
        "model_max_length": config.get("max_position_embeddings", 32768),
        "chat_template": "{% for message in messages %}{{ message['content'] }} {% endfor %}",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def command_of(entry: dict[str, Any], folder: str, port: int) -> list[str]:
    """Return the server's command as this collection renders it."""
    intents = ServeIntents(
        model_path=folder,
        served_model_name=MODEL,
        host="127.0.0.1",
        port=port,
        extra_arguments=[str(argument) for argument in entry.get("arguments", [])],
        **entry["intents"],
    )
    return render(intents).command


def versions() -> dict[str, str]:
    """Return the versions of what runs, as far as this Python knows them."""
    import importlib.metadata

    found = {}
    for name in ("vllm", "torch", "ray", "flashinfer-python", "transformers", "triton"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


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
    result: dict[str, Any] = {
        "name": entry["name"],
        "status": "failed",
        "reason": "",
        "purpose": entry.get("purpose", ""),
        "shape": entry.get("shape", ""),
        "config": config,
        "intents": entry["intents"],
        "arguments": entry.get("arguments", []),
        "environment": entry["environment"],
        "command": [MODEL if part == str(folder) else part for part in command],
        "imports_ahead": forge is not None and not entry.get("cold"),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "points": [],
    }
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
    parser.add_argument("--vllm", default="vllm", help="how vLLM is called, 'vllm' unless told")
    parser.add_argument("--python", default=sys.executable, help="the Python that has vLLM, for --warm")
    parser.add_argument("--warm", action="store_true", help="import vLLM once and fork the servers from there")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "benchmarks-gpu", help="for shapes and server logs"
    )
    parser.add_argument("--port", type=int, default=18235)
    parser.add_argument("--start-seconds", type=float, default=400.0, help="patience with one server's start")
    parser.add_argument("--until", type=float, help="start nothing more after this many seconds")
    options = parser.parse_args(arguments)
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
