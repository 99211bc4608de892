# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Checks every setting on the controller, before the first machine is touched; documented in plugins/modules/settings_check.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import ArgumentTypeError, ArgumentValueError, ElementError
from ansible.playbook import Playbook
from ansible.plugins.action import ActionBase
from ansible.vars.manager import VariableManager

from ..module_utils.model.catalog import ModelDataError, check_model, find_model, node_problem
from ..module_utils.service.listeners import port_problems, settings_asked
from ..module_utils.settings.check import (
    DERIVED,
    SHARED,
    address_problems,
    argument_problems,
    choice_problem,
    cluster_groups,
    group_problems,
    image_problems,
    joined_problems,
    kind_problem,
    limit_problems,
    link_problems,
    name_problems,
    placeholder_problems,
    plain_words,
    range_problems,
    relation_problems,
    stranger_problems,
    tag_problems,
)

_COLLECTION = Path(__file__).resolve().parents[2]
#: Connection variables in which the shipped inventory may still hold its placeholder.
_CONNECTION = ("ansible_host", "ansible_user")
#: Settings of the link that must fit together.
_LINK = (
    "spark_fabric_address",
    "spark_devices",
    "fabric_prefix",
    "fabric_interfaces",
    "fabric_addresses",
    "fabric_rdma",
)
#: What roles leave for other roles and later plays: facts and results.
FACTS = (
    "container_runtime_proof",
    "container_runtime_result",
    "fabric_facts",
    "fabric_proof",
    "fabric_result",
    "model_download_hub",
    "model_download_path",
    "model_download_result",
    "node_report_requirements",
    "node_report_found",
    "node_report_result",
    "runtime_check_result",
    "serving_image_result",
    "vllm_graphs_mode",
    "vllm_graphs_result",
    "vllm_plan_result",
    "vllm_serve_result",
)
#: Settings whose range is looked at.
_RANGED = ("vllm_serve_gpu_memory_utilization", "vllm_serve_kv_cache_dtype")


def _asked(values: Any) -> dict[str, Any]:
    return {name: values[name] for name in settings_asked() if name in values}


def _ranged(values: Any) -> dict[str, Any]:
    return {name: values[name] for name in _RANGED if name in values}


def role_options() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the options of every role of this collection, by role name, from its argument specs."""
    found = {}
    for path in sorted((_COLLECTION / "roles").glob("*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        found[path.parts[-3]] = {
            name: option for spec in specs.values() for name, option in (spec.get("options") or {}).items()
        }
    return found


def validator_spec(option: dict[str, Any]) -> dict[str, Any]:
    """Return an option of a role's argument spec as the module validator wants it: without prose, and not required."""
    kept = {key: value for key, value in option.items() if key in {"type", "elements", "choices", "no_log"}}
    if "options" in option:
        kept["options"] = {
            name: {**validator_spec(inner), **({"required": True} if inner.get("required") else {})}
            for name, inner in option["options"].items()
        }
    return kept


def playbook_tags(paths: list[str], loader: Any) -> list[str] | None:
    """Return the tags of all plays and tasks of playbooks, as ``--list-tags`` shows them; None where they cannot be found out.

    Args:
        paths: as on the command line, by path or (of this collection) by full name.
        loader: Ansible's loader of files.
    """
    found: dict[str, None] = {}
    for name in paths:
        path = Path(name)
        if not path.is_file():
            path = _COLLECTION / "playbooks" / f"{name.removeprefix('dgx_spark.vllm.')}.yml"
        if not path.is_file():
            return None
        for play in Playbook.load(
            str(path), variable_manager=VariableManager(loader=loader), loader=loader
        ).get_plays():
            found |= dict.fromkeys([*play.tags, *(tag for block in play.compile() for tag in _block_tags(block))])
    return list(found)


def _block_tags(block: Any) -> Iterator[str]:
    for entry in (*block.block, *block.rescue, *block.always):
        yield from _block_tags(entry) if hasattr(entry, "rescue") else entry.tags


