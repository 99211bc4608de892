# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Gates in front of a unit's start, and the proof behind it: ``spark-gate KIND ...`` on a node.

A gate waits until something is there and says once what it waits for, then again each minute; waiting is no failure, so a
machine that boots before its peer comes up later by itself. Only ``serving`` fails: a start that lost a rank hangs for ever
by itself (seen with vLLM 0.32 and Ray 2.60), so it has a time limit and watches the cluster under it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..hub.store import Store, StoreError
from ..nfs.share import (
    PORT,
    detach,
    is_nfs,
    mount_differences,
    mounted_at,
    mounts_here,
    probe,
    read_mount_unit,
    set_read_ahead,
    start_mount,
)
from ..ray.cluster import DASHBOARD, judge, read_cluster
from ..system.http_json import HttpClient, HttpError, read_secret_file
from ..system.run import Runner, run

TOKEN_FILE = "/etc/dgx-spark/secrets/cluster_token"
API_KEY_FILE = "/etc/dgx-spark/secrets/api_key"
#: More than one token: vLLM for CPU makes AMX ready only for such a prompt, and dies of a shorter first one (seen with 0.32.0).
PROMPT = "The capital of France is"
_POLL_S = 0.5
#: The figure in the memory gate's sentence moves all the time, and each change is a line in the journal.
_MEMORY_POLL_S = 10.0
#: A mount that fails writes four lines into the journal.
_MOUNT_POLL_S = 5.0
#: A look at the weights takes milliseconds, through a mount as well; beyond this the server is gone.
_WEIGHTS_S = 20.0
_REMIND_S = 60.0
#: A watchdog that is silent for so long does not keep a server from starting.
_WATCHDOG_S = 60.0
#: One bad answer of Ray may be a busy dashboard; trouble that stays this long is a lost rank, for which vLLM would wait for ever.
_LOST_S = 10.0


class GateError(Exception):
    """The gate can never open, or the start has failed: one sentence."""


def say(text: str) -> None:
    """Write a line to the unit's journal, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def wait_for(
    obstacle: Callable[[], str],
    *,
    poll_s: float = _POLL_S,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return once ``obstacle`` returns an empty text; print what is waited for when it changes and once a minute."""
    shown, shown_at = "", 0.0
    while text := obstacle():
        if text != shown or clock() - shown_at >= _REMIND_S:
            say(f"waiting: {text}")
            shown, shown_at = text, clock()
        sleep(poll_s)
    if shown:
        say("no longer waiting")


def address_obstacle(address: str) -> str:
    """Say what is missing while no interface of this node has the address (``ip -json address``)."""
    _status, out, err = run(["ip", "-json", "address", "show"], 10)
    try:
        interfaces = json.loads(out or "[]")
    except ValueError:
        return f"`ip -json address show` gives no JSON: {err.strip()}"
    for interface in interfaces:
        for entry in interface.get("addr_info") or []:
            if entry.get("local") == address:
                return (
                    ""
                    if interface.get("operstate") != "DOWN"
                    else f"interface {interface.get('ifname')} with {address} is down"
                )
    return f"no interface has the fabric address {address} yet"


def port_obstacle(address: str, port: int) -> str:
    """Say what is missing while nothing listens on a TCP port of a peer."""
    try:
        with socket.create_connection((address, port), timeout=5):
            return ""
    except OSError as error:
        return f"nothing answers on {address}:{port} yet ({error.strerror or error})"


def weights_obstacle(snapshot: Path) -> str:
    """Say what is missing while a snapshot is not there, not stamped as verified, or no longer as its stamp saw it."""
    try:
        store = Store(snapshot.parent.parent)
        return store.ready(snapshot.parent.name.replace("--", "/", 1), snapshot.name)
    except StoreError as error:
        return f"the weights {snapshot} cannot be judged: {error}"
    except OSError as error:
        return f"the weights {snapshot} cannot be read ({error.strerror or error})"


class Patient:
    """Asks something that may never return, a dead mount for example, and says so instead of hanging with it."""

    def __init__(self, look: Callable[[], str], seconds: float, silent: str) -> None:
        self.look = look
        self.seconds = seconds
        self.silent = silent
        self._thread: threading.Thread | None = None
        self._answer = ""

    def __call__(self) -> str:
        """Return the answer; the sentence for silence while the question is still open after ``seconds``."""
        if self._thread is None:
            # A daemon: the gate can be stopped although the question never returns.
            self._thread = threading.Thread(target=self._ask, daemon=True)
            self._thread.start()
        self._thread.join(self.seconds)
        if self._thread.is_alive():
            return self.silent
        self._thread = None
        return self._answer

    def _ask(self) -> None:
        try:
            self._answer = self.look()
        except Exception as error:  # whatever it is, the gate must go on asking and say so
            self._answer = f"{type(error).__name__}: {error}"


