# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/settings.md from the roles' defaults and argument specs, docs/ports.md from the table of listeners, and the part of
docs/troubleshooting.md that explains the codes of findings: ``python docs/generate.py``.

A unit test compares.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.codes import CODES, SOURCES  # noqa: E402 - the path is set just above
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.listeners import LISTENERS  # noqa: E402 - the path is set just above

#: Roles in the order in which site.yml runs them.
ORDER = (
    "node_report",
    "vllm_plan",
    "fabric",
    "node_tools",
    "cluster_secrets",
    "container_runtime",
    "serving_image",
    "runtime_check",
    "model_download",
    "model_share",
    "ray_head",
    "ray_worker",
    "vllm_graphs",
    "vllm_serve",
    "vllm_worker",
    "cluster_restart",
    "vllm_verify",
    "vllm_benchmark",
    "node_diagnosis",
)
SHARED = {
    "spark_model": ("required", "Model to serve: a file of models/, or of a folder `models` beside the inventory."),
    "spark_serving_image": ("required", "Image that every node runs."),
    "spark_store_path": ("required", "Folder of the weights, the same on every node."),
    "spark_api_port": ("required", "Port of the endpoint. 8235 for good, whatever comes to stand behind it."),
    "spark_fabric_address": ("required, per host", "IPv4 address of the node on the QSFP link."),
    "spark_gpus_per_node": ("1", "GPUs that each node gives to Ray; a Spark has one."),
    "spark_api_key": ("made up on the head", "API key of the endpoint, at least 8 characters. Keep it in a vault."),
    "spark_ca_bundle": ("none", "File on the nodes with certificate authorities, behind a proxy that signs TLS anew."),
    "spark_environment": ("{}", "Environment added to all serving containers."),
    "spark_devices": (
        "[nvidia.com/gpu=all, /dev/infiniband]",
        "Devices of the serving containers.",
    ),
}
HEADER = """# Settings

Written by `python docs/generate.py` from the roles' defaults and argument specs.

A user edits one file, `inventory/sparks/group_vars/all.yml`; every name below may stand there. A name that does not exist is refused before a machine is
touched, with the one that was probably meant.

## Shared

| setting | default | meaning |
|---|---|---|
"""


def comments(role: str) -> dict[str, str]:
    """Return the comment above each default; names that share one comment share its text."""
    found: dict[str, str] = {}
    text: list[str] = []
    fresh = True
    for line in (ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            text = [line[2:]] if fresh else [*text, line[2:]]
            fresh = False
        elif line.startswith(f"{role}_"):
            found[line.partition(":")[0]] = " ".join(text)
            fresh = True
    return found


def shown(value: Any) -> str:
    """Return a default as one table cell."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("...").strip()
    text = text.replace("|", "\\|")
    return f"`{text}`" if len(text) <= 90 else "see roles/*/defaults"


def settings() -> str:
    """Return the text of docs/settings.md."""
    parts = [HEADER + "".join(f"| `{name}` | {default} | {meaning} |\n" for name, (default, meaning) in SHARED.items())]
    for role in ORDER:
        base = ROOT / "roles" / role
        defaults = yaml.safe_load((base / "defaults" / "main.yml").read_text(encoding="utf-8"))
        spec = yaml.safe_load((base / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"][
            "main"
        ]
        why = comments(role)
        rows = "".join(
            f"| `{name}` | {spec['options'][name]['type']} | {shown(value)} | {why[name]} |\n"
            for name, value in defaults.items()
        )
        parts.append(
            f"\n## {role}\n\n{spec['short_description']}.\n\n| setting | type | default | meaning |\n|---|---|---|---|\n{rows}"
        )
    return "".join(parts)


PORTS_HEADER = """# Ports

Written by `python docs/generate.py` from the table of listeners (`plugins/module_utils/service/listeners.py`). The check of the settings refuses two listeners
of one node on one port, and the preflight looks whether those marked `*` are free or their owner's.

Beside these NCCL and Gloo take TCP ports that the kernel chooses (and RoCE v2 its UDP port 4791) between the fabric addresses of the nodes, and the nodes are reached over SSH.

| port | protocol | on | address | what | setting | when | who may reach it |
|---|---|---|---|---|---|---|---|
"""
REACH = {"anyone": "clients", "fabric": "the other nodes", "loopback": "the node itself"}


def ports() -> str:
    """Return the text of docs/ports.md."""
    rows = []
    places = {"any": "every node", "head": "the head", "worker": "each worker"}
    for one in LISTENERS:
        port = f"{one.default} to {one.last}" if one.last else f"{one.default}{' `*`' if one.checked else ''}"
        when = [f"executor {one.executor}"] if one.executor else []
        when += [f"weights by {one.share}"] if one.share else []
        when += [f"NFS over {one.transport}"] if one.transport else []
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


if __name__ == "__main__":
    (ROOT / "docs" / "ports.md").write_text(ports(), encoding="utf-8")
    (ROOT / "docs" / "settings.md").write_text(settings(), encoding="utf-8")
    (ROOT / "docs" / "troubleshooting.md").write_text(troubleshooting(), encoding="utf-8")
