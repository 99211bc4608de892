# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Colours on a terminal alone, and a screen that is drawn over itself."""

from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.terminal import Terminal

from tests.unit.plugins.module_utils.command.world import Tty, paper

LINES = [("red", "bad"), ("green", "good"), ("", "plain")]


def test_no_terminal_has_no_colour() -> None:
    terminal, out = paper()
    terminal.show(LINES)
    terminal.draw(LINES)
    terminal.leave()
    assert out.getvalue() == "bad\ngood\nplain\n" * 2 + "\n"
    assert terminal.width == 120


@pytest.mark.parametrize(
    ("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_has_colours_unless_nobody_wants_them(environment: dict[str, str], coloured: bool) -> None:
    out = Tty()
    Terminal(out, environment).show(LINES, plain="green")
    assert ("\x1b[31mbad\x1b[0m\n" in out.getvalue()) is coloured
    assert "good\nplain\n" in out.getvalue()


def test_it_is_drawn_over_itself_with_the_cursor_hidden_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "3")
    monkeypatch.setenv("COLUMNS", "80")
    out = Tty()
    terminal = Terminal(out, {"NO_COLOR": "1"})
    terminal.draw(LINES)
    terminal.draw(LINES[:1])
    terminal.leave()
    terminal.leave()
    first = "\x1b[?25l\x1b[2J\x1b[Hbad\x1b[K\ngood\x1b[K\n\x1b[J"
    # What there is no room for would scroll the first line away.
    assert out.getvalue() == first + "\x1b[Hbad\x1b[K\n\x1b[J" + "\x1b[?25h\n"
