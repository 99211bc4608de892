# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The clients of examples/, as far as no endpoint is needed."""

from __future__ import annotations

import importlib.util
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tools() -> Any:
    """examples/openai_tools.py; the package `openai` is not needed for its calculator."""
    stand_in = ModuleType("openai")
    stand_in.OpenAI = object  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("openai_tools", EXAMPLES / "openai_tools.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openai", stand_in)
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("expression", ["factorial(127)", "math.factorial(127)", "127!", " 127 ! "])
def test_the_calculator_knows_what_models_write(tools: Any, expression: str) -> None:
    assert tools.calculate(expression) == str(math.factorial(127))


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('true')", "open('/etc/passwd')", "factorial(10**9)", "factorial(5000)", "1/0", "2 +", ""],
)
def test_the_calculator_runs_nothing_else(tools: Any, expression: str) -> None:
    assert tools.calculate(expression).startswith("error: ")


def test_arithmetic(tools: Any) -> None:
    assert tools.calculate("(1 + 2) * -3 / 2") == "-4.5"


def test_every_file_is_in_the_readme_and_every_package_pinned() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file() and not path.name.startswith(".")}
    assert set(re.findall(r"\[([\w.]+)\]\(\1\)", readme)) == files - {"README.md", "requirements.txt"}
    for line in (EXAMPLES / "requirements.txt").read_text(encoding="utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+]+", line), line
    for script in EXAMPLES.glob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
