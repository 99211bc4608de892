# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks every setting on the controller, before the first machine is touched; documented in plugins/modules/settings_check.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.errors import ArgumentTypeError, ArgumentValueError, ElementError
from ansible.playbook import Playbook
from ansible.vars.manager import VariableManager

from ..module_utils.model.catalog import ModelDataError, check_model, find_model, node_problem
from ..module_utils.service.listeners import gateway_on, port_problems, settings_asked
from ..module_utils.settings.arguments import NAME as ARGUMENTS
from ..module_utils.settings.arguments import argument_problems
from ..module_utils.settings.check import (
    address_problems,
    cluster_groups,
    derived_problems,
    extra_vars_problems,
    group_problems,
    image_problems,
    joined_problems,
    limit_problems,
    link_problems,
    model_problems,
    name_problems,
    placeholder_problems,
    relation_problems,
    skip_problems,
    stranger_problems,
    tag_problems,
    together_problems,
)
from ..module_utils.settings.shared import (
    DERIVED,
    RENAMED,
    SHARED,
    Values,
    missing_problems,
    renamed_notices,
    renamed_problems,
)
from ..module_utils.settings.values import (
    RANGED,
    choice_problem,
    environment_problems,
    key_problem,
    kind_problem,
    length_problem,
    plain_words,
    range_problems,
    raw_problem,
    served_name_problem,
    served_names,
    source_problems,
    speculative_problem,
)
from ..plugin_utils.controller import ControllerAction

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
    "fabric_manage",
)
#: Settings of several roles that must fit together.
_TOGETHER = (
    "gateway_enabled",
    "gateway_tls",
    "gateway_tls_certificate",
    "gateway_tls_key",
    "node_guard_earlyoom",
    "node_guard_min_available_gib",
    "vllm_plan_min_headroom_gib",
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
    "node_report_runtime",
    "node_report_docker",
    "node_report_own_nfs",
    "node_report_units",
    "cluster_restart_plan",
    "cluster_restart_snapshot",
    "node_report_found",
    "node_report_result",
    "runtime_check_result",
    "serving_image_result",
    "vllm_graphs_mode",
    "vllm_graphs_result",
    "vllm_plan_result",
    "vllm_serve_result",
    "vllm_verify_proof",
)
_SERVED_NAME = "vllm_serve_served_model_name"
_LENGTH = "vllm_serve_max_model_len"


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


