# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a vLLM server writes about memory and time while it starts.

The sentences are those of vLLM 0.26 (vllm/v1/worker/gpu_worker.py, gpu_model_runner.py, v1/core/kv_cache_utils.py,
v1/engine/core.py); a sentence that another version words otherwise leaves its figure out.
"""

from __future__ import annotations

import re
from typing import Any

_NUMBER = r"(-?\d+(?:\.\d+)?)"

#: Figure of the group named in the first place -> pattern; the last line that matches counts (rank 0 writes all of these).
_FIGURES: dict[str, dict[str, re.Pattern[str]]] = {
    "memory": {
        "weights_gib": re.compile(rf"Model loading took {_NUMBER} GiB"),
        "kv_cache_gib": re.compile(rf"Available KV cache memory: {_NUMBER} GiB"),
        "kv_cache_tokens": re.compile(r"GPU KV cache size: ([\d,]+) tokens"),
        "max_concurrency": re.compile(rf"Maximum concurrency for [\d,]+ tokens per request: {_NUMBER}x"),
        "graphs_estimated_gib": re.compile(rf"Estimated CUDA graph memory: {_NUMBER} GiB total"),
        "graphs_gib": re.compile(rf"Graph capturing finished in {_NUMBER} secs, took (?P<value>{_NUMBER}) GiB"),
        "free_gib": re.compile(rf"Free memory on device \({_NUMBER}/"),
        "total_gib": re.compile(rf"Free memory on device \({_NUMBER}/(?P<value>{_NUMBER}) GiB\) on startup"),
        "requested_gib": re.compile(rf"utilization is \({_NUMBER}, (?P<value>{_NUMBER}) GiB\)"),
        "peak_activation_gib": re.compile(rf"{_NUMBER} GiB for peak activation"),
        "non_torch_gib": re.compile(rf"{_NUMBER} GiB for non-torch memory"),
        "kv_cache_bytes_left": re.compile(r"`--kv-cache-memory=(-?\d+)` \([-\d.]+ GiB\) to fit into requested"),
    },
    "phases": {
        "model_loading_s": re.compile(
            rf"Model loading took {_NUMBER} GiB (?:memory )?and (?P<value>{_NUMBER}) seconds"
        ),
        "weights_loading_s": re.compile(rf"Loading weights took {_NUMBER} seconds"),
        "graph_capture_s": re.compile(rf"Graph capturing finished in {_NUMBER} secs"),
        "compilation_s": re.compile(
            rf"torch\.compile (?:and initial profiling/warmup run together )?took {_NUMBER} s in total"
        ),
        "init_engine_s": re.compile(rf"init engine \(profile, create kv cache, warmup model\) took {_NUMBER} s"),
    },
    "effective": {
        "max_num_batched_tokens": re.compile(r"Chunked prefill is enabled with max_num_batched_tokens=(\d+)"),
    },
}
_WORDS: dict[str, re.Pattern[str]] = {
    "attention_backend": re.compile(r"Using (?:AttentionBackendEnum\.)?(\w+) attention backend"),
    "moe_backend": re.compile(r"Using '?(\w+)'? (?:\w+ )?MoE backend", re.IGNORECASE),
}
#: Lines that say why a server did not start; the first that is found is told.
_CAUSES = (
    re.compile(r"(No available memory for the cache blocks[^\n]*)"),
    re.compile(
        r"((?:ValueError|RuntimeError|NotImplementedError|ImportError|ModuleNotFoundError|AssertionError): [^\n]*)"
    ),
    re.compile(r"(torch\.(?:cuda\.)?OutOfMemoryError[^\n]*)"),
    re.compile(r"((?:vllm|api_server\.py|\w+): error: [^\n]*)"),
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def parse(text: str) -> dict[str, Any]:
    """Return ``{"memory": {...}, "phases": {...}, "effective": {...}, "backends": {...}}``; a figure that is not there is left out."""
    text = _COLOUR.sub("", text)
    found: dict[str, Any] = {group: {} for group in (*_FIGURES, "backends")}
    for group, patterns in _FIGURES.items():
        for name, pattern in patterns.items():
            match = _last(pattern, text)
            if match:
                raw = match["value"] if "value" in pattern.groupindex else match[1]
                found[group][name] = _number(raw.replace(",", ""))
    for name, pattern in _WORDS.items():
        word = pattern.search(text)
        if word:
            found["backends"][name] = word[1]
    return found


def cause(text: str) -> str:
    """Return the line that says why a server did not start, or its last line."""
    text = _COLOUR.sub("", text)
    for pattern in _CAUSES:
        match = _last(pattern, text)
        if match:
            return " ".join(match[1].split())[:400]
    lines = [line for line in text.splitlines() if line.strip()]
    return " ".join(lines[-1].split())[:400] if lines else "it wrote nothing"


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Return the last match: a server that restarts within its log says everything twice."""
    return next(reversed(list(pattern.finditer(text))), None)


def _number(raw: str) -> float | int:
    return float(raw) if "." in raw else int(raw)
