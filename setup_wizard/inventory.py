# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The inventory as text: hosts.yml is written anew, in the settings file single lines change and all comments stay."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import write_atomic

from setup_wizard.proposal import Link, Node

HOSTS, SETTINGS = "hosts.yml", "group_vars/all.yml"
#: What the shipped inventory has in the place of addresses.
PLACEHOLDER = "EDIT-ME"
#: Where the comments of a new settings file come from, by number of nodes.
EXAMPLES = {1: "examples/one", 2: "sparks", 3: "examples/three", 4: "examples/four"}

_HEAD = """\
---
# Your machines, as `make setup` wrote them; edit what you like. Addresses are those at which you reach them by SSH; any machine may run
# Ansible, one of the nodes included (that node has `ansible_connection: local`).
"""
_ON_LINK = "# Address on the QSFP link; role fabric puts it there (docs/fabric.md)."
#: What stands above a setting that the file did not have.
_COMMENTS = {
    "spark_store_path": "Folder of the weights on each node.",
    "fabric_manage": "There is no link to configure.",
    "fabric_interfaces": "Interfaces of the link, in order. Named, because there is more than one cable: one that is pulled moves no address.",
    "fabric_prefix": "Length of the prefix of the link's subnets.",
    "spark_devices": "No QSFP port, so no RDMA devices for the containers.",
    "vllm_serve_tensor_parallel_size": "How the ranks share the model: heads of attention do not divide among all nodes.",
}
_NO_LINK = "# No link with one node: its own address, at which Ray listens."


def scalar(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()


def hosts_text(nodes: Sequence[Node], link: Link, user: str, ssh_args: str, ask_sudo: bool) -> str:
    """hosts.yml: the first node is the head."""
    lines = ["sparks:", "  children:", "    head:", "      hosts:"]
    for place, node in enumerate(nodes):
        if place == 1:
            lines += ["    workers:", "      hosts:"]
        lines += [f"        {node.name}:", f"          ansible_host: {scalar(node.address)}"]
        if node.local:
            lines += ["          ansible_connection: local"]
        if place == 0:
            lines += [f"          {_ON_LINK if len(nodes) > 1 else _NO_LINK}"]
        lines += [f"          spark_fabric_address: {scalar(link.addresses[place])}"]
        own = link.host_settings[place] if link.host_settings else {}
        lines += [f"          {name}: {scalar(value)}" for name, value in own.items()]
    sudo = "sudo asks it for a password: run with -K" if ask_sudo else "run with -K where sudo asks for a password"
    lines += ["  vars:", f"    # A user that may use sudo; {sudo}.", f"    ansible_user: {scalar(user)}"]
    if ssh_args:
        lines += ["    # Further options of ssh.", f"    ansible_ssh_common_args: {scalar(ssh_args)}"]
    return _HEAD + "\n".join(lines) + "\n"


def with_setting(text: str, name: str, value: Any) -> str:
    """The settings file with one setting changed, put in (in the place of its commented example, where there is one), or (None) taken out.

    What follows a setting indented belongs to it. Other lines stay as they are.
    """
    comment = f"# {_COMMENTS[name]}\n" if name in _COMMENTS else ""
    lines = rf"^{name}:.*\n(?:(?:[ \t]+.*|- .*)\n)*"
    present = re.compile(lines, re.MULTILINE)
    if value is None:
        return re.sub(lines.replace("^", f"^(?:{re.escape(comment)})?", 1), "", text, flags=re.MULTILINE)
    line = f"{name}: {scalar(value)}\n"
    if found := present.search(text):
        # A setting that says this already keeps its own form.
        if yaml.safe_load(found[0]) == {name: value}:
            return text
        return text[: found.start()] + line + text[found.end() :]
    commented = re.compile(rf"^# {name}: .*\n", re.MULTILINE)
    if found := commented.search(text):
        return text[: found.start()] + line + text[found.end() :]
    return f"{text}{comment}{line}"


class _Loader(yaml.SafeLoader):
    """Reads tags such as !vault as the text that stands there."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, node: node.value)


def settings_text(text: str, settings: Mapping[str, Any]) -> str:
    """The settings file with these settings. Raises ValueError where it cannot be read, or lines would not say what they should."""
    text = text if text.endswith("\n") else f"{text}\n"
    try:
        before = yaml.load(text, Loader=_Loader) or {}
        wanted = {**before, **settings}
        for name, value in settings.items():
            text = with_setting(text, name, value)
        after = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, TypeError) as error:
        raise ValueError(f"it is no YAML of settings ({' '.join(str(error).split())})") from None
    if after != {name: value for name, value in wanted.items() if name not in settings or value is not None}:
        raise ValueError(
            f"it is written so that {', '.join(settings)} cannot be set in it line by line: set them by hand"
        )
    return text


def base_settings(folder: Path, shipped: Path, nodes: int) -> str:
    """The settings file to start from: the one that is there, else that of the example for so many nodes."""
    present = folder / SETTINGS
    return (present if present.is_file() else shipped / EXAMPLES[nodes] / SETTINGS).read_text(encoding="utf-8")


def earlier(folder: Path) -> tuple[list[str], str]:
    """Addresses and user of an inventory that is there, head first; empty where it holds none or cannot be read."""
    try:
        groups = yaml.safe_load((folder / HOSTS).read_text(encoding="utf-8"))["sparks"]
        hosts = {
            name: host
            for group in ("head", "workers")
            for name, host in groups["children"].get(group, {"hosts": {}})["hosts"].items()
        }
        user = str((groups.get("vars") or {}).get("ansible_user") or "")
        addresses = [str((host or {}).get("ansible_host") or name) for name, host in hosts.items()]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return [], ""
    return [entry for entry in addresses if entry != PLACEHOLDER], "" if user == PLACEHOLDER else user


def unused(folder: Path) -> bool:
    """Whether the inventory is not in use: there is none, or the shipped one, in which no address was written yet."""
    hosts = folder / HOSTS
    return not hosts.exists() or PLACEHOLDER in hosts.read_text(encoding="utf-8")


def difference(folder: Path, files: Mapping[str, str]) -> str:
    """What would change, as a unified diff; empty where nothing would."""
    parts: list[str] = []
    for name, after in files.items():
        path = folder / name
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        label = f"{folder.name}/{name}"
        parts += difflib.unified_diff(before.splitlines(True), after.splitlines(True), label, label)
    return "".join(parts)


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write the files, each whole or not at all; hosts.yml last, without which the others are no inventory."""
    for name in sorted(files, key=lambda name: name == HOSTS):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != files[name]:
            write_atomic(path, files[name])
