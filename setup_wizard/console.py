# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Asks: a person at a terminal, a file of answers, or nobody, who takes every default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Checked = TypeVar("Checked")


class Refusal(Exception):
    """It cannot go on; the message is one sentence: what, which value, what to do."""


class Console:
    """Gets each answer from the file of answers, else from the person, else (unattended) takes the default."""

    def __init__(
        self,
        given: Mapping[str, Any] | None = None,
        *,
        source: str = "the answers",
        unattended: bool = False,
        say: Callable[[str], None] = print,
        read: Callable[[str], str] = input,
    ) -> None:
        self.given = dict(given or {})
        self.source = source
        self.unattended = unattended
        self.say = say
        self.read = read

    def ask(self, key: str, question: str, default: str, check: Callable[[str], Checked]) -> Checked:
        """Return the checked answer. `check` raises ValueError with a sentence for a bad one, which a person is then told.

        Raises Refusal for a bad one that nobody can correct, and where there is none.
        """
        if key in self.given:
            return self._decided(check, self.given[key], f"{self.source}: {key}")
        if self.unattended:
            if not default:
                raise Refusal(f"{key} has no default: put it into the file that --answers names")
            return self._decided(check, default, f"the default of {key}")
        while True:
            answer = self._line(f"{question}{f' [{default}]' if default else ''}: ") or default
            try:
                return check(answer)
            except ValueError as error:
                self.say(f"  {error}.")

    def yes(self, question: str, *, default: bool = True) -> bool:
        """Return whether a person agrees. Nobody to ask: the default."""
        if self.unattended:
            return default
        while True:
            answer = self._line(f"{question} [{'Y/n' if default else 'y/N'}]: ").lower()
            if answer in ("", "y", "yes", "n", "no"):
                return default if not answer else answer.startswith("y")
            self.say("  Answer y or n.")

    def _line(self, prompt: str) -> str:
        try:
            return self.read(prompt).strip()
        except EOFError:
            raise Refusal(
                "the input ended before all was answered: give a file with --answers, or --yes for the defaults"
            ) from None

    @staticmethod
    def _decided(check: Callable[[str], Checked], value: Any, where: str) -> Checked:
        try:
            return check(str(value))
        except ValueError as error:
            raise Refusal(f"{where}: {error}") from None
