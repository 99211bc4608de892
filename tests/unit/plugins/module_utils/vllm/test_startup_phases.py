# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Seconds of a start by phase, from lines that vLLM wrote somewhere; the source of each text stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.startup_phases import (
    PHASES,
    journal_command,
    phase_seconds,
    phases_line,
    start_report,
)

CPU_LOG = Path(__file__).parents[1] / "fixtures" / "vllm_0_32" / "start_cpu.log"

# vllm-project/vllm issue 20264 (vLLM 0.9, one GPU), shortened to the lines that count.
ONE_GPU = """\
INFO 06-19 23:05:01 [loader.py:447] Loading weights took 0.69 seconds
INFO 06-19 23:05:01 [gpu_model_runner.py:1273] Model loading took 3.4213 GiB and 0.902026 seconds
INFO 06-19 23:05:18 [monitor.py:33] torch.compile takes 7.51 s in total
INFO 06-19 23:05:18 [kv_cache_utils.py:578] GPU KV cache size: 613,024 tokens
INFO 06-19 23:05:35 [gpu_model_runner.py:1608] Graph capturing finished in 17 secs, took 0.48 GiB
INFO 06-19 23:05:35 [core.py:162] init engine (profile, create kv cache, warmup model) took 34.11 seconds
"""
# MiniMax-AI/MiniMax-M2.5 issue 30 (four ranks over Ray), shortened.
RANKS = """\
(EngineCore pid=89247) (RayWorkerWrapper pid=89561) INFO 04-01 11:24:08 [gpu_model_runner.py:4566] Model loading took 13.2 GiB memory and 82.628035 seconds
(EngineCore pid=89247) (RayWorkerWrapper pid=164889, ip=172.20.4.203) INFO 04-01 11:25:09 [default_loader.py:384] Loading weights took 142.85 seconds
(EngineCore pid=89247) (RayWorkerWrapper pid=164889, ip=172.20.4.203) INFO 04-01 11:25:14 [gpu_model_runner.py:4566] Model loading took 13.2 GiB memory and 148.493862 seconds
(EngineCore pid=89247) (RayWorkerWrapper pid=165186, ip=172.20.4.201) INFO 04-01 11:25:18 [default_loader.py:384] Loading weights took 151.79 seconds
(EngineCore pid=89247) (RayWorkerWrapper pid=75390, ip=172.20.4.202) INFO 04-01 11:25:20 [default_loader.py:384] Loading weights took 154.14 seconds
"""
# Invented: the wording of vLLM 0.32's source (v1/engine/core.py, compilation/monitor.py, weight_utils.py) with made-up figures.
NEWER = """\
(APIServer pid=1) INFO 01-01 00:00:00 [api_utils.py:286] vLLM API server version 0.32.0
(EngineCore pid=9) INFO 01-01 00:00:10 [core.py:134] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(EngineCore pid=9) INFO 01-01 00:00:20 [gpu_model_runner.py:5040] Starting to load model m...
(EngineCore pid=9) INFO 01-01 00:00:20 [weight_utils.py:1130] Filesystem type for checkpoints: NFS4. Checkpoint size: 115.50 GiB. Available RAM: 60.00 GiB.
(EngineCore pid=9) INFO 01-01 00:03:20 [default_loader.py:502] Loading weights took 180.00 seconds
(EngineCore pid=9) INFO 01-01 00:03:30 [gpu_model_runner.py:5150] Model loading took 57.8 GiB memory and 190.500000 seconds
(EngineCore pid=9) INFO 01-01 00:04:00 [monitor.py:62] [backbone] torch.compile took 20.00 s in total
(EngineCore pid=9) INFO 01-01 00:04:01 [gpu_worker.py:760] Available KV cache memory: 29.12 GiB
(EngineCore pid=9) INFO 01-01 00:04:01 [kv_cache_utils.py:2328] GPU KV cache size: 325,000 tokens, Maximum concurrency for 8,192 tokens per request: 39.67x
(EngineCore pid=9) INFO 01-01 00:04:10 [gpu_model_runner.py:6582] Graph capturing finished in 5 secs, took 0.75 GiB
(EngineCore pid=9) INFO 01-01 00:04:12 [core.py:390] init engine (profile, create kv cache, warmup model) took 40.00 s (compilation: 20.00 s)
(APIServer pid=1) INFO 01-01 00:04:15 [launcher.py:37] Available routes are:
(APIServer pid=1) INFO:     Application startup complete.
"""


