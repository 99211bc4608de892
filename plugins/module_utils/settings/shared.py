# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The settings that several roles need, their shipped defaults, and names that settings had before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: Base of the serving image where neither an image nor a base is named; docs/images.md says why this one.
BASE_IMAGE = "nvcr.io/nvidia/vllm:26.10-py3"

#: Settings that several roles need; each role's defaults refer to them. Types as in argument specs. The settings play sets those with
#: a default as facts where the inventory does not, so that roles find every one of them; those without are asked for where they are used.
SHARED: dict[str, dict[str, Any]] = {
    "spark_model": {
        "type": "str",
        "default": "qwen3-235b-awq",
        "description": "Model to serve: a file of models/, or of a folder `models` beside the inventory.",
    },
    "spark_serving_image": {
        "type": "str",
        "described_default": "dgx-spark/serving:TAG, after serving_image_base",
        "description": f"Image that every node runs. Without it and without serving_image_base, {BASE_IMAGE} is the base that it is built from.",
    },
    "spark_store_path": {
        "type": "path",
        "default": "/srv/models",
        "description": "Folder of the weights, the same on every node.",
    },
    "spark_api_port": {
        "type": "int",
        "default": 8235,
        "description": "Port of the endpoint. 8235 stays, whatever serves behind it.",
    },
    "spark_fabric_address": {
        "type": "str",
        "required": True,
        "described_default": "required, per host",
        "description": "IPv4 address of the node on the QSFP link.",
    },
    "spark_gpus_per_node": {
        "type": "int",
        "default": 1,
        "description": "GPUs that each node gives to Ray; a Spark has one.",
    },
    "spark_api_key": {
        "type": "str",
        "no_log": True,
        "described_default": "made up on the head",
        "description": "API key of the endpoint, at least 8 characters. Keep it in a vault.",
    },
    "spark_ca_bundle": {
        "type": "path",
        "described_default": "none",
        "description": "File on the nodes with certificate authorities, behind a TLS-intercepting proxy.",
    },
    "spark_environment": {
        "type": "dict",
        "described_default": "{}",
        "description": "Environment added to all serving containers. No secrets: it is in unit files that every user of the node can read.",
    },
    "spark_devices": {
        "type": "list",
        "elements": "str",
        "described_default": "[nvidia.com/gpu=all, /dev/infiniband]",
        "description": "Devices of the serving containers.",
    },
}
#: Facts that the settings play derives from the inventory; no user sets them.
DERIVED = (
    "spark_head_name",
    "spark_head_fabric_address",
    "spark_node_addresses",
    "spark_gpu_count",
    "spark_served_name",
    "spark_endpoint_scheme",
)


@dataclass(frozen=True)
class Renamed:
    """A setting that has a new name: the old one works, with a notice, until a release."""

    new: str
    until: str


#: Old names of settings. A row stays for one release and goes with `until`; from then on the old name is refused like any other slip.
RENAMED: dict[str, Renamed] = {
    # Role node_preflight is part of node_report.
    **{
        f"node_preflight_{name}": Renamed(f"node_report_{name}", "1.1.0")
        for name in (
            "fabric_address",
            "min_memory_gib",
            "image_gib",
            "nfs",
            "nfs_transport",
            "paths",
            "ports",
            "architectures",
            "distributions",
            "min_python",
            "hub",
        )
    },
    "vllm_serve_look_at_model": Renamed("vllm_serve_inspect_model", "1.1.0"),
    "vllm_verify_thoughts_in_text": Renamed("vllm_verify_reasoning_in_text", "1.1.0"),
}


class Values(Mapping[str, Any]):
    """The settings of one host as the roles will see them: given ones, those given under an old name, and shipped defaults.

    Values are looked up when they are asked for: one that cannot be worked out must not hide the others.
    """

    def __init__(self, given: Mapping[str, Any], renamed: Mapping[str, Renamed] | None = None) -> None:
        self.given = given
        #: Old name by new name, of those that this host uses.
        self.old = {row.new: name for name, row in (RENAMED if renamed is None else renamed).items() if name in given}
        self._defaults = [name for name in _DEFAULTED if name not in given and name not in self.old]
        if "spark_serving_image" in given and "serving_image_base" in self._defaults:
            # An image without a base is the user's own: role serving_image builds nothing then.
            self._defaults.remove("serving_image_base")

    def __getitem__(self, name: str) -> Any:
        if name in self.given:
            return self.given[name]
        if name in self.old:
            return self.given[self.old[name]]
        if name not in self._defaults:
            raise KeyError(name)
        if name == "serving_image_base":
            return BASE_IMAGE
        if name == "spark_serving_image":
            base = str(self["serving_image_base"] or "")
            return f"dgx-spark/serving:{re.sub(r'^.*[:@]', '', base)}" if base else ""
        return SHARED[name]["default"]

    def __contains__(self, name: object) -> bool:
        return name in self.given or name in self.old or name in self._defaults

    def __iter__(self) -> Iterator[str]:
        yield from self.given
        yield from (name for name in (*self.old, *self._defaults) if name not in self.given)

    def __len__(self) -> int:
        return sum(1 for _name in self)

    def facts(self) -> dict[str, Any]:
        """Return what the settings play has to set so that roles see the same."""
        return {name: self[name] for name in (*self.old, *self._defaults) if name not in self.given}


#: Names that have a value though the inventory gives none.
_DEFAULTED = (
    *(name for name, option in SHARED.items() if "default" in option),
    "spark_serving_image",
    "serving_image_base",
)


def missing_problems(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and sentence of each shared setting of a host that is not there and has no default."""
    problems = []
    for name, option in SHARED.items():
        if option.get("required") and name not in values:
            problems.append((name, "is missing: add it to the settings file of your inventory"))
    if not values.get("spark_serving_image"):
        problems.append(
            (
                "spark_serving_image",
                "is missing, and serving_image_base is empty: name the image, or the base to build it from",
            )
        )
    return problems


def renamed_problems(given: Iterable[str], renamed: Mapping[str, Renamed] | None = None) -> list[tuple[str, str]]:
    """Return name and sentence of each setting that is given under its old and its new name."""
    names, table = set(given), RENAMED if renamed is None else renamed
    return [
        (old, f"is the old name of {row.new}, which is given as well: delete {old}")
        for old, row in table.items()
        if old in names and row.new in names
    ]


def renamed_notices(given: Iterable[str], renamed: Mapping[str, Renamed] | None = None) -> list[str]:
    """Return a sentence for each setting that is given under an old name."""
    names, table = set(given), RENAMED if renamed is None else renamed
    return [
        f"setting {old} is called {row.new} now; the old name works until release {row.until}: rename it where you set it"
        for old, row in table.items()
        if old in names
    ]
