# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the actions that run on the controller alone have in common."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..module_utils.report.finding import GREEN, RED, YELLOW
from ..module_utils.system.files import write_atomic

_COLOURS = {RED: "red", YELLOW: "yellow", GREEN: "green"}


class ControllerAction(ActionBase):
    """Runs without a connection, also in check mode."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def begin(
        self, tmp: str | None, task_vars: dict[str, Any] | None, argument_spec: dict[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what every result begins with, and the checked arguments; to be called first in ``run``."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=argument_spec)
        return result, arguments

    def show(self, lines: Iterable[tuple[str, str]], *, plain: str = "") -> None:
        """Print lines, each in the colour of its level; those of level ``plain`` without one."""
        for level, line in lines:
            self._display.display(line, color=None if level == plain else _COLOURS.get(level))


def write_for_owner(what: str, path: str, text: str) -> Path:
    """Write a file that its owner alone may read, since it tells of nodes or of clients; return where it is.

    Raises:
        ValueError: it cannot be written; one sentence.
    """
    place = Path(path).expanduser()
    try:
        write_atomic(place, text, 0o600)
    except OSError as error:
        raise ValueError(
            f"{what} cannot be written to {place} on the controller: {error.strerror}; name another file"
        ) from None
    return place
