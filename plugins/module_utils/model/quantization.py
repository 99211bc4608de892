# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the matrices of a model are stored, from config.json: bytes of each, and which of them are left as they are.

Bytes follow the layouts of vLLM 0.26.0 (vllm/model_executor/layers/quantization/).
"""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Bytes of an element that no quantization touches: bfloat16 and float16; vLLM loads float32 checkpoints as one of these.
PLAIN_BYTES = 2


class ShapeError(ValueError):
    """One sentence for the user: what of config.json is missing or not understood."""


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
        counted: whether the bytes of these schemes are known; else the bytes of the files must be.
    """

    method: str = "bf16"
    schemes: tuple[tuple[tuple[str, ...], Scheme], ...] = ()
    plain: tuple[str, ...] = ()
    experts_only: bool = False
    counted: bool = True

    @property
    def label(self) -> str:
        """Name of the scheme for people, such as ``awq int4 g128``."""
        if not self.schemes:
            return self.method
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
        try:
            return any(re.match(pattern[3:], one) for one in names)
        except re.error as error:
            raise ShapeError(
                f"quantization_config of config.json has {pattern!r}, which is no regular expression ({error}): compare the file with the model's repository"
            ) from error
    pattern = pattern.strip(".")
    if "*" in pattern:
        return any(fnmatch.fnmatch(one, pattern) or fnmatch.fnmatch(one, f"{pattern}.*") for one in names)
    return any(f".{pattern}." in f".{one}." for one in names)


def quantization_of(config: Mapping[str, Any]) -> Quantization:
    """Return the quantization of a config.json; a method that is not known gives one that is not counted.

    Raises:
        ShapeError: a key of a known method is missing or not understood; one sentence.
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
    if method in {"modelopt", "modelopt-fp4", "modelopt-mixed"}:
        return _modelopt(raw, plain)
    if method == "compressed-tensors":
        return Quantization(method, _compressed(raw), plain)
    return Quantization(method or "unknown", counted=False)


def _modelopt(raw: Mapping[str, Any], plain: tuple[str, ...]) -> Quantization:
    """ModelOpt: one algorithm for all, or MIXED_PRECISION with one for each layer (quantized_layers)."""
    nested = raw.get("quantization")
    inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else raw
    plain += _names(inner, "exclude_modules") if inner is not raw else ()
    algorithm = str(inner.get("quant_algo") or "NVFP4").upper()
    layers = inner.get("quantized_layers")
    if algorithm == "MIXED_PRECISION" and isinstance(layers, Mapping) and layers:
        groups: dict[str, list[str]] = {}
        for name, entry in layers.items():
            groups.setdefault(str(entry.get("quant_algo")).upper(), []).append(str(name))
        schemes = tuple((tuple(names), found) for name, names in groups.items() if (found := _algorithm(name)))
        return Quantization("modelopt", schemes, plain, counted=len(schemes) == len(groups))
    scheme = _algorithm(algorithm)
    if scheme is None:
        return Quantization(f"modelopt {algorithm}", counted=False)
    return Quantization("modelopt", ((("Linear",), scheme),), plain)


def _algorithm(name: str) -> Scheme | None:
    """Return how ModelOpt stores a matrix (modelopt.py, QUANT_ALGOS); None for what is not counted."""
    if name in {"NVFP4", "W4A16_NVFP4", "NVFP4_AWQ", "NVFP4_SVD"}:
        return NVFP4
    if name == "FP8":
        return _fp8(None)
    if name == "FP8_PER_CHANNEL_PER_TOKEN":
        return Scheme("fp8", 8, -1, 4)
    return _fp8((128, 128)) if name == "FP8_PB_WO" else None


def _names(raw: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """Return the names in these lists; one that is a text is one name."""
    stated = [raw.get(key) or () for key in keys]
    return tuple(str(name) for names in stated for name in ((names,) if isinstance(names, str) else names))


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
    if isinstance(block, str):
        # As older files have it: 128x128.
        block = block.split("x")
    if block:
        return Scheme("fp8", 8, scale_bytes=4, block=(int(block[0]), int(block[1])))
    return Scheme("fp8", 8, extra=8)


def _compressed(raw: Mapping[str, Any]) -> tuple[tuple[tuple[str, ...], Scheme], ...]:
    """Schemes of compressed-tensors (vllm/model_executor/layers/quantization/compressed_tensors/)."""
    found = []
    for group in (raw.get("config_groups") or {}).values():
        weights = group.get("weights")
        if not weights:
            # A group of activations alone, such as queries and keys for a cache in FP8.
            continue
        bits, size = int(weights.get("num_bits") or 8), int(weights.get("group_size") or 0)
        strategy = str(weights.get("strategy") or "").lower()
        if weights.get("type") == "float" and bits == 4:
            scheme = NVFP4 if size == 16 else MXFP4
        elif weights.get("type") == "float":
            blocks = weights.get("block_structure") if strategy == "block" else None
            scheme = _fp8(blocks) if strategy != "channel" else Scheme("fp8", 8, -1, 4)
        else:
            zero = 0 if weights.get("symmetric", True) else bits
            scheme = Scheme(f"int{bits}", bits, -1 if strategy == "channel" else size, 2, zero)
        found.append((tuple(str(target) for target in group.get("targets") or ["Linear"]), scheme))
    if not raw.get("config_groups"):
        raise ShapeError("quantization_config.config_groups is missing in config.json: add it, or give weights_bytes")
    return tuple(found)


def kv_cache_type(config: Mapping[str, Any]) -> str:
    """Return the type of the KV cache that a checkpoint asks for, which vLLM takes where it is told auto; auto where it asks for none.

    (get_kv_cache_quant_algo_string in vllm/utils/torch_utils.py for ModelOpt; Attention.__init__ in
    vllm/model_executor/layers/attention/attention.py for compressed-tensors.)
    """
    raw = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(raw, Mapping):
        return "auto"
    method = str(raw.get("quant_method") or "").lower()
    if method == "compressed-tensors":
        return "fp8" if raw.get("kv_cache_scheme") else "auto"
    if not method.startswith("modelopt"):
        return "auto"
    nested = raw.get("quantization")
    inner: Mapping[str, Any] = nested if isinstance(nested, Mapping) else raw
    found = next(
        (part[key] for key in ("kv_cache_scheme", "kv_cache_quant_algo") for part in (inner, raw) if part.get(key)), ""
    )
    if isinstance(found, Mapping):
        if found.get("type") != "float":
            return "auto"
        # Without its word that the scales are fixed vLLM leaves the cache as it is.
        fixed = found.get("dynamic") is False
        return {8: "fp8" if fixed else "auto", 4: "nvfp4"}.get(found.get("num_bits", 0), "auto")
    return {"fp8": "fp8", "nvfp4": "nvfp4"}.get(str(found).lower(), "auto")
