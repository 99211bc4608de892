# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The command line that an image accepts: rendered, shown to the image's own parser, and remembered for the image."""

from __future__ import annotations

import difflib
import hashlib
import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..docker.cli import throwaway
from ..gpu.kernel_check import judge
from ..system.files import read_json, write_atomic
from ..system.run import GIVEN_UP, Runner
from .flags import FlagError, ParserOptions, ServeIntents, check_version, commands
from .named_files import NO_FILES, NamedFiles, Plugin
from .parser_probe import MARK

#: Answers that the record keeps; each is one command line for one image.
_KEPT_COMMANDS = 50
#: Shows command lines to the parser inside the image and returns the probe's document.
Ask = Callable[[Sequence[Sequence[str]]], Mapping[str, Any]]


@dataclass(frozen=True)
class Decision:
    """Command lines that the image accepts: the server's, then one for each headless node."""

    version: str
    commands: list[list[str]]
    notes: list[str]
    asked: int


def ask_parser(
    run: Runner,
    image: str,
    lines: Sequence[Sequence[str]],
    source: str,
    seconds: float,
    paths: Iterable[Path] = (),
) -> dict[str, Any]:
    """Show command lines to the parser inside an image; return what the probe, whose text is ``source``, says of them.

    Args:
        paths: files that the command lines name; the parser looks whether a chat template is there.

    Raises:
        FlagError: there is no answer; one sentence.
    """
    argv = ["python3", "-", json.dumps([list(line) for line in lines])]
    options = ["--label", "dgx-spark=vllm-flags"]
    for path in paths:
        options += ["--volume", f"{path}:{path}:ro"]
    code, out, err = throwaway(run, image, argv, seconds, options, data=source)
    if code == GIVEN_UP:
        raise FlagError(
            f"the image's argument parser gave no answer within {seconds:g} s: is the node short of memory or disk?"
        )
    return parse_document(out, err)


def parse_document(out: str, err: str = "") -> dict[str, Any]:
    """Return what the probe printed; images print banners of their own around it.

    Raises:
        FlagError: there is no document; says the program's last line.
    """
    for line in reversed(out.splitlines()):
        if line.startswith(MARK):
            document: dict[str, Any] = json.loads(line[len(MARK) :])
            return document
    words = ([line for line in (err or out).splitlines() if line.strip()] or ["no output"])[-1].strip()
    raise FlagError(f"the image's own argument parser could not be asked: {words}")


class Record:
    """What one image answered, kept in a file: its options and the command lines that it accepted."""

    def __init__(self, path: Path, image_id: str, source: str) -> None:
        self.path = path
        self.key = f"{image_id} {hashlib.sha256(source.encode()).hexdigest()[:16]}"
        self.options: dict[str, Any] | None = None
        self.accepted: list[str] = []
        document = read_json(path)
        if document is not None and document.get("key") == self.key:
            self.options = document["options"]
            self.accepted = list(document["accepted"])

    def knows(self, line: Sequence[str]) -> bool:
        """Say whether the parser has accepted this very command line."""
        return _digest(line) in self.accepted

    def add(self, document: Mapping[str, Any], lines: Sequence[Sequence[str]]) -> None:
        """Take an answer in which every command line was accepted."""
        self.options = {name: value for name, value in document.items() if name != "refused"}
        self.accepted = list(dict.fromkeys([*self.accepted, *map(_digest, lines)]))[-_KEPT_COMMANDS:]

    def write(self) -> None:
        """Write the record so that a reader sees the old one or the new one."""
        text = json.dumps({"key": self.key, "options": self.options, "accepted": self.accepted})
        write_atomic(self.path, f"{text}\n")


def decide(
    intents: ServeIntents,
    ask: Ask,
    record: Record,
    *,
    keep: bool = True,
    min_vllm: str = "",
    files: NamedFiles = NO_FILES,
) -> Decision:
    """Return the command lines for what is wanted, every one accepted by the image's own parser.

    The first question carries the command lines as the newest release would have them, so that one look into the image is
    enough wherever these are right; a known image with known command lines is not asked at all.

    Args:
        files: what the further arguments name; the parsers of a plugin count as the image's.

    Raises:
        FlagError: the image cannot do what is wanted; one sentence.
    """
    asked = 0
    if record.options is None:
        guess, _notes = commands(intents)
        document = ask(guess)
        asked += 1
        options = with_plugins(ParserOptions.from_json(document), intents, files)
        check_version(options, min_vllm)
        lines, notes = commands(intents, options)
        if lines != guess:
            document = ask(lines)
            asked += 1
    else:
        options = with_plugins(ParserOptions.from_json(record.options), intents, files)
        check_version(options, min_vllm)
        lines, notes = commands(intents, options)
        if all(record.knows(line) for line in lines):
            return Decision(options.version, lines, notes, asked)
        document = ask(lines)
        asked += 1
    for line, reason in zip(lines, document["refused"], strict=True):
        if reason:
            raise FlagError(
                f"vLLM {options.version} in this image refuses `{shlex.join(line)}`: {reason}{_hint(reason, options)}"
            )
    record.add(document, lines)
    if keep:
        record.write()
    return Decision(options.version, lines, notes, asked)


def with_plugins(options: ParserOptions, intents: ServeIntents, files: NamedFiles) -> ParserOptions:
    """Return what the image accepts once the plugins are loaded, which the server does before it looks for a parser's name."""

    def known(own: tuple[str, ...], plugin: Plugin, wanted: str | None) -> tuple[str, ...]:
        # A release whose parsers are not known refuses none.
        added = plugin.names if plugin.names is not None else (wanted,) if wanted else ()
        return (*own, *(name for name in added if name not in own)) if own else ()

    return replace(
        options,
        tool_parsers=known(options.tool_parsers, files.tools, intents.tool_call_parser),
        reasoning_parsers=known(options.reasoning_parsers, files.reasoning, intents.reasoning_parser),
    )


def _hint(reason: str, options: ParserOptions) -> str:
    """Return the names that were probably meant, where the parser does not know one."""
    flag = next((word.partition("=")[0] for word in reason.split() if word.startswith("--")), "")
    if "unrecognized arguments" not in reason or not flag:
        return ""
    near = difflib.get_close_matches(flag, list(options.options), n=3)
    return f" (did you mean {', '.join(near)}?)" if near else " (remove it)"


def nvfp4_verdict(path: Path) -> tuple[str, str]:
    """Return verdict and reason (with what to do) for NVFP4 on this node, from what gb10_kernel_check kept.

    The record belongs to an image, a driver and a boot; role runtime_check, which ran before, has renewed it where one of them
    changed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))["document"]
        said = judge(document, [])["capabilities"]["nvfp4"]
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown", "the kernels were not tried here; role runtime_check tries them on a node with a GPU"
    return said["verdict"], "; ".join(part for part in (said["reason"], said["remedy"]) if part)


def _digest(line: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(line)).encode()).hexdigest()[:24]
