# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The part of the plan that is arithmetic: sizes of the KV pool, bytes that a step reads, and the terms that a fit puts factors to.

It follows vLLM 0.26.0; file names are below vllm/. docs/planning.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..model.families import FULL, LINEAR, SLIDING
from ..model.quantization import PLAIN_BYTES
from ..model.shape import ModelShape, RankWeights, round_up

GIB, MIB = 1024**3, 1024**2
#: Tokens of one block of the KV cache (config/cache.py, DEFAULT_BLOCK_SIZE).
BLOCK_TOKENS = 16
#: Tokens that blocks of models with latent attention and states are a multiple of (platforms/interface.py, _align_hybrid_block_size).
MLA_BLOCK_TOKENS = 128
#: Below this bandwidth (GB/s) a GPU is taken for one that shares the host's memory: a Spark has 273, every discrete one far more.
UNIFIED_BELOW_GB_S = 1000.0
#: From this much memory on vLLM 0.26 to 0.30 takes 8192 tokens of a step and 1024 requests, below 2048 and 256 (engine/arg_utils.py).
LARGE_GIB = 70.0
#: Graph modes, see vllm_flags.GRAPH_MODES.
MODES = ("eager", "piecewise", "decode", "full")


class PlanError(ValueError):
    """One sentence for the user: which value cannot be planned with."""


@dataclass(frozen=True)
class Record:
    """What a server logged at its last start on these machines, and with which settings.

    Attributes:
        model: name of the model.
        kv_cache_gib: "Available KV cache memory" of the smallest rank; negative where nothing was left.
        settings: fields of `PlanInput` that the pool depends on, as they were then.
        started: when, as text; empty for unknown.
    """

    model: str
    kv_cache_gib: float
    settings: Mapping[str, Any]
    started: str = ""


#: Fields of `PlanInput` that the size of the KV pool depends on; a record keeps them.
POOL_FIELDS = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "nodes",
    "gpu_memory_utilization",
    "max_num_seqs",
    "max_num_batched_tokens",
    "kv_cache_dtype",
    "cuda_graphs",
    "expert_parallel",
    "speculative_tokens",
    "speculative_method",
)


