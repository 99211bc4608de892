# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How large the KV pool of a rank becomes: one figure where memory belongs to the GPU, a range where it is the host's as well.

On unified memory vLLM takes for its own what the whole machine lost between two looks at its memory (MemorySnapshot in
vllm/utils/mem_utils.py): page cache, compilers and other processes among it. So the pool is what is counted less something that only a
start tells. Published starts bound it; what this machine's own last start logged replaces them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import fitted
from .arithmetic import GIB, POOL_FIELDS, PlanError, PlanInput, Record
from .constants import UNIFIED_STARTS

#: The worst published loss and a quarter of it again, since so few starts do not show the worst; and half a GiB for what the best one gained.
LOSS_FACTOR, GAIN_GIB = 1.25, 0.5
#: GiB by which starts of one machine with other settings may be off from what one start tells.
RECORD_MARGIN_GIB = 0.5


@dataclass(frozen=True)
class Pool:
    """Bytes of a rank's KV pool.

    Attributes:
        low, high: what is to be expected; the same where one figure is known. Negative when nothing is left.
        basis: where it comes from: "counted", "set", "published", "record", or "this record" (with the same settings).
    """

    low: float
    high: float
    basis: str


def published_loss_gib() -> tuple[float, float]:
    """Return by how many GiB the pool of a machine with unified memory falls short of what is counted, at best (below 0) and at worst."""
    seen = [start["counted_gib"] - start["kv_cache_gib"] for start in UNIFIED_STARTS]
    return min(0.0, *seen) - GAIN_GIB, LOSS_FACTOR * max(seen)


def pool(given: PlanInput, constants: fitted.Constants, stage: int = 0) -> Pool:
    """Return the KV pool of the ranks of a stage."""
    if given.cpu_kv_gib is not None:
        return Pool(given.cpu_kv_gib * GIB, given.cpu_kv_gib * GIB, "set")
    if given.kv_cache_memory_bytes is not None:
        return Pool(given.kv_cache_memory_bytes, given.kv_cache_memory_bytes, "set")
    counted = fitted.kv_available_bytes(given, constants, stage)
    if not given.unified:
        return Pool(counted, counted, "counted")
    record = given.measured
    if record is None:
        least, most = published_loss_gib()
        return Pool(counted - most * GIB, counted - least * GIB, "published")
    then = _as_recorded(given, record)
    loss = (
        min(fitted.kv_available_bytes(then, constants, number) for number in range(then.pipeline_parallel_size))
        - record.kv_cache_gib * GIB
    )
    if all(getattr(then, name) == getattr(given, name) for name in POOL_FIELDS):
        return Pool(counted - loss, counted - loss, "this record")
    return Pool(counted - loss - RECORD_MARGIN_GIB * GIB, counted - loss + RECORD_MARGIN_GIB * GIB, "record")


def _as_recorded(given: PlanInput, record: Record) -> PlanInput:
    """Return the input with the settings of the record."""
    return replace(given, **{name: value for name, value in record.settings.items() if name in POOL_FIELDS})


def settings_of(given: PlanInput) -> dict[str, Any]:
    """Return what a record of a start with this input keeps."""
    return {name: getattr(given, name) for name in POOL_FIELDS}


def record_of(raw: Mapping[str, Any], model: str) -> Record | None:
    """Return a record, as it was written; None where it is empty, of another model, or of a pool that was set and not measured.

    Raises:
        PlanError: it is there and cannot be read; one sentence.
    """
    if not raw or raw.get("model") != model or raw.get("kv_cache_memory_bytes"):
        return None
    settings = raw.get("settings")
    figure = raw.get("kv_cache_gib")
    if isinstance(figure, bool) or not isinstance(figure, int | float) or not isinstance(settings, Mapping):
        raise PlanError(
            f"the record of the last start has kv_cache_gib: {figure!r} and settings: {settings!r}, expected a number and a mapping: "
            "remove it, the next start writes a new one"
        )
    return Record(model, float(figure), settings, str(raw.get("started") or ""))
