# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Simulated Sparks: raise them, pull their plugs, cut their cables, take them away.

Everything is idempotent: what is as it should be is left alone, and every function says what it changed.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.models.containers
import docker.types

from simulation import host, images, keys, routes, settings
from simulation.host import Progress, Report
from simulation.options import SHUTDOWN_TIMEOUT, Container, Form, hub_container, node_container, volumes_of
from simulation.settings import FABRIC, LABEL, LABEL_SPECIFICATION, MANAGEMENT, NETWORKS, Network, Node, SimulationError

# Seconds for a fresh node until systemd says `running` (6 s were measured on two cores), and for ssh to answer.
BOOT_TIMEOUT = 180.0
SSH_TIMEOUT = 120.0
# States of a container that somebody may be using; nodes that are switched off keep a hub that runs.
ALIVE = ("running", "paused", "restarting")

# Sets the interface with the index given as first argument to the state given as second.
SET_FAR_END = """
name=$(ip -o link show | sed -n "s/^$1: \\([^:@]*\\).*/\\1/p")
ip link set dev "$name" "$2"
"""

# Writes the key given as first argument where sshd looks for it, if it is not there yet.
AUTHORIZE = """
f=/home/spark/.ssh/authorized_keys
[ "$(cat $f 2>/dev/null)" = "$1" ] && exit 0
install -d -m 0700 -o spark -g spark /home/spark/.ssh
printf '%s\\n' "$1" >$f && chown spark:spark $f && chmod 0600 $f
"""


@dataclass(frozen=True)
class Content:
    """What the nodes and the hub are made from."""

    image: str
    """Id of the node image."""
    folders: dict[str, Path] = field(default_factory=dict)
    """Mount point in the node -> folder of this machine."""
    model: Path | None = None
    """Folder of the model that the hub serves, or None for no hub."""


def prepare(progress: Progress, *, folders: bool = True, hub: bool = True) -> Content:
    """Build, or find built, what the nodes and the hub are made from.

    folders: with the serving image and the wheels, which `model` and the roles that serve need. hub: with the tiny model.
    Raises SimulationError with one sentence when something cannot be built.
    """
    try:
        image = images.node_image(progress).id
        mounted = {}
        if folders:
            images.serving_image(progress)
            mounted = {
                settings.NODE_IMAGES_FOLDER: images.images_folder(),
                settings.NODE_WHEELS_FOLDER: images.node_wheels(progress),
            }
        return Content(image, mounted, images.tiny_model(progress) if hub else None)
    except images.BuildError as error:
        raise SimulationError(str(error)) from error


@contextlib.contextmanager
def _docker_errors(what: str) -> Any:
    """Turn Docker's errors into one sentence."""
    try:
        yield
    except docker.errors.APIError as error:
        raise SimulationError(f"Docker could not {what}: {error.explanation or error}") from error


# --- raising -----------------------------------------------------------------------------------------------------------


def up(
    client: docker.DockerClient,
    progress: Progress,
    content: Content,
    *,
    nodes: Sequence[Node] = settings.NODES,
    owner: str = "demo",
) -> Report:
    """Make the networks, the hub (where the content has a model) and the nodes exist and run; wait until ssh answers.

    owner: who uses the simulation, such as `demo` or `molecule:site`; another owner's nodes are never touched.
    A node that was made from another image or with other options is recreated, with empty disks.
    Raises SimulationError with the reason where that is not possible.
    """
    claim(client, progress, owner)
    report = Report()
    keys.require_ssh(progress)
    _networks(client, progress, report)
    if content.model:
        _hub(client, progress, report, content.image, content.model)
    key = keys.public_key()
    fresh: list[Node] = []
    started: list[Node] = []
    for node in nodes:
        made, was_started = _node(client, progress, report, node, content)
        cables = [network for network in NETWORKS if _is_cut(node, network)]
        if cables:
            report.changes += heal(client, progress, [node], cables).changes
        fresh += [node] if made else []
        started += [node] if was_started else []
    for node in fresh:
        _wait_for_systemd(client, progress, node)
    found = {}
    for node in nodes:
        execute(client, node, ["sh", "-c", AUTHORIZE, "sh", key], "let the key in")
        _wait_until(
            lambda node=node: bool(_host_keys(client, node)),  # type: ignore[misc]
            SSH_TIMEOUT,
            f"{node.name} has no SSH host keys",
        )
        found[node.management_address] = _host_keys(client, node)
    keys.update_known_hosts(found)
    every = {node.name: node for node in (*settings.NODES, *existing_nodes(client), *nodes)}
    keys.write_ssh_config(every.values())
    for node in nodes:
        if node in started:
            progress(f"Waiting for {node.name} to answer by ssh")
        _wait_for_ssh(client, node)
    return report


