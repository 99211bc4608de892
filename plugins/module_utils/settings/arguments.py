# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Further arguments of ``vllm serve``: each element one word, and none that a setting renders already."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..system.redact import looks_secret

NAME = "vllm_serve_extra_arguments"

#: Flags that people bring along from older scripts, with what became of them.
GONE: dict[str, str] = {
    "swap_space": "vLLM removed --swap-space in 0.18.0 (before that its V1 engine ignored it): delete the setting; more context needs "
    "vllm_serve_gpu_memory_utilization or a shorter vllm_serve_max_model_len",
    "disable_log_requests": "vLLM removed --disable-log-requests; requests are not logged unless asked for: delete the setting",
}
#: Secrets as flags, with the setting to use in their place.
SECRET: dict[str, str] = {"--api-key": "spark_api_key", "--hf-token": "cluster_secrets_hf_token"}

#: Setting by the flags that it renders (module_utils/vllm/flags.py), other spellings included: vllm/engine/arg_utils.py and
#: vllm/entrypoints/openai/cli_args.py, 0.19 to 0.33.
RENDERED: dict[str, str] = {
    "--model": "spark_model",
    "--served-model-name": "vllm_serve_served_model_name",
    "--host": "vllm_serve_host",
    "--port": "spark_api_port",
    "--tensor-parallel-size": "vllm_serve_tensor_parallel_size",
    "-tp": "vllm_serve_tensor_parallel_size",
    "--pipeline-parallel-size": "vllm_serve_pipeline_parallel_size",
    "-pp": "vllm_serve_pipeline_parallel_size",
    "--distributed-executor-backend": "vllm_serve_executor",
    "--nnodes": "vllm_serve_nodes",
    "-n": "vllm_serve_nodes",
    "--node-rank": "vllm_serve_nodes",
    "-r": "vllm_serve_nodes",
    "--headless": "vllm_serve_executor",
    "--master-addr": "vllm_serve_nodes",
    "--master-port": "vllm_serve_master_port",
    "--max-model-len": "vllm_serve_max_model_len",
    "--gpu-memory-utilization": "vllm_serve_gpu_memory_utilization",
    "--device-memory-utilization": "vllm_serve_gpu_memory_utilization",
    "--max-num-seqs": "vllm_serve_max_num_seqs",
    "--max-num-batched-tokens": "vllm_serve_max_num_batched_tokens",
    "--kv-cache-dtype": "vllm_serve_kv_cache_dtype",
    "--kv-cache-memory-bytes": "vllm_serve_kv_cache_memory_bytes",
    "--enforce-eager": "vllm_serve_cuda_graphs",
    "--no-enforce-eager": "vllm_serve_cuda_graphs",
    "--compilation-config": "vllm_serve_cuda_graphs",
    "-cc": "vllm_serve_cuda_graphs",
    "--load-format": "vllm_serve_load_format",
    "--safetensors-load-strategy": "vllm_serve_safetensors_load_strategy",
    "--enable-expert-parallel": "vllm_serve_expert_parallel",
    "--no-enable-expert-parallel": "vllm_serve_expert_parallel",
    "--disable-expert-parallel": "vllm_serve_expert_parallel",
    "-ep": "vllm_serve_expert_parallel",
    "--speculative-config": "vllm_serve_speculative",
    "-sc": "vllm_serve_speculative",
    "--spec-method": "vllm_serve_speculative",
    "--spec-model": "vllm_serve_speculative",
    "--spec-tokens": "vllm_serve_speculative",
    "--cpu-offload-gb": "vllm_serve_cpu_offload_gib",
    "--trust-remote-code": "vllm_serve_trust_remote_code",
    "--no-trust-remote-code": "vllm_serve_trust_remote_code",
    "--reasoning-parser": "vllm_serve_reasoning_parser",
    "--enable-auto-tool-choice": "vllm_serve_tool_call_parser",
    "--no-enable-auto-tool-choice": "vllm_serve_tool_call_parser",
    "--disable-auto-tool-choice": "vllm_serve_tool_call_parser",
    "--tool-call-parser": "vllm_serve_tool_call_parser",
}
#: Flags that would make the server another one than settings, plan and proof speak of, with what to do.
CONTRARY: dict[str, str] = {
    "--config": "whose file is read by the server alone, so that it could contradict every setting that is checked here: write its keys as settings, and what "
    "has no setting as flag and value in vllm_serve_extra_arguments",
    "-O": "which decides on CUDA graphs as well: delete it and set vllm_serve_cuda_graphs",
    "--optimization-level": "which decides on CUDA graphs as well: delete it and set vllm_serve_cuda_graphs",
    "--data-parallel-size": "with which the server wants more GPUs than the plan and the gate before its start count: delete it",
    "-dp": "with which the server wants more GPUs than the plan and the gate before its start count: delete it",
    "--num-gpu-blocks-override": "which sets another pool than the one that the plan counts: delete it and set vllm_serve_kv_cache_memory_bytes",
    "--uds": "with which the server listens on a socket file and not on spark_api_port: delete it",
    "--grpc": "with which the endpoint speaks gRPC and no HTTP, which gates and proof ask: delete it",
    "--ssl-keyfile": "with which the endpoint speaks HTTPS, and gates and proof ask HTTP: delete it and put a proxy with TLS in front",
    "--ssl-certfile": "with which the endpoint speaks HTTPS, and gates and proof ask HTTP: delete it and put a proxy with TLS in front",
}
_FLAG = re.compile(r"--?[A-Za-z]")
#: Dashes that a web page or a word processor makes of two hyphens.
_TYPESET = re.compile("[\u2010-\u2015\u2212]+-?([A-Za-z][\\w-]*)")
_LIST_FORM = '`- --flag` lines, one word a line, or ["--flag", "value"]'


