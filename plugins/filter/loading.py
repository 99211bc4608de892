# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of a start: how the weights are read, and what is known of CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.vllm.graph_trial import verdict_of
from ..module_utils.vllm.load_strategy import Checkpoint, choose_loading


def graph_verdict(checks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return verdict, reason and nccl from results of gb10_kernel_check; see graph_trial.verdict_of."""
    return verdict_of(checks)


def load_choice(
    strategy: str,
    *,
    weights_gib: float,
    available_gib: float = 0.0,
    filesystem: str = "",
    ranks: int = 1,
    load_formats: Sequence[str] = (),
) -> dict[str, Any]:
    """Return load_format, safetensors_load_strategy, reason and needs_gib; see load_strategy.choose_loading."""
    try:
        checkpoint = Checkpoint(float(weights_gib), float(available_gib), filesystem, int(ranks), tuple(load_formats))
        return choose_loading(strategy, checkpoint).as_dict()
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"load_choice: {error}") from None


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"graph_verdict": graph_verdict, "load_choice": load_choice}
