# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The tests mirror the tree: a file of module_utils has its test at the same place, or is named here with the test that has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
ROOT = TESTS.parents[1]
ROOM = ROOT / "plugins" / "module_utils"
FILES = sorted(str(path.relative_to(ROOM)) for path in ROOM.glob("*/*.py") if path.name != "__init__.py")
#: File -> where it is tested, and why there.
ELSEWHERE = {
    "plan/page.py": ("plugins/plugin_utils/test_pages.py", "what it returns is seen on the page"),
    "command/library.py": ("plugins/module_utils/test_rooms.py", "a list, held against what is imported"),
    "command/looks.py": (
        "plugins/modules/test_status_modules.py",
        "looks; module node_status_info is nothing beside it",
    ),
    "docker/image_source.py": (
        "plugins/modules/test_container_modules.py",
        "acts; module image_sync is nothing beside it",
    ),
    "docker/service_unit.py": (
        "plugins/modules/test_service_replaces.py",
        "acts; module container_service is nothing beside it",
    ),
    "fabric/bench_end.py": (
        "plugins/modules/test_fabric_modules.py",
        "acts; module fabric_benchmark is nothing beside it",
    ),
    "fabric/host.py": (
        "plugins/module_utils/fabric/test_bench.py",
        "reads the machine that the measurement's tests describe",
    ),
    "fabric/nccl_probe.py": (
        "plugins/module_utils/fabric/test_bench.py",
        "runs in the image; what it writes is read there",
    ),
    "hub/fetch.py": ("plugins/module_utils/hub/test_snapshot.py", "downloads from the hub of those tests"),
    "model/quantization.py": (
        "plugins/module_utils/model/test_shape.py",
        "a part of the shape, tested on whole config.json",
    ),
    "nfs/client.py": ("plugins/modules/test_nfs_modules.py", "acts; module nfs_mount is nothing beside it"),
    "node/bundle.py": (
        "plugins/action/test_report_and_bundle.py",
        "packs; action diagnosis_bundle is nothing beside it",
    ),
    "node/secret_files.py": ("plugins/modules/test_node_modules.py", "acts; module node_secrets is nothing beside it"),
    "peer/snapshot.py": ("plugins/module_utils/peer/test_share.py", "copies from the share of those tests"),
    "plan/arithmetic.py": ("plugins/module_utils/plan/test_plan.py", "figures of whole plans, against published ones"),
    "plan/constants.py": ("benchmarks/test_plan_fit.py", "figures that the fit writes; they are fitted again there"),
    "plan/fitted.py": ("benchmarks/test_plan_fit.py", "figures that the fit writes; they are fitted again there"),
    "plan/inputs.py": ("plugins/modules/test_plan_modules.py", "what module and action are given"),
    "plan/report.py": ("plugins/module_utils/plan/test_plan.py", "the text of whole plans"),
    "report/codes.py": ("test_docs.py", "a table, held against its page and against where each code is used"),
    "vllm/accepted_flags.py": (
        "plugins/modules/test_vllm_flags_module.py",
        "asks the image's parser, which module vllm_flags runs",
    ),
    "vllm/graph_steps.py": (
        "plugins/modules/test_graph_trial_module.py",
        "acts; module vllm_graph_trial is nothing beside it",
    ),
    "vllm/parser_probe.py": (
        "plugins/modules/test_vllm_flags_module.py",
        "runs in the image; the module hands it over",
    ),
}


def mirror(file: str) -> Path:
    """Return where the test of a file belongs."""
    room, _slash, name = file.partition("/")
    return TESTS / "plugins/module_utils" / room / f"test_{name}"


@pytest.mark.parametrize("file", FILES)
def test_every_file_has_its_test(file: str) -> None:
    assert mirror(file).exists() != (file in ELSEWHERE), (
        f"write {mirror(file)}, or name in ELSEWHERE the test that has it"
    )


@pytest.mark.parametrize("file", sorted(ELSEWHERE))
def test_what_is_tested_elsewhere_is_there(file: str) -> None:
    assert file in FILES
    text = (TESTS / ELSEWHERE[file][0]).read_text(encoding="utf-8")
    # By its own name, or by the module that is made of it.
    callers = [
        path.stem
        for path in (ROOT / "plugins/modules").glob("*.py")
        if f"module_utils.{file[:-3].replace('/', '.')} import" in path.read_text(encoding="utf-8")
    ]
    stem = Path(file).stem
    assert re.search(rf"\b({'|'.join([stem, *callers])})\b", text), f"{ELSEWHERE[file][0]} does not name {stem}"


def test_a_test_of_module_utils_has_its_file() -> None:
    found = {
        str(path.relative_to(TESTS / "plugins/module_utils")) for path in TESTS.glob("plugins/module_utils/*/test_*.py")
    }
    assert found <= {file.replace("/", "/test_") for file in FILES}
