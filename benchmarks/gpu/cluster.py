# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray, watchdog and follower on two hosts, with the flags, the environment and the gates that a real pair gets."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.environment import network_environment
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.start import RayIntents, ray_start
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.pulse import PORT
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.units import (
    RAY_HEAD,
    RAY_WORKER,
    VLLM,
    VLLM_WORKER,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.environment import (
    CACHE_IN_CONTAINER,
    serving_environment,
)

from benchmarks.gpu import hosts
from benchmarks.gpu.containers import Containers
from benchmarks.gpu.server import StartError, gpu_memory
from benchmarks.gpu.units import GATES, Unit
from benchmarks.gpu.watch import Watch

ROOT = Path(__file__).resolve().parents[2]
PROBE = ROOT / "plugins" / "module_utils" / "fabric" / "nccl_probe.py"
RANK_WATCH = ROOT / "plugins" / "module_utils" / "service" / "rank_watch.py"
ROLE = ROOT / "roles" / "vllm_watchdog" / "defaults" / "main.yml"
RAY_PORT, DASHBOARD_PORT, RANK_WATCH_PORT = 6379, 8265, 29502
#: Bytes of Ray's object store, which vLLM hardly uses.
STORE = 1024**3


def role_default(name: str) -> Any:
    """Return a default of role vllm_watchdog."""
    return yaml.safe_load(ROLE.read_text(encoding="utf-8"))[f"vllm_watchdog_{name}"]


class Cluster:
    """What runs on a pair of hosts.

    Args:
        pair: the hosts.
        containers: theirs.
        ray, vllm, python: how Ray and vLLM are called, and a Python that has torch.
        work: folder for journals, caches and the token.
    """

    def __init__(
        self, pair: hosts.Pair, containers: Containers, ray: str, vllm: str, python: str, work: Path, port: int
    ) -> None:
        self.pair, self.containers, self.work, self.port = pair, containers, work, port
        self.ray, self.vllm, self.python = shlex.split(ray), shlex.split(vllm), shlex.split(python)
        self.token_file, self.key_file = work / "cluster_token", work / "api_key"
        for path in (self.token_file, self.key_file):
            path.write_text(secrets.token_hex(32), encoding="ascii")
            path.chmod(0o600)
        self.units: dict[str, Unit] = {}
        self._guards: list[subprocess.Popen[bytes]] = []
        #: Why Ray's nodes and GPUs could not be proven; the server then stands on a cluster that nobody has looked at.
        self.unproven = ""

    def environment(self, host: hosts.Host) -> dict[str, str]:
        """Return the environment of serving processes on a host: the containers' own, with folders of this machine."""
        whole = serving_environment(
            network_environment(host.address, hosts.FABRIC), {"RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        )
        cache = str(self.work / "cache")
        moved = {name: value.replace(CACHE_IN_CONTAINER, cache) for name, value in whole.items()}
        return {**moved, "CUDA_VISIBLE_DEVICES": str(host.gpu), "NO_COLOR": "1"}

    # --- Ray

    def ray_command(self, host: hosts.Host, cpus: int = 8) -> list[str]:
        """Return the command of Ray on a host, as its unit has it."""
        head = host is self.pair.first
        intents = RayIntents(
            host.address,
            1,
            cpus,
            STORE,
            port=RAY_PORT if head else None,
            dashboard_port=DASHBOARD_PORT if head else None,
            join=None if head else f"{self.pair.first.address}:{RAY_PORT}",
        )
        return [*self.ray, *ray_start(intents)[1:]]

    def nodes(self) -> list[str]:
        """Return the arguments that name the nodes and GPUs that Ray must have."""
        addresses = [host.address for host in (self.pair.first, self.pair.second)]
        return [
            *(part for address in addresses for part in ("--node", address)),
            *("--gpus", str(len(addresses)), "--token-file", str(self.token_file)),
        ]

    def up(self, seconds: float = 90.0) -> float:
        """Start Ray's units on both hosts and wait until the head has both; return the seconds that took."""
        begun = time.monotonic()
        head = self.pair.first.address
        self._unit(RAY_HEAD, self.pair.first, self.ray_command(self.pair.first), clear="/tmp/ray")
        gates = [["port", head, str(RAY_PORT)]]
        self._unit(RAY_WORKER, self.pair.second, self.ray_command(self.pair.second), gates=gates, clear="/tmp/ray")
        if trouble := self.gate(gates[0], seconds):
            raise StartError(f"Ray's head does not come up: {trouble}")
        self.unproven = self.gate(["ray", *self.nodes()], seconds)
        return time.monotonic() - begun

    def _unit(self, name: str, host: hosts.Host, command: Sequence[str], **options: Any) -> Unit:
        environment = {**self.environment(host), **options.pop("environment", {})}
        unit = Unit(name, host, self.containers, command, environment, self.work, **options)
        self.units[name] = unit
        unit.start()
        return unit

    # --- the server

    def serve(
        self,
        lines: Sequence[Sequence[str]],
        model: str,
        under_ray: bool,
        environment: Mapping[str, str],
        seconds: float,
    ) -> Unit:
        """Start the server's unit, and the one of the further ranks of executor mp; return the server's.

        Args:
            lines: the commands of the nodes, as this collection renders them.
            seconds: most seconds of a start.
        """
        ready = ["serving", "--url", f"http://127.0.0.1:{self.port}", "--model", model]
        ready += ["--timeout", f"{seconds:.0f}", "--api-key-file", str(self.key_file)]
        cluster = self.nodes() if under_ray and not self.unproven else []
        gates = [["ray", *cluster]] if cluster else []
        if self._guards:
            url = f"http://{self.pair.first.address}:{PORT}"
            gates = [["start", url, "--token-file", str(self.token_file)], *gates]
        where = [self.pair.first, self.pair.second]
        commands = [[*self.vllm, *line[1:]] for line in lines]
        if not under_ray:
            commands = [self._watched(host, command) for host, command in zip(where, commands, strict=False)]
        own = {"RAY_ADDRESS": f"{self.pair.first.address}:{RAY_PORT}"} if under_ray else {}
        unit = self._unit(
            VLLM,
            self.pair.first,
            commands[0],
            environment={**own, **environment},
            gates=gates,
            ready=[*ready, *cluster],
            look=gpu_memory,
        )
        for command in commands[1:]:
            self._unit(VLLM_WORKER, self.pair.second, command, environment=environment)
        return unit

    def _watched(self, host: hosts.Host, command: Sequence[str]) -> list[str]:
        """Return a command of executor mp behind its node's watch."""
        other = next(one for one in (self.pair.first, self.pair.second) if one is not host)
        return [
            *(sys.executable, str(RANK_WATCH), "--listen", f"{host.address}:{RANK_WATCH_PORT}"),
            *("--peer", f"{other.address}:{RANK_WATCH_PORT}", "--", *command),
        ]

    def end_server(self) -> None:
        """End the server's units for good."""
        for name in (VLLM, VLLM_WORKER):
            if unit := self.units.pop(name, None):
                unit.stop()

    def renew(self, seconds: float) -> bool:
        """End Ray and server on both hosts, whose units start again by themselves; say whether the server then serves."""
        self.pair.mend()
        for name in (VLLM, RAY_HEAD, RAY_WORKER):
            self.containers.kill(name)
        time.sleep(1.0)
        return self.units[VLLM].wait_active(seconds)

    # --- watchdog and follower

    def guard(self, model: str, intents: Mapping[str, Any], probe_every_s: float, attempt: str) -> Watch:
        """Start watchdog and follower anew, with nothing counted yet, and return what reads the watchdog's state.

        Args:
            probe_every_s: seconds between completions that the watchdog asks of an idle server.
            attempt: what tells this one's folder from others.
        """
        self.unguard()
        folder = self.work / f"watchdog-{attempt}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        state_file = self.work / "watchdog.state"
        common = {
            "cgroups": str(self.containers.root),
            "work": str(self.work),
            "token_file": str(self.token_file),
            "ray": True,
            "alive_port": RAY_PORT,
            "folder": str(folder),
        }
        head, far = self.pair.first, self.pair.second
        watchdog = {
            "address": head.address,
            "nodes": [head.address, far.address],
            "url": f"http://127.0.0.1:{self.port}",
            "model": model,
            "key_file": str(self.key_file),
            "dashboard": f"http://127.0.0.1:{DASHBOARD_PORT}",
            "hung_after_s": role_default("hung_after"),
            "probe_every_s": probe_every_s,
            "step_tokens": int(intents.get("max_num_batched_tokens") or 0),
            "context": int(intents.get("max_model_len") or 0),
            # GPUs of their own: what the host's memory holds is no concern of theirs.
            "drop_cache": False,
            "state_file": str(state_file),
        }
        follower = {
            "address": far.address,
            "head": head.address,
            "container": RAY_WORKER,
            "leave_after_s": role_default("leave_after"),
        }
        for kind, host, config in (("watchdog", head, watchdog), ("follower", far, follower)):
            path = self.work / f"{kind}.json"
            path.write_text(json.dumps({**common, **config}), encoding="utf-8")
            with (folder / f"{kind}.log").open("ab") as stream:
                self._guards.append(
                    subprocess.Popen(
                        host.enter([sys.executable, "-m", "benchmarks.gpu.guard", kind, str(path)]),
                        stdin=subprocess.DEVNULL,
                        stdout=stream,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        return Watch(state_file, folder)

    def unguard(self) -> None:
        """End watchdog and follower."""
        for child in self._guards:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        self._guards = []

    # --- proofs

    def gate(self, arguments: Sequence[str], seconds: float) -> str:
        """Run a gate of the product on the first host; return why it did not open, or an empty text."""
        child = subprocess.Popen(
            self.pair.first.enter([sys.executable, "-m", GATES, *arguments]),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _none = child.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            said, _none = child.communicate()
            return f"not open after {seconds:.0f} s: {_last(said)}"
        return "" if child.returncode == 0 else _last(said) or f"status {child.returncode}"

    def down(self) -> None:
        """End everything on the hosts."""
        self.unguard()
        for name in reversed(list(self.units)):
            self.units.pop(name).stop()
        for host in (self.pair.first, self.pair.second):
            hosts.end_all(host)
            hosts.wait_until_gone(host)

    def probe_network(self, mib: int = 32, rounds: int = 3, seconds: float = 60.0) -> dict[str, Any]:
        """Return what the product's own NCCL probe measures between the hosts; ``error`` says why it does not."""
        children = []
        for rank, host in enumerate((self.pair.first, self.pair.second)):
            arguments = ["--rank", str(rank), "--world", "2", "--master", self.pair.first.address]
            arguments += ["--mib", str(mib), "--rounds", str(rounds)]
            children.append(
                subprocess.Popen(
                    host.enter([*self.python, str(PROBE), *arguments]),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, **self.environment(host)},
                )
            )
        said = []
        for child in children:
            try:
                said.append(child.communicate(timeout=seconds)[0])
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                said.append(child.communicate()[0])
        return probe_result(said[0])


def probe_result(said: str) -> dict[str, Any]:
    """Return the result in the last line of the probe's output."""
    for line in reversed(said.splitlines()):
        if line.startswith("FABRIC-PROBE-RESULT "):
            found: dict[str, Any] = json.loads(line.partition(" ")[2])
            return found
    return {"error": f"the probe gave no result: {_last(said) or 'it wrote nothing'}"}


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
