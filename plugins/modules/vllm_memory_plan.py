#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a vLLM server will take and give, before it is started."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_memory_plan
short_description: What a vLLM server will take and give, before it is started
version_added: 1.0.0
description:
  - Plans memory and decode rate from a model's config.json alone, without GPU, network or weights.
  - Weights, bytes of the KV cache and the limit by memory bandwidth are arithmetic. Activations, CUDA graphs and the expected decode rate are
    fitted on runs of real servers; on machines that nobody measured, such as two DGX Sparks, the rate is a range from published figures.
  - Known are dense and MoE models with GQA, MLA, sliding windows, gated delta nets, Kimi's delta attention and Mamba 2, in bf16, AWQ, GPTQ, FP8, NVFP4
    and MXFP4. Of others the bytes of all weights must be given, and the KV figure is a guess, which is said.
  - A plan that does not fit is no failure; see RV(fits) and RV(reasons).
options:
  config_path:
    description: Path of config.json on the machine that runs the module. One of this and O(config) is required.
    type: path
  config:
    description: Content of config.json.
    type: dict
  weights_bytes:
    description: Bytes of all weights. Left out, they are computed from config and quantization.
    type: int
  index_path:
    description: Path of model.safetensors.index.json, whose C(total_size) is taken for O(weights_bytes).
    type: path
  tensor_parallel_size:
    description: Ranks that share each layer.
    type: int
    default: 1
  pipeline_parallel_size:
    description: Stages that the layers are divided into.
    type: int
    default: 1
  nodes:
    description: Machines that the ranks are spread over.
    type: int
    default: 1
  memory_gib:
    description:
      - GiB of each GPU as CUDA sees it; on unified memory the machine's.
      - Left out, MemTotal of the machine that runs the module; for a GPU with memory of its own, what C(nvidia-smi) says of the smallest GPU there.
    type: float
  gpu_memory_utilization:
    description: Part of the memory that vLLM takes.
    type: float
    default: 0.75
  max_model_len:
    description: >-
      Tokens of one request. V(auto) for the longest that the KV cache holds, as C(--max-model-len auto) of vLLM finds it; of a range the low end counts.
      Left out, all that the model knows.
    type: str
  max_num_seqs:
    description: Requests at the same time. Left out, vLLM's own choice, 1024 on devices of at least 70 GiB, a Spark among them, and 256 on smaller ones.
    type: int
  max_num_batched_tokens:
    description: Tokens of one step. Left out, vLLM's own choice, 8192 on devices of at least 70 GiB, a Spark among them, and 2048 on smaller ones.
    type: int
  kv_cache_dtype:
    description: Type of the KV cache, as vLLM's flag. C(fp8_ds_mla) and C(nvfp4_ds_mla) are for models with latent attention.
    type: str
    choices:
      - auto
      - bfloat16
      - float16
      - fp8
      - fp8_e4m3
      - fp8_e5m2
      - fp8_ds_mla
      - fp8_per_token_head
      - int8_per_token_head
      - nvfp4
      - nvfp4_ds_mla
    default: auto
  kv_cache_memory_bytes:
    description: Bytes of the KV pool of each GPU, as the server is told with C(--kv-cache-memory-bytes). Left out, vLLM measures what is left.
    type: int
  prefix_caching:
    description:
      - Whether blocks of earlier requests are kept. Models with states (Mamba, linear attention) then keep two for each request instead of one.
      - Left out, yes, which is vLLM's own choice since August 2026; before, it was no for models with states.
    type: bool
  speculative_tokens:
    description: Tokens that speculative decoding drafts in each step; 0 for none.
    type: int
    default: 0
  speculative_method:
    description: C(mtp), whose layers the checkpoint brings along and which are counted; a draft model of its own is not.
    type: str
    default: mtp
  expert_parallel:
    description: Whether each rank holds whole experts instead of a part of each.
    type: bool
    default: false
  enforce_eager:
    description: Whether the server runs without CUDA graphs; short for O(cuda_graphs=eager).
    type: bool
    default: false
  cuda_graphs:
    description: Graphs that are captured, as role vllm_serve names them; C(full) is what vLLM does unless told otherwise.
    type: str
    choices: [eager, piecewise, decode, full]
    default: full
  memory_bandwidth_gb_s:
    description:
      - Memory bandwidth of each GPU in 10^9 bytes a second; a Spark has 273.
      - Below 1000 the GPU is taken for one that shares the host's memory.
    type: float
    default: 273
  allreduce_us:
    description: Microseconds of one all-reduce of a token's hidden state between the ranks, as M(dgx_spark.vllm.fabric_benchmark) measures it.
    type: float
    default: 40
  host_gib:
    description: GiB of unified memory that system and processes take outside of vLLM's budget.
    type: float
    default: 12.5
  min_headroom_gib:
    description: GiB of unified memory that the host must keep; with less the plan does not fit.
    type: float
    default: 11
  available_gib:
    description:
      - GiB that a machine with unified memory has available while nothing of this server runs on it (MemAvailable). vLLM does not start with less than it
        asks for, and what else the machine holds is taken off what the host keeps.
    type: float
  measured:
    description:
      - What these machines' last start logged, as role vllm_plan keeps it in C(/var/lib/dgx-spark/vllm-start.json).
      - C(model), C(kv_cache_gib) ("Available KV cache memory" of the smallest rank) and C(settings), which are the options of this module with which that
        server ran. Takes the place of published starts on unified memory.
    type: dict
    default: {}
  rope_override:
    description: Whether the server is told of more positions than config.json has, such as with C(--hf-overrides), so that they bound no request.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  diff_mode:
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Plan the model on two Sparks
  dgx_spark.vllm.vllm_memory_plan:
    config_path: /srv/models/QuantTrio--Qwen3-235B-A22B-Instruct-2507-AWQ/main/config.json
    tensor_parallel_size: 2
    nodes: 2
    max_model_len: 131072
  register: plan