def argument_problems(arguments: Any, name: str = NAME) -> list[str]:
    """Return what is wrong with further arguments of the server, a sentence each; a value is never shown behind a secret's flag.

    Args:
        arguments: as they were given, of any type.
        name: where they come from, for the sentence.
    """
    if isinstance(arguments, str):
        flags = [word for word in arguments.split() if _FLAG.match(word)]
        problems = [problem for word in flags if (problem := _flag_problem(_flag(word), name))]
        return problems or [f"{name} is a text, expected a list: write it as {_LIST_FORM}"]
    if not isinstance(arguments, Sequence):
        return [f"{name} is no list: write it as {_LIST_FORM}"]
    return [problem for argument in arguments if (problem := _problem(argument, name))]


def lifts_context(arguments: Sequence[str]) -> bool:
    """Say whether arguments tell vLLM of other positions than config.json has."""
    text = " ".join(str(argument) for argument in arguments)
    return bool(re.search(r"--(hf[-_]overrides|rope[-_]scaling)", text) and re.search("rope|max_position", text))


def _problem(argument: Any, name: str) -> str:
    if isinstance(argument, Mapping):
        key = next(iter(argument), "")
        said = _flag_problem(_flag(str(key)), name)
        return (
            said
            or f"{name} has the mapping {key!s}: ..., expected texts: write flag and value as two elements, without the colon"
        )
    if not isinstance(argument, str):
        shown = str(argument).lower() if isinstance(argument, bool) else str(argument)
        return f'{name} has {shown}, which is no text: put it in quotes, "{shown}"'
    if typeset := _TYPESET.match(argument):
        return f"{name} has {argument.split()[0]!r} with a typeset dash in front: write --{typeset[1]} with two hyphens"
    if looks_secret(argument):
        return f"{name} has a value that looks like a secret, which every process list would show: delete it and use spark_api_key or cluster_secrets_hf_token"
    bare = argument.strip(" \t\r\n\"'")
    if bare != argument and argument[:1] in " \t\r\n\"'" and _FLAG.match(bare):
        return f"{name} has {argument!r}, with blanks or quotes that are part of the text: write {bare}"
    if not _FLAG.match(argument):
        return ""
    flag = _flag(argument)
    if said := _flag_problem(flag, name):
        return said
    if re.match(r"[^=\s]*\s", argument):
        return f"{name} has flag {flag} and its value in one element: make them two elements of the list"
    return ""


def _flag(argument: str) -> str:
    """Return the flag of an element: up to `=`, a blank or a dot (vLLM takes --config.key for a key of a JSON value), with dashes."""
    word = re.split(r"[=\s.]", argument, maxsplit=1)[0]
    dashes = "--" if word.startswith("--") else "-"
    return dashes + word.lstrip("-").replace("_", "-")


def _flag_problem(flag: str, name: str) -> str:
    gone = GONE.get(flag.lstrip("-").replace("-", "_"))
    if gone:
        return f"{name} has {flag}: {gone}"
    secret = next((setting for long, setting in SECRET.items() if _is(flag, long)), "")
    if secret:
        return f"{name} has {flag}, which every process list would show: delete it and use {secret}"
    contrary = next((said for long, said in CONTRARY.items() if _is(flag, long)), "")
    if contrary:
        return f"{name} has {flag}, {contrary}"
    setting = next((setting for long, setting in RENDERED.items() if _is(flag, long)), "")
    if setting:
        return f"{name} has {flag}, which setting {setting} renders: delete it there and set {setting}"
    return ""


def _is(flag: str, known: str) -> bool:
    """Say whether argparse may take a flag for a known one: the same, an abbreviation, or one letter with its value right behind it."""
    if flag == known:
        return True
    if known.startswith("--"):
        return flag.startswith("--") and len(flag) > 2 and known.startswith(flag) and flag not in RENDERED
    # argparse abbreviates flags of one hyphen as well: -t is -tp.
    return bool(re.fullmatch(rf"{known}\d+", flag)) if len(known) == 2 else len(flag) == 2 and known.startswith(flag)
