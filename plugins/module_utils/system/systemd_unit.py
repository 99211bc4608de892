# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Text of systemd unit files: quoting and rendering, after systemd.service(5) and systemd.syntax(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

#: What none of our units needs, after systemd.exec(5). ProtectSystem and the capabilities are each unit's own.
SANDBOX = (
    ("NoNewPrivileges", "yes"),
    ("PrivateTmp", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelModules", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    ("SystemCallErrorNumber", "EPERM"),
)
#: The same for units that neither touch the GPU nor write a setting of the kernel. ProtectClock closes all devices as well.
CLOSED = (
    *SANDBOX,
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelTunables", "yes"),
    ("MemoryDenyWriteExecute", "yes"),
    ("SystemCallFilter", "@system-service"),
)

_PLAIN = re.compile(r"^[A-Za-z0-9_@%+=:,./-]+$")


def quote_argument(argument: str) -> str:
    """Return one argument of an Exec line such that systemd hands it over unchanged.

    systemd expands ``%`` specifiers and ``$VARIABLES`` even inside quotes (systemd.service(5), "Command lines"), so both are
    doubled; quotes and backslashes are escaped after systemd.syntax(7).

    Raises:
        ValueError: the argument holds a NUL, which no process argument can carry.
    """
    if "\0" in argument:
        raise ValueError(f"argument {argument!r} holds a NUL byte: remove it")
    text = argument.replace("%", "%%").replace("$", "$$")
    if _PLAIN.match(text):
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{text}"'


def exec_line(argv: Sequence[str], *, may_fail: bool = False, full: bool = False) -> str:
    """Return the value of an Exec directive.

    ``may_fail`` puts the ``-`` in front that makes a failure count as success, ``full`` the ``+`` that leaves the unit's sandbox out.
    """
    if not argv or not argv[0].startswith("/"):
        raise ValueError(f"command {list(argv)!r} must start with an absolute path: systemd resolves no other")
    return ("-" if may_fail else "") + ("+" if full else "") + " ".join(quote_argument(part) for part in argv)


def render(sections: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> str:
    """Return a unit file of the given sections, each a name and its (key, value) lines in order."""
    blocks = []
    for name, lines in sections:
        blocks.append("\n".join([f"[{name}]", *(f"{key}={value}" for key, value in lines)]))
    return "\n\n".join(blocks) + "\n"
