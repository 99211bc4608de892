# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A model's config.json as arithmetic: every matrix that it has, how many bytes it takes, and which part of it each rank holds.

Nothing here is fitted or assumed: shapes follow the model classes of vLLM 0.26.0 (vllm/model_executor/models/), bytes follow the layouts of
its quantizations (vllm/model_executor/layers/quantization/). docs/planning.md lists the formulas with their sources.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .families import (
    ENCODER_DECODERS,
    ENCODERS,
    FAMILIES,
    FULL,
    LINEAR,
    MULTIMODAL,
    NONE,
    SLIDING,
    THREE_AXES,
    Family,
    attention_kinds,
    nemotron_pattern,
    number,
    positive,
    with_defaults,
)
from .quantization import PLAIN, PLAIN_BYTES, Quantization, Scheme, ShapeError, kv_cache_type, quantization_of

#: Rows of an embedding are padded to multiples of this (DEFAULT_VOCAB_PADDING_SIZE in vllm/model_executor/layers/vocab_parallel_embedding.py).
VOCAB_PADDING = 64
#: Bytes of one element of the KV cache by `--kv-cache-dtype`; what has scales beside the elements is in `kv_head_bytes`.
KV_BYTES = {
    "auto": 2.0,
    "bfloat16": 2.0,
    "float16": 2.0,
    "fp8": 1.0,
    "fp8_e4m3": 1.0,
    "fp8_e5m2": 1.0,
    "fp8_ds_mla": 1.0,
    "fp8_per_token_head": 1.0,
    "int8_per_token_head": 1.0,
    "nvfp4": 0.5,
    "nvfp4_ds_mla": 0.5,
}
#: Bytes of a token in the sparse layouts of DeepSeek V3.2 (v1/attention/backends/mla/flashmla_sparse.py).
DS_MLA_BYTES = {"fp8": 656.0, "fp8_e4m3": 656.0, "fp8_e5m2": 656.0, "fp8_ds_mla": 656.0, "nvfp4_ds_mla": 352.0}


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below the value."""
    return -(-value // multiple) * multiple


# --- tensors ------------------------------------------------------------------------------------------------------

#: How tensor parallelism divides a matrix: rows, columns, KV heads (whole, at least one), the vocabulary, or not at all.
OUT, IN, KV, VOCAB, WHOLE = "out", "in", "kv", "vocab", "whole"
#: When a token's step reads a matrix: always, when its expert is chosen, or never (a row of the embedding, the vision tower).
ALWAYS, EXPERT, NEVER = "always", "expert", "never"


@dataclass(frozen=True)
class Weight:
    """A matrix (or a vector, with one column) in its place, ``count`` times; ``element`` is for what no quantization touches,
    ``unit`` the rows of one KV head."""

    name: str
    out: int
    inn: int = 1
    split: str = WHOLE
    bias: bool = False
    count: int = 1
    read: str = ALWAYS
    linear: bool = True
    element: int = PLAIN_BYTES
    unit: int = 1

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


@contextlib.contextmanager
def odd_keys() -> Iterator[None]:
    """Turn what a key of another type does to arithmetic into a sentence: there are more keys than checks, and files come from anywhere.

    Raises:
        ShapeError: something within failed on the type of a value.
    """
    try:
        yield
    except (TypeError, AttributeError) as error:
        raise ShapeError(
            f"a key of config.json has another type than the model's class wants ({error}): compare the file with the model's repository"
        ) from error


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
    family: Family = field(repr=False)
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
    known: bool = True
    kv_cache_type: str = "auto"
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
        own = str(text.get("model_type") or "") or outer
        kind = (
            own if own in FAMILIES else MULTIMODAL.get(own.removesuffix("_text"), MULTIMODAL.get(outer, own or outer))
        )
        if not kind:
            raise ShapeError("model_type is missing in config.json: add it, the model's class is known by it")
        _generates(config, kind)
        family = FAMILIES.get(kind, Family(moe="all" if _experts(text) else ""))
        text = with_defaults(text, kind, own)
        layers, hidden, heads = (
            positive(text, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        )
        rank = positive(text, "kv_lora_rank") if text.get("kv_lora_rank") else 0
        if kind not in FAMILIES:
            text = _readable(text, hidden)
        head_dim = hidden // heads if text.get("head_dim") is None else positive(text, "head_dim")
        rope = positive(text, "qk_rope_head_dim") if text.get("qk_rope_head_dim") else 0
        experts = _experts(text)
        windows = attention_kinds(text, kind, layers, family)
        notes = [] if kind in FAMILIES else [_unknown(kind)]
        tower = config.get("vision_config")
        vision = tower if isinstance(tower, Mapping) else None
        if vision is not None and outer not in MULTIMODAL:
            notes.append(f"the vision tower of {outer!r} is not known and not counted")
            vision = None
        if isinstance(_scaling(text).get("factor"), str):
            notes.append(
                f"the factor of rope_scaling is the text {_scaling(text)['factor']!r}: vLLM wants a number there, it is taken for one"
            )
        return cls(
            model_type=kind,
            layers=layers,
            hidden=hidden,
            vocab=positive(text, "vocab_size"),
            heads=heads,
            kv_heads=heads if text.get("num_key_value_heads") is None else positive(text, "num_key_value_heads"),
            head_dim=head_dim,
            intermediate=positive(text, "intermediate_size", "moe_intermediate_size"),
            tied=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", False))),
            max_position=_positions(text),
            rotary_positions=_rotary_positions(text, outer),
            rotary_dim=_rotary_dim(text, rope if rank else head_dim, mla=bool(rank)),
            quantization=quantization_of(config if config.get("quantization_config") else text),
            family=family,
            config=text,
            vision=vision,
            experts=experts,
            experts_per_token=positive(text, "num_experts_per_tok", "experts_per_token") if experts else 0,
            moe_intermediate=positive(text, "moe_intermediate_size", "intermediate_size") if experts else 0,
            kv_lora_rank=rank,
            qk_rope_dim=rope,
            index_head_dim=positive(text, "index_head_dim") if rank and text.get("index_head_dim") else 0,
            sliding_window=positive(text, "sliding_window") if SLIDING in windows else 0,
            attention=windows,
            known=kind in FAMILIES,
            kv_cache_type=kv_cache_type(config if config.get("quantization_config") else text),
            notes=tuple(notes),
        )

    # --- what the model has

    @property
    def default_positions(self) -> int:
        """Positions that vLLM starts from where no length is asked for: of LongRoPE the original ones (_get_and_verify_max_len in config/model.py)."""
        scaling = _scaling(self.config)
        if str(scaling.get("rope_type") or scaling.get("type") or "") == "longrope":
            return int(self.config.get("original_max_position_embeddings") or self.max_position)
        return self.max_position

    def is_moe_layer(self, layer: int) -> bool:
        """Return whether this layer has experts."""
        if not self.experts:
            return False
        if self.family.moe == "pattern":
            return self._block_types[layer] == "moe"
        if self.family.moe == "step":
            step = int(self.config.get("decoder_sparse_step") or 1)
            return layer not in (self.config.get("mlp_only_layers") or ()) and (layer + 1) % step == 0
        if self.family.moe == "first_dense":
            first = int(self.config.get("first_k_dense_replace") or 0)
            return layer >= first and layer % int(self.config.get("moe_layer_freq") or 1) == 0
        return True

    @cached_property
    def _block_types(self) -> list[str]:
        return nemotron_pattern(self.config)

    @property
    def moe_layers(self) -> int:
        """Number of layers with experts."""
        return sum(self.is_moe_layer(layer) for layer in range(self.layers))

    def layer_weights(self, layer: int) -> list[Weight]:
        """Return what one decoder layer has; names are paths below the layer."""
        kind = self.attention[layer]
        found: list[Weight] = []
        if kind == LINEAR:
            found = {"mamba2": self._mamba2, "kda": self._kda}.get(self.family.mixer, self._linear_attention)()
        elif kind != NONE:
            found = self._mla() if self.kv_lora_rank else self._gqa(layer)
        norms = self.family.norms
        if self.is_moe_layer(layer):
            found += self._experts()
            if self.family.moe == "beside" and self.model_type == "gemma4_text":
                found += [
                    *self._mlp("mlp", self._width(layer)),
                    Weight("router.scales", self.hidden + self.experts, linear=False),
                ]
                norms += 3
        elif self.model_type != "granitemoehybrid" and (not self.family.single or kind == NONE):
            found += self._mlp("mlp", self._width(layer))
        if self.model_type == "granitemoehybrid" and self.config.get("shared_intermediate_size"):
            found += self._mlp("shared_mlp", positive(self.config, "shared_intermediate_size"))
        if self._per_layer_input:
            found += [
                Weight("per_layer_input_gate", self._per_layer_input, self.hidden),
                Weight("per_layer_projection", self.hidden, self._per_layer_input),
            ]
            norms += 1
        return [*found, Weight("layernorms", norms * self.hidden, linear=False)]

    def _width(self, layer: int) -> int:
        """Return the width of a dense layer's MLP."""
        if self.config.get("use_double_wide_mlp") and layer >= self._first_shared:
            return 2 * self.intermediate
        return self.intermediate

    @property
    def _first_shared(self) -> int:
        """First layer that reads the KV cache of an earlier one (Gemma 4); the number of layers for none."""
        return self.layers - int(self.config.get("num_kv_shared_layers") or 0)

    @property
    def _per_layer_input(self) -> int:
        """Width of what each layer gets of the token itself (Gemma 4); 0 for none."""
        return int(self.config.get("hidden_size_per_layer_input") or 0) if self.model_type == "gemma4_text" else 0

    def kv_heads_of(self, layer: int) -> int:
        """Return the KV heads of a layer; Gemma 4 has others in layers without a window where keys are values."""
        wide = self.config.get("num_global_key_value_heads")
        if (
            self.model_type == "gemma4_text"
            and self.attention[layer] == FULL
            and wide
            and self.config.get("attention_k_eq_v")
        ):
            return positive(self.config, "num_global_key_value_heads")
        return self.kv_heads

    def head_dim_of(self, layer: int) -> int:
        """Return the width of a layer's heads; Gemma 4 has wider ones in layers without a window."""
        if self.model_type == "gemma4_text" and self.attention[layer] == FULL:
            return positive(self.config, "global_head_dim")
        return self.head_dim

    def _gqa(self, layer: int) -> list[Weight]:
        option = bool(self.config.get("attention_bias", False))
        bias = option if self.family.qkv_bias is None else self.family.qkv_bias
        out_bias = option if self.family.out_bias is None else self.family.out_bias
        dim, heads = self.head_dim_of(layer), self.kv_heads_of(layer)
        query, key = self.heads * dim, heads * dim
        gate = 2 if self.family.gated_query and self.config.get("attn_output_gate", True) else 1
        found = [Weight("self_attn.q_proj", gate * query, self.hidden, OUT, bias)]
        shared = self.model_type == "gemma4_text" and layer >= self._first_shared
        if not shared:
            # vLLM loads keys in the place of values where a checkpoint has only keys: both are held.
            found += [Weight(f"self_attn.{name}_proj", key, self.hidden, KV, bias, unit=dim) for name in "kv"]
        found.append(Weight("self_attn.o_proj", self.hidden, query, IN, out_bias))
        norm = self.family.qk_norm
        if norm == "head" or (norm == "option" and self.config.get("use_qk_norm")):
            found.append(Weight("self_attn.qk_norm", (1 if shared else 2) * dim, linear=False))
        elif norm == "whole" and self.config.get("use_qk_norm", True):
            found.append(Weight("self_attn.qk_norm", query + key, linear=False))
        if self.family.sinks:
            found.append(Weight("self_attn.sinks", self.heads, split=OUT, linear=False))
        return found

    def _mla(self) -> list[Weight]:
        nope, value = positive(self.config, "qk_nope_head_dim"), positive(self.config, "v_head_dim")
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
            number = positive(self.config, "index_n_heads")
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
                "linear_attn.conv1d",
                2 * key + value,
                positive(self.config, "linear_conv_kernel_dim"),
                OUT,
                linear=False,
            ),
            Weight("linear_attn.gates", 2 * heads, split=OUT, linear=False),
            Weight("linear_attn.norm", positive(self.config, "linear_value_head_dim"), linear=False),
            Weight("linear_attn.out_proj", self.hidden, value, IN),
        ]

    def _linear_sizes(self) -> tuple[int, int, int]:
        """Return the width of keys and of values, and the number of value heads."""
        heads = positive(self.config, "linear_num_value_heads")
        key = positive(self.config, "linear_num_key_heads") * positive(self.config, "linear_key_head_dim")
        return key, heads * positive(self.config, "linear_value_head_dim"), heads

    def _mamba_sizes(self) -> tuple[int, int, int, int]:
        """Return heads, width of all heads, groups, and the width of a state."""
        heads = positive(self.config, "mamba_num_heads")
        inner = heads * positive(self.config, "mamba_head_dim")
        return heads, inner, positive(self.config, "n_groups"), positive(self.config, "ssm_state_size")

    def _mamba2(self) -> list[Weight]:
        """Mamba 2 (vllm/model_executor/layers/mamba/mamba_mixer2.py); one group alone is held by every rank."""
        heads, inner, groups, state = self._mamba_sizes()
        kernel, shared = positive(self.config, "conv_kernel"), 2 * groups * state
        split = OUT if groups > 1 else WHOLE
        bias = bool(self.config.get("use_bias") or self.config.get("mamba_proj_bias"))
        conv = bool(self.config.get("use_conv_bias", self.config.get("mamba_conv_bias", True)))
        return [
            Weight("mixer.in_proj", 2 * inner + heads, self.hidden, OUT, bias),
            Weight("mixer.in_proj", shared, self.hidden, split, bias),
            Weight("mixer.conv1d", inner, kernel, OUT, conv, linear=False),
            Weight("mixer.conv1d", shared, kernel, split, conv, linear=False),
            Weight("mixer.scalars", 3 * heads, split=OUT, linear=False),
            Weight("mixer.norm", inner, split=OUT, linear=False),
            Weight("mixer.out_proj", self.hidden, inner, IN, bias),
        ]

    def _kda_sizes(self) -> tuple[int, int, int]:
        """Return heads, the width of one, and the convolution's kernel."""
        linear = self.config.get("linear_attn_config")
        linear = linear if isinstance(linear, Mapping) else {}
        return positive(linear, "num_heads"), positive(linear, "head_dim"), positive(linear, "short_conv_kernel_size")

    def _kda(self) -> list[Weight]:
        """Kimi Delta Attention (vllm/model_executor/layers/mamba/gdn/kimi_gdn_linear_attn.py)."""
        heads, dim, kernel = self._kda_sizes()
        width = heads * dim
        return [
            *(Weight(f"self_attn.{name}_proj", width, self.hidden, OUT) for name in "qkv"),
            Weight("self_attn.b_proj", heads, self.hidden, OUT),
            *(Weight(f"self_attn.{name}_a_proj", dim, self.hidden) for name in "fg"),
            *(Weight(f"self_attn.{name}_b_proj", width, dim, OUT) for name in "fg"),
            Weight("self_attn.conv1d", 3 * width, kernel, OUT, linear=False, element=4),
            Weight("self_attn.dt_bias", width + heads, split=OUT, linear=False, element=4),
            Weight("self_attn.o_norm", dim, linear=False),
            Weight("self_attn.o_proj", self.hidden, width, IN),
        ]

    def _mlp(self, name: str, inner: int) -> list[Weight]:
        bias = bool(self.config.get("mlp_bias", False))
        gate = [Weight(f"{name}.gate_proj", inner, self.hidden, OUT, bias)] if self.family.gated else []
        return [
            *gate,
            Weight(f"{name}.up_proj", inner, self.hidden, OUT, bias),
            Weight(f"{name}.down_proj", self.hidden, inner, IN, bias),
        ]

    def _experts(self) -> list[Weight]:
        count, inner, bias = self.experts, self.moe_intermediate, self.family.expert_bias
        latent = int(self.config.get("moe_latent_size") or 0) if self.family.moe == "pattern" else 0
        hidden = latent or self.hidden
        found = [Weight("mlp.gate", count, self.hidden, bias=self.family.router_bias, linear=False)]
        found += [
            Weight(f"mlp.experts.0.{name}_proj", inner, hidden, OUT, bias, count, EXPERT)
            for name in (("gate", "up") if self.family.gated else ("up",))
        ]
        found.append(Weight("mlp.experts.0.down_proj", hidden, inner, IN, bias, count, EXPERT))
        if latent:
            found += [
                Weight("mlp.fc1_latent_proj", latent, self.hidden),
                Weight("mlp.fc2_latent_proj", self.hidden, latent),
            ]
        if self.family.correction_bias and self.config.get("topk_method", "noaux_tc") == "noaux_tc":
            found.append(Weight("mlp.gate.e_score_correction_bias", count, linear=False))
        shared = int(self.config.get("n_shared_experts") or 0)
        if self.family.shared == "count" and shared:
            found += self._mlp("mlp.shared_experts", shared * inner)
        elif self.family.shared == "width" and shared:
            found += self._mlp(
                "mlp.shared_experts", shared * positive(self.config, "moe_shared_expert_intermediate_size")
            )
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
            if self._per_layer_input:
                width = self._per_layer_input * self.layers
                table = positive(self.config, "vocab_size_per_layer_input")
                found += [
                    Weight("model.embed_tokens_per_layer", table, width, VOCAB, read=NEVER, linear=False),
                    Weight("model.per_layer_model_projection", width, self.hidden, OUT),
                    Weight("model.per_layer_projection_norm", self._per_layer_input, linear=False),
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
        if self.model_type in {"mistral", "ministral3"}:
            return _pixtral_tower(self.vision, self.hidden)
        if self.model_type in {"gemma3_text", "gemma4_text"}:
            return _gemma_tower(self.vision, self.hidden, new=self.model_type == "gemma4_text")
        vision = self.vision
        depth, width, inner = (positive(vision, key) for key in ("depth", "hidden_size", "intermediate_size"))
        merge = width * positive(vision, "spatial_merge_size") ** 2
        out = int(vision.get("out_hidden_size") or self.hidden)
        patch = int(vision.get("in_channels") or vision.get("in_chans") or 3)
        patch *= int(vision.get("temporal_patch_size") or 2) * positive(vision, "patch_size") ** 2
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
                ("pos_embed", positive(vision, "num_position_embeddings"), width, WHOLE, False, 1),
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

    @property
    def draft_layers(self) -> int:
        """Layers for speculative decoding that the checkpoint brings along (MTP), by the names of its class; 0 for none."""
        for key in ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"):
            if self.config.get(key):
                return positive(self.config, key)
        return 0

    def draft_weights(self) -> list[Weight]:
        """Return one layer for speculative decoding: a layer with attention, two norms, a projection of both inputs and a norm for the head.

        Embedding and head are the model's (vllm/model_executor/models/qwen3_5_mtp.py, glm4_moe_mtp.py, deepseek_mtp.py).
        """
        last = max(
            (layer for layer in range(self.layers) if self.attention[layer] in {FULL, SLIDING}), default=self.layers - 1
        )
        return [
            *self.layer_weights(last),
            Weight("eh_proj", self.hidden, 2 * self.hidden, linear=False),
            Weight("draft_norms", 3 * self.hidden, linear=False),
        ]

    def draft_parameter_count(self) -> int:
        """Return the parameters of the layers for speculative decoding that some checkpoints bring along."""
        return self.draft_layers * sum(weight.parameters for weight in self.draft_weights())

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
        return f"{'moe' if self._mostly_experts else 'dense'}-{'packed' if self.quantization.schemes or not self.quantization.counted else 'plain'}"

    @property
    def _mostly_experts(self) -> bool:
        """Whether most layers that have an MLP have experts in its place or beside it."""
        with_mlp = self.layers if not self.family.single else self.attention.count(NONE)
        return self.moe_layers * 2 > with_mlp

    @property
    def counts_graphs(self) -> bool:
        """Whether vLLM takes CUDA graphs off the KV pool: its model runner V2, of dense models and a few others, does not.

        DEFAULT_V2_MODEL_RUNNER_ARCHITECTURES in vllm/config/vllm.py; profile_cudagraph_memory in vllm/v1/worker/gpu/model_runner.py
        returns 0.
        """
        hybrid = LINEAR in self.attention
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
        self._check_division(tensor)
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
        derived = self.derived_bytes(tensor, self.layers_with(FULL, layers))
        # The absorbed projections are read in the place of kv_b_proj, so that reading does not grow by them.
        return RankWeights(total + derived, always, packed, experts, zeros, len(layers))

    def draft_bytes(self, tensor: int = 1, expert_parallel: bool = False) -> int:
        """Return the bytes of one layer for speculative decoding on one rank."""
        return sum(
            self._bytes(f"mtp.layers.0.{weight.name}", weight, tensor, expert_parallel)
            for weight in self.draft_weights()
        )

    def _check_division(self, tensor: int) -> None:
        """See that heads can be divided as vLLM does (divide in vllm/distributed/utils.py): evenly, or one KV head for several ranks.

        Raises:
            ShapeError: they cannot; one sentence.
        """
        if LINEAR in self.attention and self.family.mixer == "mamba2":
            heads, _inner, groups, _state = self._mamba_sizes()
            if heads % tensor or (groups % tensor and groups != 1):
                raise ShapeError(
                    f"tensor_parallel_size is {tensor}, but {heads} heads in {groups} groups of Mamba cannot be divided by it: take a divisor"
                )
        if self.model_type == "mamba2":
            return
        if self.heads % tensor:
            raise ShapeError(
                f"tensor_parallel_size is {tensor}, but num_attention_heads {self.heads} cannot be divided by it: take a divisor"
            )
        for heads in sorted(
            {self.kv_heads_of(layer) for layer in range(self.layers) if self.attention[layer] in {FULL, SLIDING}}
        ):
            if not self.kv_lora_rank and heads % tensor and tensor % heads:
                raise ShapeError(
                    f"tensor_parallel_size is {tensor}, but {heads} KV heads can neither be divided by it nor be held by as many ranks each: "
                    "take a divisor or a multiple of them"
                )

    def _sides(self, weight: Weight, tensor: int) -> tuple[int, int]:
        """Return the rows and columns of a matrix on one rank, where it is divided by width."""
        if weight.split == OUT:
            return math.ceil(weight.out / tensor), weight.inn
        if weight.split == IN:
            return weight.out, math.ceil(weight.inn / tensor)
        if weight.split == KV:
            return _held(weight.out // weight.unit, tensor) * weight.unit, weight.inn
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
        matrix = scheme.matrix_bytes(out, inn) if scheme is not PLAIN else out * inn * weight.element
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
            width = positive(self.config, "qk_nope_head_dim") + positive(self.config, "v_head_dim")
            size += (
                (self.attention.count(FULL) if layers is None else layers)
                * math.ceil(self.heads / tensor)
                * width
                * self.kv_lora_rank
                * PLAIN_BYTES
            )
        return size

    # --- the KV cache

    def kv_bytes_per_token_layer(
        self, tensor: int = 1, kv_cache_dtype: str = "auto", layer: int | None = None
    ) -> float:
        """Return the bytes that one layer with attention keeps for one token on one rank.

        MLA keeps one latent vector on every rank; heads of GQA are divided, at least one for each rank
        (get_num_kv_heads in vllm/config/model.py; page sizes in vllm/v1/kv_cache_interface.py).

        Args:
            tensor: ranks that share the layer.
            kv_cache_dtype: as vLLM's flag.
            layer: which one; None for the first that keeps every token, or the first with a window.

        Raises:
            ShapeError: the type is not known, or not for this model; one sentence.
        """
        if kv_cache_dtype not in KV_BYTES:
            raise ShapeError(f"kv_cache_dtype is {kv_cache_dtype!r}, expected one of {', '.join(KV_BYTES)}")
        if self.kv_lora_rank:
            return self._latent_bytes(kv_cache_dtype)
        if kv_cache_dtype.endswith("ds_mla"):
            raise ShapeError(
                f"kv_cache_dtype is {kv_cache_dtype}, which is for models with latent attention (MLA): take fp8"
            )
        place = self._first_attention if layer is None else layer
        return 2 * _held(self.kv_heads_of(place), tensor) * kv_head_bytes(self.head_dim_of(place), kv_cache_dtype)

    @cached_property
    def _first_attention(self) -> int:
        kind = FULL if FULL in self.attention else SLIDING
        return self.attention.index(kind) if kind in self.attention else 0

    def _latent_bytes(self, kv_cache_dtype: str) -> float:
        latent = self.kv_lora_rank + self.qk_rope_dim
        if self.index_head_dim:
            # The sparse layouts of DeepSeek V3.2, and the indexer's keys in fp8 with a scale for 128 of them.
            main = DS_MLA_BYTES.get(kv_cache_dtype, latent * KV_BYTES[kv_cache_dtype])
            return main + self.index_head_dim + 4 * self.index_head_dim / 128
        if kv_cache_dtype.endswith("ds_mla"):
            return DS_MLA_BYTES[kv_cache_dtype]
        if kv_cache_dtype.startswith("nvfp4") or kv_cache_dtype.endswith("per_token_head"):
            raise ShapeError(
                f"kv_cache_dtype is {kv_cache_dtype}, which is not for models with latent attention (MLA): take fp8"
            )
        return latent * KV_BYTES[kv_cache_dtype]

    def layers_with(self, kind: str, layers: Sequence[int] | None = None) -> int:
        """Return how many layers have attention of this kind: full, sliding or linear."""
        return sum(self.attention[layer] == kind for layer in (range(self.layers) if layers is None else layers))

    def keeps_cache(self, layer: int) -> bool:
        """Return whether a layer has a cache of its own: Gemma 4's last ones read that of an earlier layer."""
        return self.attention[layer] != NONE and not (self.model_type == "gemma4_text" and layer >= self._first_shared)

    def state_bytes_per_request(
        self, tensor: int = 1, layers: Sequence[int] | None = None, speculative: int = 0
    ) -> int:
        """Return the bytes of the states of one request: convolutions in the model's type, and a matrix for each head.

        (MambaStateShapeCalculator in vllm/model_executor/layers/mamba/mamba_utils.py.) With speculative tokens the convolution's window grows by them.
        """
        count = self.layers_with(LINEAR, layers)
        return count * self._state_bytes(tensor, speculative) if count else 0

    @property
    def _state_width(self) -> int:
        """Bytes of an element of a state: by the type in config.json, which vLLM takes for Qwen3.5 and Nemotron-H (models/config.py), or the class."""
        stated = str(self.config.get("mamba_ssm_dtype") or self.config.get("mamba_ssm_cache_dtype") or "")
        return {"float32": 4, "bfloat16": 2, "float16": 2}.get(stated, self.family.state_bytes)

    def _state_bytes(self, tensor: int, speculative: int) -> int:
        if self.family.mixer == "mamba2":
            heads, inner, groups, state = self._mamba_sizes()
            # One group alone is held by every rank.
            groups += tensor - groups if groups % tensor else 0
            window = (inner + 2 * groups * state) // tensor * (positive(self.config, "conv_kernel") - 1 + speculative)
            return window * PLAIN_BYTES + inner // tensor * state * self._state_width
        if self.family.mixer == "kda":
            heads, dim, kernel = self._kda_sizes()
            return (
                3 * heads * dim // tensor * (kernel - 1 + speculative) * PLAIN_BYTES + heads // tensor * dim * dim * 4
            )
        key, value, _heads = self._linear_sizes()
        window = (2 * key + value) // tensor * (positive(self.config, "linear_conv_kernel_dim") - 1 + speculative)
        return window * PLAIN_BYTES + value // tensor * positive(self.config, "linear_key_head_dim") * self._state_width


def kv_head_bytes(head_dim: int, kv_cache_dtype: str) -> float:
    """Return the bytes of one head's keys (or values) of one token.

    NVFP4 has a scale for 16 elements (nvfp4_kv_cache_full_dim in vllm/utils/torch_utils.py), per-token-head types one of 4 bytes
    (customize_spec in vllm/v1/attention/backends/triton_attn.py).
    """
    if kv_cache_dtype == "nvfp4":
        return head_dim // 2 + head_dim // 16
    return head_dim * KV_BYTES[kv_cache_dtype] + (4 if kv_cache_dtype.endswith("per_token_head") else 0)


def _held(heads: int, tensor: int) -> int:
    """Return the KV heads that a rank holds: its part, at least one."""
    return max(1, heads // tensor)


def _generates(config: Mapping[str, Any], kind: str) -> None:
    """See that the model writes text.

    Raises:
        ShapeError: it does not; one sentence.
    """
    if kind in ENCODERS or kind.removesuffix("_model") in ENCODERS:
        raise ShapeError(
            f"model_type {kind!r} is an encoder: it answers with vectors and has no KV cache, so there is no chat to plan; choose a model that generates text"
        )
    if config.get("is_encoder_decoder") or kind in ENCODER_DECODERS:
        raise ShapeError(
            f"model_type {kind!r} reads with an encoder and writes with a decoder: its caches are not counted; choose a model with a decoder alone"
        )


def _unknown(kind: str) -> str:
    return (
        f"model_type {kind!r} is not known: its weights are taken from the bytes of its files, and the KV figure is a guess "
        "(all layers as attention with the heads that config.json states)"
    )


#: Names that other classes have for the number of KV heads.
_KV_HEADS = ("num_attention_groups", "num_kv_heads", "n_head_kv", "multi_query_group_num", "num_query_groups")


def _readable(text: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    """Return the config of a class that is not known, with a guess for what only weights need, whose bytes are those of the files.

    What is stated layer by layer counts by its largest; KV heads go by several names, and all heads in their place would be a multiple of them.
    """
    found = dict(text)
    for key, value in text.items():
        if isinstance(value, list) and value and all(isinstance(one, int) for one in value):
            found[key] = max(value)
    for key in _KV_HEADS if found.get("num_key_value_heads") is None else ():
        if isinstance(found.get(key), int):
            found["num_key_value_heads"] = found[key]
            break
    if found.get("intermediate_size") is None and found.get("moe_intermediate_size") is None:
        found["intermediate_size"] = 4 * hidden
    if found.get("num_experts_per_tok") is None and found.get("experts_per_token") is None:
        topk = next((found[key] for key in ("moe_topk", "moe_top_k", "top_k") if isinstance(found.get(key), int)), 1)
        found["num_experts_per_tok"] = topk
    return found


def _gemma_tower(vision: Mapping[str, Any], hidden: int, *, new: bool) -> list[Weight]:
    """The towers of Gemma 3 (SigLIP, vllm/model_executor/models/siglip.py) and Gemma 4; keys that are missing are the classes' defaults."""
    depth = positive({"num_hidden_layers": 16 if new else 12, **vision}, "num_hidden_layers")
    width = positive({"hidden_size": 768, **vision}, "hidden_size")
    inner = positive({"intermediate_size": 3072, **vision}, "intermediate_size")
    patch = positive({"patch_size": 16, **vision}, "patch_size")
    if new:
        positions = 2 * positive({"position_embedding_size": 10240, **vision}, "position_embedding_size")
    else:
        positions = (positive({"image_size": 224, **vision}, "image_size") // patch) ** 2
    parts = [
        ("patch_embed", width, 3 * patch * patch, WHOLE, not new, 1),
        ("position_embed", positions, width, WHOLE, False, 1),
        ("attn.qkv", 3 * width, width, OUT, not new, depth),
        ("attn.out", width, width, IN, not new, depth),
        ("mlp.up", inner, width, OUT, not new, 2 * depth if new else depth),
        ("mlp.down", width, inner, IN, not new, depth),
        ("norms", 4 * width, 1, WHOLE, False, depth),
        ("post_norm", 2 * width, 1, WHOLE, False, 1),
        ("projection", hidden, width, WHOLE, False, 1),
    ]
    return [
        Weight(f"visual.{name}", rows, columns, split, bias, count, NEVER, linear=False)
        for name, rows, columns, split, bias, count in parts
    ]


def _pixtral_tower(vision: Mapping[str, Any], hidden: int) -> list[Weight]:
    """The tower of Mistral 3 (vllm/model_executor/models/pixtral.py and mistral3.py); keys that are missing are the class's defaults."""
    depth = positive({"num_hidden_layers": 24, **vision}, "num_hidden_layers")
    width = positive({"hidden_size": 1024, **vision}, "hidden_size")
    inner = positive({"intermediate_size": 4096, **vision}, "intermediate_size")
    patch = positive({"patch_size": 16, **vision}, "patch_size")
    parts = [
        ("patch_conv", width, 3 * patch * patch, WHOLE, 1),
        ("attention.qkv", 3 * width, width, OUT, depth),
        ("attention.o_proj", width, width, IN, depth),
        ("feed_forward.up", inner, width, OUT, 2 * depth),
        ("feed_forward.down", width, inner, IN, depth),
        ("norms", 2 * width, 1, WHOLE, depth),
        ("outer_norms", 2 * width, 1, WHOLE, 1),
        ("merging_layer", width, 4 * width, WHOLE, 1),
        ("linear_1", hidden, width, OUT, 1),
        ("linear_2", hidden, hidden, IN, 1),
    ]
    return [
        Weight(f"visual.{name}", rows, columns, split, count=count, read=NEVER, linear=False)
        for name, rows, columns, split, count in parts
    ]


def _experts(text: Mapping[str, Any]) -> int:
    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        if text.get(key):
            return positive(text, key)
    return 0


def _scaling(text: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how rotations are scaled; of classes with two kinds of layers, how those without a window are."""
    found = text.get("rope_scaling") or text.get("rope_parameters") or {}
    if isinstance(found, Mapping) and isinstance(found.get("full_attention"), Mapping):
        found = found["full_attention"]
    return found if isinstance(found, Mapping) else {}


def _positions(text: Mapping[str, Any]) -> int:
    """Return the positions that the model knows, as vLLM derives them (_get_and_verify_max_len in config/model.py); 0 when config.json does not say it.

    YaRN multiplies the original positions, linear and dynamic scaling the stated ones; those of Llama 3, LongRoPE and Gemma 3 are stated after scaling.
    """
    scaling = _scaling(text)
    stated = positive(text, "max_position_embeddings") if text.get("max_position_embeddings") else 0
    if scaling.get("factor") is None:
        return stated
    kind = str(scaling.get("rope_type") or scaling.get("type") or "")
    factor = number(scaling, "factor", 1.0)
    if kind in {"llama3", "longrope", "su"} or str(text.get("model_type") or "").startswith("gemma"):
        return stated
    if scaling.get("original_max_position_embeddings"):
        return int(number(scaling, "original_max_position_embeddings", 1.0) * factor)
    return int(stated * factor) if kind in {"linear", "dynamic"} else stated


def _rotary_positions(text: Mapping[str, Any], outer: str) -> int:
    """Return for how many positions vLLM computes rotations (model_executor/layers/rotary_embedding/): four times for Qwen-VL's axes."""
    scaling = _scaling(text)
    # Gemma 3 states its positions after scaling, but the table is of the linear class.
    linear = (scaling.get("rope_type") or scaling.get("type")) == "linear"
    linear = linear and str(text.get("model_type") or "").startswith("gemma3")
    return int(_positions(text) * (number(scaling, "factor", 1.0) if linear else 1)) * (4 if outer in THREE_AXES else 1)


def _rotary_dim(text: Mapping[str, Any], head_dim: int, *, mla: bool) -> int:
    """Return how much of a head is rotated."""
    if text.get("rotary_dim"):
        return positive(text, "rotary_dim")
    if mla:
        return head_dim
    parameters = text.get("rope_parameters")
    inner = parameters.get("partial_rotary_factor") if isinstance(parameters, Mapping) else None
    return int(
        head_dim
        * number(text, "partial_rotary_factor", number({"partial_rotary_factor": inner}, "partial_rotary_factor", 1.0))
    )
