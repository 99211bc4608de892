# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every setting is looked at before the first machine is: names, groups, addresses and how they fit together."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..docker.image_layer import mirrored, parse_reference
from ..model.against_flags import rank_problem
from ..model.shape import ModelShape, ShapeError, odd_keys
from .arguments import GONE, lifts_context
from .shared import RENAMED
from .values import AUTO_LENGTH

#: What a shipped inventory holds where the user has to write something.
PLACEHOLDER = "EDIT-ME"

#: Settings that people bring along from older scripts, with what became of them.
GONE_SETTINGS: dict[str, str] = {
    **GONE,
    "vllm_executor": "the setting is vllm_serve_executor: rename it",
    "vllm_verify_prompt": "the proof asks vllm_verify_questions now, each with a pattern that the answer must match",
    "node_preflight_head_ports": "ports come from the table in docs/ports.md: remove it",
    "node_preflight_gather_subset": "it had no effect: remove it",
    "vllm_cuda_graphs": "the setting is vllm_serve_cuda_graphs: rename it",
}

#: Groups that say nothing of how somebody named a cluster.
_GROUPS = frozenset({"all", "ungrouped", "sparks", "head", "workers", "spark_head", "spark_workers"})
#: Tags with a meaning of Ansible's own, and those that molecule skips in every run.
_TAGS = frozenset(
    {"all", "always", "never", "tagged", "untagged", "molecule-notest", "notest", "molecule-idempotence-notest"}
)


def cluster_groups(groups: Mapping[str, Sequence[str]]) -> tuple[str, str]:
    """Return the names of the groups of the head and of the workers: ``spark_head`` and ``spark_workers`` where the inventory has them."""
    head, workers = (
        ("spark_head" if "spark_head" in groups else "head"),
        ("spark_workers" if "spark_workers" in groups else "workers"),
    )
    return head, workers


def group_problems(groups: Mapping[str, Sequence[str]], inventory: Sequence[str] = ()) -> list[str]:
    """Return what is wrong with the inventory's groups ``sparks``, ``head`` and ``workers``.

    Members of ``head`` and ``workers`` that are not in ``sparks`` belong to something else and are passed over.

    Args:
        groups: names of hosts by group, those that Ansible makes itself (``all``, ``ungrouped``) included.
        inventory: where the inventory comes from, as Ansible was told, to name it.
    """
    sparks = list(groups.get("sparks") or [])
    if not sparks:
        return [_no_sparks(groups, ", ".join(inventory))]
    names = cluster_groups(groups)
    head, workers = ([host for host in groups.get(name) or [] if host in sparks] for name in names)
    problems = []
    if not head:
        others = ", ".join(groups.get(names[0]) or [])
        problems.append(
            f"group '{names[0]}' has 0 hosts of group 'sparks'{f' (only {others})' if others else ''}, expected exactly one: "
            f"put one of {', '.join(sparks)} into it"
        )
    elif len(head) > 1:
        # A group that is a child of two others brings all its hosts into both.
        shared = (
            ""
            if names[0] == "spark_head"
            else "; where another cluster has a group of this name, call yours 'spark_head'"
        )
        problems.append(
            f"group '{names[0]}' has {len(head)} hosts ({', '.join(head)}) of group 'sparks', expected exactly one: "
            f"move the others to group '{names[1]}'{shared}"
        )
    both = sorted(set(head) & set(workers))
    if both:
        problems.append(f"{', '.join(both)} is in group '{names[0]}' and in group '{names[1]}': keep it in one of them")
    loose = sorted(set(sparks) - set(head) - set(workers))
    if loose and head:
        problems.append(
            f"{', '.join(loose)} is in group 'sparks' but neither in '{names[0]}' nor in '{names[1]}': put it into group '{names[1]}'"
        )
    return problems


