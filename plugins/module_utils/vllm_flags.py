# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Intents to the command line of ``vllm serve``, for vLLM 0.20 and later."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServeIntents:
    """What the server is to be; see roles/vllm_serve/meta/argument_specs.yml for the meaning of each field."""

    model_path: str
    served_model_name: str
    tensor_parallel_size: int
    host: str = "0.0.0.0"
    port: int = 8235
    max_model_len: int | None = None
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    enforce_eager: bool = False
    trust_remote_code: bool = False
    tool_call_parser: str | None = None
    extra_arguments: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.tensor_parallel_size < 1:
            raise ValueError(f"tensor_parallel_size is {self.tensor_parallel_size}, expected at least 1")
        if self.gpu_memory_utilization is not None and not 0.1 <= self.gpu_memory_utilization <= 0.98:
            raise ValueError(f"gpu_memory_utilization is {self.gpu_memory_utilization}, expected between 0.1 and 0.98")
        if self.max_model_len is not None and self.max_model_len < 1:
            raise ValueError(f"max_model_len is {self.max_model_len}, expected at least 1 token")


def serve_command(intents: ServeIntents) -> list[str]:
    """Return ``vllm serve ...`` as a list.

    The executor is always named: since vLLM 0.13 a tensor parallel size above the local GPUs no longer picks Ray by itself
    (vllm/config/parallel.py). Tool choice is automatic wherever a parser is given.
    """
    command = ["vllm", "serve", intents.model_path, "--served-model-name", intents.served_model_name]
    command += ["--host", intents.host, "--port", str(intents.port)]
    command += ["--tensor-parallel-size", str(intents.tensor_parallel_size), "--distributed-executor-backend", "ray"]
    if intents.max_model_len is not None:
        command += ["--max-model-len", str(intents.max_model_len)]
    if intents.gpu_memory_utilization is not None:
        command += ["--gpu-memory-utilization", f"{intents.gpu_memory_utilization:g}"]
    if intents.max_num_seqs is not None:
        command += ["--max-num-seqs", str(intents.max_num_seqs)]
    if intents.enforce_eager:
        command.append("--enforce-eager")
    if intents.trust_remote_code:
        command.append("--trust-remote-code")
    if intents.tool_call_parser:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", intents.tool_call_parser]
    return [*command, *intents.extra_arguments]
