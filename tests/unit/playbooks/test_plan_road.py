# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The plan as the user meets it, with playbooks of the checkout and no machine: a stated size of memory takes the place of the nodes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import PlanInput
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.pool import record_of, settings_of

from tests.unit.plugins.module_utils.plan.shapes import TINY

ROOT = Path(__file__).parents[3]
SIMULATION = ROOT / "inventory" / "simulation"


@pytest.fixture(scope="module")
def sparks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped inventory of two Sparks with addresses filled in that nobody answers at."""
    folder = tmp_path_factory.mktemp("inventory")
    shipped = ROOT / "inventory" / "sparks"
    text = (shipped / "hosts.yml").read_text(encoding="utf-8")
    (folder / "hosts.yml").write_text(text.replace("EDIT-ME", "spark.invalid"), encoding="utf-8")
    (folder / "group_vars").symlink_to(shipped / "group_vars")
    return folder


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What site.yml does between settings and the first change, without the preflight."""
    book = tmp_path_factory.mktemp("fit") / "fit.yml"
    plays = [{"ansible.builtin.import_playbook": f"dgx_spark.vllm.{name}"} for name in ("settings", "fit")]
    book.write_text(yaml.safe_dump(plays), encoding="utf-8")
    return book


def play(book: Path, inventory: Path, *settings: str, flags: Sequence[str] = ()) -> tuple[int, str]:
    """Run a playbook; return its status and what it said, in one line each."""
    variables = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    variables |= {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        # A user without a home folder runs this as well.
        "ANSIBLE_REMOTE_TMP": str(inventory.parent / "tmp"),
        "NO_COLOR": "1",
        "COLUMNS": "160",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), str(book), *flags]
    for setting in settings:
        command += ["-e", setting]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def test_plan_without_a_machine(sparks: Path) -> None:
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks, "vllm_plan_memory_gib=121.69")
    assert status == 0, said
    for part in ("235.09 billion parameters", "2 nodes, TP=2, 121.69 GiB each (stated)", "262,144 23.50", "FITS"):
        assert part in said
    assert "changed=1" not in said
    assert "LOOK not verified: Which modules the AWQ build leaves out" in said


def test_plan_fails_where_it_says_stop_unless_it_is_told_not_to(sparks: Path) -> None:
    stop = ("vllm_plan_memory_gib=121.69", "vllm_serve_gpu_memory_utilization=0.95")
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks, *stop, "vllm_plan_fail=false")
    assert status == 0
    assert "STOP" in said
    assert "yours, 0.95, is what stops" in said
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks, *stop)
    assert status != 0
    assert "STOP" in said
    assert "must not be started" in said


def test_fit_runs_alone(sparks: Path) -> None:
    status, said = play(ROOT / "playbooks" / "fit.yml", sparks, "vllm_plan_memory_gib=121.69")
    assert status == 0, said
    status, said = play(ROOT / "playbooks" / "fit.yml", sparks)
    assert status != 0
    assert "could not be read" in said
    assert "undefined" not in said


def test_an_override_of_the_positions_passes(sparks: Path, fit: Path) -> None:
    settings = ("vllm_plan_memory_gib=121.69", "vllm_serve_max_model_len=300000", "vllm_serve_kv_cache_dtype=fp8")
    assert play(fit, sparks, *settings)[0] != 0
    override = """{"vllm_serve_extra_arguments": ["--hf-overrides", "{\\"rope_scaling\\": {\\"factor\\": 2}}"]}"""
    status, said = play(fit, sparks, *settings, override)
    assert status == 0, said


def test_a_context_that_the_server_finds(sparks: Path) -> None:
    settings = ("vllm_plan_memory_gib=121.69", "vllm_serve_max_model_len=auto")
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks, *settings)
    assert status == 0, said
    assert "auto: at least" in said
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks, "vllm_serve_max_model_len=-1")
    assert status != 0
    assert "write auto for the longest that the memory holds" in said


