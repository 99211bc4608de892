#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the rates of a server under one load after the other, by vLLM's own benchmark."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_benchmark
short_description: Latency, decode and prefill rate of the running server, by vLLM's own benchmark
version_added: 1.0.0
description:
  - Runs C(vllm bench serve) in the serving container on this node, once for each load, and returns the figures of each.
  - Address, model, tokenizer and API key are those that the container was started with. The key is read inside the container and
    is in no argument list.
  - Clocks of the GPU and waiting requests are sampled meanwhile, and the server's counters are read before and after.
  - It makes load for as long as it runs. While requests of others are running or waiting it measures nothing and fails, unless
    O(while_busy=true).
  - With O(watch=true) it makes no load and samples the GPU of this node while another node measures.
options:
  container:
    description: Container that runs C(vllm serve).
    type: str
    default: spark-vllm
  loads:
    description: Loads to measure, one after the other.
    type: list
    elements: dict
    required: true
    suboptions:
      concurrency:
        description: Requests at a time.
        type: int
        required: true
      prompt_tokens:
        description: Tokens of each prompt, drawn at random; at least 8.
        type: int
        required: true
      output_tokens:
        description: Tokens of each answer; at least 2.
        type: int
        default: 128
      requests:
        description: Requests in all; 0 for two waves, and at least three requests.
        type: int
        default: 0
  seed:
    description:
      - Number that the prompts are drawn from; each load takes the next one.
      - Another run needs another one, or the prefix cache answers. Left out, it is made of the time.
    type: int
  while_busy:
    description: Whether to measure although requests of others are running or waiting.
    type: bool
    default: false
  timeout:
    description: Longest seconds for one load, the start of the benchmark included.
    type: float
    default: 1800
  watch:
    description: Whether to make no load, but watch the GPU of this node until the server at O(base_url) has answered the requests of O(loads).
    type: bool
    default: false
  base_url:
    description: Address of the server for O(watch=true), without C(/v1).
    type: str
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  check_mode:
    description: Returns the commands that would run, and runs none.
    support: full
  diff_mode:
    description: It changes nothing.
    support: N/A
seealso:
  - module: dgx_spark.vllm.vllm_benchmark_info
  - module: dgx_spark.vllm.vllm_benchmark_result
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Measure one request at a time, and four
  dgx_spark.vllm.vllm_benchmark:
    loads:
      - {concurrency: 1, prompt_tokens: 128}
      - {concurrency: 4, prompt_tokens: 128, requests: 8}
  register: measured

- name: Show
  ansible.builtin.debug:
    msg: "{{ measured.points | map(attribute='decode_tok_s_request') }}"
"""

RETURN = r"""
ran:
  description: Whether anything was measured; false in check mode and with O(watch=true).
  type: bool
  returned: success
commands:
  description: The command of each load in the container.
  type: list
  elements: list
  returned: when not watching
