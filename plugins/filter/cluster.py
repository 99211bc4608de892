# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of the cluster: what to restart, and how Ray is started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.fabric.environment import network_environment
from ..module_utils.ray.start import RayIntents, ray_start
from ..module_utils.service.restart_plan import restart_plan, units_of
from ..module_utils.vllm.environment import serving_environment


def ray_start_filter(intents: dict[str, Any]) -> list[str]:
    """Return the command of ``ray start`` for a mapping of intents; see ray_start.RayIntents."""
    try:
        return ray_start(RayIntents(**intents))
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"ray_start: {error}") from None


def serving_environment_filter(
    address: str, interface: str, extra: dict[str, Any] | None = None, network: dict[str, Any] | None = None
) -> dict[str, str]:
    """Return the environment of a node's serving containers: of the link that was found where it has RDMA, else of the interface."""
    found = {name: str(value) for name, value in (network or {}).items()}
    return serving_environment(found if found.get("NCCL_IB_HCA") else network_environment(address, interface), extra)


def restart_plan_filter(units_by_host: dict[str, Any], kind: str = "restart") -> dict[str, Any]:
    """Return the steps of a restart or a stop; see restart_plan."""
    try:
        return restart_plan(units_by_host, kind)
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"restart_plan: {error}") from None


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "cluster_units": units_of,
            "ray_start": ray_start_filter,
            "restart_plan": restart_plan_filter,
            "serving_environment": serving_environment_filter,
        }