@dataclass(frozen=True)
class PlanInput:
    """What is to be planned.

    Attributes:
        shape: the model.
        memory_gib: memory of one GPU, as CUDA sees it; on unified memory the machine's.
        tensor_parallel_size, pipeline_parallel_size, nodes: ranks, and the machines that they are spread over.
        gpu_memory_utilization: part of the memory that vLLM takes.
        max_model_len: tokens of one request; None for all that the model knows.
        fit_length: whether vLLM takes the longest request that its KV pool holds (--max-model-len auto); `plan` then puts that in.
        max_num_seqs, max_num_batched_tokens: None for vLLM's own choice.
        kv_cache_dtype: as vLLM's flag.
        cuda_graphs: one of MODES.
        weights_bytes: bytes of all files of the checkpoint, where they are known; None computes them.
        memory_bandwidth_gb_s: of one GPU, in 10^9 bytes a second.
        allreduce_us: one all-reduce of a token's hidden state between all ranks, in microseconds.
        expert_parallel: whether experts are divided whole.
        hopper: whether the GPU is an H100 or H200, whose kernel for packed matrices (Machete) keeps zero points in 16 bits instead of 4.
        cpu_kv_gib: KV space of a CPU backend (VLLM_CPU_KVCACHE_SPACE); None for a GPU.
        rope_override: whether the server is told of more positions than config.json has, so that they bound no request.
        prefix_caching: whether blocks of earlier requests are kept; None for vLLM's own choice of late, which is yes.
        speculative_tokens: tokens that are guessed ahead in each step; 0 for none.
        speculative_method: mtp, whose layers the checkpoint brings along, or another, whose draft model is not counted.
        kv_cache_memory_bytes: bytes of the KV pool as the server is told (--kv-cache-memory-bytes); None lets vLLM measure them.
        stated_weights_bytes: bytes of all files as somebody states them; only taken where nothing can be counted.
        available_gib: what the machine has available while nothing of this server runs on it (MemAvailable, page cache included); None for unknown.
        measured: what this machine's own last start logged, see `Record`; None for none.
    """

    shape: ModelShape
    memory_gib: float
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    nodes: int = 1
    gpu_memory_utilization: float = 0.75
    max_model_len: int | None = None
    fit_length: bool = False
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    cuda_graphs: str = "eager"
    weights_bytes: int | None = None
    memory_bandwidth_gb_s: float = 273.0
    allreduce_us: float = 40.0
    expert_parallel: bool = False
    hopper: bool = False
    cpu_kv_gib: float | None = None
    rope_override: bool = False
    prefix_caching: bool | None = None
    speculative_tokens: int = 0
    speculative_method: str = "mtp"
    kv_cache_memory_bytes: int | None = None
    stated_weights_bytes: int | None = None
    available_gib: float | None = None
    measured: Record | None = None

    def __post_init__(self) -> None:
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "nodes"):
            if getattr(self, name) < 1:
                raise PlanError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in (
            "max_model_len",
            "max_num_seqs",
            "max_num_batched_tokens",
            "weights_bytes",
            "kv_cache_memory_bytes",
            "stated_weights_bytes",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise PlanError(f"{name} is {getattr(self, name)}, expected at least 1, or nothing for the default")
        for name in ("memory_gib", "memory_bandwidth_gb_s"):
            if getattr(self, name) <= 0:
                raise PlanError(f"{name} is {getattr(self, name):g}, expected more than 0")
        if self.speculative_tokens < 0:
            raise PlanError(f"speculative_tokens is {self.speculative_tokens}, expected 0 or more")
        if self.weights_bytes is None and self.stated_weights_bytes is None and not self.countable:
            what = (
                f"model_type {self.shape.model_type!r}"
                if not self.shape.known
                else f"the quantization {self.shape.quantization.label!r}"
            )
            raise PlanError(
                f"{what} is not known, so its weights cannot be counted: give the bytes of all files (weights_bytes, or index_path with "
                "model.safetensors.index.json)"
            )
        if self.allreduce_us < 0:
            raise PlanError(f"allreduce_us is {self.allreduce_us:g}, expected 0 or more")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise PlanError(
                f"gpu_memory_utilization is {self.gpu_memory_utilization:g}, expected more than 0 and at most 1"
            )
        if self.cuda_graphs not in MODES:
            raise PlanError(f"cuda_graphs is {self.cuda_graphs!r}, expected one of {', '.join(MODES)}")
        if self.pipeline_parallel_size > self.shape.layers:
            raise PlanError(
                f"pipeline_parallel_size is {self.pipeline_parallel_size}, but the model has {self.shape.layers} layers: lower it"
            )
        if self.ranks % self.nodes:
            raise PlanError(
                f"{self.nodes} nodes cannot hold {self.tensor_parallel_size} x {self.pipeline_parallel_size} ranks evenly: "
                "make the ranks a multiple of the nodes"
            )

    @property
    def cache_type(self) -> str:
        """Type of the KV cache: as the server is told, or what the checkpoint asks for where that is auto."""
        return self.shape.kv_cache_type if self.kv_cache_dtype == "auto" else self.kv_cache_dtype

    @property
    def countable(self) -> bool:
        """Whether config.json alone says what the weights take."""
        return self.shape.known and self.shape.quantization.counted

    @property
    def draft_layers(self) -> int:
        """Layers for speculative decoding that are loaded beside the model's."""
        if not self.speculative_tokens or not self.speculative_method.endswith("mtp"):
            return 0
        return self.shape.draft_layers or 1

    @property
    def caches_prefixes(self) -> bool:
        """Whether blocks of earlier requests are kept: yes unless told otherwise, never without attention (config/model.py, is_prefix_caching_supported).

        vLLM kept it off for hybrid models until 2026-08 (pull request 50991); yes is the choice that holds fewer requests.
        """
        attention = FULL in self.shape.attention or SLIDING in self.shape.attention
        return attention and self.prefix_caching is not False

    @property
    def ranks(self) -> int:
        """GPUs in all."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    @property
    def unified(self) -> bool:
        """Whether the GPU shares the host's memory, told from its bandwidth."""
        return self.memory_bandwidth_gb_s < UNIFIED_BELOW_GB_S

    @property
    def large(self) -> bool:
        """Whether vLLM takes its defaults for large devices: from 70 GiB on, a GB10 too (engine/arg_utils.py, get_batch_defaults)."""
        return self.memory_gib >= LARGE_GIB

    @property
    def known_length(self) -> int:
        """Positions that bound a request; 0 where nothing says them or an override stands in their place."""
        return 0 if self.rope_override else self.shape.max_position

    @property
    def length(self) -> int:
        """Tokens of one request."""
        return self.max_model_len or self.shape.max_position or 8192

    @property
    def batched_tokens(self) -> int:
        """Tokens of one step; unset, vLLM's own choice."""
        return self.max_num_batched_tokens or (8192 if self.large else 2048)

    @property
    def sequences(self) -> int:
        """Requests at the same time; vLLM's own choice as for `batched_tokens`, never more than those."""
        chosen = self.max_num_seqs or (1024 if self.large else 256)
        return min(chosen, self.batched_tokens)

    def stage_weights(self, stage: int) -> RankWeights:
        """Return the weights of a rank of this stage; known bytes of a checkpoint scale what is computed of it."""
        found = self.shape.rank_weights(
            self.tensor_parallel_size, self.pipeline_parallel_size, stage, self.expert_parallel
        )
        known = self.weights_bytes or (None if self.countable else self.stated_weights_bytes)
        factor = 1.0 if known is None else known / whole_bytes(self.shape)
        # model_executor/kernels/linear/mixed_precision/machete.py
        wider = 3 * found.zeros if self.hopper else 0
        # The last stage holds the layers for speculative decoding; files that are known hold them as well.
        last = stage == self.pipeline_parallel_size - 1
        draft = (
            self.shape.draft_bytes(self.tensor_parallel_size, self.expert_parallel) * self.draft_layers if last else 0
        )
        return RankWeights(
            total=round(found.total * factor)
            + wider
            + (0 if self.weights_bytes and self.shape.draft_layers else draft),
            always=round(found.always * factor) + wider,
            packed=round(found.packed * factor) + wider,
            experts=round(found.experts * factor),
            zeros=found.zeros,
            layers=found.layers,
        )


def whole_bytes(shape: ModelShape) -> int:
    """Return the bytes of all weights as a checkpoint has them: without what vLLM derives at load."""
    found = shape.rank_weights()
    return found.total - shape.derived_bytes()


# --- the KV pool (v1/core/kv_cache_utils.py, v1/kv_cache_interface.py) --------------------------------------------


@dataclass(frozen=True)
class KvGroup:
    """Layers that share their blocks.

    Attributes:
        kind: what they remember: full, sliding or linear.
        count: groups of this kind.
        block_tokens: tokens of a block; of no meaning for states.
    """

    kind: str
    count: int
    block_tokens: int


@dataclass(frozen=True)
class KvLayout:
    """How vLLM cuts the KV memory of one rank into blocks.

    Attributes:
        page_bytes: bytes of a block in one layer.
        group_layers: layers of each group; a block takes its page in each of them.
        groups: by kind of layer.
        window: tokens that sliding attention looks back.
        in_flight: tokens that may be scheduled and not settled; a sliding window keeps them on top.
        state_blocks: blocks that one request's state takes in each group of linear attention.
    """

    page_bytes: float
    group_layers: int
    groups: tuple[KvGroup, ...]
    window: int
    in_flight: int
    state_blocks: int

    @property
    def block_bytes(self) -> float:
        """Bytes of one block over all layers that share it."""
        return self.page_bytes * self.group_layers

    def groups_of(self, kind: str) -> int:
        """Return the groups of this kind."""
        return sum(group.count for group in self.groups if group.kind == kind)

    @property
    def block_tokens(self) -> int:
        """Tokens of a block of layers that keep every token, or else of those with a window; 0 where only states are kept."""
        by_kind = {group.kind: group.block_tokens for group in self.groups}
        return by_kind.get(FULL) or by_kind.get(SLIDING) or 0

    def blocks_per_request(self, length: int) -> int:
        """Return the blocks that a request of this many tokens takes at most."""
        found = 0
        for group in self.groups:
            if group.kind == LINEAR:
                found += group.count * self.state_blocks
            elif group.kind == SLIDING:
                kept = min(self.window - 1 + self.in_flight, length)
                found += group.count * (math.ceil(kept / group.block_tokens) + 1)
            else:
                found += group.count * math.ceil(length / group.block_tokens)
        return found

    def blocks(self, available_bytes: float) -> int:
        """Return how many blocks fit."""
        return max(0, int(available_bytes // self.block_bytes))

    def concurrency(self, available_bytes: float, length: int) -> float:
        """Return how many requests of this many tokens fit, as vLLM prints it."""
        return self.blocks(available_bytes) / self.blocks_per_request(length)

    def longest(self, available_bytes: float, limit: int) -> int:
        """Return the longest request that fits, at most ``limit`` tokens; 0 for none."""
        low, high = 0, limit
        while low < high:
            middle = (low + high + 1) // 2
            if self.blocks_per_request(middle) <= self.blocks(available_bytes):
                low = middle
            else:
                high = middle - 1
        return low


def kv_layout(given: PlanInput, layers: Sequence[int]) -> KvLayout:
    """Return the layout of the ranks that hold these layers.

    (v1/core/kv_cache_utils.py: unify_kv_cache_spec_page_size and _get_kv_cache_groups_uniform_page_size; platforms/interface.py:
    _align_hybrid_block_size.) Layers for speculative decoding are one more of the kind that keeps every token.
    """
    shape, tensor = given.shape, given.tensor_parallel_size
    held = [layer for layer in layers if shape.keeps_cache(layer)]
    counts = {kind: sum(shape.attention[layer] == kind for layer in held) for kind in (FULL, SLIDING, LINEAR)}
    per_token = {
        kind: shape.kv_bytes_per_token_layer(
            tensor, given.cache_type, next(layer for layer in held if shape.attention[layer] == kind)
        )
        for kind in (FULL, SLIDING)
        if counts[kind]
    }
    if layers and layers[-1] == shape.layers - 1:
        counts[FULL if counts[FULL] or not counts[SLIDING] else SLIDING] += given.draft_layers if per_token else 0
    block = BLOCK_TOKENS
    state = (
        shape.state_bytes_per_request(tensor, layers, given.speculative_tokens) / counts[LINEAR]
        if counts[LINEAR]
        else 0.0
    )
    if state and per_token:
        # Attention's block grows until its page holds one state, and the state is padded to that page; kernels of MLA want 128 tokens.
        step = MLA_BLOCK_TOKENS if shape.kv_lora_rank else BLOCK_TOKENS
        block = round_up(math.ceil(state / per_token[FULL if FULL in per_token else SLIDING]), step)
    pages = {kind: size * block for kind, size in per_token.items()}
    page = max(pages.values(), default=state)
    # A smaller page grows by whole blocks where that comes out even, else it is padded.
    blocks = {kind: block * int(page // size) if page % size == 0 else block for kind, size in pages.items()}
    present = [number for number in counts.values() if number]
    least, most = min(present), max(present)
    # Groups of equal size: as small as the rarest kind, unless padding that one up wastes less.
    group = most if most < least * 1.5 else least
    return KvLayout(
        page_bytes=page,
        group_layers=group,
        groups=tuple(
            KvGroup(kind, math.ceil(number / group), blocks.get(kind, 0)) for kind, number in counts.items() if number
        ),
        window=shape.sliding_window,
        in_flight=2 * given.batched_tokens,
        # v1/kv_cache_interface.py, MambaSpec.max_memory_usage_bytes: mode align keeps the state before the last block as well.
        state_blocks=(2 if given.caches_prefixes else 1) + given.speculative_tokens,
    )


def kv_bytes_per_token(given: PlanInput) -> float:
    """Return by how many bytes a request grows on the fullest rank with each token: layers that keep every token count.

    Where all layers have a sliding window, it is the bytes of a token within the window.
    """
    shape, stages = given.shape, given.shape.stages(given.pipeline_parallel_size)
    kind = FULL if FULL in shape.attention else SLIDING
    if kind not in shape.attention:
        return 0.0
    layer = shape.kv_bytes_per_token_layer(given.tensor_parallel_size, given.cache_type)
    kept = [sum(shape.attention[place] == kind and shape.keeps_cache(place) for place in layers) for layers in stages]
    return layer * (max(kept) + given.draft_layers)


# --- terms of what profiling sees (v1/worker/gpu_worker.py, determine_available_memory) ----------------------------


@dataclass(frozen=True)
class ActivationTerms:
    """Bytes that a profiling step holds on one rank.

    Attributes:
        workspace: buffers of the experts, which stay once they are there.
        attention: hidden states, residual, queries, keys, values and attention's output of all tokens of a step, each once.
        mlp: four copies of the hidden states, gate and up in one matrix, and what comes out of the activation; 0 without dense layers.
        logits: one copy of the logits of all requests in float32.
    """

    workspace: float
    attention: float
    mlp: float
    logits: float

    def peak(self, attention_copies: float, logits_copies: float) -> float:
        """Return the greatest of what is alive at the same time."""
        rest = max(attention_copies * self.attention, logits_copies * self.logits)
        return max(self.mlp, self.workspace + rest)


def activation_terms(given: PlanInput) -> ActivationTerms:
    """Return the terms; a fit says how many copies of attention's and of the logits are alive at the peak."""
    shape, tokens, ranks = given.shape, given.batched_tokens, given.tensor_parallel_size
    width = 0
    if shape.experts:
        inner = shape.moe_intermediate if given.expert_parallel else math.ceil(shape.moe_intermediate / ranks)
        # MarlinExperts.workspace_shapes in model_executor/layers/fused_moe/experts/marlin_moe.py.
        width = shape.experts_per_token * (max(2 * inner, shape.hidden) + max(inner, shape.hidden))
    dense = 0
    if shape.moe_layers < shape.layers:
        dense = 4 * shape.hidden + 3 * math.ceil(shape.intermediate / ranks)
    attention = 2 * math.ceil(shape.heads / ranks) * shape.head_dim
    attention += 2 * max(1, shape.kv_heads // ranks) * shape.head_dim
    return ActivationTerms(
        workspace=float(tokens * width * PLAIN_BYTES),
        attention=float(tokens * (2 * shape.hidden + attention) * PLAIN_BYTES),
        mlp=float(tokens * dense * PLAIN_BYTES),
        logits=float(given.sequences * shape.vocab * 4),
    )


def graph_sizes(given: PlanInput) -> list[int]:
    """Return the batch sizes that vLLM captures (config/vllm.py, _set_cudagraph_sizes)."""
    if given.cuda_graphs == "eager":
        return []
    largest = min(given.sequences * 2, 512, given.batched_tokens)
    sizes = [size for size in (1, 2, 4) if size <= largest]
    sizes += [*range(8, min(largest + 1, 256), 8), *range(256, largest + 1, 16)]
    if given.batched_tokens <= largest and given.batched_tokens not in sizes:
        sizes.append(given.batched_tokens)
    return sizes


def graph_counts(given: PlanInput) -> tuple[int, int]:
    """Return the number of captured graphs: whole ones of decoding steps up to the number of requests, and piecewise ones of all sizes."""
    sizes = graph_sizes(given)
    whole = sum(size <= given.sequences for size in sizes)
    return (
        whole if given.cuda_graphs in {"decode", "full"} else 0,
        len(sizes) if given.cuda_graphs in {"piecewise", "full"} else 0,
    )


# --- bytes that a step reads ---------------------------------------------------------------------------------------


def distinct_experts(shape: ModelShape, draws: int) -> float:
    """Return how many experts of a layer so many independent tokens choose on average."""
    return shape.experts * (1 - (1 - shape.experts_per_token / shape.experts) ** draws)


@dataclass(frozen=True)
class StepBytes:
    """Bytes that one decoding step reads on a rank, by the kernels that read them: plain and packed matrices, experts, the KV cache."""

    plain: float
    packed: float
    experts: float
    cache: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.plain + self.packed + self.experts + self.cache


def step_bytes(given: PlanInput, concurrency: int = 1, context: int = 0) -> list[StepBytes]:
    """Return the bytes that one decoding step reads on a rank of each pipeline stage.

    Args:
        given: the plan's input.
        concurrency: requests that are decoded together.
        context: tokens that each has in the KV cache.
    """
    shape = given.shape
    found = []
    share = distinct_experts(shape, concurrency) / shape.experts if shape.experts else 0.0
    tensor, dtype = given.tensor_parallel_size, given.cache_type
    window = min(context, shape.sliding_window) if shape.sliding_window else context
    for stage, layers in enumerate(shape.stages(given.pipeline_parallel_size)):
        weights = given.stage_weights(stage)
        cache = float(shape.state_bytes_per_request(tensor, layers))
        for layer in layers:
            if shape.attention[layer] in {FULL, SLIDING}:
                read = context if shape.attention[layer] == FULL else window
                cache += read * shape.kv_bytes_per_token_layer(tensor, dtype, layer)
        found.append(
            StepBytes(weights.always - weights.packed, weights.packed, weights.experts * share, concurrency * cache)
        )
    return found


def step_limit_s(given: PlanInput, concurrency: int = 1, context: int = 0) -> float:
    """Return the least seconds of one decoding step: bytes over bandwidth, stage after stage, and two all-reduces a layer."""
    read = sum(stage.total for stage in step_bytes(given, concurrency, context))
    return read / (given.memory_bandwidth_gb_s * 1e9) + allreduce_s(given)


def allreduce_s(given: PlanInput) -> float:
    """Return the seconds that all-reduces take in one step; one rank needs none."""
    return 0.0 if given.tensor_parallel_size == 1 else 2 * given.shape.layers * given.allreduce_us * 1e-6