def test_plan_that_reaches_nobody_says_how(sparks: Path) -> None:
    status, said = play(ROOT / "playbooks" / "plan.yml", sparks)
    assert status != 0
    assert "the memory of spark-1, spark-2 could not be read" in said
    assert "-e vllm_plan_memory_gib=" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["vllm_serve_gpu_memory_utilization=0.85"], "set gpu_memory_utilization to at most 0.8"),
        (
            ["vllm_serve_tensor_parallel_size=1", "vllm_serve_pipeline_parallel_size=2", "vllm_plan_memory_gib=64"],
            "The weights take",
        ),
        (["vllm_plan_memory_gib=-5"], "is -5, expected at least 0"),
        (["vllm_serve_max_model_len=262144", "vllm_serve_gpu_memory_utilization=0.6"], "lower max_model_len to"),
        (["vllm_serve_tensor_parallel_size=2", "vllm_plan_min_headroom_gib=30"], "30 GiB keep unified memory alive"),
    ],
)
def test_the_gate_refuses_with_the_remedy(sparks: Path, fit: Path, settings: list[str], said: str) -> None:
    status, text = play(fit, sparks, "vllm_plan_memory_gib=121.69", *settings)
    assert status != 0
    assert "must not be started" in text or "vllm_plan_memory_gib of" in text
    assert said in text
    assert "kv_bytes_per_token" not in text


def test_the_gate_can_be_opened(sparks: Path, fit: Path) -> None:
    settings = ("vllm_plan_memory_gib=121.69", "vllm_serve_gpu_memory_utilization=0.85", "vllm_plan_gate=false")
    assert play(fit, sparks, *settings)[0] == 0


def test_the_default_passes(sparks: Path, fit: Path) -> None:
    status, text = play(fit, sparks, "vllm_plan_memory_gib=121.69")
    assert status == 0, text


def test_the_simulation_passes_by_its_values(fit: Path) -> None:
    status, text = play(fit, SIMULATION, "vllm_plan_memory_gib=8")
    assert status == 0, text
    status, text = play(fit, SIMULATION, "vllm_plan_memory_gib=8", "vllm_plan_cpu_kv_gib=6")
    assert status != 0
    assert "lower the KV space" in text


def test_site_asks_before_it_touches_anything() -> None:
    site = yaml.safe_load((ROOT / "playbooks" / "site.yml").read_text(encoding="utf-8"))
    order = [Path(play["ansible.builtin.import_playbook"]).stem for play in site]
    assert order.index("preflight") < order.index("fit") < order.index("nodes")


def test_the_example_of_the_module_alone_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "planning.md").read_text(encoding="utf-8")
    (tmp_path / "alone.yml").write_text(page.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    local = ("ansible_connection=local", f"ansible_python_interpreter={sys.executable}")
    status, said = play(tmp_path / "alone.yml", Path("localhost,"), *local)
    assert status == 0, said
    assert "All assertions passed" in said


def test_what_a_start_logged_is_kept_as_the_next_plan_reads_it(tmp_path: Path) -> None:
    settings = settings_of(PlanInput(shape=ModelShape.from_config(TINY), memory_gib=121.69))
    start = {"started": "2026-01-01T00:00:00Z", "kv_cache_gib": 25.0, "kv_cache_tokens": 279000}
    keep = {"name": "dgx_spark.vllm.vllm_plan", "tasks_from": "record"}
    book = [
        {
            "hosts": "all",
            "gather_facts": False,
            "vars": {"spark_model": "qwen3-235b-awq", "vllm_plan_result": {"settings": settings}},
            "tasks": [{"ansible.builtin.include_role": keep, "vars": {"vllm_plan_start": start}}],
        }
    ]
    (tmp_path / "record.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    local = ("ansible_connection=local", f"ansible_python_interpreter={sys.executable}")
    # What would be written is in the diff: the file lies where only root writes.
    status, said = play(tmp_path / "record.yml", Path("localhost,"), *local, flags=("--check", "--diff"))
    assert status == 0, said
    diff = said.partition("vllm-start.json")[2].partition("@@")[2].partition("@@")[2].partition("\\ No newline")[0]
    found = json.loads(re.sub(r"(?<=\s)\+", "", diff))
    record = record_of(found, "qwen3-235b-awq")
    assert record is not None
    assert (record.kv_cache_gib, dict(record.settings)) == (25.0, settings)
    status, said = play(
        tmp_path / "record.yml", Path("localhost,"), *local, "vllm_plan_record=false", flags=("--check",)
    )
    assert (status, "changed=0" in said) == (0, True), said
