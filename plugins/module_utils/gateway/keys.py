# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Keys with names: kept as SHA-256, in one file for root alone, and told to a running HAProxy without a reload.

A key has 256 random bits, so its plain SHA-256 cannot be guessed back, and a look-up by it takes the same time whatever part of a wrong
key is right: what is compared is no secret. The key itself is shown when it is made and never again (docs/decisions/0040).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from ..system.files import Changes, read_json

USER, OPERATOR = "user", "operator"
ROLES = (USER, OPERATOR)
#: Bytes of a key, and the shortest that is taken from elsewhere, in characters (as role cluster_secrets asks).
_BYTES, SHORTEST = 32, 8
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
#: Name of those who ask without a key (gateway_keyless): a key of this name would give them its role and its limits.
KEYLESS = "keyless"
_HASH = re.compile(r"[0-9a-f]{64}")
#: HAProxy's maps: what each says of a key's name; the first leads from the hash to the name.
MAPS = ("names", "roles", "rates", "slots", "ends")
#: A map with one row: the key of the server behind the gateway. In a map it changes without a reload, and no character of it means anything to HAProxy.
SERVER = "server"
_MODE = 0o600


class KeyProblem(ValueError):
    """One sentence for the user."""


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: what people call it: lower case letters, digits, ``-`` and ``_``, at most 32.
        sha256: of the key, in hexadecimal digits.
        role: ``user`` or ``operator``.
        per_minute: most requests in a minute; 0 for no limit.
        at_once: most requests at the same time; 0 for no limit.
        ends: last day on which it is taken, in UTC (``2027-01-31``); empty for none.
        made: when the key was made, in UTC.
        follows: whether it is the server's own key and changes with that (spark_api_key); until it is rotated.
    """

    name: str
    sha256: str
    role: str = USER
    per_minute: int = 0
    at_once: int = 0
    ends: str = ""
    made: str = ""
    follows: bool = False

    def listed(self) -> dict[str, Any]:
        """Return what may be shown of it: neither the key nor its hash."""
        return {name: value for name, value in asdict(self).items() if name != "sha256"}

    def end_s(self) -> int:
        """Return the second of the epoch from which it is refused; 0 for never."""
        if not self.ends:
            return 0
        return int(
            (datetime.combine(date.fromisoformat(self.ends), datetime.min.time(), UTC) + timedelta(days=1)).timestamp()
        )


def digest(key: str) -> str:
    """Return the SHA-256 of a key, as HAProxy's ``sha2(256),hex,lower`` makes it."""
    return hashlib.sha256(key.encode()).hexdigest()


def checked(key: Key) -> Key:
    """Return a key as it was given.

    Raises:
        KeyProblem: a field is not usable; one sentence.
    """
    if not _NAME.fullmatch(key.name):
        raise KeyProblem(
            f"name is {key.name!r}, expected up to 32 of a-z, 0-9, - and _, beginning with a letter or digit"
        )
    if key.name == KEYLESS:
        raise KeyProblem(f"name {KEYLESS} stands for requests without a key, expected another one")
    if key.role not in ROLES:
        raise KeyProblem(f"role of key {key.name} is {key.role!r}, expected {' or '.join(ROLES)}")
    for field in ("per_minute", "at_once"):
        value = getattr(key, field)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 1_000_000:
            raise KeyProblem(
                f"{field} of key {key.name} is {value!r}, expected a whole number from 0 (no limit) to 1000000"
            )
    if key.ends:
        try:
            date.fromisoformat(key.ends)
        except (TypeError, ValueError):
            raise KeyProblem(f"ends of key {key.name} is {key.ends!r}, expected a day such as 2027-01-31") from None
    if not isinstance(key.follows, bool):
        raise KeyProblem(f"follows of key {key.name} is {key.follows!r}, expected true or false")
    if not _HASH.fullmatch(key.sha256):
        raise KeyProblem(f"sha256 of key {key.name} is no SHA-256 in hexadecimal digits: rotate the key")
    return key


def parse(document: Any, path: Path) -> list[Key]:
    """Return the keys of a file.

    Raises:
        KeyProblem: it is not what this module writes; one sentence.
    """
    rows = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise KeyProblem(f"{path} has no list `keys`: restore it, or remove it and run site.yml for a new first key")
    found: list[Key] = []
    for row in rows:
        try:
            key = checked(Key(**row))
        except TypeError:
            fields = ", ".join(sorted(map(str, row))) if isinstance(row, dict) else repr(row)
            raise KeyProblem(f"{path} holds a key with unknown or missing fields: {fields}") from None
        for other in found:
            if other.name == key.name:
                raise KeyProblem(f"{path} has two keys of the name {key.name}: remove one of them")
            if other.sha256 == key.sha256:
                raise KeyProblem(f"{path} has one key under two names, {other.name} and {key.name}: rotate one of them")
        found.append(key)
    return found


