# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark logs``: the lines of every unit of ours on this node in one order of time, and those that come."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..node.diagnosis import read_secrets
from ..report.finding import GREEN
from ..service.unit_logs import as_lines, entry_lines, in_time_order, journal_command, own_units, read_unit
from ..system.redact import Redactor
from ..system.run import Runner
from ..system.run import run as run_program
from .cluster import CommandError
from .terminal import Terminal

SECRETS = Path("/etc/dgx-spark/secrets")
Follow = Callable[[Sequence[str]], Iterator[str]]


def chosen(asked: Sequence[str], there: Sequence[str]) -> list[str]:
    """Return the units that are meant; all that are there where none is named.

    Raises:
        CommandError: one is not on this node; one sentence.
    """
    if not there:
        raise CommandError("no unit of the cluster is on this node: run site.yml first")
    names = []
    for name in asked:
        known = {unit: unit for unit in there} | {unit.removeprefix("spark-"): unit for unit in there}
        unit = known.get(name.removesuffix(".service"))
        if unit is None:
            raise CommandError(f"there is no unit {name} on this node, which has {', '.join(there)}")
        names.append(unit)
    return list(dict.fromkeys(names)) or list(there)


def follow(argv: Sequence[str]) -> Iterator[str]:
    """Yield what a program prints, line by line, until it ends or nobody asks any more."""
    process = subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    try:
        for row in process.stdout or ():
            yield row.decode("utf-8", "replace")
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2)


def run(
    node: str,
    terminal: Terminal,
    *,
    lines: int,
    since: str,
    units: Sequence[str],
    following: bool,
    program: Runner = run_program,
    rows: Follow = follow,
    there: Callable[[], list[str]] = own_units,
    secrets: Path = SECRETS,
) -> int:
    """Show the last lines of each unit, and with ``following`` those that come until Ctrl-C."""
    names = chosen(units, there())
    redact = Redactor(read_secrets(secrets)).text
    # Before the journals are read: what is written meanwhile is not missed, and not told twice.
    begun = int(time.time())
    found, missing = [], []
    for name in names:
        try:
            found += read_unit(program, name, lines, since, redact)
        except ValueError as error:
            missing.append(str(error))
    terminal.show(as_lines(in_time_order({node: found})), plain=GREEN)
    for said in missing:
        sys.stderr.write(f"{said}\n")
    if len(missing) == len(names):
        return 1
    if not following:
        return 0
    told = {(line["unit"], line["at"], line["text"]) for line in found if line["at"] >= begun}
    asked = [word for name in names for word in ("--unit", f"{name}.service")]
    # --no-tail: all since that moment, and not the last ten of them.
    argv = journal_command(*asked, "--follow", "--no-tail", "--since", f"@{begun}")
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(rows(argv)) as coming:  # type: ignore[type-var]
        for row in coming:
            fresh = [line for line in entry_lines(row, redact) if (line["unit"], line["at"], line["text"]) not in told]
            terminal.show(as_lines(in_time_order({node: fresh})), plain=GREEN)
    return 0
