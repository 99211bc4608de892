# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""bash knows every word of the command, and no other."""

from __future__ import annotations

import subprocess

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.completion import script, words
from ansible_collections.dgx_spark.vllm.plugins.module_utils.command.main import COMMANDS, parser


def completed(line: str) -> list[str]:
    """Return what bash offers for the last word of a line."""
    told = line.split(" ")
    array = " ".join(f"'{word}'" for word in told)
    ask = f"COMP_WORDS=({array}); COMP_CWORD={len(told) - 1}; _spark; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", f"{script(parser())}\n{ask}"], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_every_command_and_option_is_in_it() -> None:
    found = words(parser())
    assert set(found[""]) == {"--help", *COMMANDS}
    assert found[" keys"] == ["--help", "list", "add", "rotate", "withdraw"]
    assert "--watch" in found[" status"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("spark st", ["status", "start", "stop"]),
        ("spark status --", ["--help", "--watch", "--json"]),
        ("spark keys ", ["--help", "list", "add", "rotate", "withdraw"]),
        ("spark keys add al --at", ["--at-once"]),
        ("spark logs -n 5 --f", ["--follow"]),
        ("spark nonsense ", []),
    ],
)
def test_bash_completes(line: str, offered: list[str]) -> None:
    assert completed(line) == offered