class ActionModule(ControllerAction):
    """Runs without a connection."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        result, arguments = self.begin(
            tmp, task_vars, {"needs": {"type": "str", "choices": ["all", "any", "inventory"], "default": "all"}}
        )
        check = Check(variables)
        problems = (
            extra_vars_problems(variables)
            or self._tag_problems(variables)
            or group_problems(variables["groups"], variables.get("ansible_inventory_sources") or [])
            or limit_problems(
                variables["groups"]["sparks"],
                variables["ansible_play_hosts_all"],
                needs_all=arguments["needs"] != "any",
            )
            or (check.problems() if arguments["needs"] != "inventory" else [])
        )
        if problems:
            result.update(failed=True, problems=problems, msg=". ".join(problems))
            return result
        result.update(check.answer() if arguments["needs"] != "inventory" else check.inventory_answer())
        return result

    def _tag_problems(self, variables: dict[str, Any]) -> list[str]:
        asked = {*(variables.get("ansible_run_tags") or ["all"]), *(variables.get("ansible_skip_tags") or [])}
        # The playbooks are read once more, so only where a tag was given.
        if asked == {"all"}:
            return []
        if skipped := skip_problems(variables.get("ansible_skip_tags") or []):
            return skipped
        known = playbook_tags(list(context.CLIARGS.get("args") or []), self._loader)
        return [] if known is None else tag_problems(asked, known)


class Check:
    """The settings of all hosts in group sparks, judged step by step: a step is taken when nothing was found in those before."""

    def __init__(self, variables: dict[str, Any]) -> None:
        hostvars = variables["hostvars"]
        self.roles = role_options()
        self.options = {**SHARED, **{name: option for spec in self.roles.values() for name, option in spec.items()}}
        self.hosts = {host: Values(hostvars[host]) for host in sorted(variables["groups"].get("sparks") or [])}
        self.groups = variables["groups"]
        heads = set(self.groups.get(cluster_groups(self.groups)[0]) or [])
        self.kinds = {host: "head" if host in heads else "worker" for host in self.hosts}
        self.first = next(iter(self.hosts.values()), Values({}))

    def problems(self) -> list[str]:
        """Return a sentence for each thing that is wrong."""
        steps = (self._placeholders, self._names_and_types, self._ranges, self._together)
        return next((found for step in steps if (found := list(dict.fromkeys(step())))), [])

    def answer(self) -> dict[str, Any]:
        """Return what the settings play sets as facts, of settings in which no problem was found."""
        (head,) = [host for host, kind in self.kinds.items() if kind == "head"]
        nodes = [head, *(host for host in self.hosts if host != head)]
        notices = [text for values in self.hosts.values() for text in renamed_notices(values.given)]
        secret = [name for name, option in self.options.items() if option.get("no_log")]
        facts = {host: values.facts() for host, values in self.hosts.items()}
        return {
            "changed": False,
            "warnings": list(dict.fromkeys(notices)),
            "head_name": head,
            "head_fabric_address": str(self.hosts[head]["spark_fabric_address"]),
            "node_addresses": [str(self.hosts[node]["spark_fabric_address"]) for node in nodes],
            "gpu_count": sum(int(self.hosts[node]["spark_gpus_per_node"]) for node in nodes),
            "served_name": self.served_name(head),
            "endpoint_scheme": self.endpoint_scheme(head),
            "facts": facts,
            "secret": secret,
            # A secret that is given under an old name is among the facts.
            "_ansible_no_log": any(name in secret for given in facts.values() for name in given),
            "msg": f"the settings of {len(nodes)} node{'s' if len(nodes) > 1 else ''} are sound",
        }

    def inventory_answer(self) -> dict[str, Any]:
        """Return what is known of the inventory alone, for a playbook that must work whatever the settings are."""
        (head,) = [host for host, kind in self.kinds.items() if kind == "head"]
        return {
            "changed": False,
            "head_name": head,
            "head_fabric_address": "",
            "node_addresses": [],
            "gpu_count": 0,
            "served_name": "",
            "endpoint_scheme": "",
            "facts": {},
            "secret": [],
            "msg": f"the inventory has its head and {len(self.hosts) - 1} more nodes; settings were not checked",
        }

    def served_name(self, host: str) -> str:
        """Return the name under which the endpoint of a host is asked for its model."""
        given = self.hosts[host].get(_SERVED_NAME)
        return served_names(given)[0] if given else str(self._model()[1]["served_name"])

    def endpoint_scheme(self, host: str) -> str:
        """Return how the endpoint of a host is spoken to: vLLM itself has no TLS, the gateway may."""
        tls = str(self.hosts[host].get("gateway_tls", "off")).lower() not in ("off", "false")
        return "https" if tls and gateway_on(self.hosts[host]) else "http"

    def _each(self, step: Callable[[Values], Iterable[tuple[str, str]]]) -> list[str]:
        return joined_problems({host: step(values) for host, values in self.hosts.items()})

    def _placeholders(self) -> list[str]:
        looked_at = (*_CONNECTION, "spark_fabric_address")
        return placeholder_problems(
            {host: {name: values[name] for name in looked_at if name in values} for host, values in self.hosts.items()}
        ) or stranger_problems(self.hosts, self.groups)

    def _names_and_types(self) -> list[str]:
        known = {*self.options, *DERIVED, *RENAMED, *FACTS}
        problems = [text for values in self.hosts.values() for text in name_problems(values.given, known, self.roles)]
        if not any("__settings_checked" in values.given for values in self.hosts.values()):
            problems += self._each(lambda values: derived_problems(values.given, DERIVED, FACTS))
        problems += self._each(lambda values: renamed_problems(values.given))
        problems += self._each(self._values_of)
        return problems + [text for values in self.hosts.values() for text in self._arguments_of(values)]

    def _values_of(self, values: Values) -> list[tuple[str, str]]:
        return [
            (values.old.get(name, name), text)
            for name, option in self.options.items()
            if name in values and name != ARGUMENTS
            for text in value_problems(name, option, values)
        ]

    def _arguments_of(self, values: Values) -> list[str]:
        try:
            given = values.get(ARGUMENTS)
        except AnsibleError as error:
            return [f"{ARGUMENTS} {_unworkable(error)}"]
        return [] if given is None else argument_problems(given, values.old.get(ARGUMENTS, ARGUMENTS))

    def _ranges(self) -> list[str]:
        return self._each(missing_problems) + self._each(
            lambda values: range_problems({name: values[name] for name in RANGED if name in values})
        )

    def _together(self) -> list[str]:
        first, count = self.first, len(self.hosts)
        problems = address_problems({host: values["spark_fabric_address"] for host, values in self.hosts.items()})
        problems = problems or link_problems(
            {host: {name: values[name] for name in _LINK if name in values} for host, values in self.hosts.items()}
        )
        problems += [text for values in self.hosts.values() for text in image_problems(values)]
        shipped = {name: self.options[name].get("default") for name in _TOGETHER}
        problems += [
            text
            for values in self.hosts.values()
            for text in together_problems({name: values.get(name, default) for name, default in shipped.items()})
        ]
        size, stages = (
            first.get("vllm_serve_tensor_parallel_size"),
            int(first.get("vllm_serve_pipeline_parallel_size") or 1),
        )
        relations = relation_problems(
            nodes=count,
            gpus_per_node=int(first["spark_gpus_per_node"]),
            tensor_parallel_size=int(size) if size is not None else None,
            pipeline_parallel_size=stages,
        )
        relations += port_problems(
            (self.kinds[host], {name: values[name] for name in settings_asked() if name in values})
            for host, values in self.hosts.items()
        )
        try:
            path, model = self._model()
        except (ModelDataError, yaml.YAMLError) as error:
            return [*problems, *relations, str(error)]
        name = str(first["spark_model"])
        if problem := node_problem(name, model, count):
            return [*problems, *relations, problem]
        problems += relations
        given = first.get(ARGUMENTS)
        arguments = given if given is not None else model.get("extra_arguments") or []
        if given is None:
            problems += argument_problems(arguments, f"{path}: extra_arguments")
        if not relations:
            gpus = count * int(first["spark_gpus_per_node"])
            problems += model_problems(
                model,
                max_model_len=first.get(_LENGTH),
                arguments=arguments,
                ranks=(int(size) if size is not None else gpus // stages, stages),
                gpus=gpus,
            )
        return problems

    def _model(self) -> tuple[Path, dict[str, Any]]:
        inventory = self.first.get("inventory_dir")
        folders = [*([Path(inventory) / "models"] if inventory else []), _COLLECTION / "models"]
        path = find_model(str(self.first["spark_model"]), folders)
        return path, check_model(yaml.safe_load(path.read_text(encoding="utf-8")), path)


def value_problems(name: str, option: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with one setting's value, to stand behind its name."""
    try:
        value = values[name]
    except AnsibleError as error:
        return [_unworkable(error)]
    if value is None:
        # Roles make 0 or false of it, which is another thing than not to set it.
        typed = option.get("type") in {"int", "float", "bool"}
        return ["is null, expected a value: leave the setting out to keep its default"] if typed else []
    if name == _SERVED_NAME:
        return [said for said in (served_name_problem(value),) if said]
    if name == _LENGTH:
        return [said for said in (length_problem(value),) if said]
    if said := raw_problem(name, option, value):
        return [said]
    outcome = ArgumentSpecValidator({name: validator_spec(option)}).validate({name: value})
    if outcome.errors.errors:
        errors = outcome.errors.errors
        # Of an entry of the wrong kind nothing more can be said.
        odd = next((error for error in errors if isinstance(error, ElementError)), None)
        return [_sentence(option, value, error) for error in ([odd] if odd else errors)]
    if name == "vllm_serve_speculative":
        return [said for said in (speculative_problem(value),) if said]
    if name == "packet_filter_allowed_sources":
        return source_problems(value)
    if option.get("no_log") and isinstance(value, str):
        return [said for said in (key_problem(value),) if said]
    return environment_problems(value) if name.endswith("_environment") and isinstance(value, Mapping) else []


def _unworkable(error: Exception) -> str:
    return f"cannot be worked out: {str(error).partition(chr(10))[0]}"


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