def test_one_gpu() -> None:
    assert phase_seconds(ONE_GPU) == {
        "engine start": 0.0,
        "weights": 0.69,
        "model setup": 0.21,
        "compile": 7.51,
        "graph capture": 17.0,
        "engine warm-up": 9.6,
    }
    report = start_report(ONE_GPU, weights_bytes=3 * 2**30)
    assert (report["kv_cache_tokens"], report["graph_gib"], report["model_gib"]) == (613024, 0.48, 3.4213)
    assert report["gib_per_s"] == pytest.approx(4.348)


def test_the_slowest_rank_counts() -> None:
    found = phase_seconds(RANKS)
    assert found["weights"] == 154.14
    assert found["model setup"] == 0.0


def test_phases_sum_up_to_the_whole() -> None:
    found = phase_seconds(NEWER)
    assert found == {
        "engine start": 20.0,
        "weights": 180.0,
        "model setup": 10.5,
        "compile": 20.0,
        "graph capture": 5.0,
        "engine warm-up": 15.0,
        "other until ready": 4.5,
    }
    assert sum(found.values()) == 255
    assert list(found) == [phase for phase in PHASES if phase in found]
    report = start_report(NEWER)
    assert (report["weights_gib"], report["gib_per_s"], report["filesystem"]) == (115.5, 0.642, "nfs4")
    assert (report["kv_cache_gib"], report["kv_cache_tokens"]) == (29.12, 325000)


def test_the_last_start_counts() -> None:
    again = NEWER.replace("180.00 seconds", "60.00 seconds")
    assert phase_seconds(NEWER + again)["weights"] == 60.0
    assert phase_seconds(again + NEWER)["weights"] == 180.0


FIELD = Path(__file__).parents[4] / "field_cases" / "journals" / "journal-worker-clock-3min-behind.txt"


def test_clocks_that_differ_break_no_figure() -> None:
    behind = FIELD.read_text(encoding="utf-8")
    # From 10:08:00 to 10:16:50 by the head's own clock.
    assert phases_line(phase_seconds(behind)).startswith("start-up: 530 s (weights 402 s")
    ahead = behind.replace(" 10:05:30 ", " 10:11:30 ").replace(" 10:12:2", " 10:18:2")
    assert phase_seconds(ahead) == phase_seconds(behind)


def test_a_clock_that_is_set_back_breaks_no_figure() -> None:
    text = NEWER.replace("INFO 01-01 00:00:00", "INFO 06-01 00:00:30").replace("INFO 01-01", "INFO 06-01")
    seconds = phase_seconds(text)
    assert "engine start" not in seconds
    assert sum(seconds.values()) < 300


def test_over_new_year() -> None:
    text = NEWER.replace("01-01 00:00:00", "12-31 23:59:50")
    assert phase_seconds(text)["engine start"] == 30.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing of it",
        "\x00\xff",
        "INFO 02-30 99:99:99 [x] Starting to load model",
        "Loading weights took x seconds",
    ],
)
def test_a_text_without_figures(text: str) -> None:
    assert phase_seconds(text) == {}
    assert start_report(text) == {"phases": {}}


def test_colours_do_not_matter() -> None:
    assert (
        phase_seconds("\x1b[32mINFO\x1b[0m 06-19 23:05:01 [l.py:4] Loading weights took 0.69 seconds")["weights"]
        == 0.69
    )


def test_what_the_simulated_server_writes() -> None:
    # Written by the CPU build of vLLM 0.32.0 with the simulation's tiny model; recorded for this test.
    report = start_report(CPU_LOG.read_text(encoding="utf-8"))
    assert set(report["phases"]) >= {"engine start", "weights", "engine warm-up", "other until ready"}
    assert report["phases"]["weights"] > 0
    assert report["kv_cache_tokens"] > 0


def test_the_journal_since_the_container_started() -> None:
    asked = journal_command("spark-vllm", "2026-11-23T18:57:44.123456789Z")
    assert asked == ["journalctl", "--unit", "spark-vllm", "--output", "cat", "--since", "2026-11-23 18:57:44 UTC"]


def test_a_start_in_one_line() -> None:
    assert phases_line({"engine start": 20.0, "weights": 180.25, "compile": 0.0}) == (
        "start-up: 200 s (engine start 20 s, weights 180 s)"
    )
    assert phases_line({}) == ""


def test_a_pool_below_nothing_is_a_figure() -> None:
    said = "INFO 01-01 00:00:00 Available KV cache memory: 3.10 GiB\nINFO 01-01 00:00:01 Available KV cache memory: -2.26 GiB\n"
    assert start_report(said)["kv_cache_gib"] == -2.26
