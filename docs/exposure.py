# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the table of docs/security.md that says what `systemd-analyze security` thinks of our units: ``python docs/exposure.py``.

A unit test holds each unit at or below the figure of the table, wherever systemd-analyze is there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jinja2
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service import ContainerSpec, UnitSpec  # noqa: E402 - the path is set just above
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.service import unit_text as container_text  # noqa: E402
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub.queue import unit_text as download_text  # noqa: E402
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.packet_filter import unit_text as filter_text  # noqa: E402
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.node_service import unit_text as program_text  # noqa: E402

PAGE = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- exposure: begin -->", "<!-- exposure: end -->"
#: Exposure before the sandbox, by systemd 252, and why a unit keeps what it keeps.
UNITS = {
    "spark-vllm": (
        9.6,
        "Docker's client and the gates; the container is Docker's child and has bounds of its own, above",
    ),
    "spark-ray-head": (9.6, "the same; empties Ray's folder before a start"),
    "spark-ray-worker": (
        9.6,
        "the same; the gate of the NFS mount runs beside the sandbox, since it mounts and detaches for the whole node",
    ),
    "spark-chat": (9.6, "the same, without gates"),
    "spark-watchdog": (
        9.6,
        "asks Docker and systemd, reads the kernel's log, ends ranks; nvidia-smi wants its devices. spark-follower and spark-metrics are the same",
    ),
    "spark-model-download": (9.4, "links files from anywhere on the node into the store, whoever owns them"),
    "spark-packet-filter": (6.9, "nft needs CAP_NET_ADMIN"),
    "spark-gateway": (6.4, "talks to the network, becomes another user, compiles regular expressions"),
    "spark-node-exporter": (9.2, "talks to the network and to netlink; runs as the user of its package"),
    "spark-prometheus": (9.2, "the same, with a folder of its own"),
    "spark-cdi": (
        9.6,
        "nvidia-smi and nvidia-ctk may load the driver and make its devices; tighter was not tried without a GPU",
    ),
}


def template(role: str, name: str) -> str:
    """Return a role's unit with the defaults of the role, as far as it asks for them."""
    defaults = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    text = (ROOT / "roles" / role / "templates" / f"{name}.service.j2").read_text(encoding="utf-8")
    numbers = {key: value for key, value in defaults.items() if isinstance(value, int)}
    values = {
        "__container_runtime_units": ["spark-vllm.service"],
        "gateway_folder": "/etc/dgx-spark/gateway",
        "monitoring_address": "192.168.100.10",
        **numbers,
    }
    return jinja2.Environment(autoescape=False).from_string(text).render(values)


def texts() -> dict[str, str]:
    """Return the text of each of our units that lasts, by name."""
    found = {}
    ray = ("/var/lib/x",)
    for name, clear in (("spark-vllm", ()), ("spark-ray-head", ray), ("spark-ray-worker", ray), ("spark-chat", ())):
        container = ContainerSpec(name, "image", ("program",))
        found[name] = container_text(container, UnitSpec(name, clear=clear), "sha256:0", "digest")
    return {
        **found,
        "spark-watchdog": program_text("spark-watchdog", "Watchdog", Path("/etc/dgx-spark/watchdog.json"), "digest"),
        "spark-model-download": download_text(),
        "spark-packet-filter": filter_text(),
        "spark-gateway": template("gateway", "spark-gateway"),
        "spark-node-exporter": template("monitoring", "spark-node-exporter"),
        "spark-prometheus": template("monitoring", "spark-prometheus"),
        "spark-cdi": template("container_runtime", "spark-cdi"),
    }


def program() -> str:
    """Return the path of a systemd-analyze that judges files; empty where there is none."""
    found = shutil.which("systemd-analyze")
    if not found:
        return ""
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"systemd (\d+)", said)
    return found if version and int(version[1]) >= 250 else ""


def exposures() -> dict[str, float]:
    """Return what systemd-analyze says of each unit's exposure, 0 to 10."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts().items():
            path = Path(folder) / f"{name}.service"
            path.write_text(text, encoding="utf-8")
            command = [program(), "security", "--offline=yes", "--no-pager", str(path)]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            figure = re.search(rf"exposure level for {name}\.service: ([\d.]+)", said.stdout)
            if not figure:
                raise ValueError(f"{name}: systemd-analyze says no figure: {said.stderr[-300:]}")
            found[name] = float(figure[1])
    return found


def table(now: dict[str, float]) -> str:
    """Return the table."""
    lines = ["| unit | before | now | what it keeps, and for what |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {before} | {now[name]} | {why} |" for name, (before, why) in UNITS.items()]
    return "\n".join(lines)


def shown() -> dict[str, float]:
    """Return the figures that the page shows."""
    part = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    return {
        name: float(now) for name, now in re.findall(r"^\| `([\w-]+)` \| [\d.]+ \| ([\d.]+) \|", part, re.MULTILINE)
    }


def main() -> None:
    """Write the table into the page."""
    head, _begin, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    tail = rest.partition(END)[2]
    PAGE.write_text(f"{head}{BEGIN}\n\n{table(exposures())}\n\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
