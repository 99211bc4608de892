# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Lines for people: in colour on a terminal alone, and a screen that is drawn over itself."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import IO

from ..report.finding import GREEN, RED, YELLOW

_COLOURS = {RED: "31", YELLOW: "33", GREEN: "32"}
#: Cursor to the first place; the rest of a line, and of the screen, is cleared.
_TOP, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_CLEAR, _HIDE, _SHOW = "\x1b[2J", "\x1b[?25l", "\x1b[?25h"


class Terminal:
    """Writes lines with their level as colour, where there is a terminal and nobody asked for none (NO_COLOR)."""

    def __init__(self, out: IO[str] | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.out = out if out is not None else sys.stdout
        told = os.environ if environment is None else environment
        self.live = self.out.isatty() and told.get("TERM") != "dumb"
        self.colour = self.live and not told.get("NO_COLOR")
        self._drawn = False

    @property
    def width(self) -> int:
        """Columns; 120 where there is no terminal."""
        return shutil.get_terminal_size((120, 24)).columns if self.live else 120

    def text(self, level: str, line: str) -> str:
        """Return a line in the colour of its level."""
        colour = _COLOURS.get(level)
        return f"\x1b[{colour}m{line}\x1b[0m" if self.colour and colour and line else line

    def show(self, lines: Iterable[tuple[str, str]], *, plain: str = "") -> None:
        """Write lines at once; those of level ``plain`` without a colour."""
        self.out.write("".join(f"{self.text('' if level == plain else level, line)}\n" for level, line in lines))
        self.out.flush()

    def say(self, line: str) -> None:
        """Write one line at once."""
        self.show([("", line)])

    def draw(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write lines over what was drawn before, as many as there is room for; one after the other where there is no terminal."""
        if not self.live:
            self.show([*lines, ("", "")])
            return
        kept = list(lines)[: max(1, shutil.get_terminal_size((120, 24)).lines - 1)]
        begin = _TOP if self._drawn else f"{_HIDE}{_CLEAR}{_TOP}"
        self._drawn = True
        body = "".join(f"{self.text(level, line)}{_REST_OF_LINE}\n" for level, line in kept)
        self.out.write(f"{begin}{body}{_REST}")
        self.out.flush()

    def leave(self) -> None:
        """Give the cursor back after ``draw``."""
        if self._drawn:
            # What the shell writes next stands on a line of its own, not behind the ^C.
            self.out.write(f"{_SHOW}\n")
            self.out.flush()
            self._drawn = False
