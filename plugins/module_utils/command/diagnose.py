# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark diagnose``: what playbooks/diagnose.yml packs of this node, as an archive here."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..node.bundle import documents, packed, write_archive
from ..node.diagnosis import diagnose, host_aliases, read_secrets, result_text
from ..service.unit_logs import own_units
from ..system.redact import Redactor
from ..system.run import Runner
from ..system.run import run as run_program
from .cluster import Cluster, CommandError
from .logs import SECRETS
from .terminal import Terminal

#: Lines of each journal, as of node_diagnosis_journal_lines.
JOURNAL_LINES = 2000


def owner(told: Mapping[str, str] | None = None) -> tuple[int, int] | None:
    """Return user and group who called sudo, to whom the archive belongs then; None without sudo."""
    told = os.environ if told is None else told
    try:
        return int(told["SUDO_UID"]), int(told["SUDO_GID"])
    except (KeyError, ValueError):
        return None


def run(
    cluster: Cluster,
    terminal: Terminal,
    output: str,
    *,
    status: Callable[[], Mapping[str, Any]],
    program: Runner = run_program,
    secrets_folder: Path = SECRETS,
    units: Callable[[], list[str]] = own_units,
) -> int:
    """Write the archive.

    Raises:
        CommandError: it cannot be written; one sentence.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = Path(output or f"dgx-spark-diagnosis-{cluster.node}-{stamp}.tar.gz").expanduser()
    if not place.name.endswith(".tar.gz"):
        raise CommandError(f"--output is {str(place)!r}, expected a file that ends in .tar.gz")
    secrets = read_secrets(secrets_folder)
    redactor = Redactor(secrets, host_aliases([socket.gethostname(), socket.getfqdn()], cluster.node))
    found = diagnose(program, redactor, [f"{name}.service" for name in units()], JOURNAL_LINES)
    answer = {"documents": found.documents, "left_out": found.left_out}
    notes = [f"Made by `spark diagnose` on {cluster.node}: other nodes are not in it."] if cluster.others else []
    found.documents["results/status.json"] = redactor.text(result_text(status()))
    try:
        files = documents({cluster.node: answer}, {}, secrets, notes)
        raw = packed(files, place.name.removesuffix(".tar.gz"), int(time.time()))
        write_archive(place, raw, owner())
    except ValueError as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(
            f"the archive cannot be written to {place}: {error.strerror}; name another file with --output"
        ) from None
    terminal.say(f"{place}: {len(files)} files, {len(raw) / 1024:.0f} KiB; look through it before you hand it on")
    if cluster.others:
        terminal.say(
            f"{', '.join(cluster.others)}: not in it; `ansible-playbook playbooks/diagnose.yml` packs all nodes"
        )
    return 0
