# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters of findings: as sentences, for messages of tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleFilterError

from ..module_utils.report.finding import LEVELS, from_dicts, sentences


def finding_sentences(findings: Any, *levels: str) -> list[str]:
    """Return the findings of these levels as sentences; red ones where no level is named.

    Raises:
        AnsibleFilterError: it is no list of findings, or one of the levels is none.
    """
    strange = [level for level in levels if level not in LEVELS]
    if strange:
        raise AnsibleFilterError(
            f"finding_sentences: level {strange[0]!r} does not exist, expected {', '.join(LEVELS)}"
        )
    try:
        return sentences(from_dicts(findings), *levels)
    except ValueError as error:
        raise AnsibleFilterError(f"finding_sentences: {error}") from None


class FilterModule:
    """Filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"finding_sentences": finding_sentences}
