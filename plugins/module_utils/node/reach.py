# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Why Ansible cannot work on a node, in one sentence, and which interface of a node holds an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..report.finding import RED, Finding

#: What was checked.
CHECK = "node"

# What ssh, sudo and Ansible say (OpenSSH 9.2, sudo 1.9.13, ansible-core 2.19.14), as patterns, and what to do about it; the
# first match counts.
_UNREACHABLE = (
    ("host key verification failed", "its host key is new or changed: remove an old one with ssh-keygen -R {address}"),
    ("permission denied", "log in by hand as {user}, and give that user your SSH key with ssh-copy-id"),
    ("could not resolve hostname", "correct ansible_host in the inventory"),
    ("connection refused", "see that the machine is up and that sshd runs on that port"),
    ("no route to host", "see that the machine is up and in your network"),
    ("network is unreachable", "see that your own machine is in the same network"),
    ("timed out", "see that the machine is up and that no firewall is between"),
)
# Pattern, what it means, what to do about it.
_NO_SUDO = (
    (
        "missing sudo password|sudo: a password is required|sudo: a terminal is required",
        "sudo asks user {user} for a password",
        "run again with -K, or allow that user sudo without one",
    ),
    ("incorrect sudo password", "the sudo password for user {user} is wrong", "run again with -K"),
    ("not in the sudoers file|is not allowed to", "user {user} may not use sudo", "add it to the group sudo"),
    (r"sudo\S*: (command )?not found", "sudo is missing", "install it, or log in as root"),
)
_NO_PYTHON = (
    (
        "interpreter .*was not found|python3?: not found|no python interpreters found",
        "Python is missing at {python}",
        "install python3, or correct ansible_python_interpreter",
    ),
)
# What Ansible puts before ssh's own words: with pipelining, and without.
_PREAMBLE = re.compile(
    "^(Task failed: )?"
    "(Data could not be sent to remote host .*?over ssh: |Failed to connect to the host via ssh: )?"
    "(ssh: )?"
)


def judge_reach(result: Mapping[str, Any], host: str, variables: Mapping[str, Any]) -> Finding | None:
    """Return why ``result`` of fact gathering is no success, or None.

    Args:
        result: registered with ``ignore_unreachable: true``, or ``ansible_failed_result`` in a rescue.
        host: inventory name of the node.
        variables: ``ansible_host``, ``ansible_port``, ``ansible_user`` and ``ansible_python_interpreter``, where set.
    """
    if not result.get("unreachable") and "ansible_facts" in result:
        return None
    words = _words(result)
    lines = words.splitlines() or [""]
    address = str(variables.get("ansible_host") or host)
    names = {
        "address": address,
        "user": variables.get("ansible_user") or "(yours)",
        "python": variables.get("ansible_python_interpreter") or "/usr/bin/python3",
    }
    who = f"node {host} (ansible_host {address})"
    if result.get("unreachable"):
        # ssh may say much before (banners, a changed host key); its last line is the reason.
        reason = _PREAMBLE.sub("", lines[-1])
        advice = next(
            (text for pattern, text in _UNREACHABLE if _says(pattern, words)), "try it by hand: ssh {address}"
        )
        said = f"{who} does not answer over SSH ({_cut(reason)})"
        return Finding("node.unreachable", RED, CHECK, said, advice.format(**names))
    for pattern, found, remedy in _NO_SUDO:
        if _says(pattern, words):
            return Finding("node.no_sudo", RED, CHECK, f"{who} answers, but {found.format(**names)}", remedy)
    for pattern, found, remedy in _NO_PYTHON:
        if _says(pattern, words):
            return Finding("node.no_python", RED, CHECK, f"{who} answers, but {found.format(**names)}", remedy)
    said = _cut(" ".join(words.split())) or "it says nothing"
    return Finding(
        "node.no_task_runs",
        RED,
        CHECK,
        f"{who} answers, but no task can run on it: {said}",
        f"try it by hand: `ansible {host} -m ansible.builtin.setup -vvv`",
    )


def _says(pattern: str, words: str) -> bool:
    return re.search(pattern, words, re.IGNORECASE) is not None


def _words(result: Mapping[str, Any]) -> str:
    return "\n".join(str(result.get(key) or "") for key in ("module_stdout", "module_stderr", "msg")).strip()


def _cut(text: str, limit: int = 300) -> str:
    text = text.strip().rstrip(".")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def interface_of(facts: Mapping[str, Any], address: str) -> str:
    """Return the name of the interface that holds ``address`` according to gathered network facts.

    Raises:
        ValueError: the facts hold no interfaces, or none has the address; one sentence.
    """
    names = facts.get("interfaces")
    if not isinstance(names, list):
        raise ValueError(
            f"the interface of {address} is asked for, but no network facts were gathered: gather the facts of subset network first"
        )
    held = []
    for name in names:
        # Fact names are made from interface names by this replacement (ansible.module_utils.facts.network.linux).
        entry = facts.get(re.sub(r"[-:]", "_", str(name)))
        for found in _addresses(entry if isinstance(entry, Mapping) else {}):
            if found == address:
                return str(name)
            held.append(f"{name} {found}")
    raise ValueError(
        f"no interface holds the address {address} ({', '.join(held) or 'there are no addresses'}): correct the inventory"
    )


def _addresses(interface: Mapping[str, Any]) -> list[str]:
    rows = [interface.get("ipv4"), *(interface.get("ipv4_secondaries") or []), *(interface.get("ipv6") or [])]
    return [str(row["address"]) for row in rows if isinstance(row, Mapping) and row.get("address")]
