# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Makes sure that a Docker engine runs on this machine: uses one that runs, else installs and starts Debian's or Ubuntu's."""

from __future__ import annotations

import contextlib
import enum
import grp
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import docker
import docker.errors
import requests.exceptions

from simulation import host, settings
from simulation.host import Progress
from simulation.settings import SimulationError

SOCKET = Path("/var/run/docker.sock")
# Where dockerd writes its process id unless told otherwise.
PID_FILE = Path("/var/run/docker.pid")
CONTAINERD_PID_FILE = Path("/var/run/docker/containerd/containerd.pid")
# Seconds until a freshly started engine has to answer; 3 to 8 s were seen on two cores.
START_TIMEOUT = 90.0
# Seconds that a request to the engine may take; creating a container on a busy machine takes several.
REQUEST_TIMEOUT = 180
# Set in the second life of this process, so that a group that does not help is not tried for ever.
REGROUPED = "DGX_SPARK_SIMULATION_REGROUPED"
# Variables that the second life of this process keeps; sudo drops the rest.
KEPT_PREFIXES = ("DGX_SPARK_", "PIP_", "ANSIBLE_", "MOLECULE_", "LC_")
KEPT_NAMES = (
    *("HOME", "PATH", "LANG", "TERM", "COLUMNS", "XDG_CACHE_HOME", "DOCKER_HOST", "PYTHONPATH", "VIRTUAL_ENV"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
)


class Answer(enum.Enum):
    """What came of asking the engine."""

    YES = "answers"
    FORBIDDEN = "forbidden"
    NO = "silent"


class Step(enum.Enum):
    """One thing to do before there is an engine to use."""

    INSTALL = "install"
    INSTALL_CLIENT = "install the client"
    START_UNIT = "start the unit"
    START_BY_HAND = "start by hand"
    USE_GROUP = "use the socket's group"


@dataclass(frozen=True)
class Machine:
    """What decides how an engine is come by."""

    answer: Answer
    docker_host: str | None = None
    """Value of DOCKER_HOST, or None."""
    installed: bool = True
    """Whether there is a dockerd."""
    client: bool = True
    """Whether there is a `docker` command."""
    apt: bool = True
    root: bool = True
    """Whether commands can be run as root."""
    systemd: bool = True
    """Whether systemd is PID 1."""
    socket_group: str | None = None
    """Group that may use the socket and that sudo can give to this process, or None."""


def decide(machine: Machine) -> list[Step]:
    """What to do, in order, until an engine answers; empty where one does.

    Raises SimulationError with one sentence where the user has to act first.
    """
    if machine.answer is Answer.YES:
        return [] if machine.client else [Step.INSTALL_CLIENT]
    if machine.answer is Answer.FORBIDDEN:
        if machine.socket_group and machine.root:
            return [Step.USE_GROUP]
        raise SimulationError(
            f"The Docker engine runs, but this user may not use it: run `sudo usermod -aG docker $USER`, log out and in "
            f"again, and repeat the command ({machine.docker_host or SOCKET})."
        )
    if machine.docker_host:
        raise SimulationError(
            f"DOCKER_HOST is '{machine.docker_host}' and no Docker engine answers there: start that one, or unset DOCKER_HOST."
        )
    steps: list[Step] = []
    if not machine.installed:
        if not machine.apt:
            raise SimulationError(
                "There is no Docker engine on this machine, and it is not a Debian or Ubuntu to install one on: "
                "install Docker Engine (docs.docker.com/engine/install), start it, and repeat the command."
            )
        steps.append(Step.INSTALL)
    if not machine.root:
        what = "started" if machine.installed else "installed and started"
        remedy = "sudo systemctl start docker" if machine.installed else "sudo apt-get install docker.io"
        raise SimulationError(
            f"A Docker engine has to be {what}, and this user may not become root: run `{remedy}`, and repeat the command."
        )
    steps.append(Step.START_UNIT if machine.systemd else Step.START_BY_HAND)
    return steps


def ask() -> Answer:
    """Ask the engine whether it is there."""
    try:
        client = docker.from_env(timeout=10)
    except docker.errors.DockerException as error:
        forbidden = any(isinstance(cause, PermissionError) for cause in _causes(error))
        return Answer.FORBIDDEN if forbidden else Answer.NO
    try:
        client.ping()
    except (docker.errors.DockerException, requests.exceptions.RequestException):
        return Answer.NO
    finally:
        client.close()
    return Answer.YES


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and everything wrapped in it: causes, contexts, and arguments that are exceptions."""
    found: list[BaseException] = []
    waiting: list[BaseException] = [error]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.append(one)
        inner = [one.__cause__, one.__context__, *one.args]
        waiting.extend(item for item in inner if isinstance(item, BaseException))
    return found


def look() -> Machine:
    """Look at this machine."""
    return Machine(
        answer=ask(),
        docker_host=os.environ.get("DOCKER_HOST") or None,
        installed=shutil.which("dockerd", path=_system_path()) is not None,
        client=shutil.which("docker", path=_system_path()) is not None,
        apt=shutil.which("apt-get") is not None,
        root=host.may_become_root(),
        systemd=Path("/run/systemd/system").is_dir(),
        socket_group=_socket_group(),
    )


def _system_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def _socket_group() -> str | None:
    """The socket's group where becoming a member of it for one command is possible and was not tried before."""
    if os.environ.get(REGROUPED) or os.geteuid() == 0 or not shutil.which("sudo"):
        return None
    try:
        status = SOCKET.stat()
        return grp.getgrgid(status.st_gid).gr_name if status.st_mode & 0o060 == 0o060 and status.st_gid else None
    except (OSError, KeyError):
        return None


def ensure(progress: Progress) -> docker.DockerClient:
    """A client of an engine that runs; installs and starts one first where there is none.

    May replace this process by itself with the socket's group (`sudo -g docker`), where the user is not in that group.
    Raises SimulationError with one sentence where the user has to act first.
    """
    for step in decide(look()):
        if step is Step.USE_GROUP:
            progress("This user is not in the group 'docker': going on with that group by sudo")
            _go_on_with_group(_socket_group() or "docker")
        elif step is Step.INSTALL:
            host.install_packages(["docker.io"], "the simulation", progress)
            if not shutil.which("docker"):
                # Debian 13 has the command in a package of its own.
                host.install_packages(["docker-cli"], "the simulation", progress)
        elif step is Step.INSTALL_CLIENT:
            host.install_packages(["docker-cli"], "the simulation", progress)
        elif ask() is not Answer.NO:
            # Installing the package has started it.
            continue
        elif step is Step.START_UNIT:
            progress("Starting the Docker engine (docker.service)")
            failure = "docker.service could not be started; see `journalctl -u docker`"
            host.run_logged(host.as_root(["systemctl", "start", "docker.service"]), "engine", failure)
        else:
            _start_by_hand(progress)
    _wait(progress)
    client = docker.from_env(timeout=REQUEST_TIMEOUT)
    _refuse_unsuitable(client)
    return client


def _go_on_with_group(group: str) -> NoReturn:
    """Run the same command line again in the given group, in place of this process."""
    kept = [
        f"{name}={value}" for name, value in os.environ.items() if name in KEPT_NAMES or name.startswith(KEPT_PREFIXES)
    ]
    again = [sys.executable, *sys.orig_argv[1:]]
    sys.stdout.flush()
    argv = ["sudo", "-g", group, "--", "env", *kept, f"{REGROUPED}=1", *again]
    os.execvp(argv[0], argv)


def _log() -> Path:
    return settings.cache_folder() / "dockerd.log"


def _note() -> Path:
    """Says that the running engine was started by hand; outlives `down`, as the engine does."""
    return settings.cache_folder() / "engine.json"


def is_stale(file: Path, name: str, proc: Path = Path("/proc")) -> bool:
    """Whether a pid file is left over from a process that was killed: dockerd refuses to start while another one has its number."""
    try:
        return (proc / file.read_text(encoding="ascii").strip() / "comm").read_text(encoding="ascii").strip() != name
    except OSError:
        return file.exists()


def _start_by_hand(progress: Progress) -> None:
    """Start dockerd in the background, for machines without systemd."""
    progress(f"Starting the Docker engine by hand, because systemd does not run here (log: {_log()})")
    _log().parent.mkdir(parents=True, exist_ok=True)
    for file, name in ((PID_FILE, "dockerd"), (CONTAINERD_PID_FILE, "containerd")):
        if is_stale(file, name):
            subprocess.run(host.as_root(["rm", "--force", str(file)]), check=False)
    argv = host.as_root(["env", f"PATH={_system_path()}", "dockerd"])
    if argv[0] == "sudo":
        # The password is asked for while the terminal is still ours.
        subprocess.run(["sudo", "-v"], check=False)
    with _log().open("ab") as log:
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    settings.write_json(_note(), {"started_by_hand": True})


def _wait(progress: Progress) -> None:
    """Wait until the engine answers this user.

    Raises SimulationError when it does not in time.
    """
    started = time.monotonic()
    told = False
    while (answer := ask()) is Answer.NO:
        if time.monotonic() - started > START_TIMEOUT:
            reason = (
                host.last_line(_log().read_text(errors="replace")) if _log().exists() else "see `journalctl -u docker`"
            )
            raise SimulationError(f"The Docker engine did not answer within {START_TIMEOUT:.0f} s: {reason}")
        if not told:
            progress("Waiting for the Docker engine to answer")
            told = True
        time.sleep(0.5)
    if answer is Answer.FORBIDDEN:
        if group := _socket_group():
            _go_on_with_group(group)
        decide(look())


def _refuse_unsuitable(client: docker.DockerClient) -> None:
    """Raises SimulationError for engines whose containers this machine cannot reach by their addresses."""
    info = client.info()
    kind = None
    if any("name=rootless" in option for option in info.get("SecurityOptions") or []):
        kind = "rootless"
    elif "Docker Desktop" in str(info.get("OperatingSystem")):
        kind = "Docker Desktop"
    if kind:
        raise SimulationError(
            f"The Docker engine here is {kind}, whose containers cannot be reached by their own addresses, which the simulated "
            "Sparks need: use an ordinary Docker Engine on Linux (DOCKER_HOST=unix:///var/run/docker.sock picks it)."
        )


def stop_if_ours(progress: Progress) -> None:
    """Stop an engine that was started by hand here, unless it still runs containers."""
    if not settings.read_json(_note()).get("started_by_hand") or ask() is not Answer.YES:
        return
    client = docker.from_env(timeout=REQUEST_TIMEOUT)
    if client.containers.list():
        progress("The Docker engine goes on running, because it runs other containers")
        return
    with contextlib.suppress(OSError, ValueError):
        pid = int(PID_FILE.read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd":
            subprocess.run(host.as_root(["kill", str(pid)]), check=False)
            deadline = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
                time.sleep(0.2)
            _note().unlink()
            progress("Stopped the Docker engine that was started for the simulation")
