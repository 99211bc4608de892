# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.systemd_unit import (
    exec_line,
    quote_argument,
    render,
)


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("--port=8235", "--port=8235"),
        ("", '""'),
        ("two words", '"two words"'),
        ("100%", "100%%"),
        ("$HOME", '"$$HOME"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("line\nbreak", '"line\\nbreak"'),
        (";", '";"'),
        ("{'a': 1}", "\"{'a': 1}\""),
    ],
)
def test_an_argument_reaches_the_program_unchanged(argument: str, text: str) -> None:
    assert quote_argument(argument) == text


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote_argument("a\0b")


def test_a_command_needs_an_absolute_path() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        exec_line(["docker", "run"])


def test_a_command_that_may_fail_has_a_dash() -> None:
    assert exec_line(["/bin/true", "a b"], may_fail=True) == '-/bin/true "a b"'


def test_sections_keep_their_order() -> None:
    assert (
        render([("Unit", [("After", "a"), ("After", "b")]), ("Service", [])])
        == "[Unit]\nAfter=a\nAfter=b\n\n[Service]\n"
    )
