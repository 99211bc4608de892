# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmark without a GPU: reading logs, arithmetic of the client, the list of configurations, the page."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import HttpError

from benchmarks.gpu import server_log, table
from benchmarks.gpu.client import Batch, Load, check_usage, decode_point, prefill_point, tokens_for
from benchmarks.gpu.entries import HERE, command_of, configurations, model_config, write_model
from benchmarks.gpu.server import Server, StartError

FIXTURES = Path(__file__).parent / "fixtures"
ROOT = HERE.parent.parent


def parsed(name: str) -> dict[str, Any]:
    return server_log.parse((FIXTURES / name).read_text(encoding="utf-8"))


def test_log_of_decode_graphs() -> None:
    found = parsed("decode.log")
    assert found["memory"] == {
        "weights_gib": 115.67,
        "kv_cache_gib": 10.92,
        "kv_cache_tokens": 60928,
        "max_concurrency": 7.44,
        "graphs_estimated_gib": 0.16,
        "graphs_gib": 0.13,
        "free_gib": 139.29,
        "total_gib": 139.8,
        "requested_gib": 128.62,
        "peak_activation_gib": 1.62,
        "non_torch_gib": 0.24,
        "kv_cache_bytes_left": 11602211431,
    }
    assert found["phases"] == {"model_loading_s": 16.855719, "graph_capture_s": 3, "init_engine_s": 9.65}
    assert found["effective"] == {"max_num_batched_tokens": 8192}
    assert found["backends"] == {"attention_backend": "FLASH_ATTN", "moe_backend": "MARLIN"}


def test_the_figures_of_the_log_add_up_as_vllm_says() -> None:
    for name in ("decode.log", "compile.log", "dense.log", "ray.log"):
        memory = parsed(name)["memory"]
        rest = memory["requested_gib"] - memory["weights_gib"] - memory["peak_activation_gib"] - memory["non_torch_gib"]
        assert rest - memory.get("graphs_estimated_gib", 0) == pytest.approx(memory["kv_cache_gib"], abs=0.03), name


def test_log_with_compilation() -> None:
    phases = parsed("compile.log")["phases"]
    assert phases["compilation_s"] == 56.64
    assert phases["init_engine_s"] == 77.93


def test_log_of_the_other_model_runner() -> None:
    found = parsed("dense.log")
    assert found["memory"]["weights_gib"] == 18.6
    assert found["phases"]["model_loading_s"] == 2.812757
    assert "graphs_estimated_gib" not in found["memory"]
    assert "moe_backend" not in found["backends"]


def test_log_behind_rays_prefix() -> None:
    assert parsed("ray.log")["memory"] == parsed("decode.log")["memory"]


def test_log_with_colours_and_nothing_in_it() -> None:
    assert server_log.parse("\x1b[36m(Worker)\x1b[0m Available KV cache memory: \x1b[1m1.5 GiB\x1b[0m")["memory"] == {
        "kv_cache_gib": 1.5
    }
    assert server_log.parse("") == {"memory": {}, "phases": {}, "effective": {}, "backends": {}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "...\nvllm: error: unrecognized arguments: --swap-space 16\n",
            "vllm: error: unrecognized arguments: --swap-space 16",
        ),
        (
            "ERROR x\n(EngineCore pid=1) ValueError: No available memory for the cache blocks. Try more.\nRuntimeError: Engine core failed\n",
            "No available memory for the cache blocks. Try more.",
        ),
        ("one line\n\n", "one line"),
        ("", "it wrote nothing"),
    ],
)
def test_cause(text: str, said: str) -> None:
    assert server_log.cause(text) == said


def test_decode_rate_is_what_the_longer_batch_adds() -> None:
    point = decode_point(4, 128, 101, Batch([0.2, 0.2, 0.4, 0.4], 0.5), Batch([2.5] * 4, 2.5))
    assert point["tpot_ms"] == 20.0
    assert point["decode_tok_s_request"] == 50.0
    assert point["decode_tok_s_total"] == 200.0
    assert point["ttft_s"] == pytest.approx(0.3)


def test_no_decode_rate_without_time() -> None:
    with pytest.raises(ValueError, match="no decode rate follows"):
        decode_point(1, 128, 32, Batch([1.0], 1.0), Batch([1.0], 1.0))


def test_prefill_takes_the_median() -> None:
    point = prefill_point(4096, [Batch([0.5], 0.5), Batch([9.0], 9.0), Batch([0.512], 0.512)])
    assert point["prefill_tok_s"] == 8000.0


def test_tokens_for() -> None:
    assert [tokens_for(rate) for rate in (1, 8.5, 30, 80)] == [32, 34, 120, 256]


def test_an_answer_of_another_length_is_refused() -> None:
    with pytest.raises(HttpError, match=r"counts \(128, 7\) tokens"):
        check_usage({"usage": {"prompt_tokens": 128, "completion_tokens": 7}}, 128, 8)
    with pytest.raises(HttpError):
        check_usage([], 128, 8)


