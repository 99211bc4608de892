# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The cluster's secrets on a node: one file each, for root alone, generated where nobody gives a value."""

from __future__ import annotations

import hashlib
import os
import re
import secrets as generator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..system.files import write_atomic

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
#: 32 bytes of the kernel's random generator, as hexadecimal.
_BYTES = 32
MIN_LENGTH = 8
#: Characters from which on nobody guesses a secret; those that are made up here have 64.
LONG = 32
FOLDER_MODE, FILE_MODE = 0o700, 0o400
#: User and group id that folder and files belong to: root's.
OWNER = (0, 0)


class SecretError(Exception):
    """One sentence for the user; no secret is in it."""


@dataclass(frozen=True)
class Secret:
    """A secret that is wanted: with ``value`` that one, else the one that is there, else a new one where ``generate`` says so."""

    name: str
    value: str = ""
    generate: bool = True

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise SecretError(f"secrets: name is {self.name!r}, expected lower-case letters, digits and '_'")
        if self.value and len(self.value) < MIN_LENGTH:
            raise SecretError(
                f"secret {self.name!r} has {len(self.value)} characters, expected at least {MIN_LENGTH}: choose a longer one or leave it empty"
            )

    def text(self, present: str) -> str:
        """Return what the file is to hold, given what it holds; empty for no file."""
        return self.value or present or (generator.token_hex(_BYTES) if self.generate else "")


def ensure_secrets(folder: Path, wanted: Sequence[Secret], check: bool) -> tuple[list[str], dict[str, str]]:
    """Bring the folder and its files to what is wanted.

    Returns:
        What was done, or would be, in words; and by name the first 12 hexadecimal digits of the SHA-256 of each secret that is long.

    Raises:
        OSError: the folder is not this process's to change.
    """
    actions, fingerprints = [], {}
    if not _is_roots(folder, FOLDER_MODE):
        actions.append(f"made {folder} readable for root only")
        if not check:
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            folder.chmod(FOLDER_MODE)
            os.chown(folder, *OWNER)
    for secret in wanted:
        path = folder / secret.name
        present = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        text = secret.text(present)
        if not text:
            continue
        # Of a short one, which somebody thought of, the digits would be enough to guess it from.
        if len(text) >= LONG:
            fingerprints[secret.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
        if present == text and _is_roots(path, FILE_MODE):
            continue
        verb = "changed" if present else "made"
        actions.append(
            f"{verb} secret {secret.name}"
            if present != text
            else f"set mode of secret {secret.name} to {FILE_MODE:04o}"
        )
        if not check:
            write_atomic(path, text, FILE_MODE, owner=OWNER)
    return actions, fingerprints


def _is_roots(path: Path, mode: int) -> bool:
    """Say whether a file or folder is there, belongs to root and has just this mode."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return status.st_mode & 0o777 == mode and status.st_uid == OWNER[0]