- name: Assert that the model fits
  ansible.builtin.assert:
    that: plan.fits
    fail_msg: "{{ plan.reasons | join('. ') }}"

- name: Plan the model on one H200, whose memory is its own
  dgx_spark.vllm.vllm_memory_plan:
    config_path: /srv/models/QuantTrio--Qwen3-235B-A22B-Instruct-2507-AWQ/main/config.json
    memory_gib: 139.8
    memory_bandwidth_gb_s: 4800
    gpu_memory_utilization: 0.95
    max_model_len: 8192
"""

RETURN = r"""
weights_gib_per_rank:
  description: GiB of weights on the fullest rank.
  returned: success
  type: float
kv_bytes_per_token_per_rank:
  description: Bytes by which a request grows with each token.
  returned: success
  type: float
kv_cache_gib_per_rank:
  description: GiB of the KV pool; of a range its low end, which decides.
  returned: success
  type: float
kv_cache_gib_range:
  description:
    - C(low) and C(high) GiB of the pool, and what they rest on, C(basis).
    - It is C(counted) where the GPU has memory of its own, C(set) by O(kv_cache_memory_bytes), else C(published) (starts of others), C(record) or
      C(this record) (the last start here, with other or the same settings).
  returned: success
  type: dict
max_num_seqs_possible:
  description: Most requests at the same time that the server starts with; null where nothing bounds them.
  returned: success
  type: int
kv_cache_tokens:
  description: Tokens of the pool as vLLM counts them for requests of O(max_model_len).
  returned: success
  type: int
max_concurrency:
  description: Requests of O(max_model_len) tokens that the pool holds.
  returned: success
  type: float
max_model_len_possible:
  description: Tokens of the longest request that the pool holds, at most what the model knows.
  returned: success
  type: int
host_headroom_gib:
  description: GiB that unified memory keeps beside vLLM and O(host_gib); negative where they take more than there is, null where the GPU has memory of its own.
  returned: success
  type: float
fits:
  description: Whether the server starts and, on unified memory, leaves the host O(min_headroom_gib).
  returned: success
  type: bool
decode_tok_s_limit:
  description: Tokens a second of one request by memory bandwidth and all-reduces alone.
  returned: success
  type: float
decode_tok_s_expected:
  description: Tokens a second of one request, C(low) and C(high).
  returned: success
  type: dict
reasons:
  description: What does not fit or is at risk, one sentence each, with what to change.
  returned: success
  type: list
  elements: str
cuda_graphs:
  description: Graph mode that was planned for.
  returned: success
  type: str
details:
  description:
    - How the figures come about, such as C(parameters), C(activation_gib), C(expected_from) and the C(published) figures of as many Sparks.
  returned: success
  type: dict