def stranger_problems(hosts: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a sentence where some hosts of ``sparks`` have no fabric address and others have: they may be another cluster's.

    Args:
        hosts: names of the variables of each host of ``sparks``.
        groups: names of hosts by group.
    """
    without = sorted(host for host, names in hosts.items() if "spark_fabric_address" not in names)
    workers = cluster_groups(groups)[1]
    if not without or len(without) == len(hosts) or workers == "spark_workers":
        return []
    return [
        f"spark_fabric_address of {', '.join(without)} is missing: add it to the inventory, or, where a group '{workers}' of another cluster "
        "brought the host into 'sparks', call your own groups 'spark_head' and 'spark_workers'"
    ]


def _no_sparks(groups: Mapping[str, Sequence[str]], inventory: str) -> str:
    """Return why there is nothing to work on: no inventory, or one without our group."""
    named = f"the inventory {inventory}" if inventory else "the inventory"
    example = "start from inventory/sparks/hosts.yml, which has it"
    if not any(groups.values()):
        return f"{named} has no hosts, so there is no group 'sparks': name yours with -i, or {example}"
    own = [name for name, hosts in groups.items() if hosts and name not in _GROUPS]
    near = difflib.get_close_matches("sparks", own, n=1, cutoff=0.7)
    if near:
        return f"{named} has no group 'sparks' with hosts: did you mean your group '{near[0]}'? Rename it to 'sparks'"
    there = f" (it has {', '.join(own)})" if own else ""
    return f"{named} has no group 'sparks' with hosts{there}: {example}"


def limit_problems(sparks: Iterable[str], chosen: Iterable[str], *, needs_all: bool) -> list[str]:
    """Return what is wrong with the hosts that ``--limit`` leaves.

    Args:
        sparks: hosts of group ``sparks``.
        chosen: hosts of this run.
        needs_all: whether the playbook works on the cluster as a whole.
    """
    names, left = list(sparks), set(chosen)
    out = [name for name in names if name not in left]
    if not out or (not needs_all and len(out) < len(names)):
        return []
    if len(out) == len(names):
        return [f"--limit leaves out every host of group 'sparks' ({', '.join(out)}): run it without --limit"]
    return [
        f"--limit leaves out {', '.join(out)}, and this playbook works on all nodes of the cluster together: run it without --limit "
        "(playbooks report, status, logs, diagnose and takeover take a part)"
    ]


def tag_problems(asked: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return a sentence for each tag that is asked for (or skipped) and that no task of the playbooks has.

    Args:
        asked: tags of ``--tags`` and ``--skip-tags``; those with a meaning of Ansible's own are passed over.
        known: tags of all plays and tasks, in their order.
    """
    names = [tag for tag in dict.fromkeys(known) if tag not in _TAGS]
    problems = []
    for tag in sorted(set(asked) - _TAGS - set(names)):
        near = difflib.get_close_matches(tag, names, n=1, cutoff=0.6)
        there = (
            f"The tags are {', '.join(names)}" if names else "This playbook has none, site.yml has one for each step"
        )
        problems.append(f"tag '{tag}' does not exist: {f'did you mean {near[0]}? ' if near else ''}{there}")
    return problems


#: Steps of site.yml whose results later steps read: left out by ``--skip-tags``, those would do something else in silence.
_READ_LATER = ("preflight", "fit", "fabric", "nodes", "weights")


def skip_problems(skipped: Iterable[str]) -> list[str]:
    """Return a sentence when ``--skip-tags`` leaves out a step that later ones rely on."""
    found = [tag for tag in _READ_LATER if tag in set(skipped)]
    if not found:
        return []
    return [
        f"--skip-tags has {', '.join(found)}, whose results later steps read: name the steps to run with --tags instead, as in "
        "--tags units,cluster,verify; what they need of the others is then read first"
    ]


def extra_vars_problems(variables: Mapping[str, Any]) -> list[str]:
    """Return one sentence when ``-e`` was given words that are no ``name=value``: Ansible keeps them under a name that nobody reads."""
    if "_raw_params" not in variables:
        return []
    return [
        "-e was given words that are neither name=value nor a whole JSON or YAML mapping, so they set nothing: write "
        """-e name=value, -e '{"name": [...]}' in single quotes, or -e @file.yml"""
    ]


def placeholder_problems(hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one sentence when the inventory is still the shipped example."""
    edit = sorted(
        {
            f"{name} of {host}"
            for host, values in hosts.items()
            for name, value in values.items()
            if isinstance(value, str) and PLACEHOLDER in value
        }
    )
    if not edit:
        return []
    return [
        f"the inventory is not edited yet ({', '.join(edit)} still says {PLACEHOLDER}): write your machines' addresses into "
        "inventory/sparks/hosts.yml, or run `make demo` to see everything work on two simulated Sparks"
    ]


def address_problems(addresses: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with ``spark_fabric_address`` of each host."""
    problems = []
    seen: dict[str, str] = {}
    for host, value in sorted(addresses.items()):
        try:
            address = str(ipaddress.IPv4Address(str(value)))
        except ValueError:
            problems.append(
                f"spark_fabric_address of {host} is {value!r}, expected the IPv4 address of its fabric port, for example 192.168.100.10"
            )
            continue
        if address in seen:
            problems.append(
                f"spark_fabric_address {address} is given to {seen[address]} and to {host}: each node needs its own"
            )
        seen[address] = host
    return problems


def link_problems(hosts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what does not fit in the settings of the QSFP link; what the machines have is looked at later.

    Args:
        hosts: values of each host; those looked at are ``spark_devices``, ``spark_fabric_address`` and ``fabric_*``.
    """
    problems = []
    networks: dict[str, ipaddress.IPv4Interface | None] = {}
    for host, values in sorted(hosts.items()):
        prefix = int(values.get("fabric_prefix", 24))
        explicit = {str(name): str(value) for name, value in (values.get("fabric_addresses") or {}).items()}
        if not 8 <= prefix <= 30:
            problems.append(
                f"fabric_prefix of {host} is {prefix}, expected 8 to 30: two nodes need two addresses in a subnet"
            )
            continue
        # Without fabric_manage the prefix is not ours, and routers may stand between.
        if str(values.get("fabric_manage", True)).lower() not in {"false", "no", "off", "0"}:
            networks[host] = _network_of(values.get("spark_fabric_address"), prefix, explicit.values())
        seen: dict[ipaddress.IPv4Network, str] = {}
        for name, value in explicit.items():
            try:
                if "/" not in value:
                    raise ValueError(value)
                network = ipaddress.IPv4Interface(value).network
            except ValueError:
                problems.append(
                    f"fabric_addresses of {host} gives {name} {value!r}, expected an IPv4 address with prefix like 192.168.100.10/24"
                )
                networks.pop(host, None)
                continue
            twin = next((other for taken, other in seen.items() if taken.overlaps(network)), "")
            if twin:
                problems.append(
                    f"fabric_addresses of {host} puts {twin} and {name} into one subnet ({network}), so that the kernel sends both ways over one of "
                    "them: give each twin a subnet of its own"
                )
            seen[network] = name
        names = [str(name) for name in values.get("fabric_interfaces") or []]
        if len(set(names)) != len(names):
            problems.append(
                f"fabric_interfaces of {host} names an interface twice ({', '.join(names)}): name each once"
            )
        if explicit and names and set(explicit) != set(names):
            problems.append(
                f"fabric_addresses of {host} names {', '.join(explicit)} and fabric_interfaces names {', '.join(names)}: name the same in both"
            )
        devices = values.get("spark_devices")
        if (
            values.get("fabric_rdma") in (True, "true", "yes")
            and devices is not None
            and "/dev/infiniband" not in devices
        ):
            problems.append(
                f"fabric_rdma of {host} is true, but spark_devices has no /dev/infiniband, without which a container sees no RDMA device: add it"
            )
    return problems + _network_problems({host: found for host, found in networks.items() if found})


def _network_of(address: Any, prefix: int, explicit: Iterable[str]) -> ipaddress.IPv4Interface | None:
    """Return a node's fabric address with the prefix that it will have; None where one of them is no address."""
    try:
        own = ipaddress.IPv4Address(str(address))
        stated = next((entry for entry in map(ipaddress.IPv4Interface, explicit) if entry.ip == own), None)
    except ValueError:
        return None
    return stated or ipaddress.IPv4Interface(f"{own}/{prefix}")


def _network_problems(interfaces: Mapping[str, ipaddress.IPv4Interface]) -> list[str]:
    problems = []
    for host, interface in interfaces.items():
        network = interface.network
        if interface.ip in (network.network_address, network.broadcast_address):
            kind = "network" if interface.ip == network.network_address else "broadcast"
            problems.append(
                f"spark_fabric_address of {host} is {interface.ip}, the {kind} address of {network}: give the node an address from "
                f"{network.network_address + 1} to {network.broadcast_address - 1}"
            )
    if len({interface.network for interface in interfaces.values()}) > 1:
        said = ", ".join(f"{host} {interface}" for host, interface in interfaces.items())
        problems.append(
            f"spark_fabric_address puts the nodes into different subnets ({said}): they are joined by one cable or switch, so give them addresses of "
            "one subnet, or correct fabric_prefix"
        )
    return problems


def joined_problems(found: Mapping[str, Iterable[tuple[str, str]]]) -> list[str]:
    """Return a sentence for each different problem with the names of all hosts that have it.

    Args:
        found: by host, the setting's name and what is said of it.
    """
    hosts: dict[tuple[str, str], list[str]] = {}
    for host, problems in found.items():
        for problem in problems:
            hosts.setdefault(problem, []).append(host)
    return [f"{name} of {', '.join(names)} {said}" for (name, said), names in hosts.items()]


def image_problems(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the names of the serving image, of its base and of the mirror, before a registry is asked."""
    image, base, mirror = (
        str(values.get(name) or "") for name in ("spark_serving_image", "serving_image_base", "serving_image_mirror")
    )
    # The base first: the image may be named after it.
    for name, text in (("serving_image_base", base), ("spark_serving_image", image)):
        try:
            reference = parse_reference(text) if text else None
        except ValueError as error:
            return [f"{name}: {error}"]
        if name == "serving_image_base" and reference and not (reference.tag or reference.digest):
            return [
                f"serving_image_base {base!r} has neither tag nor digest, so that it would not be known which image runs: name one, for example "
                f"{base}:26.10-py3"
            ]
    problems = []
    if base and base == image:
        problems.append(
            f"spark_serving_image and serving_image_base are both {base!r}: the image that is made of the base needs a name of its own"
        )
    try:
        mirrored(base or image, mirror)
    except ValueError as error:
        problems.append(f"serving_image_mirror: {error}")
    return problems


def name_problems(names: Iterable[str], known: Iterable[str], roles: Iterable[str]) -> list[str]:
    """Return a sentence for each name that looks like a setting of ours but is none.

    Args:
        names: variable names of the inventory and the command line.
        known: names of all settings, shared and of roles.
        roles: role names; whatever starts with ``<role>_`` or ``spark_`` must be known. A name of the same domain that is nearly
            a known one (``vllm_sevre_port``) is taken for a slip as well; other names are the user's own.
    """
    known_names = sorted(known)
    # An old name is no advice.
    current_names = [name for name in known_names if name not in RENAMED]
    prefixes = tuple(f"{role}_" for role in (*roles, "spark"))
    domains = tuple({f"{role.split('_', maxsplit=1)[0]}_" for role in roles} | {"spark_"})
    problems = []
    for name in sorted(set(names)):
        if name in known_names or not name.startswith((*prefixes, *domains)):
            continue
        gone = next((text for key, text in GONE_SETTINGS.items() if name.endswith(key)), "")
        near = [known for known in current_names if known.startswith(f"{name}_")][:1]
        near = near or difflib.get_close_matches(name, current_names, n=1, cutoff=0.85)
        if gone:
            problems.append(f"setting {name} is not supported: {gone}")
        elif name.startswith(prefixes):
            near = near or difflib.get_close_matches(name, current_names, n=1, cutoff=0.6)
            problems.append(
                f"setting {name} does not exist{f': did you mean {near[0]}?' if near else ': see docs/settings.md'}"
            )
        elif near:
            problems.append(f"setting {name} does not exist: did you mean {near[0]}?")
    return problems


def derived_problems(given: Mapping[str, Any], derived: Iterable[str], left: Iterable[str]) -> list[tuple[str, str]]:
    """Return name and sentence of each name that somebody set and that only the playbooks set.

    Args:
        given: variables of one host, before the playbooks set any.
        derived: names that are worked out of the inventory.
        left: names that roles leave for other roles.
    """
    return [
        *(
            (name, "is worked out of the inventory, expected not to be set: delete it")
            for name in derived
            if name in given
        ),
        *((name, "is a result of a role, expected not to be set: delete it") for name in left if name in given),
    ]


def together_problems(values: Mapping[str, Any]) -> list[str]:
    """Return what does not fit together among the settings of one host; defaults are among the values."""
    problems = []
    least, headroom = float(values["node_guard_min_available_gib"]), float(values["vllm_plan_min_headroom_gib"])
    if truthy(values["node_guard_earlyoom"]) and least >= headroom:
        problems.append(
            f"node_guard_min_available_gib is {least:g}, and the plan may leave a node as little as {headroom:g} GiB (vllm_plan_min_headroom_gib): "
            "earlyoom would end a server that works. Lower the first, or set node_guard_earlyoom: false"
        )
    if truthy(values["gateway_enabled"]) and values["gateway_tls"] == "files":
        problems += [
            f"gateway_tls is files, but {name} is empty: give the path of the file on this machine, or set gateway_tls to off"
            for name in ("gateway_tls_certificate", "gateway_tls_key")
            if not values[name]
        ]
    return problems


def truthy(value: Any) -> bool:
    """Return what roles make of a value with ``| bool``."""
    return str(value).strip().lower() in ("true", "yes", "on", "1", "y", "t")


def model_problems(
    model: Mapping[str, Any],
    *,
    max_model_len: int | str | None,
    arguments: Sequence[str],
    ranks: tuple[int, int],
    gpus: int,
) -> list[str]:
    """Return what the model, as its file in models/ describes it, cannot be asked for.

    Args:
        model: content of the model's file; without ``config`` nothing is said, the model's own files are looked at later.
        max_model_len: tokens of one request as set by the user, auto for what the memory holds, or None for what the model's file says.
        arguments: further arguments of the server.
        ranks: tensor parallel and pipeline parallel size.
        gpus: GPUs of all nodes.
    """
    config = model.get("config")
    if not config:
        return []
    problems = []
    wanted = 0 if max_model_len == AUTO_LENGTH else int(max_model_len or model.get("max_model_len") or 0)
    try:
        with odd_keys():
            known = 0 if lifts_context(arguments) else ModelShape.from_config(config).max_position
    except ShapeError:
        known = 0
    if known and wanted > known:
        problems.append(
            f"vllm_serve_max_model_len is {wanted}, but the model knows {known} positions: set it to {known} or less, or extend the positions with "
            "--hf-overrides in vllm_serve_extra_arguments (docs/planning.md)"
        )
    if said := rank_problem(config, *ranks, gpus):
        problems.append(re.sub(r"\b(tensor|pipeline)_parallel_size\b", r"vllm_serve_\1_parallel_size", said))
    return problems


def relation_problems(
    *,
    nodes: int,
    gpus_per_node: int,
    tensor_parallel_size: int | None,
    pipeline_parallel_size: int = 1,
) -> list[str]:
    """Return what does not fit together.

    Args:
        nodes: number of nodes.
        gpus_per_node: GPUs that each node gives to Ray.
        tensor_parallel_size: as set by the user, or None for one rank on each GPU.
        pipeline_parallel_size: groups of ranks with layers of their own.
    """
    problems = []
    gpus = nodes * gpus_per_node
    if tensor_parallel_size is not None and tensor_parallel_size > gpus:
        problems.append(
            f"vllm_serve_tensor_parallel_size is {tensor_parallel_size}, but {nodes} node{'s' if nodes > 1 else ''} with {gpus_per_node} GPU each "
            f"give {gpus}: set it to {gpus} or add nodes to group 'workers'"
        )
    elif gpus % pipeline_parallel_size:
        problems.append(
            f"vllm_serve_pipeline_parallel_size is {pipeline_parallel_size}, which does not divide the {gpus} GPUs of {nodes} nodes: "
            "set it to 1, or to a number that does"
        )
    elif tensor_parallel_size is not None and (tensor_parallel_size * pipeline_parallel_size) % nodes:
        problems.append(
            f"vllm_serve_tensor_parallel_size {tensor_parallel_size} x vllm_serve_pipeline_parallel_size {pipeline_parallel_size} does not "
            f"spread evenly over {nodes} nodes: let their product be a multiple of {nodes}"
        )
    return problems
