# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What config.json does not say of a model class, because its code does: how layers are built, and the defaults of keys that are missing.

Layers follow vllm/model_executor/models/<name>.py of vLLM 0.26.0 to 0.32.0, defaults the config classes of transformers 5 (those that vLLM
brings along for classes of its own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .quantization import ShapeError

#: Kinds of a layer by what it remembers: all tokens, those of a window, one state, or nothing.
FULL, SLIDING, LINEAR, NONE = "full", "sliding", "linear", "none"
#: What layer_types of config.json says of a layer; of classes with Mamba there are layers without attention as well.
LAYER_TYPES = {"full_attention": FULL, "sliding_attention": SLIDING, "linear_attention": LINEAR}
MAMBA_TYPES = {**LAYER_TYPES, "attention": FULL, "mamba": LINEAR, "mlp": NONE, "moe": NONE}


@dataclass(frozen=True)
class Family:
    """How one model class is built.

    Attributes:
        qkv_bias, out_bias: whether projections have a bias; None leaves it to ``attention_bias``.
        qk_norm: "head" (one norm of a head's width), "whole", "option" (``use_qk_norm``), or none.
        norms: norms of a layer, each as wide as the hidden state.
        moe: which layers have experts: "all", "step", "first_dense", "beside" (experts beside the MLP of each layer), "pattern", or none.
        shared: how shared experts are stated: "count", "gated", "width" or none.
        router_bias, expert_bias, correction_bias, sinks: what some classes have.
        alternate_window: whether every other layer has a window.
        pattern: every so many layers one has no window (``sliding_window_pattern``); 0 for none.
        gated_query: whether queries bring a gate of their width along.
        rotations: tables of rotations.
        plain_norms: whether norms are no kernels of their own.
        mixer: what stands in layers without attention: "gdn" (gated delta net), "mamba2", "kda".
        gated: whether MLPs and experts have a gate beside the up projection.
        single: whether a layer is either attention, a mixer, an MLP or experts (Nemotron-H).
        state_bytes: bytes of an element of the mixer's state where config.json does not say its type; the convolution's is the model's.
    """

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
    pattern: int = 0
    gated_query: bool = False
    rotations: int = 1
    plain_norms: bool = False
    mixer: str = "gdn"
    gated: bool = True
    single: bool = False
    state_bytes: int = 4


_MLA = Family(moe="first_dense", shared="count", correction_bias=True)
# A delta net's state is kept in the model's type; Qwen3.5 states another in its config (mamba_ssm_dtype).
_GDN = Family(qk_norm="head", moe="step", shared="gated", gated_query=True, state_bytes=2)
#: Model classes by ``model_type`` of the text part.
FAMILIES: dict[str, Family] = {
    "llama": Family(),
    "mistral": Family(),
    "ministral3": Family(),
    "mixtral": Family(moe="all"),
    # Their fused projections are as large as the single ones.
    "phi3": Family(qkv_bias=False, out_bias=False),
    "granite": Family(),
    "smollm3": Family(),
    "seed_oss": Family(out_bias=False),
    "olmo2": Family(qk_norm="whole"),
    "olmo3": Family(qk_norm="whole", pattern=4),
    "exaone4": Family(qkv_bias=False, out_bias=False, qk_norm="head", pattern=4),
    "ernie4_5": Family(),
    "ernie4_5_moe": Family(moe="first_dense", shared="count", correction_bias=True),
    # One norm for attention and MLP, which stand side by side.
    "cohere2": Family(qkv_bias=False, out_bias=False, norms=1, pattern=4),
    "dots1": Family(qk_norm="head", moe="first_dense", shared="count", correction_bias=True),
    "qwen2": Family(qkv_bias=True, out_bias=False),
    "qwen2_moe": Family(qkv_bias=True, out_bias=False, moe="step", shared="gated"),
    "qwen3": Family(qk_norm="head"),
    "qwen3_moe": Family(qk_norm="head", moe="step"),
    "qwen3_next": _GDN,
    "gpt_oss": Family(moe="all", router_bias=True, expert_bias=True, sinks=True, alternate_window=True),
    "gemma2": Family(norms=4, plain_norms=True, alternate_window=True),
    # Layers with a window rotate by another base: a table of their own.
    "gemma3_text": Family(qk_norm="head", norms=4, rotations=2, plain_norms=True, pattern=6),
    "gemma4_text": Family(qk_norm="head", norms=4, rotations=2, plain_norms=True, pattern=6, moe="beside"),
    "glm4": Family(out_bias=False, norms=4),
    "glm4_moe": Family(out_bias=False, qk_norm="option", moe="first_dense", shared="count", correction_bias=True),
    "minimax_m2": Family(qk_norm="whole", moe="all", correction_bias=True),
    "deepseek_v2": _MLA,
    "deepseek_v3": _MLA,
    "deepseek_v32": _MLA,
    "kimi_k2": _MLA,
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": _MLA,
    "kimi_linear": Family(moe="first_dense", shared="count", correction_bias=True, rotations=0, mixer="kda"),
    "nemotron_h": Family(
        norms=1,
        moe="pattern",
        shared="width",
        correction_bias=True,
        rotations=0,
        mixer="mamba2",
        gated=False,
        single=True,
    ),
    # Their state is kept in the model's type unless the server is told otherwise (--mamba-ssm-cache-dtype).
    "granitemoehybrid": Family(moe="beside", rotations=0, mixer="mamba2", state_bytes=2),
    "mamba2": Family(norms=1, rotations=0, mixer="mamba2", single=True, state_bytes=2),
}
#: Multimodal models with a tower that is counted, and what their text part is; qwen3_5.py builds on qwen3_next.py and qwen3_vl.py.
MULTIMODAL = {
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "qwen3_5": "qwen3_next",
    "qwen3_5_moe": "qwen3_next",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "mistral3": "mistral",
}
#: Multimodal models whose positions have three axes: their table of rotations is four times as long.
THREE_AXES = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
#: Models that answer with a vector and have no KV cache; vLLM serves them, but not as a chat.
ENCODERS = [
    "albert",
    "bert",
    "deberta",
    "deberta-v2",
    "distilbert",
    "electra",
    "ernie",
    "gte",
    "modernbert",
    "mpnet",
    "new",
    "nomic_bert",
    "roberta",
    "siglip",
    "clip",
    "xlm-roberta",
    "xlm-roberta-xl",
]
#: Models that read with one half and write with the other; their two caches are not counted.
ENCODER_DECODERS = ["bart", "mbart", "t5", "mt5", "whisper"]

_QWEN2 = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
_QWEN_MOE = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
_LLAMA = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "tie_word_embeddings": False,
}
_MISTRAL = {**_LLAMA, "intermediate_size": 14336, "num_key_value_heads": 8, "max_position_embeddings": 131072}
_GEMMA = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": True,
}
#: Delta nets of Qwen; Qwen3.5 as published keeps its states in float32.
_GDN_KEYS = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
#: What a key is that config.json does not have, by class. A number that is missing here and there is an error.
DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": _LLAMA,
    "mistral": {**_MISTRAL, "sliding_window": 4096},
    "ministral3": {**_MISTRAL, "vocab_size": 131072, "num_hidden_layers": 34, "head_dim": 128},
    "seed_oss": {"num_key_value_heads": 8, "head_dim": 128, "attention_bias": True, "tie_word_embeddings": False},
    "smollm3": {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "olmo3": {"sliding_window": 4096, "tie_word_embeddings": False},
    "exaone4": {"sliding_window": 4096, "tie_word_embeddings": False},
    "ernie4_5": {"head_dim": 128, "tie_word_embeddings": True},
    "ernie4_5_moe": {
        "num_key_value_heads": 4,
        "moe_num_experts": 64,
        "moe_k": 6,
        "moe_num_shared_experts": 2,
        "moe_layer_start_index": 1,
        "tie_word_embeddings": True,
    },
    "cohere2": {"vocab_size": 256000, "sliding_window": 4096, "tie_word_embeddings": True},
    "mixtral": {**_MISTRAL, "num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen2": _QWEN2,
    "qwen2_moe": {
        **_QWEN_MOE,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "num_experts": 60,
        "num_experts_per_tok": 4,
    },
    "qwen3": {**_QWEN2, "head_dim": 128},
    "qwen3_moe": {
        **_QWEN_MOE,
        "intermediate_size": 6144,
        "num_hidden_layers": 24,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
    },
    "qwen3_next": {
        **_QWEN_MOE,
        **_GDN_KEYS,
        "intermediate_size": 5632,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 512,
        "num_experts_per_tok": 10,
    },
    "qwen3_5": {
        **_QWEN2,
        **_GDN_KEYS,
        "mamba_ssm_dtype": "float32",
        "vocab_size": 248320,
        "intermediate_size": 12288,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 256,
    },
    "qwen3_5_moe": {
        **_QWEN_MOE,
        **_GDN_KEYS,
        "mamba_ssm_dtype": "float32",
        "vocab_size": 248320,
        "num_hidden_layers": 40,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 256,
        "num_experts_per_tok": 8,
    },
    "gpt_oss": {
        "vocab_size": 201088,
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 36,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "sliding_window": 128,
        "max_position_embeddings": 131072,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "gemma2": {
        **_GEMMA,
        "vocab_size": 256000,
        "num_hidden_layers": 26,
        "sliding_window": 4096,
        "max_position_embeddings": 8192,
    },
    "gemma3_text": {**_GEMMA, "vocab_size": 262208, "num_hidden_layers": 26, "sliding_window": 4096},
    "gemma4_text": {
        **_GEMMA,
        "vocab_size": 262144,
        "num_hidden_layers": 30,
        "sliding_window": 512,
        "vocab_size_per_layer_input": 262144,
        "hidden_size_per_layer_input": 256,
        "global_head_dim": 512,
    },
    "glm4_moe": {
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "moe_intermediate_size": 1408,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_routed_experts": 128,
        "first_k_dense_replace": 1,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "kimi_linear": {"vocab_size": 163840, "tie_word_embeddings": False, "first_k_dense_replace": 0},
    "nemotron_h": {
        "vocab_size": 131072,
        "hidden_size": 4096,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 21504,
        "ssm_state_size": 128,
        "mamba_num_heads": 128,
        "mamba_head_dim": 64,
        "n_groups": 8,
        "conv_kernel": 4,
        "tie_word_embeddings": False,
    },
    "granitemoehybrid": {
        **_LLAMA,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 1024,
        "mamba_n_heads": 128,
        "mamba_n_groups": 1,
        "mamba_d_state": 256,
        "mamba_d_conv": 4,
        "mamba_expand": 2,
    },
    "mamba2": {
        "vocab_size": 32768,
        "hidden_size": 4096,
        "num_hidden_layers": 64,
        "num_heads": 128,
        "head_dim": 64,
        "state_size": 128,
        "n_groups": 8,
        "conv_kernel": 4,
        "expand": 2,
        "tie_word_embeddings": False,
    },
}
#: Keys that name the same thing in other classes, by the name that is read here.
ALIASES: dict[str, dict[str, str]] = {
    "kimi_linear": {"num_experts_per_token": "num_experts_per_tok", "num_shared_experts": "n_shared_experts"},
    "ernie4_5_moe": {
        "moe_num_experts": "num_experts",
        "moe_k": "num_experts_per_tok",
        "moe_num_shared_experts": "n_shared_experts",
        "moe_layer_start_index": "first_k_dense_replace",
    },
    "gemma4_text": {"top_k_experts": "num_experts_per_tok", "expert_intermediate_size": "moe_intermediate_size"},
    "granitemoehybrid": {
        "mamba_n_heads": "mamba_num_heads",
        "mamba_n_groups": "n_groups",
        "mamba_d_state": "ssm_state_size",
        "mamba_d_conv": "conv_kernel",
    },
    "mamba2": {"num_heads": "mamba_num_heads", "head_dim": "mamba_head_dim", "state_size": "ssm_state_size"},
}


def with_defaults(text: Mapping[str, Any], kind: str, own: str) -> dict[str, Any]:
    """Return a text config with what its class says where it is silent, and with the names that are read here.

    Args:
        text: config.json, or its text_config.
        kind: family of the class.
        own: ``model_type`` of the config; where it has defaults of its own, these count (Qwen3.5 is built like Qwen3-Next).
    """
    found = {**DEFAULTS.get(own.removesuffix("_text"), DEFAULTS.get(kind, {})), **text}
    # Dense siblings share their class with mixtures: what says how many experts there are decides.
    for alias, name in ALIASES.get(kind, {}).items():
        if found.get(alias) is not None:
            found[name] = found[alias]
    if kind == "mamba2":
        # Without attention; the figures of one are never used.
        found.update(num_attention_heads=1, num_key_value_heads=1, head_dim=1, intermediate_size=1)
    if kind == "granitemoehybrid" and isinstance(found.get("mamba_expand"), int):
        found["mamba_head_dim"] = found["mamba_expand"] * found["hidden_size"] // found["mamba_num_heads"]
    if kind == "nemotron_h":
        found["num_hidden_layers"] = len(nemotron_pattern(found)) or found.get("num_hidden_layers")
    return found


_NEMOTRON = {"M": "mamba", "-": "mlp", "*": "attention", "E": "moe"}


def nemotron_pattern(text: Mapping[str, Any]) -> list[str]:
    """Return what each layer of Nemotron-H is: mamba, attention, mlp or moe (hybrid_override_pattern, or layers_block_type)."""
    pattern = text.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        strange = next((letter for letter in pattern if letter not in _NEMOTRON), None)
        if strange is not None:
            raise ShapeError(f"hybrid_override_pattern of config.json has {strange!r}, known are M, -, * and E")
        return [_NEMOTRON[letter] for letter in pattern]
    types = text.get("layers_block_type")
    return [str(name) for name in types] if isinstance(types, Sequence) else []


def attention_kinds(text: Mapping[str, Any], kind: str, layers: int, family: Family) -> tuple[str, ...]:
    """Return for each layer what it remembers.

    Raises:
        ShapeError: config.json contradicts itself or has a kind that is not known; one sentence.
    """
    types = text.get("layer_types")
    if kind == "nemotron_h":
        types = nemotron_pattern(text)
        if not types:
            raise ShapeError("hybrid_override_pattern is missing in config.json: add it as in the model's repository")
    if kind == "mamba2":
        return (LINEAR,) * layers
    linear = text.get("linear_attn_config")
    if kind == "kimi_linear" and isinstance(linear, Mapping):
        states = set(linear.get("kda_layers") or ())
        return tuple(LINEAR if layer + 1 in states else FULL for layer in range(layers))
    interval = text.get("full_attention_interval")
    if family.mixer == "gdn" and family.gated_query and "layer_types" not in text:
        every = positive(text, "full_attention_interval") if interval is not None else 4
        return tuple(FULL if (layer + 1) % every == 0 else LINEAR for layer in range(layers))
    if kind not in FAMILIES:
        # A guess that is told: what is not named as a window or a state keeps every token.
        names = types if isinstance(types, Sequence) and len(types) == layers else ["full_attention"] * layers
        return tuple(SLIDING if name == "sliding_attention" and text.get("sliding_window") else FULL for name in names)
    if isinstance(types, Sequence) and not isinstance(types, str):
        return _by_types(types, kind, layers, MAMBA_TYPES if family.mixer == "mamba2" else LAYER_TYPES)
    window = text.get("sliding_window")
    if not window:
        return (FULL,) * layers
    if text.get("sliding_window_pattern") or family.pattern:
        pattern = _pattern(text) or family.pattern
        found = [SLIDING if (layer + 1) % pattern else FULL for layer in range(layers)]
        if kind == "gemma4_text":
            found[-1] = FULL
        return tuple(found)
    if family.alternate_window:
        return tuple(FULL if layer % 2 else SLIDING for layer in range(layers))
    if kind.startswith("qwen"):
        if not text.get("use_sliding_window"):
            return (FULL,) * layers
        first = int(text.get("max_window_layers") or 0)
        return tuple(SLIDING if layer >= first else FULL for layer in range(layers))
    return (SLIDING if kind in {"mistral", "ministral3", "mixtral"} else FULL,) * layers


def _pattern(text: Mapping[str, Any]) -> int:
    """Return after how many layers one has no window; EXAONE writes it out (``LLLG``). 0 where it is not stated."""
    stated = text.get("sliding_window_pattern")
    if stated in (None, 0, ""):
        return 0
    if isinstance(stated, str) and set(stated[:-1]) == {"L"} and stated[-1] == "G":
        return len(stated)
    return positive(text, "sliding_window_pattern")


def _by_types(types: Sequence[Any], kind: str, layers: int, known: Mapping[str, str]) -> tuple[str, ...]:
    if len(types) != layers:
        raise ShapeError(f"layer_types of config.json has {len(types)} entries, but num_hidden_layers is {layers}")
    strange = next((str(name) for name in types if name not in known), None)
    if strange is not None:
        raise ShapeError(f"layer_types of config.json has {strange!r}, known are {', '.join(known)}")
    found = [known[name] for name in types]
    if kind == "gemma4_text":
        # The class makes the last one a layer without window, whatever is written.
        found[-1] = FULL
    return tuple(found)


#: A number that no model has yet, by far: each layer is computed by itself, and a file with one digit too many would keep the planner busy for hours.
_MOST = {"num_hidden_layers": 10_000}
_LARGEST = 2**40


def positive(config: Mapping[str, Any], *keys: str) -> int:
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
        if value > _MOST.get(key, _LARGEST):
            raise ShapeError(
                f"{key} of config.json is {value}, expected at most {_MOST.get(key, _LARGEST)}: is the file damaged?"
            )
        return value
    raise ShapeError(f"{keys[0]} is missing in config.json: add it as in the model's repository")


def number(config: Mapping[str, Any], key: str, default: float) -> float:
    """Return a key as a number; text that is one is taken for it.

    Raises:
        ShapeError: it is something else; one sentence.
    """
    value = config.get(key)
    if value is None:
        return default
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = 0.0
    if isinstance(value, bool) or not 0 < found < float("inf"):
        raise ShapeError(f"{key} of config.json is {value!r}, expected a number above 0")
    return found
