# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What no exporter of others knows of a node: ``spark-metrics`` writes it every 15 s as a file that node exporter's textfile collector reads.

The GPU by nvidia-smi, the link by the kernel's files, watchdog, units, disk of the weights, end of the certificate, refused keys. What
cannot be read is left out, never 0: an alert on a figure must not take a figure that nobody has for a good one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import socket
import ssl
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..system.files import read_json, read_text, write_atomic
from ..system.notify import notify
from ..system.run import Runner, run
from ..system.units import ORDER
from .restart_plan import OTHERS
from .verdict import BUSY, DEAD, DRAINING, HELD, HUNG, LOADING, MUTE, SATURATED, SERVING, STOPPED, WAITING

CONFIG = Path("/etc/dgx-spark/metrics.json")
#: In memory: nothing old is told after a boot, and no disk is worn.
FILE = Path("/run/dgx-spark/metrics/dgx_spark.prom")
WATCHDOG = Path("/run/dgx-spark/watchdog.json")
EVERY_S = 15.0
#: Seconds for a program: nvidia-smi of a wedged GPU never returns.
ANSWER_S = 5.0
#: Rounds between two looks at the certificate.
SELDOM = 40
STATES = (STOPPED, WAITING, LOADING, SERVING, BUSY, SATURATED, DRAINING, HUNG, MUTE, DEAD, HELD)
#: Names of mlx5's hw_counters that tell of lost packets; those of fabric/link.py.
TROUBLE_COUNTERS = ("local_ack_timeout_err", "out_of_sequence", "packet_seq_err", "rnr_nak_retry_err")
NET_ERRORS = ("rx_errors", "tx_errors", "rx_crc_errors")
#: InfiniBand counts data in words of four bytes.
COUNTER_WORD = 4
PORT_GBITS = 200
#: Bits of clocks_event_reasons.active (nvml.h) that slow a GPU down.
REASONS = {
    "sw_power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}
FIELDS = (
    *("index", "power.draw", "temperature.gpu", "utilization.gpu"),
    *("clocks.sm", "clocks.max.sm", "clocks_event_reasons.active"),
)
#: Every figure: its type and what it is.
FIGURES = {
    "dgx_spark_metrics_written_seconds": ("gauge", "When these figures were written."),
    "dgx_spark_memory_reserve_bytes": ("gauge", "Memory that has to stay available on this node."),
    "dgx_spark_disk_free_bytes": ("gauge", "Free space, of the weights' store and of the root file system."),
    "dgx_spark_disk_size_bytes": ("gauge", "Size of the same."),
    "dgx_spark_server_state": ("gauge", "1 for the state that the watchdog gives the server, 0 for the others."),
    "dgx_spark_watchdog_written_seconds": ("gauge", "When the watchdog wrote its state."),
    "dgx_spark_failures": ("gauge", "Failures of the server that count now for the watchdog's pauses."),
    "dgx_spark_recovery_seconds": ("gauge", "When the watchdog last healed the server."),
    "dgx_spark_node_report_age_seconds": ("gauge", "Seconds since a node reported to the watchdog."),
    "dgx_spark_unit_restarts_total": ("counter", "Restarts of a unit by systemd."),
    "dgx_spark_unit_active": ("gauge", "Whether a unit runs."),
    "dgx_spark_link_up": ("gauge", "Whether an interface of the link has a carrier."),
    "dgx_spark_link_speed_bytes": (
        "gauge",
        "Speed of an interface of the link in bytes a second, 0 without a carrier.",
    ),
    "dgx_spark_link_speed_wanted_bytes": (
        "gauge",
        "Speed that an RDMA interface of the link should have, in bytes a second.",
    ),
    "dgx_spark_link_errors_total": (
        "counter",
        "Errors of an interface of the link, RDMA's signs of lost packets included.",
    ),
    "dgx_spark_link_bytes_total": ("counter", "Bytes of an interface of the link, RDMA included."),
    "dgx_spark_gpu_answers": ("gauge", "Whether nvidia-smi answers."),
    "dgx_spark_gpu_power_watts": ("gauge", "Power of the GPU."),
    "dgx_spark_gpu_temperature_celsius": ("gauge", "Temperature of the GPU."),
    "dgx_spark_gpu_utilization_ratio": (
        "gauge",
        "Part of the time in which a kernel ran; 0.96 for ranks that wait for ever as well.",
    ),
    "dgx_spark_gpu_clock_hertz": ("gauge", "Clock of the GPU's processors."),
    "dgx_spark_gpu_clock_max_hertz": ("gauge", "Highest clock of the GPU's processors."),
    "dgx_spark_gpu_slowed": ("gauge", "Whether the driver slows the GPU for this reason."),
    "dgx_spark_certificate_end_seconds": ("gauge", "When the certificate of the endpoint ends."),
    "dgx_spark_key_failures_total": (
        "counter",
        "Requests with no key or one that is not valid, since the gateway's start.",
    ),
}
_UNITS = tuple(f"{name}.service" for name in (*ORDER, *OTHERS))
_GPU = {
    "power.draw": ("dgx_spark_gpu_power_watts", 1.0),
    "temperature.gpu": ("dgx_spark_gpu_temperature_celsius", 1.0),
    "utilization.gpu": ("dgx_spark_gpu_utilization_ratio", 0.01),
    "clocks.sm": ("dgx_spark_gpu_clock_hertz", 1e6),
    "clocks.max.sm": ("dgx_spark_gpu_clock_max_hertz", 1e6),
}


class Figures:
    """Figures with their labels, and their text in the format of Prometheus."""

    def __init__(self) -> None:
        self.rows: dict[str, list[str]] = {}

    def add(self, name: str, value: float, **labels: str) -> None:
        """Add one figure; its name is one of FIGURES."""
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        figure = repr(float(value)).removesuffix(".0")
        self.rows.setdefault(name, []).append(f"{name}{{{inner}}} {figure}" if inner else f"{name} {figure}")

    def text(self) -> str:
        """Return all of them."""
        lines = []
        for name, (kind, about) in FIGURES.items():
            if name in self.rows:
                lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}", *self.rows[name]]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(text: str) -> float | None:
    """Return the number that a text begins with; None for ``[N/A]`` and the like."""
    found = re.match(r"\s*(-?\d+(?:\.\d+)?)", text)
    return float(found[1]) if found else None