def mount_obstacle(
    path: str,
    server: str,
    *,
    run: Runner = run,
    root: Path = Path("/"),
    port: Callable[[str, int], str] | None = None,
) -> str:
    """Say what is missing while a folder is not the mount that nfs_mount asked for, or its server does not answer.

    Mounts it where it is not, heals what keeps it from being mounted, and sets its read-ahead. The server's port is asked
    first: nobody here touches a mount whose server is gone.
    """
    desired = read_mount_unit(path, root)
    if desired is None or desired.server != server:
        return f"{path} is not set up to be mounted from {server}: run site.yml"
    if closed := (port or port_obstacle)(server, PORT):
        return f"the weights are on {server}, and {closed}"
    seen = mounted_at(mounts_here(root), path)
    answer = probe(path, run) if is_nfs(seen) else ""
    if is_nfs(seen) and (answer == "stale" or (not answer and mount_differences(desired, seen))):
        detach(desired, run, root)
        seen = None
    if not is_nfs(seen):
        if reason := start_mount(desired, run):
            return f"{desired.source} cannot be mounted yet ({reason})"
        seen = mounted_at(mounts_here(root), path)
        answer = probe(path, run) if is_nfs(seen) else "it is not in the table of mounts"
    if answer:
        return f"{desired.source} is mounted but does not answer ({answer})"
    if seen is not None:
        try:
            set_read_ahead(seen, desired.read_ahead_kib, root)
        except OSError as error:
            say(f"the read-ahead of {path} stays as it is: {error.strerror}")
    return ""


def memory_obstacle(need_gib: float | None, meminfo: Path = Path("/proc/meminfo"), share: float = 0.0) -> str:
    """Say what is missing while the kernel's MemAvailable is below ``need_gib`` (GiB), or below a share of MemTotal.

    The kernel's figures are used because nvidia-smi shows N/A for memory on a GB10. vLLM itself refuses to start while less than
    gpu_memory_utilization of the memory is free (vllm/v1/worker/utils.py, request_memory).
    """
    figures = {}
    for line in meminfo.read_text(encoding="ascii").splitlines():
        name, _colon, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            figures[name] = int(rest.split()[0]) / 2**20
    if "MemAvailable" not in figures or (need_gib is None and "MemTotal" not in figures):
        return f"{meminfo} has no {'MemTotal' if 'MemAvailable' in figures else 'MemAvailable'}"
    need = share * figures["MemTotal"] if need_gib is None else need_gib
    available = figures["MemAvailable"]
    if available >= need:
        return ""
    of = f" ({share:g} of {figures['MemTotal']:.1f}, as vLLM will take)" if need_gib is None else ""
    return f"{available:.1f} GiB of memory are available, {need:.4g} GiB are needed{of}: see what uses it with `ps aux --sort=-rss | head`"


def ray_obstacle(dashboard: str, token_file: str, nodes: Sequence[str], gpus: int) -> str:
    """Say what is missing while Ray does not have exactly the expected nodes and GPUs."""
    try:
        client = HttpClient(dashboard, token=read_secret_file(token_file), timeout=10)
    except (OSError, ValueError) as error:
        return f"the cluster's token cannot be read: {error}"
    found = judge(read_cluster(client), list(nodes), gpus)
    return found.found if found else ""