points:
  description: Figures of each load.
  type: list
  elements: dict
  returned: success
  contains:
    concurrency: {description: Requests at a time., type: int}
    prompt_tokens: {description: Tokens of a prompt as asked., type: int}
    prompt_tokens_counted: {description: Tokens of a prompt as the server counted them., type: int}
    output_tokens: {description: Tokens of an answer., type: int}
    requests: {description: Requests sent., type: int}
    completed: {description: Requests answered., type: int}
    failed: {description: Requests that failed., type: int}
    ttft_s: {description: Median seconds to the first token., type: float}
    ttft_p99_s: {description: The same for 1 request in 100., type: float}
    tpot_ms: {description: Median milliseconds for a further token., type: float}
    itl_p99_ms: {description: Milliseconds between two tokens that 1 gap in 100 exceeds., type: float}
    decode_tok_s_request: {description: Tokens a second that one request sees after its first., type: float}
    decode_tok_s_total: {description: Tokens a second of all requests while any was being answered., type: float}
    prefill_tok_s: {description: Prompt tokens a second while any request waited for its first token., type: float}
    output_tok_s: {description: vLLM's own output throughput., type: float}
    seconds: {description: How long the load lasted., type: float}
    seed: {description: What the prompts were drawn from., type: int}
    prefix_hit_share: {description: Part of the prompt tokens that came from the prefix cache; null where not reported., type: float}
    preemptions: {description: Requests that were preempted; null where not reported., type: int}
    other_requests: {description: Requests of others that were answered meanwhile; null where not reported., type: int}
    waiting_max: {description: Most requests that were seen to wait; null where not reported., type: int}
clocks:
  description: Clocks of the GPU under load (samples, clock_mhz, clock_max_mhz, power_w, temperature_c, reasons); empty without a GPU.
  type: dict
  returned: success
msg:
  description: One sentence.
  type: str
  returned: always
"""

import time
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.benchmark.facts import Watch, clock_summary, sample_gpus
from ..module_utils.benchmark.result import rate
from ..module_utils.benchmark.run import (
    BenchmarkError,
    Load,
    bench_argv,
    busy_reason,
    counted,
    read_point,
)
from ..module_utils.docker.cli import DOCKER, DockerError, inspect_container
from ..module_utils.gpu.runtime import Gpu, Host
from ..module_utils.system.http_json import HttpClient, HttpError
from ..module_utils.system.run import last_line, run
from ..module_utils.vllm.health import parse_metrics, summarize_metrics
from ..module_utils.vllm.serving import ServingError, serving

#: Seconds between two samples: often enough for a load of ten seconds, and nvidia-smi costs a tenth of one.
EVERY = 2.0
#: Seconds that a watcher waits for the first request of the benchmark, which has to import vLLM first, and for silence after the last.
BEGIN = 240.0
SILENCE = 10.0
LOOKS = 3
#: Folder in the container for the result while it is read; it is removed afterwards.
FOLDER = "/tmp/dgx-spark-benchmark"


def loads_of(params: dict[str, Any]) -> list[Load]:
    """Return the loads; raises ValueError with one sentence."""
    if not params["loads"]:
        raise ValueError("loads is empty, expected at least one load")
    seed = params["seed"] if params["seed"] is not None else int(time.time()) % 2**31
    return [
        Load(
            concurrency=each["concurrency"],
            prompt_tokens=each["prompt_tokens"],
            output_tokens=each["output_tokens"],
            # Three at least: of one request alone nobody knows whether it was an exception.
            requests=each["requests"] or max(2 * each["concurrency"], 3),
            seed=seed + number,
        )
        for number, each in enumerate(params["loads"])
    ]


class Benchmark:
    """Measures one load after the other."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.host = Host(run)
        self.gpus: list[list[Gpu]] = []
        self.has_gpu = bool(sample_gpus(self.host))
        self.waiting: list[int] = []

    def metrics(self, client: HttpClient) -> dict[str, Any]:
        """Return the server's figures; empty where it does not tell them."""
        try:
            return summarize_metrics(parse_metrics(client.get("/metrics").text))
        except HttpError:
            return {}

    def sample(self, client: HttpClient) -> None:
        """Look once at the clocks and at the queue."""
        if self.has_gpu:
            self.gpus.append(sample_gpus(self.host))
        waiting = self.metrics(client).get("num_requests_waiting")
        if waiting is not None:
            self.waiting.append(int(waiting))

    def measure(self) -> dict[str, Any]:
        """Measure every load."""
        loads = loads_of(self.params)
        container, folder = self.params["container"], FOLDER
        found = serving(inspect_container(run, container), container)
        room = found.value("--max-model-len")
        for load in loads:
            if room and room.isdigit() and load.prompt_tokens + load.output_tokens > int(room):
                raise ValueError(
                    f"{load.prompt_tokens} tokens of prompt and {load.output_tokens} of answer are more than the {room} that the server takes "
                    "(--max-model-len): ask for less"
                )
        commands = [bench_argv(load, found.server, folder, self.params["timeout"]) for load in loads]
        result: dict[str, Any] = {"ran": False, "commands": commands, "points": [], "clocks": {}}
        if self.module.check_mode:
            would = "; ".join(load.words() for load in loads)
            return {**result, "msg": f"would run vLLM's benchmark in {container}: {would}"}
        client = HttpClient(found.server.base_url, timeout=10)
        try:
            client.get("/health")
        except HttpError as error:
            raise BenchmarkError(f"the server is not ready: {error}; see playbooks/status.yml") from error
        for load, command in zip(loads, commands, strict=True):
            result["points"].append(self.point(load, command, client))
        point = result["points"][-1]
        return {
            **result,
            "ran": True,
            "clocks": clock_summary(self.gpus),
            "msg": f"{loads[-1].words()}: {rate(point['decode_tok_s_request'])} tok/s for each, first token after {point['ttft_s']:.3g} s",
        }

    def point(self, load: Load, command: Sequence[str], client: HttpClient) -> dict[str, Any]:
        """Return the figures of one load."""
        before = self.metrics(client)
        # Three looks: a probe of a second is nobody who would be disturbed, and the last load may still be counted.
        for _look in range(LOOKS - 1):
            if self.params["while_busy"] or not busy_reason(before):
                break
            time.sleep(1)
            before = self.metrics(client)
        if not self.params["while_busy"] and (busy := busy_reason(before)):
            raise BenchmarkError(busy)
        self.waiting = []
        container, folder = self.params["container"], FOLDER
        with Watch(lambda: self.sample(client), EVERY):
            status, out, err = run([DOCKER, "exec", container, *command], self.params["timeout"] + 60)
        try:
            if status in (124, 137):
                raise BenchmarkError(
                    f"vllm bench serve was not done after {self.params['timeout']:g} s ({load.words()}): ask for less, or raise timeout"
                )
            if status != 0:
                raise BenchmarkError(f"vllm bench serve failed ({load.words()}): {last_line(out, err)[:300]}")
            status, text, err = run([DOCKER, "exec", container, "cat", f"{folder}/result.json"])
            if status != 0:
                raise BenchmarkError(
                    f"vllm bench serve left no result in {folder} of {container}: {last_line(out, err)[:300]}"
                )
            point = read_point(text, load)
        finally:
            run([DOCKER, "exec", container, "rm", "-rf", "--", folder])
        counts = counted(before, self.metrics(client), load)
        return {**point.as_facts(), "seed": load.seed, **counts, "waiting_max": max(self.waiting, default=None)}

    def watch(self) -> dict[str, Any]:
        """Sample the GPU of this node until the requests of the loads are answered."""
        result = {"ran": False, "points": [], "clocks": {}}
        wanted = sum(load.requests for load in loads_of(self.params))
        if self.module.check_mode or not self.has_gpu:
            return {
                **result,
                "msg": "there is nothing to watch in check mode" if self.has_gpu else "this node has no GPU to watch",
            }
        client = HttpClient(self.params["base_url"], timeout=10)
        started = moved = time.monotonic()
        first = last = int(self.metrics(client).get("request_success_total") or 0)
        while time.monotonic() - started < self.params["timeout"]:
            time.sleep(EVERY)
            now = self.metrics(client)
            done, running = int(now.get("request_success_total") or 0), int(now.get("num_requests_running") or 0)
            if running:
                self.gpus.append(sample_gpus(self.host))
            if running or done != last:
                last, moved = done, time.monotonic()
            began = last > first or bool(self.gpus)
            if done - first >= wanted or time.monotonic() - moved > (SILENCE if began else BEGIN):
                break
        clocks = clock_summary(self.gpus)
        return {**result, "clocks": clocks, "msg": f"{clocks.get('samples', 0)} samples of the GPU under load"}


def main() -> None:
    """Measure, or watch."""
    load = {
        "concurrency": {"type": "int", "required": True},
        "prompt_tokens": {"type": "int", "required": True, "no_log": False},
        "output_tokens": {"type": "int", "default": 128, "no_log": False},
        "requests": {"type": "int", "default": 0},
    }
    module = AnsibleModule(
        argument_spec={
            "container": {"type": "str", "default": "spark-vllm"},
            "loads": {"type": "list", "elements": "dict", "required": True, "options": load},
            "seed": {"type": "int"},
            "while_busy": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 1800},
            "watch": {"type": "bool", "default": False},
            "base_url": {"type": "str"},
        },
        required_if=[("watch", True, ["base_url"])],
        supports_check_mode=True,
    )
    benchmark = Benchmark(module)
    try:
        result = benchmark.watch() if module.params["watch"] else benchmark.measure()
    except (BenchmarkError, ServingError, DockerError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
