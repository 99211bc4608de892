# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write what is said of the roles' settings in more than one place, from one: ``python docs/generate.py``. Unit tests compare.

The source is each role's meta/argument_specs.yml, for the values its defaults/main.yml. Written are the comments of defaults/main.yml,
roles/*/README.md and docs/settings.md. docs/ports.md is written from the table of listeners, docs/start-failures.md from the causes of failed starts,
and the part of docs/troubleshooting.md that explains the codes of findings from their registry.
"""

from __future__ import annotations

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES, SOURCES  # noqa: E402 - the path is set just above
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.listeners import LISTENERS  # noqa: E402 - the path is set just above
from ansible_collections.dgx_spark.vllm.plugins.module_utils.settings.shared import SHARED  # noqa: E402
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.start_causes import table  # noqa: E402 - as above

_NODES, _HEAD, _WORKERS = "sparks", "sparks:&head", "sparks:&workers"
#: Roles in the order in which site.yml runs them, with the hosts that a play of each is for.
ROLES = {
    "node_report": _NODES,
    "vllm_plan": _NODES,
    "fabric": _NODES,
    "node_tools": _NODES,
    "node_guard": _NODES,
    "packet_filter": _NODES,
    "cluster_secrets": _NODES,
    "container_runtime": _NODES,
    "serving_image": _NODES,
    "runtime_check": _NODES,
    "model_download": _HEAD,
    "model_share": _NODES,
    "ray_head": _HEAD,
    "ray_worker": _WORKERS,
    "vllm_graphs": _NODES,
    "vllm_serve": _HEAD,
    "vllm_worker": _WORKERS,
    "gateway": _HEAD,
    "vllm_watchdog": _NODES,
    "cluster_restart": _NODES,
    "vllm_verify": _HEAD,
    "port_scan": _NODES,
    "monitoring": _NODES,
    "chat_ui": _HEAD,
    "vllm_benchmark": _NODES,
    "node_diagnosis": _NODES,
    "remove": _NODES,
}
#: Roles that report on every node, also where one of them has trouble.
REPORTS = ("node_report", "node_diagnosis")
#: Columns of a comment, and of a line of a README.
_COMMENT, _LINE = 150, 150
_MARKUP = re.compile(r"\b[COVM]\(([^)]+)\)")
_WRITTEN = "Written by `python docs/generate.py` from the roles' argument specs and defaults."

SETTINGS = """# Settings

{written}

A user edits one file, `inventory/sparks/group_vars/all.yml`; every name below may stand there. A name that does not exist is refused before a machine is
touched, with the one that was probably meant.

## Shared

| setting | default | meaning |
|---|---|---|
{shared}"""

README = """# Role `dgx_spark.vllm.{role}`

<!-- {written} -->

{short}.

{description}## Needs first

The play [settings](../../playbooks/settings.yml), earlier in the same run: it checks every setting and sets those that roles
[share](../../docs/settings.md#shared). Root on the node.

{needs}## Variables

| variable | type | default | meaning |
|---|---|---|---|
{rows}
## Example

```yaml
- name: Check the settings
  ansible.builtin.import_playbook: dgx_spark.vllm.settings

- name: {short}
  hosts: {hosts}
  become: true
  gather_facts: false
{fatal}  roles:
    - role: dgx_spark.vllm.{role}
```
"""


@dataclass(frozen=True)
class Role:
    """What a role's files say."""

    name: str
    spec: dict[str, Any]
    defaults: dict[str, Any]
    text: str

    @classmethod
    def read(cls, name: str) -> Role:
        """Read a role of the checkout."""
        base = ROOT / "roles" / name
        text = (base / "defaults" / "main.yml").read_text(encoding="utf-8")
        specs = yaml.safe_load((base / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
        return cls(name, specs["main"], yaml.safe_load(text), text)

    def meaning(self, setting: str) -> str:
        """Return what a setting means, without Ansible's markup."""
        return plain(self.spec["options"][setting]["description"])

    def rows(self) -> str:
        """Return the lines of a table of all settings."""
        return "".join(
            f"| `{name}` | {self.spec['options'][name]['type']} | {shown(value)} | {cell(self.meaning(name))} |\n"
            for name, value in self.defaults.items()
        )


def plain(description: str | list[str]) -> str:
    """Return a description as one text, with `code` in the place of Ansible's markup."""
    text = description if isinstance(description, str) else " ".join(description)
    return _MARKUP.sub(r"`\1`", " ".join(text.split()))


def cell(text: str) -> str:
    """Return a text for a cell of a table."""
    return text.replace("|", "\\|")


def shown(value: Any) -> str:
    """Return a default as one cell of a table."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
    return f"`{cell(text)}`" if len(text) <= 90 else "see defaults/main.yml"


def defaults(role: Role) -> str:
    """Return the text of a role's defaults/main.yml, with what the argument specs say above each setting.

    A comment that says the same words stays as it is, wherever its lines end.
    """
    found: list[str] = []
    above: list[str] = []
    for line in role.text.splitlines():
        if line.startswith("#"):
            above.append(line)
            continue
        name = line.partition(":")[0]
        if name in role.defaults:
            meaning = role.meaning(name)
            same = " ".join(" ".join(entry.lstrip("#") for entry in above).split()) == meaning
            found += above if same else comment(meaning)
            above = []
        found += [*above, line]
        above = []
    return "\n".join([*found, *above]) + "\n"


def comment(text: str) -> list[str]:
    """Return a text as lines of a comment."""
    return [f"# {line}" for line in _wrapped(text, _COMMENT - 2)]


def readme(role: Role) -> str:
    """Return the text of a role's README.md."""
    description = role.spec["description"]
    paragraphs = [plain(entry) for entry in ([description] if isinstance(description, str) else description)]
    return README.format(
        written=_WRITTEN,
        role=role.name,
        short=role.spec["short_description"],
        description="".join(_paragraph(text) for text in paragraphs if not text.startswith("Needs ")),
        needs="".join(_paragraph(text) for text in paragraphs if text.startswith("Needs ")),
        rows=role.rows(),
        hosts=ROLES[role.name],
        fatal="" if role.name in REPORTS else "  any_errors_fatal: true\n",
    )


def settings() -> str:
    """Return the text of docs/settings.md."""
    shared = "".join(
        f"| `{name}` | {option.get('described_default') or option['default']} | {cell(option['description'])} |\n"
        for name, option in SHARED.items()
    )
    parts = [SETTINGS.format(written=_WRITTEN, shared=shared)]
    for role in map(Role.read, ROLES):
        parts.append(
            f"\n## {role.name}\n\n{role.spec['short_description']}.\n\n"
            f"| setting | type | default | meaning |\n|---|---|---|---|\n{role.rows()}"
        )
    return "".join(parts)


PORTS_HEADER = """# Ports

Written by `python docs/generate.py` from the table of listeners (`plugins/module_utils/service/listeners.py`). The check of the settings refuses two listeners
of one node on one port, and the preflight looks whether those marked `*` are free or held by their own service.

Beside these NCCL and Gloo take TCP ports that the kernel chooses (and RoCE v2 its UDP port 4791) between the fabric addresses of the nodes.

| port | protocol | on | address | what | setting | when | who may reach it |
|---|---|---|---|---|---|---|---|
"""
REACH = {"anyone": "anyone", "fabric": "the other nodes", "loopback": "the node itself"}


def ports() -> str:
    """Return the text of docs/ports.md."""
    rows = []
    places = {"any": "every node", "head": "the head", "worker": "each worker"}
    for one in LISTENERS:
        port = f"{one.default} to {one.last}" if one.last else f"{one.default}{' `*`' if one.checked else ''}"
        when = [f"executor {one.executor}"] if one.executor else []
        when += [f"weights by {one.share}"] if one.share else []
        when += [f"NFS over {one.transport}"] if one.transport else []
        when += [f"gateway {one.gateway}"] if one.gateway else []
        when += [f"chat page {one.chat}"] if one.chat else []
        when += [{"on": "monitoring", "head": "monitoring on the head"}[one.monitoring]] if one.monitoring else []
        when += ["several nodes"] if one.several else []
        when += [] if one.lasting else ["for a while"]
        names = ", ".join(f"`{name}`" for name in one.settings) or "fixed"
        owners = ", ".join(f"`{owner.removesuffix('.service')}`" for owner in one.owners)
        rows.append(
            f"| {port} | {one.protocol} | {places[one.node]} | {one.address} | {one.name}: {owners} | {names} | {', '.join(when) or 'always'} | {REACH[one.reach]} |\n"
        )
    return PORTS_HEADER + "".join(rows)


#: Marks of the written part of docs/troubleshooting.md.
START, END = "<!-- codes: begin -->", "<!-- codes: end -->"


def codes() -> str:
    """Return the part of docs/troubleshooting.md on the codes of findings: an entry, and thereby an anchor, for each."""
    parts = []
    for source, about in SOURCES.items():
        entries = [
            f"#### {code}\n\n**{meaning.title}.** {meaning.means}\n\n{meaning.todo}\n"
            for code, meaning in CODES.items()
            if code.startswith(f"{source}.")
        ]
        parts.append(f"### {source}\n\n{about}\n\n" + "\n".join(entries))
    return "\n".join(parts)


def troubleshooting() -> str:
    """Return the text of docs/troubleshooting.md with that part as it should be."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    before, start, rest = text.partition(START)
    _old, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit(f"docs/troubleshooting.md has no lines '{START}' and '{END}' to write the codes between")
    return f"{before}{start}\n\n{codes()}\n{end}{after}"


def files() -> dict[Path, str]:
    """Return the text of every file that is written, by its path; comments of defaults first, they change no value."""
    found = {}
    for role in map(Role.read, ROLES):
        base = ROOT / "roles" / role.name
        found[base / "defaults" / "main.yml"] = defaults(role)
        found[base / "README.md"] = readme(role)
    return {
        **found,
        ROOT / "docs" / "settings.md": settings(),
        ROOT / "docs" / "ports.md": ports(),
        ROOT / "docs" / "start-failures.md": start_failures(),
        ROOT / "docs" / "troubleshooting.md": troubleshooting(),
    }


START_FAILURES_HEADER = """# Why a start fails

Written by `python docs/generate.py` from the table of `plugins/module_utils/vllm/start_causes.py`.

`site.yml`, `playbooks/start.yml` and `playbooks/status.yml` name the first error of a rank or of the engine since the start, not what vLLM says at its end
("Engine core initialization failed. See root cause above"). For these lines they say what is behind it and what to do; any other is shown as it is.

| a line with | it is | do |
|---|---|---|
"""


def start_failures() -> str:
    """Return the text of docs/start-failures.md."""
    rows = (f"| `{said}` | {cause} | {remedy} |\n" for said, cause, remedy in table())
    return START_FAILURES_HEADER + "".join(rows)


def _paragraph(text: str) -> str:
    return "\n".join(_wrapped(text, _LINE)) + "\n\n"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
