# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A process that has imported vLLM and forks a server whenever it is told to: ``python -m benchmarks.gpu.warm``.

Importing vLLM takes each of the server's three processes ten seconds and more; forked from here, they find it done. Startup seconds of
such a server leave the imports out. Each line of standard input is ``{"argv": [...], "log": PATH, "environment": {...}}``; each line of
standard output is the process id of the server, which leads a session of its own.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

#: What a server imports sooner or later; one that this version does not have is passed over.
MODULES = (
    "torch",
    "transformers",
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.model_executor.models.qwen3_moe",
    "vllm.model_executor.models.qwen3",
)


def serve(order: dict[str, Any]) -> None:
    """Become the server; never returns."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["environment"])
    sys.argv = ["vllm", *order["argv"]]
    status = 1
    try:
        importlib.import_module("vllm.entrypoints.cli.main").main()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # the log is the only place where it can be told
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> int:
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    missing = []
    for name in MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        print("ERROR: an import has set up CUDA, which a forked server cannot use", file=sys.stderr)
        return 1
    for line in missing:
        print(f"not imported ahead: {line}", file=sys.stderr)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            serve(order)
        print(pid, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