def maps(keys: Sequence[Key]) -> dict[str, list[tuple[str, str]]]:
    """Return the rows of each of HAProxy's maps, by its name in MAPS."""
    return {
        "names": [(key.sha256, key.name) for key in keys],
        "roles": [(key.name, key.role) for key in keys],
        "rates": [(key.name, str(key.per_minute)) for key in keys],
        "slots": [(key.name, str(key.at_once)) for key in keys],
        "ends": [(key.name, str(key.end_s())) for key in keys],
    }


class Admin:
    """HAProxy's admin socket; see its management guide, 9.3."""

    def __init__(self, path: Path, seconds: float = 5.0) -> None:
        self.path = path
        self.seconds = seconds

    def ask(self, command: str) -> str:
        """Send one command, return its answer; raises OSError where nobody listens."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(self.seconds)
            line.connect(str(self.path))
            line.sendall(f"{command}\n".encode())
            answer = b""
            while block := line.recv(65536):
                answer += block
        return answer.decode("utf-8", "replace").strip()

    def map_rows(self, path: Path) -> set[tuple[str, str]]:
        """Return the rows of a map that it holds."""
        # Each line: an address, the key, the value, which may have spaces.
        return {
            (row[1], row[2])
            for line in self.ask(f"show map {path}").splitlines()
            if len(row := line.split(maxsplit=2)) == 3
        }

    def replace_map(self, path: Path, rows: Sequence[tuple[str, str]]) -> None:
        """Replace a map whole: no request ever sees half of it.

        Raises:
            KeyProblem: HAProxy refuses.
        """
        said = self.ask(f"prepare map {path}")
        version = re.search(r"New version created: (\d+)", said)
        if not version:
            raise KeyProblem(f"the gateway does not take new keys: {said or 'no answer'}; restart spark-gateway")
        for name, value in rows:
            # What the socket's own language reads otherwise.
            word = re.sub(r"([\\ ;])", r"\\\1", value)
            if said := self.ask(f"add map @{version[1]} {path} {name} {word}"):
                raise KeyProblem(f"the gateway does not take new keys: {said}; restart spark-gateway")
        if said := self.ask(f"commit map @{version[1]} {path}"):
            raise KeyProblem(f"the gateway does not take new keys: {said}; restart spark-gateway")


class Keys(Changes):
    """The keys of a gateway; ``actions`` says in words what was done.

    Args:
        folder: of the gateway's files.
        socket_path: of HAProxy's admin socket; where nobody listens, the files alone are written.
    """

    def __init__(self, folder: Path, socket_path: Path, check: bool) -> None:
        super().__init__(check)
        self.file = folder / "keys.json"
        self.folder_path = folder
        self.admin = Admin(socket_path)
        if self.file.exists() and self.file.stat().st_mode & 0o077:
            raise KeyProblem(
                f"{self.file} may be read by others (mode {self.file.stat().st_mode & 0o777:04o}): run `chmod 600 {self.file}`, "
                "and rotate the keys if others have read it"
            )
        document = read_json(self.file)
        if document is None and self.file.exists():
            raise KeyProblem(f"{self.file} is no JSON: restore it, or remove it and run site.yml for a new first key")
        self.keys = parse(document, self.file) if document is not None else []
        self.server_key = ""

    def _index(self, name: str) -> int:
        for number, key in enumerate(self.keys):
            if key.name == name:
                return number
        known = ", ".join(key.name for key in self.keys) or "none"
        raise KeyProblem(f"there is no key {name}, known are {known}")

    def server(self, value: str, first: str = "default") -> None:
        """Take the key of the server behind the gateway, which clients have had so far.

        A gateway that has never had keys knows it under the name ``first``; one whose keys were all withdrawn does not take it again. A key that
        follows the server's becomes what that is now.

        Raises:
            KeyProblem: no header can carry it, or it is another name's key.
        """
        if len(value) < SHORTEST or value != value.strip() or not value.isprintable():
            raise KeyProblem(
                f"the server's key is not usable: expected at least {SHORTEST} printable characters without spaces at its ends"
            )
        self.server_key = value
        if not self.file.exists():
            self._add(Key(first, digest(value), made=_now(), follows=True))
        for number, key in enumerate(self.keys):
            if not key.follows or key.sha256 == digest(value):
                continue
            if any(other.sha256 == digest(value) for other in self.keys):
                raise KeyProblem(f"the server's key is the key of another name than {key.name}: rotate that one")
            self.keys[number] = replace(key, sha256=digest(value), made=_now())
            self.actions.append(f"key {key.name} is the server's new key")

    def add(self, key: Key) -> str:
        """Make a key with this name and these limits, and return it: it is in no file.

        Raises:
            KeyProblem: the name is taken, or a field is not usable.
        """
        if any(other.name == key.name for other in self.keys):
            raise KeyProblem(f"there is a key {key.name} already: rotate it, or take another name")
        value = _new()
        self._add(replace(key, sha256=digest(value), made=_now()))
        return value

    def _add(self, key: Key) -> None:
        self.keys.append(checked(key))
        self.actions.append(f"added key {key.name}")

    def rotate(self, name: str) -> str:
        """Give a name another key, and return it; the earlier one is refused from now on."""
        number, value = self._index(name), _new()
        self.keys[number] = replace(self.keys[number], sha256=digest(value), made=_now(), follows=False)
        self.actions.append(f"rotated key {name}")
        return value

    def limit(self, name: str, **fields: Any) -> None:
        """Change role, limits or end of a key where they differ."""
        number = self._index(name)
        changed = checked(replace(self.keys[number], **fields))
        if changed != self.keys[number]:
            self.keys[number] = changed
            self.actions.append(f"changed key {name}")

    def withdraw(self, name: str) -> None:
        """Refuse a key from now on; one that is not there is refused already."""
        if any(key.name == name for key in self.keys):
            del self.keys[self._index(name)]
            self.actions.append(f"withdrew key {name}")

    def save(self) -> None:
        """Write file and maps where they differ, and tell a running gateway.

        Raises:
            KeyProblem: the gateway runs and refuses, or does not answer.
            OSError: a file cannot be written.
        """
        self.private(self.file, json.dumps({"keys": [asdict(key) for key in self.keys]}, indent=1) + "\n")
        told = maps(self.keys)
        if self.server_key:
            told[SERVER] = [("key", self.server_key)]
        for name in told:
            self.private(self._map(name), "".join(f"{key} {value}\n" for key, value in told[name]))
        if not self.check and self.admin.path.exists():
            # Where it does not run, it reads the files when it starts.
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                try:
                    self._tell(told)
                except TimeoutError:
                    raise KeyProblem(
                        "the keys are written, but the running gateway does not answer and still takes the earlier ones: restart spark-gateway"
                    ) from None

    def _map(self, name: str) -> Path:
        return self.folder_path / f"{name}.map"

    def _tell(self, told: dict[str, list[tuple[str, str]]]) -> None:
        # Limits first: a new key is never taken without its limits. Compared with what it holds: a run may have ended between files and gateway.
        for name in reversed(told):
            if self.admin.map_rows(self._map(name)) != set(told[name]):
                self.admin.replace_map(self._map(name), told[name])
                self.actions.append(f"told the running gateway its {name}")

    def private(self, path: Path, text: str, mode: int = _MODE) -> bool:
        """Write a file for root alone; its content is in no difference that is shown."""
        seen = len(self.diff)
        wrote = self.write(path, text, mode)
        del self.diff[seen:]
        return wrote


def held(keys: Keys, name: str, file: Path, given: Mapping[str, Any]) -> None:
    """Let a file for root alone hold the key of a name, for a program that asks through the gateway.

    A key that is not the one in the file, or that was withdrawn, is made anew: the earlier one may have been withdrawn because others read it.

    Raises:
        KeyProblem: a field is not usable.
        OSError: the file cannot be read or written.
    """
    value = file.read_text(encoding="utf-8").strip() if file.exists() else ""
    known = next((key for key in keys.keys if key.name == name), None)
    if known is None:
        value = keys.add(Key(name, "", **{"role": USER, **given}))
    else:
        if known.sha256 != digest(value):
            value = keys.rotate(name)
        keys.limit(name, **given)
    keys.private(file, f"{value}\n", 0o400)


def change(keys: Keys, state: str, name: str, given: Mapping[str, Any]) -> str:
    """Do what module gateway_keys documents for a state; return the key that was made, or an empty text.

    Args:
        keys: of the gateway.
        state: ``listed``, ``present``, ``rotated`` or ``absent``.
        name: of the key.
        given: role, limits and end that were given.
    """
    if state == "absent":
        keys.withdraw(name)
    elif state == "rotated":
        return keys.rotate(name)
    elif state == "present":
        if name not in [key.name for key in keys.keys]:
            return keys.add(Key(name, "", **{"role": USER, **given}))
        keys.limit(name, **given)
    return ""


def _new() -> str:
    return f"sk-{secrets.token_urlsafe(_BYTES)}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