def claim(client: docker.DockerClient, progress: Progress, owner: str) -> None:
    """Remember who uses the simulation. Raises SimulationError where somebody else does.

    Nodes of which none runs are in nobody's use: a machine that went down in the middle of a run leaves them, and they are taken away.
    """
    present = settings.state().get("owner")
    left = _ours(client) if present and present != owner else []
    if any(container.status in ALIVE for container in left):
        remedy = "make demo-down" if present == "demo" else "python -m simulation down"
        raise SimulationError(f"The simulated Sparks are in use by '{present}': take them away first (`{remedy}`).")
    if left:
        progress(f"Nodes that '{present}' left behind are here, and none of them runs: they are taken away")
        down(client, progress)
    settings.state_folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    if present != owner:
        settings.remember(owner=owner)


def _networks(client: docker.DockerClient, progress: Progress, report: Report) -> None:
    """Create what is missing of the two networks, after making sure that nothing else uses their addresses."""
    existing = client.networks.list()
    routes.refuse_conflicts(NETWORKS, routes.read_routes(), [network.attrs for network in existing])
    by_name = {network.name: network for network in existing}
    for network in NETWORKS:
        if present := by_name.get(network.name):
            _check_network(network, present.attrs)
            continue
        with _docker_errors(f"create the network {network.name} ({network.subnet})"):
            client.networks.create(
                network.name,
                driver="bridge",
                internal=network.internal,
                labels={LABEL: network.key},
                ipam=docker.types.IPAMConfig(
                    pool_configs=[docker.types.IPAMPool(subnet=network.subnet, gateway=network.gateway)]
                ),
                options={
                    "com.docker.network.bridge.name": network.bridge,
                    "com.docker.network.driver.mtu": str(network.mtu),
                },
            )
        progress(f"Created the {network.key} network {network.subnet}")
        report.changes.append(f"network {network.name}")


def _check_network(network: Network, attributes: dict[str, Any]) -> None:
    pools = [pool.get("Subnet") for pool in (attributes.get("IPAM") or {}).get("Config") or []]
    ours = LABEL in (attributes.get("Labels") or {})
    if not ours or pools != [network.subnet] or bool(attributes.get("Internal")) != network.internal:
        whose = "made by another version of this project" if ours else "not of this project"
        remedy = "make demo-down" if ours else f"docker network rm {network.name}"
        raise SimulationError(f"There is a Docker network '{network.name}' {whose}: remove it with `{remedy}`.")


def _node(
    client: docker.DockerClient, progress: Progress, report: Report, node: Node, content: Content
) -> tuple[bool, bool]:
    """Make one node exist and run. Returns whether it was made, and whether it was started."""
    version = _cgroup_version(client)
    remembered = settings.state().get("form")
    forms = [Form(remembered)] if remembered in {form.value for form in Form} else list(Form)
    present = _find(client, node.name)
    if present is not None:
        wanted = {node_container(node, content.image, form, version, content.folders).digest() for form in forms}
        if present.labels.get(LABEL_SPECIFICATION) in wanted and not _half_made(present):
            if present.status == "running":
                return False, False
            _check_port(node)
            with _docker_errors(f"start {node.name}"):
                present.start()
            progress(f"Started {node.name}")
            report.changes.append(f"{node.name} started")
            return False, True
        _refuse_foreign(present)
        progress(f"{node.name} was made from another image or with other options: recreating it with empty disks")
        _remove_node(client, present)
    _check_port(node)
    for form in forms:
        specification = node_container(node, content.image, form, version, content.folders)
        try:
            _create_node(client, node, specification)
        except docker.errors.APIError as error:
            if (broken := _find(client, node.name)) is not None:
                _remove_node(client, broken)
            if form is forms[-1]:
                raise SimulationError(f"Docker could not run {node.name}: {error.explanation or error}") from error
            continue
        if not remembered:
            progress(f"The nodes run as {form.words}")
            settings.remember(form=form.value)
        break
    progress(f"Created and started {node.name} ({node.management_address}, fabric {node.fabric_address})")
    report.changes.append(f"{node.name} created")
    return True, True