class StartObstacle:
    """Asks spark-watchdog what keeps this start from going on; a watchdog that is away for long does not keep it.

    Args:
        url, token_file: of the watchdog on this node.
        start: what tells this start from others; each node makes itself ready for it once.
    """

    def __init__(self, url: str, token_file: str, start: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.url = url
        self.token_file = token_file
        self.start = start
        self.clock = clock
        self._silent_since: float | None = None

    def __call__(self) -> str:
        """Return the obstacle, or an empty text."""
        try:
            client = HttpClient(self.url, token=read_secret_file(self.token_file), timeout=5)
            answer = client.post_json("/start", {"start": self.start})
        except (OSError, ValueError, HttpError) as error:
            if self._silent_since is None:
                self._silent_since = self.clock()
            if self.clock() - self._silent_since < _WATCHDOG_S:
                return f"spark-watchdog does not answer ({error})"
            say("spark-watchdog does not answer: starting without it")
            return ""
        self._silent_since = None
        return str(answer.get("waits_for") or "")


def serving_obstacle(url: str, model: str, api_key_file: str) -> str:
    """Say what is missing while the server does not answer a completion: ``/health`` can be green while nothing is served."""
    try:
        client = HttpClient(url, token=read_secret_file(api_key_file), timeout=120)
        client.get("/health")
        answer = client.post_json(
            "/v1/completions", {"model": model, "prompt": PROMPT, "max_tokens": 1, "temperature": 0}
        )
    except (OSError, ValueError, HttpError) as error:
        return str(error)
    return "" if answer.get("choices") else "the server answers without a choice"


def process_obstacle(pid: str, proc: Path = Path("/proc")) -> str:
    """Say that a process is gone; systemd gives the unit's main process to what it runs after a start as $MAINPID."""
    return f"the server's process {pid} ended" if pid and not (proc / pid).exists() else ""


def serve_proof(
    ray: Callable[[], str],
    serving: Callable[[], str],
    timeout_s: float,
    *,
    process: Callable[[], str] = lambda: "",
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float:
    """Wait for the first completion and return the seconds it took.

    Raises:
        GateError: the server's process ended, the cluster under it lost a node for good, or the time is up.
    """
    start = clock()
    lost_since: float | None = None
    shown_at = start
    while True:
        obstacle = serving()
        if not obstacle:
            return clock() - start
        # systemd itself would wait for this proof although there is nothing left to prove.
        if ended := process():
            raise GateError(f"{ended} {clock() - start:.0f} s after the start: its reason is above")
        trouble = ray()
        if not trouble:
            lost_since = None
        elif lost_since is None:
            lost_since = clock()
        elif clock() - lost_since >= _LOST_S:
            raise GateError(
                f"the start is given up after {clock() - start:.0f} s, because the Ray cluster changed under it: {trouble}"
            )
        if clock() - start > timeout_s:
            raise GateError(
                f"no completion within {timeout_s:g} s ({obstacle}): raise vllm_serve_start_timeout if loading takes longer"
            )
        if clock() - shown_at >= _REMIND_S:
            say(f"starting for {clock() - start:.0f} s: {obstacle}")
            shown_at = clock()
        sleep(_POLL_S)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="spark-gate", description="Waits until something is there; see --help of each kind."
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    kind = kinds.add_parser("address", help="an interface has this address")
    kind.add_argument("address")
    kind = kinds.add_parser("port", help="a TCP port answers")
    kind.add_argument("address")
    kind.add_argument("port", type=int)
    kind = kinds.add_parser("weights", help="a snapshot is there and stamped as verified")
    kind.add_argument("snapshot", type=Path)
    kind = kinds.add_parser("mount", help="a folder of another node is mounted over NFS and answers")
    kind.add_argument("path")
    kind.add_argument("server", help="fabric address of that node")
    kind = kinds.add_parser("memory", help="this many GiB, or this part of the memory, are available")
    need = kind.add_mutually_exclusive_group(required=True)
    need.add_argument("gib", type=float, nargs="?")
    need.add_argument("--share", type=float, default=0.0, help="of MemTotal, between 0 and 1")
    kind = kinds.add_parser("start", help="every node is ready for this start: spark-watchdog says so")
    kind.add_argument("url", help="of spark-watchdog on this node")
    kind.add_argument("--token-file", default=TOKEN_FILE)
    for name, text in (
        ("ray", "Ray has exactly these nodes and GPUs"),
        ("serving", "the server answers a completion; fails when it cannot any more"),
    ):
        kind = kinds.add_parser(name, help=text)
        # Without nodes the server stands on no Ray cluster, and none is watched.
        kind.add_argument(
            "--node",
            action="append",
            required=name == "ray",
            default=[],
            dest="nodes",
            help="fabric address of a node; once for each",
        )
        kind.add_argument("--gpus", type=int, required=name == "ray", default=0)
        kind.add_argument("--dashboard", default=DASHBOARD)
        kind.add_argument("--token-file", default=TOKEN_FILE)
        if name == "serving":
            kind.add_argument("--url", required=True)
            kind.add_argument("--model", required=True)
            kind.add_argument("--timeout", type=float, required=True, help="seconds")
            kind.add_argument("--api-key-file", default=API_KEY_FILE)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one gate; the exit status is 0 when it opened and 1 when it never will."""
    options = _parser().parse_args(arguments)
    try:
        if options.kind == "address":
            wait_for(lambda: address_obstacle(options.address))
        elif options.kind == "port":
            wait_for(lambda: port_obstacle(options.address, options.port))
        elif options.kind == "weights":
            silent = f"the weights {options.snapshot} do not answer: the node that shares them may be gone"
            wait_for(Patient(lambda: weights_obstacle(options.snapshot), _WEIGHTS_S, silent))
        elif options.kind == "mount":
            wait_for(lambda: mount_obstacle(options.path, options.server), poll_s=_MOUNT_POLL_S)
        elif options.kind == "memory":
            wait_for(lambda: memory_obstacle(options.gib, share=options.share), poll_s=_MEMORY_POLL_S)
        elif options.kind == "start":
            start = os.environ.get("INVOCATION_ID") or f"{os.getpid()}"
            wait_for(StartObstacle(options.url, options.token_file, start))
        else:

            def ray() -> str:
                if not options.nodes:
                    return ""
                return ray_obstacle(options.dashboard, options.token_file, options.nodes, options.gpus)

            if options.kind == "ray":
                wait_for(ray)
            else:
                seconds = serve_proof(
                    ray,
                    lambda: serving_obstacle(options.url, options.model, options.api_key_file),
                    options.timeout,
                    process=lambda: process_obstacle(os.environ.get("MAINPID", "")),
                )
                say(f"serving {options.model}: first completion {seconds:.0f} s after the start")
    except GateError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
