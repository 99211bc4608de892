# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules are thin, each is used or said to be for use alone, and so is each of their options."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playbooks.real_arguments import arguments

ROOT = Path(__file__).parents[4]
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"), key=lambda path: path.stem)
#: Lines of a module beside its documentation. What is longer thinks for itself: that belongs into a room of module_utils.
MOST_LINES = 250
#: Modules that no role and no playbook calls, and why they are there.
ALONE = {
    "node_guard_info": "one look alone; node_status_info takes the same look with the others",
    "ray_cluster_info": "one look alone; node_status_info takes the same look with the others",
    "vllm_memory_plan": "plans a model from its config.json, without an inventory (docs/planning.md)",
    "vllm_watchdog_info": "one look alone; node_status_info takes the same look with the others",
}
#: Options that no role and no playbook passes, and who would.
OPTIONS_ALONE = {
    "container_gpu_check": {
        "force": "prove again",
        "reload": "where a daemon-reload disturbs others",
        "stamp": "another folder",
    },
    "container_service": {
        "network": "a container of one's own",
        "restart_sec": "a container of one's own",
        "shm_size": "a container of one's own",
        "start_limit_interval_sec": "a container of one's own",
    },
    "fabric_benchmark": {"mib": "another size", "port": "a port that is taken", "seconds": "a longer run"},
    "fabric_share": {"idle_timeout": "a slow peer", "launcher": "another folder of node_tools"},
    "gb10_kernel_check": {"checks": "some of them", "load_seconds": "a longer load", "record": "another folder"},
    "gb10_runtime_info": {"checks": "some of them", "min_available_gib": "a requirement of one's own"},
    "hf_model": {"state": "removing a snapshot"},
    "hf_model_copy": {"reverify": "a disk in doubt", "progress_file": "its action plugin fills it in"},
    "image_sync": {"peer_token_file": "a token elsewhere", "progress_file": "its action plugin fills it in"},
    "run_lock": {
        "path": "a lock of one's own",
        **dict.fromkeys(("run", "instead_of"), "its action plugin fills it in"),
    },
    "node_diagnosis_info": {"secrets_folder": "secrets elsewhere", "units": "units of one's own"},
    "node_preflight_info": dict.fromkeys(
        (
            *(
                "architectures",
                "distributions",
                "fabric_address",
                "min_memory_gib",
                "min_python",
                "nfs",
                "nfs_transport",
                "paths",
                "ports",
            ),
            *("require_root", "require_systemd"),
        ),
        "a report of one's own: role node_report asks through node_info",
    ),
    "gateway_certificate": {"authority": "a gateway of one's own"},
    "gateway_keys": dict.fromkeys(("folder", "server_key_file", "socket"), "a gateway of one's own"),
    "node_survey_info": {"interfaces": "ports that are not ConnectX", "netplan_files": "a report of one's own"},
    "node_tools": {"path": "another folder"},
    "preflight_report": {"show": "the page alone", "title": "a report of one's own"},
    "vllm_benchmark": {"container": "another server", "seed": "the same prompts again"},
    "vllm_benchmark_info": {"ray_folder": "another folder of Ray"},
    "vllm_benchmark_result": {"container": "another server"},
    "vllm_chat_check": {"api_key": "a key that is in no file", "check_authentication": "a server without a key"},
    "vllm_flags": {"kernel_record": "another folder", "record": "another folder", "seconds": "a slow disk"},
    "vllm_graph_trial": {"answer_seconds": "a slow model", "record": "another folder"},
    "vllm_server_info": {"api_key": "a key that is in no file", "timeout": "a slow server"},
}


@cache
def parsed(path: Path) -> tuple[dict[str, Any], int]:
    """Return a module's DOCUMENTATION and its lines beside DOCUMENTATION, EXAMPLES and RETURN."""
    text = path.read_text(encoding="utf-8")
    lines, document = len(text.splitlines()), {}
    for node in ast.parse(text).body:
        name = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
        if name in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
            assert isinstance(node, ast.Assign)
            lines -= (node.end_lineno or 0) - node.lineno + 1
            if name == "DOCUMENTATION":
                document = yaml.safe_load(ast.literal_eval(node.value))
    return document, lines


def calls(value: Any) -> Iterator[tuple[str, set[str] | None]]:
    """Yield each call of a module of ours below a value of YAML, with the options it passes; None where they are a template."""
    if isinstance(value, list):
        for item in value:
            yield from calls(item)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if str(key).startswith("dgx_spark.vllm."):
                passed = set(inner) if isinstance(inner, dict) else None if isinstance(inner, str) else set()
                yield str(key).rpartition(".")[2], passed
            yield from calls(inner)


@cache
def passed() -> dict[str, set[str] | None]:
    """Return what roles and playbooks pass to each module that they call."""
    found: dict[str, set[str] | None] = {}
    for path in [
        *ROOT.glob("roles/*/tasks/*.yml"),
        *ROOT.glob("roles/*/handlers/*.yml"),
        *ROOT.glob("playbooks/**/*.yml"),
    ]:
        for name, options in calls(yaml.safe_load(path.read_text(encoding="utf-8"))):
            before = found.get(name, set())
            found[name] = None if options is None or before is None else before | options
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_a_module_is_thin(path: Path) -> None:
    _document, lines = parsed(path)
    assert lines <= MOST_LINES, (
        f"{path.name} has {lines} lines beside its documentation: move what thinks to module_utils"
    )


def test_every_module_is_called_or_is_said_to_be_for_use_alone() -> None:
    uncalled = {path.stem for path in MODULES} - set(passed())
    assert uncalled == set(ALONE)


@pytest.mark.parametrize("path", [path for path in MODULES if path.stem not in ALONE], ids=lambda path: path.stem)
def test_every_option_is_passed_or_is_said_to_be_for_use_alone(path: Path) -> None:
    given = passed()[path.stem]
    if given is None:
        # A template holds them all; the role's own tests say what is in it.
        return
    unpassed = set(parsed(path)[0].get("options") or {}) - given
    assert unpassed == set(OPTIONS_ALONE.get(path.stem, {})), (
        f"{path.stem}: name in OPTIONS_ALONE who would pass it, or drop it"
    )


def defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Return the default of each option, documented or accepted, and those of its suboptions."""
    found: dict[str, Any] = {}
    for name, option in options.items():
        found[name] = option.get("default")
        inner = option.get("suboptions") or option.get("options") or {}
        found |= {f"{name}.{key}": value for key, value in defaults(inner).items()}
    return found


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if not (ROOT / "plugins" / "action" / path.name).exists()],
    ids=lambda path: path.stem,
)
def test_a_documented_default_is_the_one_that_counts(path: Path) -> None:
    # The documentation is read without running the module, so a number stands in it that the module takes from module_utils.
    documented = defaults(parsed(path)[0].get("options") or {})
    accepted = defaults(arguments(path.stem)["argument_spec"])
    assert documented == {name: accepted[name] for name in documented}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "plugins").rglob("*.py")), ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_lines_hold_to_what_ansible_test_sanity_asks_for(path: Path) -> None:
    assert max(map(len, path.read_text(encoding="utf-8").splitlines()), default=0) <= 160