def _half_made(container: docker.models.containers.Container) -> bool:
    """Whether an interrupted run left a container that was never started."""
    return bool(container.status == "created")


def _create_node(client: docker.DockerClient, node: Node, specification: Container) -> None:
    for volume in volumes_of(node):
        client.volumes.create(volume, labels={LABEL: node.name})
    container = _create(client, specification)
    client.networks.get(FABRIC.name).connect(container, ipv4_address=node.fabric_address)
    container.start()


def _create(client: docker.DockerClient, specification: Container) -> docker.models.containers.Container:
    """Create a container from its specification, without starting it."""
    host_config = client.api.create_host_config()
    host_config.update(specification.host)
    endpoint = client.api.create_endpoint_config(
        ipv4_address=specification.address, aliases=list(specification.aliases) or None
    )
    made = client.api.create_container(
        specification.image,
        name=specification.name,
        hostname=specification.hostname,
        command=list(specification.command) or None,
        environment=dict(specification.environment),
        user=specification.user or None,
        ports=list(specification.exposed_ports) or None,
        stop_signal=specification.stop_signal,
        labels={LABEL: specification.kind, LABEL_SPECIFICATION: specification.digest()},
        host_config=host_config,
        networking_config=client.api.create_networking_config({specification.network: endpoint}),
    )
    return client.containers.get(made["Id"])


def _hub(client: docker.DockerClient, progress: Progress, report: Report, image: str, model: Path) -> None:
    """Make the local model hub run, and wait until it answers."""
    specification = hub_container(image, model, f"{os.getuid()}:{os.getgid()}")
    present = _find(client, specification.name)
    if present is not None and present.labels.get(LABEL_SPECIFICATION) != specification.digest():
        _refuse_foreign(present)
        present.remove(force=True)
        present = None
    if present is None or present.status != "running":
        with _docker_errors(f"run the model hub {specification.name}"):
            (present or _create(client, specification)).start()
        progress(f"Started the local model hub at http://{settings.HUB_ADDRESS}:{settings.HUB_PORT}")
        report.changes.append(f"{specification.name} started")

    def answers() -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://{settings.HUB_ADDRESS}:{settings.HUB_PORT}/__control", timeout=2
            ) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError, http.client.HTTPException):
            container = _find(client, specification.name)
            if container is None or container.status != "running":
                said = host.last_line(container.logs(tail=5).decode(errors="replace")) if container else "it is gone"
                raise SimulationError(f"The model hub {specification.name} ended at once: {said}") from None
            return False

    _wait_until(answers, 30, f"The model hub does not answer at http://{settings.HUB_ADDRESS}:{settings.HUB_PORT}")


def _check_port(node: Node) -> None:
    """Raises SimulationError where another program has the port that a node is published at."""
    if not node.published_port:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", node.published_port))
        except OSError:
            raise SimulationError(
                f"Port {node.published_port} of this machine is in use by another program (`ss -ltnp` names it), and the "
                "simulated endpoint is to be reached there: stop that program and try again."
            ) from None


# --- waiting -----------------------------------------------------------------------------------------------------------