class Endpoint(BaseHTTPRequestHandler):
    """Answers completions as asked; keeps the prompts."""

    prompts: ClassVar[list[list[int]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["ignore_eos"] is True
        self.prompts.append(body["prompt"])
        # Long enough to be told apart from one token.
        threading.Event().wait(0.001 * body["max_tokens"])
        usage = {"prompt_tokens": len(body["prompt"]), "completion_tokens": body["max_tokens"]}
        answer = json.dumps({"usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_load_measures_a_server_with_prompts_that_never_repeat() -> None:
    Endpoint.prompts = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        load = Load(f"http://127.0.0.1:{server.server_port}", "m", 50000, seed=1)
        points = load.measure([(1, 16), (3, 16)], [64])
    finally:
        server.shutdown()
        server.server_close()
    assert [(point["concurrency"], point["prompt_tokens"]) for point in points] == [(1, 16), (3, 16), (1, 64)]
    # How fast it was is up to the machine of the test.
    assert all(point["decode_tok_s_request"] > 0 for point in points[:2])
    starts = [tuple(prompt[:8]) for prompt in Endpoint.prompts]
    assert len(set(starts)) == len(starts)
    assert all(1000 <= token < 50000 for prompt in Endpoint.prompts for token in prompt)


@pytest.mark.parametrize(("name", "least"), [("h200.yml", 21)])
def test_every_configuration_has_a_shape_and_a_command(name: str, least: int) -> None:
    entries = configurations(HERE / name)
    assert len(entries) >= least
    for entry in entries:
        config = model_config(entry)
        assert "_source" not in config
        command = command_of(entry, "FOLDER", 1)
        assert command[:3] == ["vllm", "serve", "FOLDER"]
        assert "dummy" in command


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.yml"
    path.write_text("configurations: [{name: a}, {name: a}]\n", encoding="utf-8")
    with pytest.raises(ValueError, match="more than one configuration called a"):
        configurations(path)


def test_the_tokenizer_knows_every_id(tmp_path: Path) -> None:
    write_model(tmp_path, {"vocab_size": 7, "max_position_embeddings": 64})
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    assert sorted(tokenizer["model"]["vocab"].values()) == list(range(7))
    assert json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))["model_max_length"] == 64


def test_a_server_that_ends_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "import subprocess, sys; subprocess.Popen(['sleep', '60']); sys.exit('vllm: error: no')"
    with Server(["vllm", "-c", code], sys.executable, log, "http://127.0.0.1:9", "m", environment={}) as server:
        with pytest.raises(StartError, match="the server ended"):
            server.wait(20)
        session = server.pid
    assert server_log.cause(log.read_text(encoding="utf-8")) == "vllm: error: no"
    left = subprocess.run(["ps", "-s", str(session), "-o", "stat="], capture_output=True, text=True, check=False).stdout
    assert [state for state in left.split() if not state.startswith("Z")] == []


def test_a_server_that_does_not_serve_is_given_up(tmp_path: Path) -> None:
    code = "import time; time.sleep(60)"
    with (
        Server(
            ["vllm", "-c", code], sys.executable, tmp_path / "log", "http://127.0.0.1:9", "m", environment={}
        ) as server,
        pytest.raises(StartError, match="not serving after 1 s"),
    ):
        server.wait(1)


def test_runs_name_no_machine() -> None:
    files = sorted([*(HERE / "runs").glob("*.json"), *(HERE / "runs-two-hosts").glob("*.json")])
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        run = json.loads(text)
        assert run["status"] == "ok" or "Error: " in run["reason"], (
            f"{path.name}: a run that failed names the error of a rank"
        )
        assert "/tmp/" not in text and "GPU-" not in text, path.name


def test_the_page_shows_the_runs() -> None:
    page = (ROOT / "docs" / "gpu-runs.md").read_text(encoding="utf-8")
    assert table.fill(page, table.read(HERE / "runs"), table.read(HERE / "runs-two-hosts")) == page, (
        "make it again: python -m benchmarks.gpu.table"
    )


def test_a_fault_that_a_run_was_cut_short_in_has_its_row() -> None:
    fault = {
        "fault": "kill -9 of the engine core",
        "expected": {"verdict_after_s": 4, "right_after_s": 105},
        "verdict": {"state": "dead", "after_s": 1.1},
        "loads": [],
        "gpu_free_after_s": {},
        "right_after_s": None,
        "start_s": None,
        "over_a_start_s": None,
    }
    (row,) = table.broken([{"faults": [{"name": "stop_rank", "expected": {}}, fault]}])[2:]
    assert row == "| kill -9 of the engine core | dead | 1 (4) |  |  | not seen (105) |  |  |"
