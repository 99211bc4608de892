# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The one type of everything that is found: what was looked at, how it is, and what to do about it.

Green: nothing to do. Yellow: it works, and here is what may spoil it. Red: it will not work, with what to do about it. What was found and
what to do stay apart from where they are found to where they are shown; a sentence of both is made last, and never taken apart again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

GREEN, YELLOW, RED = "green", "yellow", "red"
#: The gravest first.
LEVELS = (RED, YELLOW, GREEN)
#: The code of everything that is as it should be, behind its source: ``docker.ok``.
OK = "ok"

_CODE = re.compile(r"[a-z]+\.[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        code: what it is, stable over releases: who found it, a dot, and a name in snake case (``fabric.port_down``). Every code that is
            not ``<source>.ok`` has its entry in ``codes.py`` and thereby in docs/troubleshooting.md.
        level: GREEN, YELLOW or RED.
        check: what was looked at, in a word or two.
        found: what was found, one sentence without a full stop.
        remedy: what to do, without a full stop; a RED finding has this or ``commands``.
        commands: the remedy as commands, to be run by hand on the node; never run by this collection unless asked.
        subject: which one of several it is about (an interface, a container); empty where there is one only.

    Raises:
        ValueError: code or level are none, or a RED finding says nothing of what to do.
    """

    code: str
    level: str
    check: str
    found: str
    remedy: str = ""
    commands: tuple[str, ...] = ()
    subject: str = ""

    def __post_init__(self) -> None:
        if not _CODE.fullmatch(self.code):
            raise ValueError(
                f"finding {self.check!r} has code {self.code!r}: expected source and name, like fabric.port_down"
            )
        if self.level not in LEVELS:
            raise ValueError(f"finding {self.code} has level {self.level!r}: expected {', '.join(LEVELS)}")
        if self.level == RED and not (self.remedy or self.commands):
            raise ValueError(f"finding {self.code} is red and has no remedy ({self.found})")

    @property
    def source(self) -> str:
        """Who found it: the part of the code before the dot."""
        return self.code.partition(".")[0]

    def sentence(self) -> str:
        """Return what was found and what to do as one sentence."""
        remedy = self.remedy or "; ".join(f"`{command}`" for command in self.commands)
        return f"{self.found}: {remedy}" if remedy else self.found

    def milder(self, remedy: str) -> Finding:
        """Return it as YELLOW: somebody is about to fix it, who is named in ``remedy``."""
        return replace(self, level=YELLOW, remedy=remedy, commands=())

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with its source."""
        return {"source": self.source, **asdict(self), "commands": list(self.commands)}

    @classmethod
    def from_dict(cls, raw: Any) -> Finding:
        """Return the finding of what ``as_dict`` gave.

        Raises:
            ValueError: it is not that; one sentence.
        """
        if not isinstance(raw, Mapping) or not {"code", "level", "check", "found"} <= set(raw):
            raise ValueError(f"finding {raw!r} is not usable: expected code, level, check and found")
        commands = raw.get("commands") or ()
        if not isinstance(commands, Sequence) or isinstance(commands, str):
            raise ValueError(f"finding {raw['code']} has commands {commands!r}: expected a list of commands")
        texts = {key: str(raw.get(key) or "") for key in ("code", "level", "check", "found", "remedy", "subject")}
        return cls(**texts, commands=tuple(str(command) for command in commands))


def fine(source: str, check: str, found: str, subject: str = "") -> Finding:
    """Return the GREEN finding of something that is as it should be."""
    return Finding(f"{source}.{OK}", GREEN, check, found, subject=subject)


def as_dicts(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as a module returns them."""
    return [finding.as_dict() for finding in findings]


def from_dicts(raw: Any) -> list[Finding]:
    """Return the findings that a module returned.

    Raises:
        ValueError: it is no list of findings; one sentence.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError(f"findings are {type(raw).__name__}, expected a list of findings")
    return [Finding.from_dict(entry) for entry in raw]


def sentences(findings: Iterable[Finding], *levels: str) -> list[str]:
    """Return the findings of these levels as sentences, each once; red ones where no level is named."""
    wanted = levels or (RED,)
    return list(dict.fromkeys(finding.sentence() for finding in findings if finding.level in wanted))


def worst(findings: Iterable[Finding]) -> str:
    """Return the gravest level among the findings; green for none."""
    levels = {finding.level for finding in findings}
    return next((level for level in LEVELS if level in levels), GREEN)
