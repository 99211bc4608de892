# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""What the hub does wrong on purpose: rules that a test sets through /__control.

A rule is a JSON object. Every kind takes `path` (glob of the file's path, default `*`; requests for information have the
path `<info>` or `<tree>`), `times` (how often, default for ever), `after` (how many matching requests go well first).
`method` (GET or HEAD, default both) is for the kinds that change answers. The kinds and what else they take:

    fail       status, retry_after (seconds), error_code (X-Error-Code), message: answer with an HTTP error
    corrupt    offset (default: the middle), bytes (default 1): right size, wrong content
    swap       with (path of another file of the repository): that file's content, cut or padded to the right size
    truncate   bytes: send that many, announce that many (a lie about the size)
    drop       bytes: announce everything, close the connection after that many
    size       bytes: the tree and the headers give this size, the content stays what it is
    slow       rate: bytes per second
    delay      seconds: wait before answering
    redirect   host (name[:port]): large files come from there, as from the real hub's content servers
    gated      repository (glob, default `*`), token (the only one that is let in)
    private    repository, token: without the token the repository does not exist
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

COMMON = {"path": str, "times": int, "after": int, "method": str}
KINDS: dict[str, dict[str, type]] = {
    "fail": {"status": int, "retry_after": float, "error_code": str, "message": str},
    "corrupt": {"offset": int, "bytes": int},
    "swap": {"with": str},
    "truncate": {"bytes": int},
    "drop": {"bytes": int},
    "size": {"bytes": int},
    "slow": {"rate": float},
    "delay": {"seconds": float},
    "redirect": {"host": str},
    "gated": {"repository": str, "token": str},
    "private": {"repository": str, "token": str},
}
REQUIRED = {
    "fail": ("status",),
    "swap": ("with",),
    "truncate": ("bytes",),
    "drop": ("bytes",),
    "size": ("bytes",),
    "slow": ("rate",),
    "delay": ("seconds",),
    "redirect": ("host",),
}


class BadRule(ValueError):
    """A rule that cannot be meant. The message says what is wrong with it."""


@dataclass
class Rule:
    """One fault, with the count of how often it struck."""

    kind: str
    options: dict[str, Any]
    matched: int = 0
    struck: int = 0

    def described(self) -> dict[str, Any]:
        """The rule as /__control shows it."""
        return {"kind": self.kind, **self.options, "struck": self.struck}


def parse(body: Any) -> list[Rule]:
    """Rules from the body of a control request: `{"<kind>": {...} or [{...}, ...], ...}`.

    Raises BadRule where a kind or an option is unknown, missing, or of another type.
    """
    if not isinstance(body, Mapping):
        raise BadRule(f"expected an object of rules by kind, got {type(body).__name__}")
    rules = []
    for kind, given in body.items():
        if kind not in KINDS:
            raise BadRule(f"unknown kind '{kind}', expected one of {', '.join(sorted(KINDS))}")
        for options in given if isinstance(given, list) else [given]:
            if not isinstance(options, Mapping):
                raise BadRule(f"{kind}: expected an object, got {type(options).__name__}")
            allowed = {**COMMON, **KINDS[kind]}
            for name, value in options.items():
                if name not in allowed:
                    raise BadRule(f"{kind}: unknown option '{name}', expected one of {', '.join(sorted(allowed))}")
                numeric = allowed[name] is float and isinstance(value, int)
                if isinstance(value, bool) or not (isinstance(value, allowed[name]) or numeric):
                    raise BadRule(f"{kind}: {name} is {value!r}, expected {allowed[name].__name__}")
            for name in REQUIRED.get(kind, ()):
                if name not in options:
                    raise BadRule(f"{kind}: '{name}' is missing")
            rules.append(Rule(kind, dict(options)))
    return rules


class Faults:
    """The rules in force. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, rules: list[Rule]) -> None:
        """Put rules in force beside those that are."""
        with self._lock:
            self._rules += rules

    def clear(self) -> None:
        """Behave again."""
        with self._lock:
            self._rules.clear()

    def described(self) -> list[dict[str, Any]]:
        """The rules in force."""
        with self._lock:
            return [rule.described() for rule in self._rules]

    def strike(self, kind: str, path: str = "*", *, method: str = "GET", repository: str = "") -> dict[str, Any] | None:
        """Options of the first rule of a kind that holds for a request now, or None; counts it as having struck."""
        with self._lock:
            for rule in self._rules:
                options = rule.options
                if rule.kind != kind or not fnmatch(path, options.get("path", "*")):
                    continue
                if options.get("method", method) != method or not fnmatch(repository, options.get("repository", "*")):
                    continue
                rule.matched += 1
                if rule.matched <= options.get("after", 0) or rule.struck >= options.get("times", rule.struck + 1):
                    continue
                rule.struck += 1
                return options
        return None