def _wait_until(done: Callable[[], bool], timeout: float, failure: str) -> None:
    """Ask again and again. timeout: seconds. Raises SimulationError with the failure when it is over."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            raise SimulationError(f"{failure} (waited {timeout:.0f} s).")
        time.sleep(0.3)


def _wait_for_systemd(client: docker.DockerClient, progress: Progress, node: Node) -> None:
    """Wait until a fresh node has started all its services."""
    progress(f"Waiting for {node.name} to boot")

    def booted() -> bool:
        container = _container(client, node.name)
        if container.status != "running":
            raise SimulationError(f"{node.name} stopped while it booted; see `docker logs {node.name}`.")
        code, output = container.exec_run(["systemctl", "is-system-running"])
        said = output.decode(errors="replace").strip()
        if code != 0 and said == "degraded":
            _, failed = container.exec_run(["systemctl", "--failed", "--plain", "--no-legend"])
            units = ", ".join(line.split()[0] for line in failed.decode(errors="replace").splitlines() if line.strip())
            raise SimulationError(
                f"{node.name} booted, but these services failed: {units}; see `docker exec {node.name} journalctl -b`."
            )
        return said == "running"

    _wait_until(booted, BOOT_TIMEOUT, f"{node.name} did not finish booting")


def _wait_for_ssh(client: docker.DockerClient, node: Node) -> None:
    """Wait until the node lets the user in and sudo works; nothing else proves that Ansible will come in."""

    def entered() -> bool:
        _container(client, node.name)
        argv = keys.ssh_command(node, "sudo", "-n", "true")
        try:
            return subprocess.run(argv, capture_output=True, check=False, timeout=20).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    _wait_until(
        entered, SSH_TIMEOUT, f"{node.name} ({node.management_address}) does not answer by ssh as {settings.USER}"
    )


def _host_keys(client: docker.DockerClient, node: Node) -> list[str]:
    """A node's public host keys, read through Docker: a road that nobody else can stand in."""
    container = _container(client, node.name)
    code, output = container.exec_run(["sh", "-c", "cat /etc/ssh/ssh_host_*_key.pub"])
    return sorted(output.decode("ascii", errors="replace").splitlines()) if code == 0 else []


# --- power and cables --------------------------------------------------------------------------------------------------


def reboot(client: docker.DockerClient, progress: Progress, nodes: Sequence[Node], *, hard: bool = False) -> Report:
    """Restart nodes, all at the same time: all processes die, disks stay. Returns when ssh answers again.

    hard: the plug is pulled (SIGKILL for every process) instead of a clean shutdown.
    """
    unplug(client, progress, nodes, hard=hard)
    plug(client, progress, nodes)
    return Report([f"{node.name} rebooted" for node in nodes])


def unplug(client: docker.DockerClient, progress: Progress, nodes: Sequence[Node], *, hard: bool = False) -> Report:
    """Switch nodes off: a clean shutdown, or (hard) as if the plug were pulled."""
    report = Report()
    running = [found for node in nodes if (found := _container(client, node.name)).status == "running"]
    for node in {node.name for node in nodes} - {container.name for container in running}:
        progress(f"{node} is off already")
    if hard:
        for container in running:
            with _docker_errors(f"kill {container.name}"):
                container.kill()
    else:
        # All are told first, so that machines of a cluster go down side by side as their owner would switch them off.
        for container in running:
            with _docker_errors(f"shut {container.name} down"):
                container.kill(signal="SIGRTMIN+3")
    for container in running:
        with _docker_errors(f"stop {container.name}"):
            container.stop(timeout=SHUTDOWN_TIMEOUT)
        progress(f"{'Pulled the plug of' if hard else 'Shut down'} {container.name}")
        report.changes.append(f"{container.name} off")
    return report


def plug(client: docker.DockerClient, progress: Progress, nodes: Sequence[Node], *, wait: bool = True) -> Report:
    """Switch nodes on again, and wait until ssh answers (wait=False: do not)."""
    report = Report()
    for node in nodes:
        container = _container(client, node.name)
        if container.status == "running":
            progress(f"{node.name} is on already")
            continue
        _check_port(node)
        with _docker_errors(f"start {node.name}"):
            container.start()
        _pull_cut_cables(client, node)
        progress(f"Switched {node.name} on")
        report.changes.append(f"{node.name} on")
    for node in nodes:
        if wait and not _is_cut(node, MANAGEMENT):
            _wait_for_ssh(client, node)
    return report