def watchdog_figures(figures: Figures, path: Path) -> None:
    """Add what the watchdog says; nothing on a node that has none."""
    state = read_json(path)
    if not state:
        return
    with contextlib.suppress(OSError):
        figures.add("dgx_spark_watchdog_written_seconds", round(path.stat().st_mtime, 1))
    for name in STATES:
        figures.add("dgx_spark_server_state", int(name == state.get("state")), state=name)
    figures.add("dgx_spark_failures", len(state.get("failures") or []))
    with contextlib.suppress(KeyError, TypeError, ValueError):
        at = datetime.strptime(str(state["recovery"]["at"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        figures.add("dgx_spark_recovery_seconds", at.timestamp())
    for address, report in sorted((state.get("nodes") or {}).items()):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            figures.add("dgx_spark_node_report_age_seconds", float(report["age_s"]), address=address)


def unit_figures(figures: Figures, run: Runner) -> None:
    """Add restarts and state of our units that are there."""
    asked = ["systemctl", "show", "--property=Id,LoadState,ActiveState,NRestarts", *_UNITS]
    status, out, _err = run(asked, ANSWER_S)
    for block in out.split("\n\n") if status == 0 else ():
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        if unit.get("LoadState") != "loaded":
            continue
        name = unit.get("Id", "").removesuffix(".service")
        figures.add("dgx_spark_unit_active", int(unit.get("ActiveState") == "active"), unit=name)
        if (restarts := _number(unit.get("NRestarts", ""))) is not None:
            figures.add("dgx_spark_unit_restarts_total", restarts, unit=name)


def gpu_figures(figures: Figures, run: Runner) -> None:
    """Add what nvidia-smi says of each GPU; nothing where there is none on this machine."""
    status, out = 1, ""
    # Drivers before R535 call the reasons otherwise.
    for fields in (FIELDS, [field.replace("event", "throttle") for field in FIELDS]):
        status, out, _err = run(
            ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"], ANSWER_S
        )
        if status == 0 or "not a valid field" not in out:
            break
    if status == 127:
        return
    figures.add("dgx_spark_gpu_answers", int(status == 0))
    for line in out.splitlines() if status == 0 else ():
        row = dict(zip(FIELDS, (part.strip() for part in line.split(",")), strict=False))
        if len(row) != len(FIELDS):
            continue
        gpu = row["index"]
        for field, (name, factor) in _GPU.items():
            if (value := _number(row[field])) is not None:
                figures.add(name, value * factor, gpu=gpu)
        with contextlib.suppress(ValueError):
            active = int(row["clocks_event_reasons.active"], 16)
            for reason, bit in REASONS.items():
                figures.add("dgx_spark_gpu_slowed", int(bool(active & bit)), gpu=gpu, reason=reason)


def link_interfaces(run: Runner, address: str, root: Path) -> dict[str, str]:
    """Return the interfaces of the link with their RDMA device, empty for none: the one with the address, and all RDMA ones with a carrier."""
    found = {}
    for device in sorted((root / "sys/class/infiniband").glob("*/device/net/*")):
        if read_text(root / "sys/class/net" / device.name / "carrier").strip() == "1":
            found[device.name] = device.parents[2].name
    status, out, _err = run(["ip", "-json", "-4", "address", "show", "to", f"{address}/32"], ANSWER_S)
    with contextlib.suppress(ValueError, TypeError, KeyError):
        for row in json.loads(out) if status == 0 else ():
            name = str(row["ifname"])
            rdma = sorted((root / "sys/class/net" / name / "device" / "infiniband").glob("*"))
            found.setdefault(name, rdma[0].name if rdma else "")
    return found


def _counter(path: Path) -> int | None:
    text = read_text(path).strip()
    return int(text) if text.isdigit() else None


def link_figures(figures: Figures, interfaces: Mapping[str, str], gbits: float, root: Path) -> None:
    """Add carrier, speed, bytes and errors of each interface of the link, RDMA's counters included."""
    for name, rdma in interfaces.items():
        net, port = root / "sys/class/net" / name, root / "sys/class/infiniband" / (rdma or "-") / "ports/1"
        up = read_text(net / "carrier").strip() == "1"
        figures.add("dgx_spark_link_up", int(up), device=name)
        speed = _counter(net / "speed")
        if not up or speed:
            figures.add("dgx_spark_link_speed_bytes", (speed or 0) * 1e6 / 8 if up else 0, device=name)
        if rdma:
            figures.add("dgx_spark_link_speed_wanted_bytes", min(gbits, PORT_GBITS) * 1e9 / 8, device=name)
        for kind in NET_ERRORS:
            if (value := _counter(net / "statistics" / kind)) is not None:
                figures.add("dgx_spark_link_errors_total", value, device=name, kind=kind)
        for kind in TROUBLE_COUNTERS:
            if (value := _counter(port / "hw_counters" / kind)) is not None:
                figures.add("dgx_spark_link_errors_total", value, device=name, kind=kind)
        for direction, plain, words in (
            ("sent", "tx_bytes", "port_xmit_data"),
            ("received", "rx_bytes", "port_rcv_data"),
        ):
            by_net, by_rdma = _counter(net / "statistics" / plain), _counter(port / "counters" / words)
            if by_net is not None or by_rdma is not None:
                figures.add(
                    "dgx_spark_link_bytes_total",
                    (by_net or 0) + COUNTER_WORD * (by_rdma or 0),
                    device=name,
                    direction=direction,
                )


def disk_figures(figures: Figures, folders: Mapping[str, str]) -> None:
    """Add free space and size of file systems."""
    for name, folder in folders.items():
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(folder)
            figures.add("dgx_spark_disk_free_bytes", usage.free, of=name)
            figures.add("dgx_spark_disk_size_bytes", usage.total, of=name)


def certificate_end(run: Runner, path: str) -> float | None:
    """Return when a certificate ends; None where there is none to read."""
    status, out, _err = run(["openssl", "x509", "-in", path, "-noout", "-enddate"], ANSWER_S)
    with contextlib.suppress(ValueError):
        return float(ssl.cert_time_to_seconds(out.strip().partition("=")[2])) if status == 0 else None
    return None


def key_failures(path: str) -> int | None:
    """Return how many keys the gateway refused, from its own count; None where it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(path)
            connection.sendall(b"show table refused_keys\n")
            said = b"".join(iter(lambda: connection.recv(4096), b"")).decode("utf-8", "replace")
    except OSError:
        return None
    if "table: refused_keys" not in said:
        return None
    found = re.search(r"http_req_cnt=(\d+)", said)
    return int(found[1]) if found else 0


class Metrics:
    """Looks and writes, one round after the other.

    Args:
        config: what role monitoring wrote: ``address`` on the link, ``link_gbits``, ``reserve_gib``, ``disks`` (folders by name),
            ``certificate`` and ``gateway_socket`` (empty for none).
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        run: Runner = run,
        file: Path = FILE,
        watchdog: Path = WATCHDOG,
        root: Path = Path("/"),
    ) -> None:
        self.address = str(config["address"])
        self.gbits = float(config["link_gbits"])
        self.reserve = float(config["reserve_gib"]) * 2**30
        self.disks = {str(name): str(folder) for name, folder in config["disks"].items()}
        self.certificate = str(config.get("certificate") or "")
        self.socket = str(config.get("gateway_socket") or "")
        self.run, self.file, self.watchdog, self.root = run, file, watchdog, root
        self._rounds = 0
        self._ends: float | None = None

    def figures(self, now: float) -> Figures:
        """Return all figures of this moment."""
        figures = Figures()
        figures.add("dgx_spark_metrics_written_seconds", round(now, 1))
        figures.add("dgx_spark_memory_reserve_bytes", self.reserve)
        disk_figures(figures, self.disks)
        watchdog_figures(figures, self.watchdog)
        unit_figures(figures, self.run)
        gpu_figures(figures, self.run)
        link_figures(figures, link_interfaces(self.run, self.address, self.root), self.gbits, self.root)
        if self.certificate:
            if self._rounds % SELDOM == 0:
                self._ends = certificate_end(self.run, self.certificate)
            if self._ends is not None:
                figures.add("dgx_spark_certificate_end_seconds", self._ends)
        if self.socket and (refused := key_failures(self.socket)) is not None:
            figures.add("dgx_spark_key_failures_total", refused)
        self._rounds += 1
        return figures

    def round(self) -> None:
        """Write all figures, whole or not at all."""
        write_atomic(self.file, self.figures(time.time()).text(), 0o644)


def say(text: str) -> None:
    """Write a line to the journal, at once."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(arguments: Sequence[str] | None = None, rounds: Iterable[None] | None = None) -> int:
    """Write until stopped; returns the exit status."""
    parser = argparse.ArgumentParser(prog="spark-metrics", description="Writes a node's figures for node exporter.")
    parser.add_argument("--config", type=Path, default=CONFIG)
    options = parser.parse_args(arguments)
    try:
        document = read_json(options.config)
        if document is None:
            raise ValueError(f"{options.config} is missing or no JSON: run playbooks/site.yml")
        metrics = Metrics(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        say(f"failed: {error}")
        return 1
    notify("READY=1")
    told = ""
    with contextlib.suppress(KeyboardInterrupt):
        for _round in iter(int, 1) if rounds is None else rounds:
            begun = time.monotonic()
            try:
                metrics.round()
                told = ""
            except OSError as error:
                # Said once: what is wrong with the folder is wrong for hours.
                if str(error) != told:
                    say(f"the figures cannot be written: {error}")
                told = str(error)
            notify("WATCHDOG=1")
            if rounds is None:
                time.sleep(max(0.1, EVERY_S - (time.monotonic() - begun)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
