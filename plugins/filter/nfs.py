# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter of NFS: which network an address lies in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.nfs.share import network_of


def network_of_filter(facts: Any, address: str) -> str:
    """Return the network of the interface that holds ``address``; see nfs_share.network_of."""
    try:
        return network_of(facts if isinstance(facts, Mapping) else {}, str(address))
    except (ValueError, KeyError) as error:
        raise AnsibleFilterError(f"network_of: {error}") from None


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"network_of": network_of_filter}