def cut(client: docker.DockerClient, progress: Progress, nodes: Sequence[Node], networks: Iterable[Network]) -> Report:
    """Pull network cables: the node's interface loses its carrier, its address stays; so does a reboot leave it."""
    report = Report()
    for network in networks:
        for node in nodes:
            if _is_cut(node, network):
                progress(f"{node.name} is cut off from the {network.key} network already")
                continue
            _set_carrier(client, node, network, up=False)
            _remember_cuts([*_cuts(), _cable(node, network)])
            progress(f"Cut {node.name} off from the {network.key} network")
            report.changes.append(f"{node.name} cut off from {network.key}")
    return report


def heal(client: docker.DockerClient, progress: Progress, nodes: Sequence[Node], networks: Iterable[Network]) -> Report:
    """Put network cables back."""
    report = Report()
    for network in networks:
        for node in nodes:
            if not _is_cut(node, network):
                progress(f"{node.name} is on the {network.key} network already")
                continue
            _set_carrier(client, node, network, up=True)
            _remember_cuts([cable for cable in _cuts() if cable != _cable(node, network)])
            progress(f"Put {node.name} back on the {network.key} network ({node.address(network)})")
            report.changes.append(f"{node.name} back on {network.key}")
    return report


def _cable(node: Node, network: Network) -> str:
    return f"{node.name} {network.key}"


def _cuts() -> list[str]:
    """Cables that are pulled. Docker knows nothing of them and connects a node that starts, hence the note."""
    return list(settings.state().get("cut", []))


def _remember_cuts(cables: Iterable[str]) -> None:
    settings.remember(cut=sorted(set(cables)))


def _is_cut(node: Node, network: Network) -> bool:
    return _cable(node, network) in _cuts()


def _pull_cut_cables(client: docker.DockerClient, node: Node) -> None:
    """Pull the cables of a node that was just started and is to stay cut off."""
    for network in NETWORKS:
        if _is_cut(node, network):
            _set_carrier(client, node, network, up=False)


def _set_carrier(client: docker.DockerClient, node: Node, network: Network, *, up: bool) -> None:
    """Set the far end of a running node's link up or down, as a switch or the other machine would.

    The interface itself is left alone: `docker network disconnect` would take it away, and bring it back under another name.
    """
    container = _container(client, node.name)
    if container.status != "running":
        return
    text = execute(client, node, ["ip", "-json", "-4", "address", "show"], "list its addresses")
    index = far_end(text, node.address(network))
    argv = ["sh", "-c", SET_FAR_END, "sh", str(index), "up" if up else "down"]
    with _docker_errors(f"set the link of {node.name} on {network.name}"):
        client.containers.run(
            container.image.id,
            argv,
            network_mode="host",
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN"],
            remove=True,
            labels={LABEL: "helper"},
        )


def far_end(addresses: str, address: str) -> int:
    """Index, on the host, of the other end of the interface with an address.

    addresses: what `ip -json -4 address show` prints in the node. Raises SimulationError where no interface has it.
    """
    for interface in json.loads(addresses):
        if any(info.get("local") == address for info in interface.get("addr_info", [])) and "link_index" in interface:
            return int(interface["link_index"])
    raise SimulationError(
        f"No interface of the node has the address {address}: run `python -m simulation up` to repair it."
    )


# --- seeing ------------------------------------------------------------------------------------------------------------


def existing_nodes(client: docker.DockerClient) -> list[Node]:
    """The simulated nodes that exist, running or not, in order of their numbers."""
    names = [container.name for container in _ours(client) if container.labels.get(LABEL) == "node"]
    return sorted((settings.node(name) for name in names), key=lambda node: int(node.name.partition("-")[2]))


def status(client: docker.DockerClient) -> list[dict[str, Any]]:
    """What there is: for each node and the hub its name, power, boot state and addresses."""
    rows = []
    for container in sorted(_ours(client), key=lambda one: str(one.name)):
        row: dict[str, Any] = {
            "name": container.name,
            "kind": container.labels.get(LABEL),
            "power": "on" if container.status == "running" else "off",
            "system": None,
            "networks": {},
        }
        for network in NETWORKS:
            endpoint = container.attrs["NetworkSettings"]["Networks"].get(network.name) or {}
            configured = (endpoint.get("IPAMConfig") or {}).get("IPv4Address")
            cable_pulled = f"{container.name} {network.key}" in _cuts()
            row["networks"][network.key] = None if cable_pulled else configured
        if row["power"] == "on" and row["kind"] == "node":
            row["system"] = container.exec_run(["systemctl", "is-system-running"])[1].decode(errors="replace").strip()
        rows.append(row)
    return rows


