# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Intents to the command line of ``vllm serve``, for vLLM 0.20 and later.

Which flag carries an intent is decided by the image's own argument parser (:class:`ParserOptions`, made by vllm_probe.py inside
the image). Without one the flags of vLLM 0.33 are rendered.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

#: Oldest release whose flags, executor and AWQ kernels this collection stands for.
OLDEST = (0, 20)
EXECUTORS = ("ray", "mp")
#: Graph modes in the order of safety; the compilation config of each.
GRAPH_MODES: dict[str, dict[str, Any] | None] = {
    "eager": None,
    "piecewise": {"cudagraph_mode": "PIECEWISE"},
    "decode": {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"},
    "full": {"cudagraph_mode": "FULL_AND_PIECEWISE"},
}
#: vllm/config/load.py of 0.33; weight_utils.py of 0.20 knows the same.
LOAD_STRATEGIES = ("lazy", "eager", "prefetch", "torchao")
#: Parsers under a second name: the same class (vllm/tool_parsers/__init__.py of 0.32), so where one is missing the other serves.
SAME_PARSER = {"qwen3_json": "hermes"}
#: Context length that vLLM finds itself (since 0.14).
AUTO_LENGTH = "auto"
#: Since vLLM 0.18: how long requests that run may go on after SIGTERM (vllm/config/vllm.py).
DRAIN = "--shutdown-timeout"
#: Port of torch's rendezvous between the nodes (vLLM's own default of --master-port).
MASTER_PORT = 29501


class FlagError(ValueError):
    """An intent that this vLLM cannot fulfil; one sentence for the user."""


@dataclass(frozen=True)
class ServeIntents:
    """What the server is to be; see roles/vllm_serve/meta/argument_specs.yml for the meaning of each field."""

    model_path: str
    #: Several names: the endpoint answers to each of them, and calls itself by the first.
    served_model_name: str | list[str]
    tensor_parallel_size: int
    port: int
    host: str = "0.0.0.0"
    #: "auto" leaves it to vLLM: the longest that its KV cache holds.
    max_model_len: int | str | None = None
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    #: True is cuda_graphs "eager"; False without cuda_graphs is "full"; None leaves it to cuda_graphs.
    enforce_eager: bool | None = None
    trust_remote_code: bool = False
    tool_call_parser: str | None = None
    extra_arguments: list[str] = field(default_factory=list)
    nodes: int = 1
    pipeline_parallel_size: int = 1
    executor: str = "ray"
    #: For executor mp on several nodes: which one this is (0 is the head), and where the head is.
    node_rank: int = 0
    master_address: str | None = None
    master_port: int = MASTER_PORT
    max_num_batched_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    #: Bytes of the KV pool on each GPU; None lets vLLM measure what is left.
    kv_cache_memory_bytes: int | None = None
    #: One of GRAPH_MODES; after construction never None.
    cuda_graphs: str | None = None
    load_format: str | None = None
    safetensors_load_strategy: str | None = None
    quantization: str | None = None
    expert_parallel: bool = False
    speculative: Mapping[str, Any] | None = None
    cpu_offload_gib: float | None = None
    swap_space_gib: float | None = None
    reasoning_parser: str | None = None
    #: Seconds that running requests get to end when the server is stopped; 0 cuts them.
    drain_timeout: int = 0

    def __post_init__(self) -> None:
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.gpu_memory_utilization is not None and not 0.1 <= self.gpu_memory_utilization <= 0.98:
            raise ValueError(f"gpu_memory_utilization is {self.gpu_memory_utilization}, expected between 0.1 and 0.98")
        if self.drain_timeout < 0:
            raise ValueError(f"drain_timeout is {self.drain_timeout}, expected 0 or more seconds")
        for name in ("max_model_len", "max_num_batched_tokens"):
            value = getattr(self, name)
            if name == "max_model_len" and isinstance(value, str):
                if value != AUTO_LENGTH:
                    raise ValueError(f"{name} is {value!r}, expected a whole number or {AUTO_LENGTH}")
            elif value is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1 token")
        if not self.served_model_name:
            raise ValueError("served_model_name is empty, expected a name or a list of names")
        if self.kv_cache_memory_bytes is not None and self.kv_cache_memory_bytes < 1:
            raise ValueError(f"kv_cache_memory_bytes is {self.kv_cache_memory_bytes}, expected at least 1 byte")
        if self.executor not in EXECUTORS:
            raise ValueError(f"executor is {self.executor!r}, expected one of {', '.join(EXECUTORS)}")
        graphs = self.cuda_graphs
        if self.enforce_eager or (graphs is None and self.enforce_eager is None):
            graphs = "eager"
        elif graphs is None:
            graphs = "full"
        if graphs not in GRAPH_MODES:
            raise ValueError(f"cuda_graphs is {graphs!r}, expected one of {', '.join(GRAPH_MODES)}")
        object.__setattr__(self, "cuda_graphs", graphs)
        if (self.tensor_parallel_size * self.pipeline_parallel_size) % self.nodes:
            raise ValueError(
                f"{self.nodes} nodes cannot hold {self.tensor_parallel_size} x {self.pipeline_parallel_size} ranks evenly: "
                "let tensor_parallel_size x pipeline_parallel_size be a multiple of the nodes"
            )
        if not 0 <= self.node_rank < self.nodes:
            raise ValueError(f"node_rank is {self.node_rank}, expected 0 to {self.nodes - 1}")
        if self.executor == "mp" and self.nodes > 1 and not self.master_address:
            raise ValueError(
                "executor mp on several nodes needs master_address: give the fabric address of the head node"
            )


@dataclass(frozen=True)
class Option:
    """One option of ``vllm serve``, as its parser describes it."""

    name: str
    aliases: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    takes_value: bool = True
    deprecated: bool = False


@dataclass(frozen=True)
class ParserOptions:
    """What the argument parser inside one image accepts."""

    version: str
    options: Mapping[str, Option]
    tool_parsers: tuple[str, ...] = ()
    reasoning_parsers: tuple[str, ...] = ()
    load_formats: tuple[str, ...] = ()
    kv_cache_dtypes: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ParserOptions:
        """Read what vllm_probe.py printed."""
        options: dict[str, Option] = {}
        for name, entry in data["options"].items():
            options[name] = Option(
                name,
                aliases=tuple(entry.get("aliases", ())),
                choices=tuple(str(choice) for choice in entry.get("choices", ())),
                takes_value=entry.get("takes_value", True),
                deprecated=entry.get("deprecated", False),
            )
        return cls(
            version=data["vllm"],
            options=options,
            tool_parsers=tuple(data.get("tool_parsers", ())),
            reasoning_parsers=tuple(data.get("reasoning_parsers", ())),
            load_formats=tuple(data.get("load_formats", ())),
            kv_cache_dtypes=tuple(data.get("kv_cache_dtypes", ())),
            quantizations=tuple(data.get("quantizations", ())),
        )

    def find(self, flag: str) -> Option | None:
        """Return the option that goes by this flag, alias or not."""
        if flag in self.options:
            return self.options[flag]
        return next((option for option in self.options.values() if flag in option.aliases), None)


@dataclass(frozen=True)
class Rendered:
    """A command line, and what was left out of it."""

    command: list[str]
    notes: list[str]


def version_tuple(version: str) -> tuple[int, ...]:
    """``0.33.0+cu130.nv26.10`` is (0, 33, 0); what does not start with a number is ()."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def render(intents: ServeIntents, options: ParserOptions | None = None) -> Rendered:
    """Turn intents into the command line that the image accepts.

    The executor is always named: since vLLM 0.13 a tensor parallel size above the local GPUs no longer picks Ray by itself
    (vllm/config/parallel.py). Tool choice is automatic wherever a parser is given.

    Raises:
        FlagError: this vLLM cannot do what is wanted; one sentence.
    """
    check_version(options)
    line = _Line(options)
    line.command += ["vllm", "serve", intents.model_path]
    served = intents.served_model_name
    first, *others = [served] if isinstance(served, str) else served
    line.add("served_model_name", "--served-model-name", first)
    line.command += others
    if intents.node_rank == 0 or intents.executor == "ray":
        line.add("host", "--host", intents.host)
        line.add("port", "--port", intents.port)
    line.add("tensor_parallel_size", "--tensor-parallel-size", intents.tensor_parallel_size)
    if intents.pipeline_parallel_size > 1:
        line.add("pipeline_parallel_size", "--pipeline-parallel-size", intents.pipeline_parallel_size)
    line.add("executor", "--distributed-executor-backend", intents.executor)
    if intents.executor == "mp" and intents.nodes > 1:
        line.add("nodes", "--nnodes", intents.nodes)
        line.add("node_rank", "--node-rank", intents.node_rank)
        line.add("master_address", "--master-addr", intents.master_address)
        line.add("master_port", "--master-port", intents.master_port)
        if intents.node_rank > 0:
            line.add("node_rank", "--headless")
    if intents.max_model_len is not None:
        line.add("max_model_len", "--max-model-len", intents.max_model_len)
    if intents.gpu_memory_utilization is not None:
        line.add("gpu_memory_utilization", "--gpu-memory-utilization", f"{intents.gpu_memory_utilization:g}")
    if intents.max_num_seqs is not None:
        line.add("max_num_seqs", "--max-num-seqs", intents.max_num_seqs)
    if intents.max_num_batched_tokens is not None:
        line.add("max_num_batched_tokens", "--max-num-batched-tokens", intents.max_num_batched_tokens)
    if intents.kv_cache_dtype != "auto":
        known = options.kv_cache_dtypes if options else ()
        line.choice("kv_cache_dtype", "--kv-cache-dtype", intents.kv_cache_dtype, known)
    if intents.kv_cache_memory_bytes is not None:
        line.add("kv_cache_memory_bytes", "--kv-cache-memory-bytes", intents.kv_cache_memory_bytes)
    graphs = GRAPH_MODES[str(intents.cuda_graphs)]
    if graphs is None:
        line.add("cuda_graphs", "--enforce-eager")
    else:
        line.add("cuda_graphs", "--compilation-config", json.dumps(graphs, separators=(",", ":")))
    if intents.quantization:
        known = options.quantizations if options else ()
        line.choice("quantization", "--quantization", intents.quantization, known)
    if intents.load_format and intents.load_format != "auto":
        line.choice("load_format", "--load-format", intents.load_format, options.load_formats if options else ())
    if intents.safetensors_load_strategy:
        # Up to 0.23 the parser takes any word, and one that means nothing is taken for lazy.
        strategy = intents.safetensors_load_strategy
        line.choice("safetensors_load_strategy", "--safetensors-load-strategy", strategy, LOAD_STRATEGIES)
    if intents.expert_parallel:
        line.add("expert_parallel", "--enable-expert-parallel")
    if intents.speculative:
        text = json.dumps(dict(intents.speculative), separators=(",", ":"), sort_keys=True)
        line.add("speculative", "--speculative-config", text)
    if intents.cpu_offload_gib:
        line.add("cpu_offload_gib", "--cpu-offload-gb", f"{intents.cpu_offload_gib:g}")
    if intents.swap_space_gib:
        line.optional(
            "swap_space_gib",
            "--swap-space",
            f"{intents.swap_space_gib:g}",
            "the flag is gone since 0.18.0 and the engine had not used it before either; "
            "cpu_offload_gib moves weights to host memory, which on unified memory gains nothing",
        )
    if intents.trust_remote_code:
        line.add("trust_remote_code", "--trust-remote-code")
    if intents.reasoning_parser:
        known = options.reasoning_parsers if options else ()
        line.choice("reasoning_parser", "--reasoning-parser", intents.reasoning_parser, known)
    if intents.tool_call_parser:
        line.add("tool_call_parser", "--enable-auto-tool-choice")
        known = options.tool_parsers if options else ()
        parser = intents.tool_call_parser
        if known and parser not in known and SAME_PARSER.get(parser) in known:
            line.notes.append(f"tool_call_parser {parser} is called {SAME_PARSER[parser]} in {line.version}")
            parser = SAME_PARSER[parser]
        line.choice("tool_call_parser", "--tool-call-parser", parser, known)
    if intents.drain_timeout and intents.node_rank == 0:
        line.optional(
            "drain_timeout",
            DRAIN,
            intents.drain_timeout,
            "a stop cuts the requests that run",
            newest=True,
        )
    # Extra arguments are the user's own: the image's parser judges them, with all the spellings that it knows.
    return Rendered([*line.command, *intents.extra_arguments], line.notes)


def commands(intents: ServeIntents, options: ParserOptions | None = None) -> tuple[list[list[str]], list[str]]:
    """Return the command of the server and of each headless node after it (executor mp, several nodes), and what was left out.

    Raises:
        FlagError: this vLLM cannot do what is wanted; one sentence.
    """
    first = render(intents, options)
    ranks = range(1, intents.nodes) if intents.executor == "mp" else range(0)
    return [first.command, *(render(replace(intents, node_rank=rank), options).command for rank in ranks)], first.notes


def check_version(options: ParserOptions | None, min_vllm: str = "") -> None:
    """Refuse a vLLM older than this collection knows, or than the model needs.

    Raises:
        FlagError: one sentence with the reason.
    """
    if options is None:
        return
    version = version_tuple(options.version)
    if version and version < OLDEST:
        raise FlagError(
            f"the image holds vLLM {options.version}, older than 0.20: its Ray executor is the compiled-graph one that vLLM has "
            "dropped, and its AWQ kernels hold no code for sm_121; set spark_serving_image to an image with vLLM 0.20 or later"
        )
    if version and version < version_tuple(min_vllm):
        raise FlagError(
            f"the model needs vLLM {min_vllm} and the image holds {options.version}: set spark_serving_image to a newer image"
        )


class _Line:
    """A command line that asks the parser before it takes a flag."""

    def __init__(self, options: ParserOptions | None) -> None:
        self.options = options
        self.command: list[str] = []
        self.notes: list[str] = []

    def add(self, intent: str, flag: str, value: object = None) -> None:
        """Take a flag; the parser must know it."""
        option = self.options.find(flag) if self.options else None
        if self.options and option is None:
            raise FlagError(
                f"{intent} needs the flag {flag}, which vLLM {self.options.version} in this image does not have: "
                f"leave {intent} unset or use another image"
            )
        if value is None:
            self.command.append(flag)
            return
        if self.options and option and option.choices and str(value) not in option.choices:
            raise FlagError(_unknown(intent, str(value), option.choices, self.options.version))
        self.command += [flag, str(value)]

    def choice(self, intent: str, flag: str, value: str, known: Sequence[str]) -> None:
        """Take a flag whose values the parser itself does not check."""
        if known and value not in known:
            raise FlagError(_unknown(intent, value, known, self.options.version if self.options else ""))
        self.add(intent, flag, value)

    @property
    def version(self) -> str:
        """The release for sentences."""
        return f"vLLM {self.options.version}" if self.options else "vLLM"

    def optional(self, intent: str, flag: str, value: object, reason: str, *, newest: bool = False) -> None:
        """Take a flag where it exists; else say why it is dropped. Without a parser it is there where ``newest``: the newest release has it."""
        if self.options.find(flag) if self.options else newest:
            self.add(intent, flag, value)
        else:
            self.notes.append(f"{intent} is dropped, {self.version} has no {flag}: {reason}")


def _unknown(intent: str, value: str, known: Iterable[str], version: str) -> str:
    names = list(known)
    near = difflib.get_close_matches(value, names, n=3, cutoff=0.4)
    hint = f"nearest are {', '.join(near)}" if near else f"it knows {', '.join(names)}"
    image = f"vLLM {version} in this image" if version else "vLLM"
    return f"{intent} is {value!r}, which {image} does not know: {hint}"
