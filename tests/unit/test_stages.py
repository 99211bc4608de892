# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`tests/run` runs every scenario, and the scenario of a role shows what a role promises."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
#: Roles whose state has to outlive a power cut.
LASTING = (
    "container_runtime",
    "model_download",
    "model_share",
    "node_guard",
    "ray_head",
    "ray_worker",
    "serving_image",
    "vllm_serve",
)
#: Scenarios that are no role's: the whole, NFS on virtual machines, stand-ins of the real machine, a first run in check mode.
OTHERS = {"site", "nfs", "gb10_stand_in", "check_mode", "faults"}


def stages(name: str) -> list[str]:
    found = re.search(rf"^{name}=\((.+)\)$", (ROOT / "tests" / "run").read_text(encoding="utf-8"), re.M)
    assert found
    return found[1].split()


def test_every_scenario_is_run() -> None:
    # `operations` is no scenario: the integration tests marked `long`, on a pair of their own.
    assert sorted({*stages("roles"), *stages("long"), "nfs", "site"} - {"operations"}) == SCENARIOS


def test_what_runs_beside_are_the_first_stages_and_need_no_node() -> None:
    beside = stages("beside")
    assert beside == stages("all")[: len(beside)]
    assert not set(beside) & {"roles", "nfs", "site"}


def test_a_scenario_has_the_name_of_its_role() -> None:
    assert set(SCENARIOS) - OTHERS <= {path.name for path in (ROOT / "roles").iterdir()}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_role_is_run_twice_and_outlives_a_power_cut(name: str) -> None:
    scenario = yaml.safe_load((ROOT / "molecule" / name / "molecule.yml").read_text(encoding="utf-8"))
    assert scenario["provisioner"]["playbooks"]["side_effect"] == "../shared/reboot.yml"
    steps = scenario["scenario"]["test_sequence"]
    assert [step for step in steps if step not in ("destroy", "create", "prepare")] == [
        "converge",
        "idempotence",
        "verify",
        "side_effect",
        "verify",
        "idempotence",
    ]


def test_the_quick_lane_is_a_part_of_the_whole() -> None:
    assert set(stages("quick")) <= {*stages("all"), *stages("roles")}


def test_a_name_that_is_no_stage_is_told(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch(mode=0o755)
    done = subprocess.run(
        ["bash", str(ROOT / "tests" / "run"), "lint", "ray_haed"],
        env={"PATH": "/usr/bin:/bin", "VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("ERROR: there is no stage and no scenario 'ray_haed': choose from check lint")
    assert done.stdout == ""
