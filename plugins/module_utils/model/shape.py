# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A model's config.json as arithmetic: every matrix that it has, how many bytes it takes, and which part of it each rank holds.

Nothing here is fitted or assumed: shapes follow the model classes of vLLM 0.26.0 (vllm/model_executor/models/), bytes follow the layouts of
its quantizations (vllm/model_executor/layers/quantization/). docs/planning.md lists the formulas with their sources.
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

#: Rows of an embedding are padded to multiples of this (DEFAULT_VOCAB_PADDING_SIZE in vllm/model_executor/layers/vocab_parallel_embedding.py).
VOCAB_PADDING = 64
#: Bytes of an element that no quantization touches: bfloat16 and float16; vLLM loads float32 checkpoints as one of these.
PLAIN_BYTES = 2
#: Bytes of one element of the KV cache by `--kv-cache-dtype`.
KV_BYTES = {"auto": 2.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0}


class ShapeError(ValueError):
    """One sentence for the user: what of config.json is missing or not understood."""


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below the value."""
    return -(-value // multiple) * multiple


# --- quantization -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scheme:
    """How one matrix is stored.

    Attributes:
        name: bf16, int4, int8, fp8, nvfp4 or mxfp4.
        bits: bits of one weight.
        group: inputs that share a scale; 0 for one scale for the matrix, -1 for one for each output, or see ``block``.
        scale_bytes: bytes of one scale.
        zero_bits: bits of the zero point of one group and output; 0 for none.
        extra: bytes for each matrix beside these (global scales).
        g_idx: whether each input carries the number of its group (GPTQ with desc_act), 4 bytes.
        block: rows and columns that share a scale, of block-wise FP8.
        tile: multiples to which the kernel pads an expert's inner size and the hidden size.
    """

    name: str = "bf16"
    bits: int = 16
    group: int = 0
    scale_bytes: int = 0
    zero_bits: int = 0
    extra: int = 0
    g_idx: bool = False
    block: tuple[int, int] | None = None
    tile: tuple[int, int] = (1, 1)

    def matrix_bytes(self, out: int, inn: int) -> int:
        """Return the bytes of one matrix with ``out`` rows and ``inn`` columns."""
        if self.name == "bf16":
            return out * inn * PLAIN_BYTES
        size = out * inn * self.bits // 8 + self.extra
        if self.block is not None:
            return size + math.ceil(out / self.block[0]) * math.ceil(inn / self.block[1]) * self.scale_bytes
        groups = 0 if self.group == 0 else 1 if self.group < 0 else math.ceil(inn / self.group)
        size += groups * out * self.scale_bytes + groups * out * self.zero_bits // 8
        return size + (4 * inn if self.g_idx else 0)


PLAIN = Scheme()
#: Two scales in float32 for each matrix, of the weights and of the inputs (vllm/model_executor/layers/quantization/modelopt.py).
NVFP4 = Scheme("nvfp4", bits=4, group=16, scale_bytes=1, extra=8)
#: Marlin pads the experts' inner size to 128 and the hidden size to 256 (vllm/model_executor/layers/fused_moe/oracle/mxfp4.py).
MXFP4 = Scheme("mxfp4", bits=4, group=32, scale_bytes=1, tile=(128, 256))


@dataclass(frozen=True)
class Quantization:
    """What of a model is quantized, and how.

    Attributes:
        method: ``quant_method`` of config.json, or bf16 for none.
        schemes: each with the targets that it is for; the first that matches counts. ``Linear`` matches everything.
        plain: modules left as they are: names, parts of a path, wildcards, or ``re:`` and an expression.
        experts_only: whether only the experts are quantized (gpt-oss).
    """

    method: str = "bf16"
    schemes: tuple[tuple[tuple[str, ...], Scheme], ...] = ()
    plain: tuple[str, ...] = ()
    experts_only: bool = False

    @property
    def label(self) -> str:
        """Name of the scheme for people, such as ``awq int4 g128``."""
        if not self.schemes:
            return "bf16"
        scheme = self.schemes[0][1]
        group = f" g{scheme.group}" if scheme.name in {"int4", "int8"} and scheme.group > 0 else ""
        return scheme.name if self.method == scheme.name else f"{self.method} {scheme.name}{group}"

    def scheme_of(self, name: str) -> Scheme:
        """Return how the matrix of this name is stored."""
        if self.experts_only and ".experts." not in name:
            return PLAIN
        if any(matches(pattern, name) for pattern in self.plain):
            return PLAIN
        for targets, scheme in self.schemes:
            if any(target == "Linear" or matches(target, name) for target in targets):
                return scheme
        return PLAIN


def matches(pattern: str, name: str) -> bool:
    """Return whether a pattern of config.json names this module or one above it.

    Understood are ``re:`` with an expression (compressed-tensors), wildcards (ModelOpt), and else whole parts of a path, so that
    ``gate`` is the router and not ``gate_proj``. Multimodal checkpoints call their layers ``model.language_model.layers``.
    """
    names = [name]
    if name.startswith("model.layers."):
        rest = name.removeprefix("model.")
        names += [f"model.language_model.{rest}", f"language_model.model.{rest}"]
    if pattern.startswith("re:"):
        return any(re.match(pattern[3:], one) for one in names)
    pattern = pattern.strip(".")
    if "*" in pattern:
        return any(fnmatch.fnmatch(one, pattern) or fnmatch.fnmatch(one, f"{pattern}.*") for one in names)
    return any(f".{pattern}." in f".{one}." for one in names)


def quantization_of(config: Mapping[str, Any]) -> Quantization:
    """Return the quantization of a config.json.

    Raises:
        ShapeError: the method is not known; one sentence.
    """
    raw = config.get("quantization_config") or config.get("compression_config")
    if not raw:
        return Quantization()
    if not isinstance(raw, Mapping):
        raise ShapeError(f"quantization_config of config.json is {raw!r}, expected a mapping")
    method = str(raw.get("quant_method") or raw.get("producer", {}).get("name") or "").lower().replace("_", "-")
    plain = _names(raw, "modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules")
    if method in {"awq", "auto-awq", "awq-marlin"}:
        bits = _positive(raw, "bits", "w_bit")
        zero = bits if raw.get("zero_point", True) else 0
        scheme = Scheme(f"int{bits}", bits, _positive(raw, "group_size", "q_group_size"), 2, zero)
        return Quantization("awq", ((("Linear",), scheme),), plain)
    if method in {"gptq", "auto-gptq", "gptq-marlin", "auto-round"}:
        return _gptq(raw, method, plain)
    if method == "fp8":
        return Quantization("fp8", ((("Linear",), _fp8(raw.get("weight_block_size"))),), plain)
    if method == "mxfp4":
        return Quantization("mxfp4", ((("Linear",), MXFP4),), plain, experts_only=True)
    if method in {"modelopt", "modelopt-fp4"}:
        nested = raw.get("quantization")
        inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else raw
        plain += _names(inner, "exclude_modules") if inner is not raw else ()
        algorithm = str(inner.get("quant_algo") or "NVFP4").upper()
        if algorithm not in {"NVFP4", "FP8"}:
            raise ShapeError(f"quantization_config.quant_algo of config.json is {algorithm!r}, expected NVFP4 or FP8")
        return Quantization("modelopt", ((("Linear",), NVFP4 if algorithm == "NVFP4" else _fp8(None)),), plain)
    if method == "compressed-tensors":
        return Quantization(method, _compressed(raw), plain)
    raise ShapeError(
        f"quantization_config.quant_method of config.json is {method!r}, known are awq, gptq, auto-round, fp8, mxfp4, modelopt and "
        "compressed-tensors: give weights_bytes or index_path instead"
    )


def _names(raw: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    return tuple(str(name) for key in keys for name in (raw.get(key) or ()))


def _positive(raw: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if isinstance(raw.get(key), int):
            return int(raw[key])
    raise ShapeError(f"quantization_config.{keys[0]} is missing in config.json: add it, or give weights_bytes")


def _gptq(raw: Mapping[str, Any], method: str, plain: tuple[str, ...]) -> Quantization:
    """GPTQ, and AutoRound, which packs the same way. A symmetric one loses its zeros when Marlin repacks it."""
    bits = _positive(raw, "bits")
    symmetric = bool(raw.get("sym", True))
    order = bool(raw.get("desc_act", False))
    scheme = Scheme(f"int{bits}", bits, _positive(raw, "group_size"), 2, 0 if symmetric else bits, g_idx=order)
    # GPTQModel writes what it left out as rules: `-:` and an expression.
    left_out = tuple(f"re:{rule[2:]}" for rule in (raw.get("dynamic") or {}) if str(rule).startswith("-:"))
    extra = raw.get("extra_config") or {}
    left_out += tuple(name for name, entry in extra.items() if isinstance(entry, Mapping) and entry.get("bits") == 16)
    return Quantization("auto-round" if method == "auto-round" else "gptq", ((("Linear",), scheme),), plain + left_out)


def _fp8(block: Any) -> Scheme:
    """FP8 with a scale for each block, or one for the weights and one for the inputs."""
    if block:
        return Scheme("fp8", 8, scale_bytes=4, block=(int(block[0]), int(block[1])))
    return Scheme("fp8", 8, extra=8)


def _compressed(raw: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], Scheme], ...]:
    """Schemes of compressed-tensors (vllm/model_executor/layers/quantization/compressed_tensors/)."""
    found = []
    for group in (raw.get("config_groups") or {}).values():
        weights = group.get("weights") or {}
        bits, size = int(weights.get("num_bits") or 8), int(weights.get("group_size") or 0)
        strategy = weights.get("strategy")
        if weights.get("type") == "float" and bits == 4:
            scheme = NVFP4 if size == 16 else MXFP4
        elif weights.get("type") == "float":
            blocks = weights.get("block_structure") if strategy == "block" else None
            scheme = _fp8(blocks) if strategy != "channel" else Scheme("fp8", 8, -1, 4)
        else:
            zero = 0 if weights.get("symmetric", True) else bits
            scheme = Scheme(f"int{bits}", bits, -1 if strategy == "channel" else size, 2, zero)
        found.append((tuple(str(target) for target in group.get("targets") or ["Linear"]), scheme))
    if not found:
        raise ShapeError("quantization_config.config_groups is missing in config.json: add it, or give weights_bytes")
    return tuple(found)


# --- tensors ------------------------------------------------------------------------------------------------------

#: How tensor parallelism divides a matrix: rows, columns, KV heads (whole, at least one), the vocabulary, or not at all.
OUT, IN, KV, VOCAB, WHOLE = "out", "in", "kv", "vocab", "whole"
#: When a token's step reads a matrix: always, when its expert is chosen, or never (a row of the embedding, the vision tower).
ALWAYS, EXPERT, NEVER = "always", "expert", "never"


@dataclass(frozen=True)
class Weight:
    """A matrix (or a vector, with one column) in its place, ``count`` times."""

    name: str
    out: int
    inn: int = 1
    split: str = WHOLE
    bias: bool = False
    count: int = 1
    read: str = ALWAYS
    linear: bool = True

    @property
    def parameters(self) -> int:
        """Parameters of all of them, biases included."""
        return self.count * self.out * (self.inn + (1 if self.bias else 0))


@dataclass(frozen=True)
class RankWeights:
    """Bytes that one rank holds.

    Attributes:
        total: all of them.
        always: those that each decoding step reads.
        packed: those of them that are quantized.
        experts: those of all experts on this rank; a step reads the chosen ones.
        zeros: those of packed matrices' zero points, experts left out.
        layers: decoder layers on this rank.
    """

    total: int
    always: int
    packed: int
    experts: int
    zeros: int
    layers: int


@dataclass(frozen=True)
class _Family:
    """What config.json does not say of a model class, because its code does."""

    qkv_bias: bool | None = None
    out_bias: bool | None = None
    qk_norm: str = ""
    norms: int = 2
    moe: str = ""
    shared: str = ""
    router_bias: bool = False
    expert_bias: bool = False
    correction_bias: bool = False
    sinks: bool = False
    alternate_window: bool = False
    gated_query: bool = False
    rotations: int = 1
    plain_norms: bool = False


_MLA = _Family(moe="first_dense", shared="count", correction_bias=True)
#: Model classes by ``model_type``; each as in vllm/model_executor/models/<name>.py of vLLM 0.26.0.
FAMILIES: dict[str, _Family] = {
    "llama": _Family(),
    "mistral": _Family(),
    "mixtral": _Family(moe="all"),
    "qwen2": _Family(qkv_bias=True, out_bias=False),
    "qwen2_moe": _Family(qkv_bias=True, out_bias=False, moe="step", shared="gated"),
    "qwen3": _Family(qk_norm="head"),
    "qwen3_moe": _Family(qk_norm="head", moe="step"),
    "qwen3_next": _Family(qk_norm="head", moe="step", shared="gated", gated_query=True),
    "gpt_oss": _Family(moe="all", router_bias=True, expert_bias=True, sinks=True, alternate_window=True),
    # Layers with a window rotate by another base: a table of their own. The order of kinds is in layer_types or sliding_window_pattern.
    "gemma3_text": _Family(qk_norm="head", norms=4, rotations=2, plain_norms=True),
    "glm4": _Family(out_bias=False, norms=4),
    "glm4_moe": _Family(out_bias=False, qk_norm="option", moe="first_dense", shared="count", correction_bias=True),
    "minimax_m2": _Family(qk_norm="whole", moe="all", correction_bias=True),
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
    "deepseek_v32": _MLA,
    "kimi_k2": _MLA,
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": _MLA,
}
#: Multimodal models with a tower that is counted, and what their text part is; qwen3_5.py builds on qwen3_next.py and qwen3_vl.py.
_MULTIMODAL = {
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_5": "qwen3_next",
    "qwen3_5_moe": "qwen3_next",
}


@dataclass(frozen=True)
class ModelShape:
    """A model as arithmetic; made by `from_config`."""

    model_type: str
    layers: int
    hidden: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    tied: bool
    max_position: int
    rotary_positions: int
    rotary_dim: int
    quantization: Quantization
    family: _Family = field(repr=False)
    config: Mapping[str, Any] = field(repr=False)
    vision: Mapping[str, Any] | None = field(default=None, repr=False)
    experts: int = 0
    experts_per_token: int = 0
    moe_intermediate: int = 0
    kv_lora_rank: int = 0
    qk_rope_dim: int = 0
    index_head_dim: int = 0
    sliding_window: int = 0
    attention: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ModelShape:
        """Return the shape of a config.json.

        Raises:
            ShapeError: a key is missing or not understood; one sentence that names it.
        """
        if not isinstance(config, Mapping) or not config:
            raise ShapeError("config.json holds no mapping: give the whole file, with model_type and the sizes")
        outer = str(config.get("model_type") or "")
        inner = config.get("text_config")
        text: Mapping[str, Any] = inner if isinstance(inner, Mapping) else config
        kind = str(text.get("model_type") or "") if text is not config else outer
        if kind not in FAMILIES:
            kind = _MULTIMODAL.get(kind.removesuffix("_text"), _MULTIMODAL.get(outer, kind or outer))
        if not kind:
            raise ShapeError("model_type is missing in config.json: add it, the model's class is known by it")
        notes = []
        if kind not in FAMILIES:
            notes.append(f"model_type {kind!r} is not known: counted as a model of Llama's kind")
        family = FAMILIES.get(kind, _Family(moe="all" if _experts(text) else ""))
        layers, hidden, heads = (
            _size(text, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        )
        rank = int(text.get("kv_lora_rank") or 0)
        head_dim = int(text.get("head_dim") or hidden // heads)
        rope = int(text.get("qk_rope_head_dim") or 0)
        tower = config.get("vision_config")
        vision = tower if isinstance(tower, Mapping) else None
        if vision is not None and outer not in _MULTIMODAL:
            notes.append(f"the vision tower of {outer!r} is not known and not counted")
            vision = None
        tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", kind.startswith("gemma"))))
        experts = _experts(text)
        windows = _attention_kinds(text, kind, layers, family)
        parameters = text.get("rope_parameters") or {}
        partial = float(text.get("partial_rotary_factor") or parameters.get("partial_rotary_factor") or 1.0)
        rotary = int(text.get("rotary_dim") or (rope if rank else head_dim * partial))
        return cls(
            model_type=kind,
            layers=layers,
            hidden=hidden,
            vocab=_size(text, "vocab_size"),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_dim=head_dim,
            intermediate=_size(text, "intermediate_size", "moe_intermediate_size"),
            tied=tied,
            max_position=_positions(text),
            rotary_positions=_rotary_positions(text, outer),
            rotary_dim=rotary,
            quantization=quantization_of(config if config.get("quantization_config") else text),
            family=family,
            config=text,
            vision=vision,
            experts=experts,
            experts_per_token=_size(text, "num_experts_per_tok", "experts_per_token") if experts else 0,
            moe_intermediate=_size(text, "moe_intermediate_size", "intermediate_size") if experts else 0,
            kv_lora_rank=rank,
            qk_rope_dim=rope,
            index_head_dim=int(text.get("index_head_dim") or 0) if rank else 0,
            sliding_window=int(text.get("sliding_window") or 0) if "sliding" in windows else 0,
            attention=windows,
            notes=tuple(notes),
        )

    # --- what the model has

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether this layer has experts in the place of one MLP."""
        if not self.experts:
            return False
        if self.family.moe == "step":
            step = int(self.config.get("decoder_sparse_step") or 1)
            return layer not in (self.config.get("mlp_only_layers") or ()) and (layer + 1) % step == 0
        if self.family.moe == "first_dense":
            first = int(self.config.get("first_k_dense_replace") or 0)
            return layer >= first and layer % int(self.config.get("moe_layer_freq") or 1) == 0
        return True

    @property
    def moe_layers(self) -> int:
        """Number of layers with experts."""
        return sum(self.is_moe_layer(layer) for layer in range(self.layers))

    def layer_weights(self, layer: int) -> list[Weight]:
        """Return what one decoder layer has; names are paths below the layer."""
        kind = self.attention[layer]
        found = self._linear_attention() if kind == "linear" else self._mla() if self.kv_lora_rank else self._gqa()
        found += self._experts() if self.is_moe_layer(layer) else self._mlp("mlp", self.intermediate)
        return [*found, Weight("layernorms", self.family.norms * self.hidden, linear=False)]

    def _gqa(self) -> list[Weight]:
        option = bool(self.config.get("attention_bias", False))
        bias = option if self.family.qkv_bias is None else self.family.qkv_bias
        out_bias = option if self.family.out_bias is None else self.family.out_bias
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        gate = 2 if self.family.gated_query and self.config.get("attn_output_gate", True) else 1
        found = [
            Weight("self_attn.q_proj", gate * query, self.hidden, OUT, bias),
            Weight("self_attn.k_proj", key, self.hidden, KV, bias),
            Weight("self_attn.v_proj", key, self.hidden, KV, bias),
            Weight("self_attn.o_proj", self.hidden, query, IN, out_bias),
        ]
        norm = self.family.qk_norm
        if norm == "head" or (norm == "option" and self.config.get("use_qk_norm")):
            found.append(Weight("self_attn.qk_norm", 2 * self.head_dim, linear=False))
        elif norm == "whole" and self.config.get("use_qk_norm", True):
            found.append(Weight("self_attn.qk_norm", query + key, linear=False))
        if self.family.sinks:
            found.append(Weight("self_attn.sinks", self.heads, split=OUT, linear=False))
        return found

    def _mla(self) -> list[Weight]:
        nope, value = _size(self.config, "qk_nope_head_dim"), _size(self.config, "v_head_dim")
        latent, rope, heads = self.kv_lora_rank, self.qk_rope_dim, self.heads
        bias = bool(self.config.get("attention_bias", False))
        ranks = int(self.config.get("q_lora_rank") or 0)
        if ranks:
            found = [
                Weight("self_attn.q_a_proj", ranks, self.hidden, bias=bias),
                Weight("self_attn.q_a_layernorm", ranks, linear=False),
                Weight("self_attn.q_b_proj", heads * (nope + rope), ranks, OUT),
            ]
        else:
            found = [Weight("self_attn.q_proj", heads * (nope + rope), self.hidden, OUT)]
        found += [
            Weight("self_attn.kv_a_proj_with_mqa", latent + rope, self.hidden, bias=bias),
            Weight("self_attn.kv_a_layernorm", latent, linear=False),
            Weight("self_attn.kv_b_proj", heads * (nope + value), latent, OUT),
            Weight("self_attn.o_proj", self.hidden, heads * value, IN, bias),
        ]
        if self.index_head_dim:
            number = _size(self.config, "index_n_heads")
            found += [
                Weight("self_attn.indexer.wq_b", number * self.index_head_dim, ranks),
                Weight("self_attn.indexer.wk", self.index_head_dim, self.hidden),
                Weight("self_attn.indexer.k_norm", 2 * self.index_head_dim, linear=False),
                Weight("self_attn.indexer.weights_proj", number, self.hidden, linear=False),
            ]
        return found

    def _linear_attention(self) -> list[Weight]:
        """Gated delta net (vllm/model_executor/models/qwen3_next.py)."""
        key, value, heads = self._linear_sizes()
        return [
            Weight("linear_attn.in_proj_qkvz", 2 * key + 2 * value, self.hidden, OUT),
            Weight("linear_attn.in_proj_ba", 2 * heads, self.hidden, OUT),
            Weight(
                "linear_attn.conv1d", 2 * key + value, _size(self.config, "linear_conv_kernel_dim"), OUT, linear=False
            ),
            Weight("linear_attn.gates", 2 * heads, split=OUT, linear=False),
            Weight("linear_attn.norm", _size(self.config, "linear_value_head_dim"), linear=False),
            Weight("linear_attn.out_proj", self.hidden, value, IN),
        ]

    def _linear_sizes(self) -> tuple[int, int, int]:
        """Return the width of keys and of values, and the number of value heads."""
        heads = _size(self.config, "linear_num_value_heads")
        key = _size(self.config, "linear_num_key_heads") * _size(self.config, "linear_key_head_dim")
        return key, heads * _size(self.config, "linear_value_head_dim"), heads

    def _mlp(self, name: str, inner: int) -> list[Weight]:
        bias = bool(self.config.get("mlp_bias", False))
        return [
            Weight(f"{name}.gate_proj", inner, self.hidden, OUT, bias),
            Weight(f"{name}.up_proj", inner, self.hidden, OUT, bias),
            Weight(f"{name}.down_proj", self.hidden, inner, IN, bias),
        ]

    def _experts(self) -> list[Weight]:
        number, inner, bias = self.experts, self.moe_intermediate, self.family.expert_bias
        found = [
            Weight("mlp.gate", number, self.hidden, bias=self.family.router_bias, linear=False),
            Weight("mlp.experts.0.gate_proj", inner, self.hidden, OUT, bias, number, EXPERT),
            Weight("mlp.experts.0.up_proj", inner, self.hidden, OUT, bias, number, EXPERT),
            Weight("mlp.experts.0.down_proj", self.hidden, inner, IN, bias, number, EXPERT),
        ]
        if self.family.correction_bias and self.config.get("topk_method", "noaux_tc") == "noaux_tc":
            found.append(Weight("mlp.gate.e_score_correction_bias", number, linear=False))
        shared = int(self.config.get("n_shared_experts") or 0)
        if self.family.shared == "count" and shared:
            found += self._mlp("mlp.shared_experts", shared * inner)
        elif self.family.shared == "gated" and self.config.get("shared_expert_intermediate_size"):
            found += self._mlp("mlp.shared_expert", int(self.config["shared_expert_intermediate_size"]))
            found.append(Weight("mlp.shared_expert_gate", 1, self.hidden, linear=False))
        return found

    def edge_weights(self, *, first: bool = True, last: bool = True) -> list[Weight]:
        """Return what stands before the first layer and behind the last."""
        found = []
        if first:
            # Tied, the same matrix is read whole for the logits.
            read = ALWAYS if self.tied and last else NEVER
            found += [
                Weight("model.embed_tokens", self.vocab, self.hidden, VOCAB, read=read, linear=False),
                *self._vision(),
            ]
        if last:
            found.append(Weight("model.norm", self.hidden, linear=False))
            if not self.tied or not first:
                found.append(Weight("lm_head", self.vocab, self.hidden, VOCAB, linear=False))
        return found

    def _vision(self) -> list[Weight]:
        """The tower of Qwen-VL (vllm/model_executor/models/qwen3_vl.py and qwen2_5_vl.py); no quantization touches it."""
        if self.vision is None:
            return []
        vision = self.vision
        depth, width, inner = (_size(vision, key) for key in ("depth", "hidden_size", "intermediate_size"))
        merge = width * _size(vision, "spatial_merge_size") ** 2
        out = int(vision.get("out_hidden_size") or self.hidden)
        patch = int(vision.get("in_channels") or vision.get("in_chans") or 3)
        patch *= int(vision.get("temporal_patch_size") or 2) * _size(vision, "patch_size") ** 2
        third = "num_position_embeddings" in vision
        parts = [
            ("patch_embed", width, patch, WHOLE, third, 1),
            ("attn.qkv", 3 * width, width, OUT, True, depth),
            ("attn.proj", width, width, IN, True, depth),
            ("mlp.up", inner, width, OUT, True, depth if third else 2 * depth),
            ("mlp.down", width, inner, IN, True, depth),
            ("norms", (4 if third else 2) * width, 1, WHOLE, False, depth),
            ("merger.norm", (2 if third else 1) * width, 1, WHOLE, False, 1),
            ("merger.fc1", merge, merge, OUT, True, 1),
            ("merger.fc2", out, merge, IN, True, 1),
        ]
        if third:
            deep = len(vision.get("deepstack_visual_indexes") or ())
            parts += [
                ("pos_embed", _size(vision, "num_position_embeddings"), width, WHOLE, False, 1),
                ("deepstack.norm", 2 * merge, 1, WHOLE, False, deep),
                ("deepstack.fc1", merge, merge, OUT, True, deep),
                ("deepstack.fc2", out, merge, IN, True, deep),
            ]
        return [
            Weight(f"visual.{name}", rows, columns, split, bias, count, NEVER, linear=False)
            for name, rows, columns, split, bias, count in parts
            if count
        ]

    def parameter_count(self) -> int:
        """Return the parameters of the model that vLLM serves: without layers for speculative decoding."""
        layers = sum(weight.parameters for layer in range(self.layers) for weight in self.layer_weights(layer))
        return layers + sum(weight.parameters for weight in self.edge_weights())

    def draft_parameter_count(self) -> int:
        """Return the parameters of the layers for speculative decoding that some checkpoints bring along.

        Each is a decoder layer with two norms, a projection of both inputs and a norm for the head; embedding and head are the model's.
        """
        number = int(self.config.get("num_nextn_predict_layers") or 0)
        layer = sum(weight.parameters for weight in self.layer_weights(self.layers - 1))
        return number * (layer + 2 * self.hidden * self.hidden + 3 * self.hidden)

    def active_parameter_count(self) -> int:
        """Return the parameters that one token uses: its experts, and no embedding but a tied one."""
        total = 0.0
        for weights in [*map(self.layer_weights, range(self.layers)), self.edge_weights()]:
            for weight in weights:
                if weight.read == EXPERT:
                    total += weight.parameters * self.experts_per_token / self.experts
                elif weight.read == ALWAYS:
                    total += weight.parameters
        return round(total)

    @property
    def kind(self) -> str:
        """Class of kernels that decode it: experts or none, packed weights or plain, or norms that are no kernel of their own."""
        if self.family.plain_norms:
            return "plain-norms"
        return f"{'moe' if self.moe_layers * 2 > self.layers else 'dense'}-{'packed' if self.quantization.schemes else 'plain'}"

    @property
    def counts_graphs(self) -> bool:
        """Whether vLLM takes CUDA graphs off the KV pool: its model runner V2, of dense models and a few others, does not.

        DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES in vllm/config/vllm.py; profile_cudagraph_memory in vllm/v1/worker/gpu/model_runner.py
        returns 0.
        """
        hybrid = "linear" in self.attention
        return hybrid or (bool(self.experts) and self.model_type not in {"deepseek_v2", "qwen2_moe"})

    # --- what a rank holds

    def stages(self, pipeline: int) -> list[range]:
        """Return the layers of each pipeline stage, as vLLM divides them (get_pp_indices in vllm/distributed/utils.py)."""
        each, rest = divmod(self.layers, pipeline)
        sizes = [each] * pipeline
        for place in range(2, rest + 2):
            sizes[-place] += 1
        edges = [sum(sizes[:place]) for place in range(pipeline + 1)]
        return [range(edges[place], edges[place + 1]) for place in range(pipeline)]

    def rank_weights(
        self, tensor: int = 1, pipeline: int = 1, stage: int = 0, expert_parallel: bool = False
    ) -> RankWeights:
        """Return the bytes of one rank of one pipeline stage.

        Raises:
            ShapeError: the heads cannot be divided by the ranks; one sentence.
        """
        if self.heads % tensor:
            raise ShapeError(
                f"tensor_parallel_size is {tensor}, but num_attention_heads {self.heads} cannot be divided by it: take a divisor"
            )
        layers = self.stages(pipeline)[stage]
        total = always = packed = experts = zeros = 0
        named = [
            (f"model.layers.{layer}.{weight.name}", weight) for layer in layers for weight in self.layer_weights(layer)
        ]
        edges = self.edge_weights(first=stage == 0, last=stage == pipeline - 1)
        for name, weight in [*named, *((weight.name, weight) for weight in edges)]:
            size = self._bytes(name, weight, tensor, expert_parallel)
            total += size
            if weight.read == ALWAYS:
                always += size
                if weight.linear and self._scheme(name) is not PLAIN:
                    packed += size
                    zeros += self._zero_bytes(name, weight, tensor)
            elif weight.read == EXPERT:
                experts += size
        derived = self.derived_bytes(tensor, len(layers))
        # The absorbed projections are read in the place of kv_b_proj, so that reading does not grow by them.
        return RankWeights(total + derived, always, packed, experts, zeros, len(layers))

    def _sides(self, weight: Weight, tensor: int) -> tuple[int, int]:
        """Return the rows and columns of a matrix on one rank, where it is divided by width."""
        if weight.split == OUT:
            return math.ceil(weight.out / tensor), weight.inn
        if weight.split == IN:
            return weight.out, math.ceil(weight.inn / tensor)
        if weight.split == KV:
            return max(1, self.kv_heads // tensor) * (weight.out // self.kv_heads), weight.inn
        if weight.split == VOCAB:
            return round_up(weight.out, VOCAB_PADDING * tensor) // tensor, weight.inn
        return weight.out, weight.inn

    def _zero_bytes(self, name: str, weight: Weight, tensor: int) -> int:
        scheme, (out, inn) = self._scheme(name), self._sides(weight, tensor)
        groups = 1 if scheme.group < 0 else math.ceil(inn / max(1, scheme.group))
        return groups * out * scheme.zero_bits // 8

    def _bytes(self, name: str, weight: Weight, tensor: int, expert_parallel: bool) -> int:
        if weight.read == EXPERT and expert_parallel:
            count, out, inn = math.ceil(weight.count / tensor), weight.out, weight.inn
        else:
            count, (out, inn) = weight.count, self._sides(weight, tensor)
        scheme = self._scheme(name) if weight.linear else PLAIN
        if scheme.tile != (1, 1):
            inner, hidden = scheme.tile if weight.split == OUT else scheme.tile[::-1]
            out, inn = round_up(out, inner), round_up(inn, hidden)
        matrix = scheme.matrix_bytes(out, inn)
        return count * (matrix + (out * PLAIN_BYTES if weight.bias else 0))

    def _scheme(self, name: str) -> Scheme:
        if name not in self._schemes:
            self._schemes[name] = self.quantization.scheme_of(name)
        return self._schemes[name]

    @cached_property
    def _schemes(self) -> dict[str, Scheme]:
        return {}

    def derived_bytes(self, tensor: int = 1, layers: int | None = None) -> int:
        """Return what vLLM computes at load: the table of rotations, and MLA's absorbed projections beside kv_b_proj."""
        size = self.family.rotations * self.rotary_positions * self.rotary_dim * PLAIN_BYTES
        if self.kv_lora_rank:
            width = _size(self.config, "qk_nope_head_dim") + _size(self.config, "v_head_dim")
            size += (
                (self.layers if layers is None else layers)
                * math.ceil(self.heads / tensor)
                * width
                * self.kv_lora_rank
                * PLAIN_BYTES
            )
        return size

    # --- the KV cache

    def kv_bytes_per_token_layer(self, tensor: int = 1, kv_cache_dtype: str = "auto") -> float:
        """Return the bytes that one layer with attention keeps for one token on one rank.

        MLA keeps one latent vector on every rank; heads of GQA are divided, at least one for each rank
        (get_num_kv_heads in vllm/config/model.py; page sizes in vllm/v1/kv_cache_interface.py).

        Raises:
            ShapeError: the type is not known; one sentence.
        """
        if kv_cache_dtype not in KV_BYTES:
            raise ShapeError(f"kv_cache_dtype is {kv_cache_dtype!r}, expected one of {', '.join(KV_BYTES)}")
        element = KV_BYTES[kv_cache_dtype]
        if self.kv_lora_rank:
            if self.index_head_dim:
                # The sparse layout of DeepSeek V3.2: 656 bytes with fp8; and the indexer's keys in fp8 with a scale for 128 of them.
                main = 656.0 if element == 1.0 else (self.kv_lora_rank + self.qk_rope_dim) * element
                return main + self.index_head_dim + 4 * self.index_head_dim / 128
            return (self.kv_lora_rank + self.qk_rope_dim) * element
        return 2 * max(1, self.kv_heads // tensor) * self.head_dim * element

    def layers_with(self, kind: str, layers: Sequence[int] | None = None) -> int:
        """Return how many layers have attention of this kind: full, sliding or linear."""
        return sum(self.attention[layer] == kind for layer in (range(self.layers) if layers is None else layers))

    def state_bytes_per_request(self, tensor: int = 1, layers: Sequence[int] | None = None) -> int:
        """Return the bytes of linear attention's state of one request: convolution in the model's type, and the matrix in float32."""
        number = self.layers_with("linear", layers)
        if not number:
            return 0
        key, value, _heads = self._linear_sizes()
        window = (2 * key + value) * (_size(self.config, "linear_conv_kernel_dim") - 1) * PLAIN_BYTES
        return number * (window + value * _size(self.config, "linear_key_head_dim") * 4) // tensor


def _size(config: Mapping[str, Any], *keys: str) -> int:
    """Return the first of these keys as a positive whole number.

    Raises:
        ShapeError: none is there, or it is no such number; one sentence.
    """
    for key in keys:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ShapeError(f"{key} of config.json is {value!r}, expected a whole number from 1 on")
        return value
    raise ShapeError(f"{keys[0]} is missing in config.json: add it as in the model's repository")


def _experts(text: Mapping[str, Any]) -> int:
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(key):
            return _size(text, key)
    return 0


def _positions(text: Mapping[str, Any]) -> int:
    """Return the positions that the model knows, as vLLM derives them (_get_and_verify_max_len in config/model.py); 0 when config.json does not say it.

    YaRN multiplies the original positions, linear and dynamic scaling the stated ones; those of Llama 3, LongRoPE and Gemma 3 are stated after scaling.
    """
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    stated = int(text.get("max_position_embeddings") or 0)
    if not isinstance(scaling, Mapping) or not scaling.get("factor"):
        return stated
    kind = str(scaling.get("rope_type") or scaling.get("type") or "")
    if kind in {"llama3", "longrope", "su"} or str(text.get("model_type") or "").startswith("gemma3"):
        return stated
    if scaling.get("original_max_position_embeddings"):
        return int(scaling["original_max_position_embeddings"] * scaling["factor"])
    return int(stated * scaling["factor"]) if kind in {"linear", "dynamic"} else stated


def _rotary_positions(text: Mapping[str, Any], outer: str) -> int:
    """Return for how many positions vLLM computes rotations (model_executor/layers/rotary_embedding/): four times for Qwen-VL's axes."""
    scaling = text.get("rope_scaling") or {}
    # Gemma 3 states its positions after scaling, but the table is of the linear class.
    linear = isinstance(scaling, Mapping) and (scaling.get("rope_type") or scaling.get("type")) == "linear"
    linear = linear and str(text.get("model_type") or "").startswith("gemma3")
    return int(_positions(text) * (scaling.get("factor") or 1 if linear else 1)) * (4 if outer in _MULTIMODAL else 1)


def _attention_kinds(text: Mapping[str, Any], kind: str, layers: int, family: _Family) -> tuple[str, ...]:
    """Return for each layer whether its attention is full, sliding or linear."""
    window = text.get("sliding_window")
    if text.get("full_attention_interval") and "layer_types" not in text:
        interval = _size(text, "full_attention_interval")
        return tuple("full" if (layer + 1) % interval == 0 else "linear" for layer in range(layers))
    types = text.get("layer_types")
    if isinstance(types, Sequence) and not isinstance(types, str):
        if len(types) != layers:
            raise ShapeError(f"layer_types of config.json has {len(types)} entries, but num_hidden_layers is {layers}")
        known = {"full_attention": "full", "sliding_attention": "sliding", "linear_attention": "linear"}
        strange = next((str(name) for name in types if name not in known), None)
        if strange is not None:
            raise ShapeError(f"layer_types of config.json has {strange!r}, known are {', '.join(known)}")
        return tuple(known[name] for name in types)
    if not window:
        return ("full",) * layers
    if text.get("sliding_window_pattern"):
        pattern = _size(text, "sliding_window_pattern")
        return tuple("sliding" if (layer + 1) % pattern else "full" for layer in range(layers))
    if family.alternate_window:
        return tuple("full" if layer % 2 else "sliding" for layer in range(layers))
    if kind.startswith("qwen"):
        if not text.get("use_sliding_window"):
            return ("full",) * layers
        first = int(text.get("max_window_layers") or 0)
        return tuple("sliding" if layer >= first else "full" for layer in range(layers))
    return ("sliding" if kind in {"mistral", "mixtral"} else "full",) * layers