msg:
  description: One sentence.
  returned: always
  type: str
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.model.shape import KV_BYTES, odd_keys
from ..module_utils.node.requirements import parse_meminfo
from ..module_utils.plan.arithmetic import MODES, UNIFIED_BELOW_GB_S, PlanInput
from ..module_utils.plan.inputs import FIELDS, config_of, index_bytes, input_of
from ..module_utils.plan.plan import HOST_GIB, MIN_HEADROOM_GIB, plan
from ..module_utils.plan.report import sentence
from ..module_utils.system.run import run

_HERE = "the machine that runs the module"


def smallest_gpu_gib(said: str) -> float:
    """Return the GiB of the smallest GPU, from the MiB that nvidia-smi prints line by line; 0 when it names none."""
    sizes = [int(line) for line in map(str.strip, said.splitlines()) if line.isdigit()]
    return min(sizes) / 1024 if sizes else 0.0


def input_from(
    params: dict[str, Any], ask_gpu: Callable[[], str] = str, meminfo: Path = Path("/proc/meminfo")
) -> PlanInput:
    """Return what the parameters ask for.

    Args:
        params: of the module.
        ask_gpu: returns the MiB of each GPU as nvidia-smi prints them; empty where it does not.
        meminfo: where the host's memory stands.

    Raises:
        ValueError: a parameter or a file is not usable; one sentence.
    """
    config = params["config"]
    if config is None:
        config = config_of(Path(params["config_path"]), _HERE)
    settings = {name: params[name] for name in FIELDS if params.get(name) is not None}
    if params["index_path"]:
        settings["weights_bytes"] = index_bytes(Path(params["index_path"]), _HERE)
    memory = params["memory_gib"]
    if memory is None and params["memory_bandwidth_gb_s"] >= UNIFIED_BELOW_GB_S:
        memory = smallest_gpu_gib(ask_gpu())
        if not memory:
            raise ValueError(
                "memory_gib is missing and nvidia-smi on this machine does not say what its GPUs have: give memory_gib"
            )
    elif memory is None:
        memory = parse_meminfo(meminfo.read_text(encoding="utf-8"))[0] if meminfo.exists() else 0.0
        if not memory:
            raise ValueError("memory_gib is missing and this machine's /proc/meminfo does not say it: give memory_gib")
    if params["enforce_eager"]:
        settings["cuda_graphs"] = "eager"
    record = params["measured"] or {}
    return input_of(config, memory, settings, model=str(record.get("model") or ""), measured=record)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "config_path": {"type": "path"},
            "config": {"type": "dict"},
            "weights_bytes": {"type": "int"},
            "index_path": {"type": "path"},
            "tensor_parallel_size": {"type": "int", "default": 1},
            "pipeline_parallel_size": {"type": "int", "default": 1},
            "nodes": {"type": "int", "default": 1},
            "memory_gib": {"type": "float"},
            "gpu_memory_utilization": {"type": "float", "default": 0.75},
            "max_model_len": {"type": "str"},
            "max_num_seqs": {"type": "int"},
            "max_num_batched_tokens": {"type": "int", "no_log": False},
            "kv_cache_dtype": {
                "type": "str",
                "choices": sorted(KV_BYTES),
                "default": "auto",
            },
            "kv_cache_memory_bytes": {"type": "int"},
            "prefix_caching": {"type": "bool"},
            "speculative_tokens": {"type": "int", "default": 0, "no_log": False},
            "speculative_method": {"type": "str", "default": "mtp"},
            "expert_parallel": {"type": "bool", "default": False},
            "enforce_eager": {"type": "bool", "default": False},
            "cuda_graphs": {"type": "str", "choices": list(MODES), "default": "full"},
            "available_gib": {"type": "float"},
            "measured": {"type": "dict", "default": {}},
            "memory_bandwidth_gb_s": {"type": "float", "default": 273},
            "allreduce_us": {"type": "float", "default": 40},
            "host_gib": {"type": "float", "default": HOST_GIB},
            "min_headroom_gib": {"type": "float", "default": MIN_HEADROOM_GIB},
            "rope_override": {"type": "bool", "default": False},
        },
        required_one_of=[("config_path", "config")],
        mutually_exclusive=[("config_path", "config"), ("weights_bytes", "index_path")],
        supports_check_mode=True,
    )

    def ask_gpu() -> str:
        code, out, _err = run(["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"], 30)
        return "" if code else out

    try:
        given = input_from(module.params, ask_gpu)
        with odd_keys():
            found = plan(given, host_gib=module.params["host_gib"], min_headroom_gib=module.params["min_headroom_gib"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, msg=sentence(found), **found.as_dict())


if __name__ == "__main__":
    main()
