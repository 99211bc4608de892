# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""upgrade.yml names the steps of site.yml a second time, because a play cannot be rescued: both do the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"


def load(name: str) -> list[dict[str, Any]]:
    document: list[dict[str, Any]] = yaml.safe_load((PLAYBOOKS / f"{name}.yml").read_text(encoding="utf-8"))
    return document


def roles(tasks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return role and task file of each task that runs a role, in order."""
    found = []
    for task in tasks:
        given = task.get("ansible.builtin.include_role") or task.get("ansible.builtin.import_role")
        if given:
            found.append((given["name"], given.get("tasks_from", "main")))
    return found


def test_the_upgrade_runs_the_roles_of_the_steps_in_their_order() -> None:
    steps = [play for name in ("units", "cluster", "verify") for play in load(f"steps/{name}")]
    wanted = roles([task for play in steps for task in play["tasks"]])
    (play,) = [play for play in load("upgrade") if play["name"] == "Upgrade"]
    block = play["tasks"][0]["block"]
    assert roles([*block, *play["tasks"][1:]]) == wanted
    assert roles(play["tasks"][0]["rescue"]) == [
        ("dgx_spark.vllm.cluster_restart", "restore"),
        ("dgx_spark.vllm.vllm_verify", "main"),
    ]


def test_the_steps_before_are_those_of_site() -> None:
    def imported(name: str) -> list[str]:
        return [
            play["ansible.builtin.import_playbook"] for play in load(name) if "ansible.builtin.import_playbook" in play
        ]

    site = [step for step in imported("site") if step != "steps/facts.yml"]
    after = ["steps/monitoring.yml", "steps/chat.yml", "steps/unlock.yml"]
    assert imported("upgrade") == [*site[: site.index("steps/units.yml")], *after]


def test_what_is_recorded_of_the_proof_is_what_going_back_asks() -> None:
    role = PLAYBOOKS.parent / "roles" / "vllm_verify"
    options = set(
        yaml.safe_load((role / "meta" / "argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    )
    verify = yaml.safe_load((role / "tasks" / "verify.yml").read_text(encoding="utf-8"))
    (recorded,) = [
        task["ansible.builtin.set_fact"]["vllm_verify_proof"] for task in verify if "ansible.builtin.set_fact" in task
    ]
    assert set(re.findall(r"vllm_verify_\w+", str(list(recorded.values())))) <= options
    (play,) = [play for play in load("upgrade") if play["name"] == "Upgrade"]
    (asks,) = [task["vars"] for task in play["tasks"][0]["rescue"] if "vllm_verify_model" in task.get("vars", {})]
    given = {name for name in asks if name.startswith("vllm_verify_")}
    assert given == {f"vllm_verify_{name}" for name in recorded} <= options
