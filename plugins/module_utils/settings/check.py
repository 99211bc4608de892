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

#: What a shipped inventory holds where the user has to write something.
PLACEHOLDER = "EDIT-ME"

#: Settings that several roles need; each role's defaults refer to them. Type names as in argument specs.
SHARED: dict[str, dict[str, Any]] = {
    "spark_model": {"type": "str", "required": True},
    "spark_serving_image": {"type": "str", "required": True},
    "spark_store_path": {"type": "path", "required": True},
    "spark_api_port": {"type": "int", "required": True},
    "spark_fabric_address": {"type": "str", "required": True},
    "spark_gpus_per_node": {"type": "int", "default": 1},
    "spark_api_key": {"type": "str", "no_log": True},
    "spark_ca_bundle": {"type": "path"},
    "spark_environment": {"type": "dict"},
    "spark_devices": {"type": "list", "elements": "str"},
}
#: Facts that the first play sets from the inventory; no user sets them.
DERIVED = ("spark_head_name", "spark_head_fabric_address", "spark_node_addresses", "spark_gpu_count")

#: Settings and flags that people bring along from older scripts, with what became of them.
GONE: dict[str, str] = {
    "swap_space": "vLLM removed --swap-space in 0.18.0 (before that its V1 engine ignored it): delete the setting; more context needs "
    "vllm_serve_gpu_memory_utilization or a shorter vllm_serve_max_model_len",
    "vllm_executor": "the setting is vllm_serve_executor: rename it",
    "vllm_cuda_graphs": "the setting is vllm_serve_cuda_graphs: rename it",
    "disable_log_requests": "vLLM removed --disable-log-requests; requests are not logged unless asked for: delete the setting",
}

#: What a value of each type is called, alone and in a list.
_KINDS: dict[str, tuple[str, str]] = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("true or false", "true or false"),
    "str": ("a text", "texts"),
    "path": ("a path", "paths"),
    "dict": ("a mapping", "mappings"),
    "list": ("a list", "lists"),
}
#: Part of the memory that vLLM may take, as the planner takes it too.
_UTILIZATION = (0.1, 0.98)
#: Groups that say nothing of how somebody named a cluster.
_GROUPS = frozenset({"all", "ungrouped", "sparks", "head", "workers", "spark_head", "spark_workers"})
#: Tags with a meaning of Ansible's own.
_TAGS = frozenset({"all", "always", "never", "tagged", "untagged"})
_WORD = re.compile(r"[A-Za-z0-9_]*")
_CLASS = re.compile(r"<class '(?:[\w.]*\.)?_?(?:AnsibleTagged)?(\w+)'>")


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
        "(playbooks report, status, diagnose and takeover take a part)"
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
        hosts: values of each host; those looked at are ``spark_devices`` and ``fabric_*``.
    """
    problems = []
    for host, values in sorted(hosts.items()):
        prefix = int(values.get("fabric_prefix", 24))
        explicit = {str(name): str(value) for name, value in (values.get("fabric_addresses") or {}).items()}
        if not 8 <= prefix <= 30:
            problems.append(
                f"fabric_prefix of {host} is {prefix}, expected 8 to 30: two nodes need two addresses in a subnet"
            )
            continue
        seen: dict[ipaddress.IPv4Network, str] = {}
        for name, value in explicit.items():
            try:
                network = ipaddress.IPv4Interface(value).network
            except ValueError:
                problems.append(
                    f"fabric_addresses of {host} gives {name} {value!r}, expected an IPv4 address with prefix like 192.168.100.10/24"
                )
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
    return problems


def kind_problem(option: Mapping[str, Any], value: Any, *, elements: bool = False) -> str:
    """Return what a value of the wrong type is and should be, to stand behind the setting's name.

    Args:
        option: the setting's argument spec; a secret's value is not shown.
        value: as it was given.
        elements: whether it is a list, but one of the wrong things.
    """
    alone, many = _KINDS.get(str(option.get("type") or "str"), ("another value", "others"))
    if elements:
        many = _KINDS.get(str(option.get("elements") or "str"), ("", "other values"))[1]
    wanted = f"a list of {many}" if elements else alone
    return f"{_shown(option, value)}, expected {wanted}: correct it where you set it"


def choice_problem(option: Mapping[str, Any], value: Any) -> str:
    """Return what a value that is none of the choices is, to stand behind the setting's name."""
    choices = [str(choice) for choice in option.get("choices") or []]
    return f"{_shown(option, value)}, expected one of {', '.join(choices)}: correct it where you set it"


def plain_words(text: str) -> str:
    """Return a sentence of ansible-core without the names of Python's classes."""
    return _CLASS.sub(lambda found: _KINDS.get(found[1].lower(), (found[1].lower(), ""))[0], text)


def _shown(option: Mapping[str, Any], value: Any) -> str:
    if option.get("no_log"):
        return "has a value that is not shown"
    return f"is {value!r}"


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


def range_problems(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and sentence of each setting of the server whose value cannot be, whatever the image.

    Which types of KV cache there are is the image's to say; here a type is a word.

    Args:
        values: of one host, each of its type already.
    """
    problems = []
    name, (least, most) = "vllm_serve_gpu_memory_utilization", _UTILIZATION
    if values.get(name) is not None and not least <= float(values[name]) <= most:
        problems.append(
            (
                name,
                f"is {values[name]}, expected {least} to {most}: it is a part of the memory, 0.75 for three quarters",
            )
        )
    name = "vllm_serve_kv_cache_dtype"
    if values.get(name) is not None and not _WORD.fullmatch(str(values[name])):
        problems.append((name, f"is {str(values[name])!r}, expected one word such as auto or fp8"))
    return problems


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
                f"serving_image_base {base!r} has neither tag nor digest, so that nobody could say which image runs: name one, for example "
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
    prefixes = tuple(f"{role}_" for role in (*roles, "spark"))
    domains = tuple({f"{role.split('_', maxsplit=1)[0]}_" for role in roles} | {"spark_"})
    problems = []
    for name in sorted(set(names)):
        if name in known_names or not name.startswith((*prefixes, *domains)):
            continue
        gone = next((text for key, text in GONE.items() if name.endswith(key)), "")
        near = difflib.get_close_matches(name, known_names, n=1, cutoff=0.85)
        if gone:
            problems.append(f"setting {name} is not supported: {gone}")
        elif name.startswith(prefixes):
            near = near or difflib.get_close_matches(name, known_names, n=1, cutoff=0.6)
            problems.append(
                f"setting {name} does not exist{f': did you mean {near[0]}?' if near else ': see docs/settings.md'}"
            )
        elif near:
            problems.append(f"setting {name} does not exist: did you mean {near[0]}?")
    return problems


def argument_problems(arguments: Sequence[str]) -> list[str]:
    """Return what is wrong with ``vllm_serve_extra_arguments``."""
    problems = []
    for argument in arguments:
        flag = argument.split("=", maxsplit=1)[0].lstrip("-").replace("-", "_")
        if flag in GONE:
            problems.append(f"vllm_serve_extra_arguments has {argument!r}: {GONE[flag]}")
        elif flag in {"api_key", "hf_token"}:
            problems.append(
                f"vllm_serve_extra_arguments has --{flag.replace('_', '-')}, which every process list would show: use spark_api_key"
            )
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