# --- taking away -------------------------------------------------------------------------------------------------------


def down(client: docker.DockerClient, progress: Progress, *, cache: bool = False, owner: str | None = None) -> Report:
    """Remove nodes, hub, networks, disks, keys and state; with cache also images, wheels and the model.

    owner: leave everything alone where somebody else uses it. Files of the simulation that root made are removed by sudo.
    """
    report = Report()
    present = settings.state().get("owner")
    if owner and present and present != owner and _ours(client):
        progress(f"The simulated Sparks are in use by '{present}' and not by '{owner}': left alone")
        return report
    for container in _ours(client):
        with _docker_errors(f"remove {container.name}"):
            container.remove(force=True, v=True)
        progress(f"Removed {container.name}")
        report.changes.append(f"{container.name} removed")
    for volume in client.volumes.list(filters={"label": LABEL}):
        with _docker_errors(f"remove the volume {volume.name}"):
            volume.remove(force=True)
        report.changes.append(f"volume {volume.name} removed")
    for network in client.networks.list(filters={"label": LABEL}):
        with _docker_errors(f"remove the network {network.name}"):
            network.remove()
        progress(f"Removed the network {network.name}")
        report.changes.append(f"network {network.name} removed")
    if settings.state_folder().exists():
        shutil.rmtree(settings.state_folder())
        report.changes.append("state removed")
    if cache:
        for image in client.images.list(filters={"reference": "dgx-spark-sim/*"}):
            for tag in image.tags:
                with _docker_errors(f"remove the image {tag}"):
                    client.images.remove(tag, force=True)
                progress(f"Removed the image {tag}")
                report.changes.append(f"image {tag} removed")
        if settings.cache_folder().exists():
            argv = ["rm", "-rf", "--one-file-system", str(settings.cache_folder())]
            host.run_quietly(host.as_root(argv), f"{settings.cache_folder()} could not be removed")
            progress(f"Removed {settings.cache_folder()}")
            report.changes.append("cache removed")
    return report


# --- Docker, small -----------------------------------------------------------------------------------------------------


def _ours(client: docker.DockerClient) -> list[docker.models.containers.Container]:
    found = client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True)
    return list(found)


def _find(client: docker.DockerClient, name: str) -> docker.models.containers.Container | None:
    try:
        return client.containers.get(name)
    except docker.errors.NotFound:
        return None


def _container(client: docker.DockerClient, name: str) -> docker.models.containers.Container:
    """The container of that name. Raises SimulationError where there is none."""
    container = _find(client, name)
    if container is None:
        raise SimulationError(
            f"There is no simulated node '{name}': `make demo` or `python -m simulation up` makes it."
        )
    return container


def _refuse_foreign(container: docker.models.containers.Container) -> None:
    """Raises SimulationError for a container that has one of our names and is not ours."""
    if LABEL not in container.labels:
        raise SimulationError(
            f"There is a container '{container.name}' that is not of this project: rename or remove it (`docker rm -f "
            f"{container.name}`), the simulation needs that name."
        )


def _remove_node(client: docker.DockerClient, container: docker.models.containers.Container) -> None:
    _refuse_foreign(container)
    name = str(container.name)
    container.remove(force=True, v=True)
    for volume in volumes_of(settings.node(name)):
        with contextlib.suppress(docker.errors.NotFound):
            client.volumes.get(volume).remove(force=True)


def execute(client: docker.DockerClient, node: Node, argv: list[str], what: str) -> str:
    """Run a command in a node as root. Raises SimulationError when it fails. Returns its output."""
    code, output = _container(client, node.name).exec_run(argv)
    text = str(output.decode(errors="replace"))
    if code != 0:
        raise SimulationError(f"{node.name} could not {what}: {host.last_line(text)}")
    return text


def _cgroup_version(client: docker.DockerClient) -> int:
    """Version of control groups that the engine uses; engines that do not say are of the time of version 1."""
    return 2 if str(client.info().get("CgroupVersion", "1")) == "2" else 1
