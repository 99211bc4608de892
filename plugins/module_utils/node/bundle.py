# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The archive of a diagnosis: what the nodes gave, redacted once more, as one tar.gz."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..system.files import write_atomic
from ..system.redact import Redactor, leaks
from .diagnosis import Diagnosis, contents, result_text


def documents(
    nodes: Mapping[str, Mapping[str, Any]],
    results: Mapping[str, Mapping[str, Any]],
    secrets: Mapping[str, str],
    notes: Sequence[str],
) -> dict[str, str]:
    """Return the files of a bundle by name, everything redacted once more with the secrets that the controller knows.

    Raises:
        ValueError: a secret would still leave; no file may be written then.
    """
    redactor = Redactor(secrets)
    files: dict[str, str] = {}
    found: dict[str, Diagnosis] = {}
    for node, answer in nodes.items():
        place = re.sub(r"[^A-Za-z0-9._-]", "_", node).lstrip(".") or "_"
        diagnosis = Diagnosis(dict(answer.get("documents") or {}), dict(answer.get("left_out") or {}))
        if not diagnosis.documents:
            diagnosis.left_out["everything"] = redactor.text(str(answer.get("msg") or "the node gave no answer"))
        found[node] = diagnosis
        files |= {f"{place}/{_inside(name)}": redactor.text(str(text)) for name, text in diagnosis.documents.items()}
        if not diagnosis.documents:
            for name, result in (results.get(node) or {}).items():
                files[f"{place}/results/{_inside(str(name))}.json"] = redactor.text(result_text(result))
    files["README.txt"] = redactor.text(contents(found, notes))
    bad = sorted(name for name, text in files.items() if leaks(text, secrets.values()) or leaks(name, secrets.values()))
    if bad:
        raise ValueError(f"a secret would leave in {', '.join(bad)}: nothing was written; please report this as a bug")
    return files


def _inside(name: str) -> str:
    """Return a document's name as a path below its node's folder, whatever the node called it."""
    parts = [re.sub(r"[^A-Za-z0-9._-]", "_", part) for part in name.split("/")]
    return "/".join(part for part in parts if part.strip(".")) or "_"


def packed(files: Mapping[str, str], folder: str, when: int) -> bytes:
    """Return the files as a tar.gz below one folder."""
    memory = io.BytesIO()
    with gzip.GzipFile(fileobj=memory, mode="wb", mtime=when) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name in sorted(files):
            raw = files[name].encode("utf-8", errors="replace")
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size, entry.mtime, entry.mode = len(raw), when, 0o600
            tar.addfile(entry, io.BytesIO(raw))
    return memory.getvalue()


def write_archive(place: Path, raw: bytes, owner: tuple[int, int] | None = None) -> None:
    """Write an archive that its owner alone may read.

    Args:
        place: where.
        raw: what ``packed`` returned.
        owner: user and group id; left out, who runs this.

    Raises:
        OSError: it cannot be written.
    """
    write_atomic(place, raw, 0o600, owner)
