# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files of models that were misread, through the look at quantization and the plan."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.against_flags import is_nvfp4, read_config
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.inputs import input_of
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.plan import plan

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "config"
#: For cases whose weights only their files tell.
WEIGHTS_BYTES = 75 * 2**30
ABOUT = (
    "Configurations of `tests/field_cases/config`, cut to what matters: whether NVFP4 is seen (it is refused on a node whose kernels failed the check), and what the plan "
    f"makes of them when it is told that the files take {WEIGHTS_BYTES // 2**30} GiB."
)
OPEN = (
    "The cuts lack keys that the published files have; that the plan asks for these by name is right here. The section on the plan has whole ones.",
)
#: By case: its source, whether its weights are NVFP4, and what the plan says, or in which words it asks for a key.
_RIGHT: dict[str, tuple[str, str, str]] = {
    "mixed-known-family": (
        "ModelOpt's mixed precision on a known family, composed",
        "NVFP4",
        "planned with the bytes of the files",
    ),
    "nvfp4-mixed-modelopt": (
        "ModelOpt's mixed precision, most keys and layers cut",
        "NVFP4",
        "hybrid_override_pattern is missing in config.json",
    ),
    "nvfp4-only-hf_quant_config": (
        "ModelOpt 0.29, which writes no quantization_config",
        "NVFP4",
        "planned with the bytes of the files",
    ),
    "unknown-family-deepseek_v4": ("config.json of a new family", "not NVFP4", "vocab_size is missing in config.json"),
    "unknown-family-nemotron_h": (
        "config.json of Nemotron-H without its pattern",
        "not NVFP4",
        "hybrid_override_pattern is missing in config.json",
    ),
}


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Configurations of models", ABOUT, list(rows()), OPEN)


def rows() -> Iterator[Row]:
    """Return the rows of each case; a file without one is an error."""
    for path in sorted(FOLDER.iterdir()):
        source, kind, planned = _RIGHT[path.stem]
        config = config_of(path)
        seen = "NVFP4" if is_nvfp4(config) else "not NVFP4"
        yield Row(path.stem, source, "weights", seen, kind, seen == kind)
        said = plan_of(config)
        yield Row(path.stem, source, "plan", said, planned, planned in said)


def config_of(path: Path) -> dict[str, Any]:
    """Return what the node reads of a case: a folder as it is, a file as the config.json of one."""
    if path.is_dir():
        return read_config(path)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_bytes(path.read_bytes())
        return read_config(Path(folder))


def plan_of(config: dict[str, Any]) -> str:
    """Return what is planned for one Spark, or why nothing is."""
    try:
        given = input_of(config, 121.69, {"weights_bytes": WEIGHTS_BYTES, "max_model_len": 8192})
        found = plan(given)
    except ValueError as error:
        return str(error)
    return f"planned with the bytes of the files: {json.dumps(found.weights_gib_per_rank)} GiB a rank"