class ActionModule(ActionBase):
    """Runs without a connection."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        del tmp
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={"needs": {"type": "str", "choices": ["all", "any"], "default": "all"}}
        )
        problems = (
            self._tag_problems(variables)
            or group_problems(variables["groups"], variables.get("ansible_inventory_sources") or [])
            or limit_problems(
                variables["groups"]["sparks"],
                variables["ansible_play_hosts_all"],
                needs_all=arguments["needs"] == "all",
            )
            or self._problems(variables)
        )
        if problems:
            result.update(failed=True, problems=problems, msg=". ".join(problems))
            return result
        hostvars, groups = variables["hostvars"], variables["groups"]
        (head,) = set(groups["sparks"]) & set(groups[cluster_groups(groups)[0]])
        nodes = [head, *sorted(set(groups["sparks"]) - {head})]
        result.update(
            changed=False,
            head_name=head,
            head_fabric_address=str(hostvars[head]["spark_fabric_address"]),
            node_addresses=[str(hostvars[node]["spark_fabric_address"]) for node in nodes],
            gpu_count=sum(
                int(hostvars[node].get("spark_gpus_per_node", SHARED["spark_gpus_per_node"]["default"]))
                for node in nodes
            ),
            msg=f"the settings of {len(nodes)} node{'s' if len(nodes) > 1 else ''} are sound",
        )
        return result

    def _tag_problems(self, variables: dict[str, Any]) -> list[str]:
        asked = {*(variables.get("ansible_run_tags") or ["all"]), *(variables.get("ansible_skip_tags") or [])}
        # The playbooks are read once more, so only where a tag was given.
        if asked == {"all"}:
            return []
        known = playbook_tags(list(context.CLIARGS.get("args") or []), self._loader)
        return [] if known is None else tag_problems(asked, known)

    def _problems(self, variables: dict[str, Any]) -> list[str]:
        hostvars, hosts = variables["hostvars"], sorted(variables["groups"]["sparks"])
        connection = {
            host: {
                name: hostvars[host][name] for name in (*_CONNECTION, "spark_fabric_address") if name in hostvars[host]
            }
            for host in hosts
        }
        problems = placeholder_problems(connection)
        problems = problems or stranger_problems({host: hostvars[host] for host in hosts}, variables["groups"])
        if problems:
            return problems
        roles = role_options()
        options = {**SHARED, **{name: option for spec in roles.values() for name, option in spec.items()}}
        known = {*options, *DERIVED, *FACTS}
        for host in hosts:
            found = name_problems(hostvars[host], known, roles)
            problems += [text for text in found if text not in problems]
        problems += joined_problems({host: self._host_problems(options, hostvars[host]) for host in hosts})
        if not problems:
            problems = joined_problems({host: range_problems(_ranged(hostvars[host])) for host in hosts})
        if problems:
            return problems
        problems = address_problems({host: hostvars[host]["spark_fabric_address"] for host in hosts})
        first = hostvars[hosts[0]]
        try:
            folders = [
                *([Path(first["inventory_dir"]) / "models"] if first.get("inventory_dir") else []),
                _COLLECTION / "models",
            ]
            path = find_model(str(first["spark_model"]), folders)
            model = check_model(yaml.safe_load(path.read_text(encoding="utf-8")), path)
            if problem := node_problem(str(first["spark_model"]), model, len(hosts)):
                problems.append(problem)
        except (ModelDataError, yaml.YAMLError) as error:
            problems.append(str(error))
        if not problems:
            problems = link_problems(
                {host: {name: hostvars[host][name] for name in _LINK if name in hostvars[host]} for host in hosts}
            )
        problems += list(dict.fromkeys(text for host in hosts for text in image_problems(hostvars[host])))
        size = first.get("vllm_serve_tensor_parallel_size")
        problems += argument_problems([str(argument) for argument in first.get("vllm_serve_extra_arguments") or []])
        problems += relation_problems(
            nodes=len(hosts),
            gpus_per_node=int(first.get("spark_gpus_per_node", SHARED["spark_gpus_per_node"]["default"])),
            tensor_parallel_size=int(size) if size is not None else None,
            pipeline_parallel_size=int(first.get("vllm_serve_pipeline_parallel_size") or 1),
        )
        head = set(variables["groups"][cluster_groups(variables["groups"])[0]])
        problems += port_problems(("head" if host in head else "worker", _asked(hostvars[host])) for host in hosts)
        return problems

    def _host_problems(self, options: dict[str, dict[str, Any]], values: Any) -> list[tuple[str, str]]:
        """Return name and sentence of each setting of a host that is of the wrong type, or missing."""
        found = [
            (name, text)
            for name, option in options.items()
            if name in values
            for text in self._value_problems(name, option, values)
        ]
        return found + [
            (name, "is missing: add it to the settings file of your inventory")
            for name, option in SHARED.items()
            if option.get("required") and name not in values
        ]

    def _value_problems(self, name: str, option: dict[str, Any], values: Any) -> list[str]:
        try:
            value = values[name]
        except AnsibleError as error:
            return [f"cannot be worked out: {str(error).partition(chr(10))[0]}"]
        if value is None:
            return []
        outcome = ArgumentSpecValidator({name: validator_spec(option)}).validate({name: value})
        return [_sentence(option, value, error) for error in outcome.errors.errors]


def _sentence(option: dict[str, Any], value: Any, error: Exception) -> str:
    """Return what is wrong with a setting's value, to stand behind its name."""
    # What is said of a part of a mapping names that part; the words are ansible-core's.
    if "found in" not in str(error):
        if isinstance(error, ElementError):
            return kind_problem(option, value, elements=True)
        if isinstance(error, ArgumentTypeError):
            return kind_problem(option, value)
        if isinstance(error, ArgumentValueError) and option.get("choices"):
            return choice_problem(option, value)
    return f"is wrong: {plain_words(str(error))}"
