# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The product's watchdog or follower on one of two hosts, run there: ``python -m benchmarks.gpu.guard watchdog|follower CONFIG``.

There is neither Docker nor systemd on such a host. What the program asks of them is answered by a stand-in: containers are control
groups, and units.py writes down what systemd would say. All else, its decisions first, is the product's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import DOCKER
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import follower, observer, watchdog
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service.pulse import PORT, PulseServer
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import read_json
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.http_json import read_secret_file
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.run import run

from benchmarks.gpu.containers import Containers


class Machine:
    """Answers for Docker and systemd; everything else is run as it is.

    Args:
        containers: of both hosts.
        work: where units.py writes what systemd would say.
    """

    def __init__(self, containers: Containers, work: Path) -> None:
        self.containers, self.work = containers, work

    def __call__(
        self,
        argv: Sequence[str],
        seconds: float | None = 30.0,
        /,
        *,
        data: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> tuple[int, str, str]:
        if argv[0] == DOCKER:
            return self.containers.docker(argv[1:])
        if argv[0] == "systemctl":
            return self.systemctl(argv[1:])
        if argv[0] == "journalctl":
            return self.journal(argv)
        return run(argv, seconds, data=data, environment=environment)

    def systemctl(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Answer ``show``, and note a ``stop`` for the unit to see."""
        unit = next(word for word in arguments if word.endswith(".service")).removesuffix(".service")
        if arguments[0] == "stop":
            (self.work / f"{unit}.stop").touch()
            return 0, "", ""
        state = read_json(self.work / f"{unit}.state")
        if arguments[0] != "show" or state is None:
            return 1, "", f"no unit {unit}"
        return 0, "".join(f"{name}={value}\n" for name, value in state.items()), ""

    def journal(self, argv: Sequence[str]) -> tuple[int, str, str]:
        """Answer for a unit's journal, with the start of each line where that is asked for."""
        named = [word.rpartition("=")[2] for word in argv if word.startswith("_SYSTEMD_UNIT=")]
        named += [after for word, after in itertools.pairwise(argv) if word == "--unit"]
        if not named:
            return 1, "", "the kernel's log is read with dmesg"
        unit = named[0].removesuffix(".service")
        try:
            text = (self.work / f"{unit}.journal").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return 0, "", ""
        lines = text.splitlines()
        count = int(argv[argv.index("--lines") + 1]) if "--lines" in argv else len(lines)
        if "json" not in argv:
            return 0, "\n".join(lines[-count:]) + "\n", ""
        start, rows = 0, []
        for line in lines:
            start += line.startswith(f"Starting {unit}")
            rows.append(json.dumps({"MESSAGE": line, "_SYSTEMD_INVOCATION_ID": str(start)}))
        return 0, "\n".join(rows[-count:]), ""


def watch(config: Mapping[str, Any], machine: Machine) -> None:
    """Be the watchdog until ended."""
    folder = Path(config["folder"])
    # Where the product has fixed paths on a node.
    watchdog.TOKEN_FILE = str(config["token_file"])
    watchdog.HOLDS = observer.HOLDS = str(folder / "holds")
    watchdog.TRIALS = str(folder / "trials")
    whole = watchdog.Watchdog(config, machine, folder=folder, state_file=Path(config["state_file"]))
    PulseServer((whole.address, PORT), read_secret_file(watchdog.TOKEN_FILE), whole.answer).start()
    while True:
        begun = time.monotonic()
        whole.round()
        time.sleep(max(0.1, watchdog.POLL_S - (time.monotonic() - begun)))


def follow(config: Mapping[str, Any], machine: Machine) -> None:
    """Be the follower until ended."""
    one = follower.Follower(
        str(config["address"]),
        (str(config["head"]), PORT),
        str(config["container"]),
        bool(config["ray"]),
        int(config["alive_port"]),
        float(config["leave_after_s"]),
        drop_cache=False,
        token_file=str(config["token_file"]),
        run=machine,
        evidence=Path(config["folder"]) / "evidence-follower",
    )
    while True:
        begun = time.monotonic()
        one.round()
        time.sleep(max(0.1, follower.POLL_S - (time.monotonic() - begun)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.guard", description="Watch or follow.")
    parser.add_argument("kind", choices=("watchdog", "follower"))
    parser.add_argument("config", type=Path)
    options = parser.parse_args(arguments)
    config = json.loads(options.config.read_text(encoding="utf-8"))
    machine = Machine(Containers(Path(config["cgroups"])), Path(config["work"]))
    (watch if options.kind == "watchdog" else follow)(config, machine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
