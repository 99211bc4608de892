# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Chat templates and plugins that further arguments name, as files on the node, in the image, or nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.flags import FlagError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.named_files import (
    NO_PLUGIN,
    NamedFiles,
    flag_value,
    read_named_files,
    registered,
)


def test_nothing_is_named() -> None:
    assert read_named_files(["--enforce-eager", "--chat-template-content-format", "openai"], ["/srv"]) == NamedFiles()
    assert not NO_PLUGIN.has("hermes")


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--tool-parser-plugin", "/a.py"], "/a.py"),
        (["--tool_parser_plugin=/a.py"], "/a.py"),
        (["--tool-parser", "/a.py"], "/a.py"),
        (["--tool-parser-plugin", "/b.py", "--tool-parser-plugin=/a.py"], "/a.py"),
        (["--tool-parser-plugin"], ""),
        (["--tool-server", "x", "--tool-call-parser", "y"], ""),
    ],
)
def test_a_flag_in_the_spellings_of_argparse(arguments: list[str], value: str) -> None:
    assert flag_value(arguments, "--tool-parser-plugin", "--tool-p") == value


def test_a_template_is_a_file_a_text_or_in_the_image(tmp_path: Path) -> None:
    path = tmp_path / "own.jinja"
    path.write_text("{{ tools }}", encoding="utf-8")
    found = read_named_files(["--chat-template", str(path)], [str(tmp_path)])
    assert (found.template, found.elsewhere, found.paths) == ("{{ tools }}", "", (path,))
    assert read_named_files([f"--chat-template={path}"]).template == "{{ tools }}"
    assert read_named_files(["--chat-template", "{{ messages }}"]) == NamedFiles(template="{{ messages }}")
    for name in ("examples/tool_chat_template_hermes.jinja", "/vllm-workspace/examples/x.jinja"):
        assert read_named_files(["--chat-template", name], [str(tmp_path)]) == NamedFiles(elsewhere=name)


def test_a_file_that_the_server_would_not_find(tmp_path: Path) -> None:
    store, other = tmp_path / "store", tmp_path / "other.jinja"
    store.mkdir()
    other.write_text("x", encoding="utf-8")
    with pytest.raises(
        FlagError, match=rf"{other}, which the server's container does not have: move the file below {store}"
    ):
        read_named_files(["--chat-template", str(other)], [str(store)])
    with pytest.raises(FlagError, match=r"gone\.py, which is not on this node: put it there"):
        read_named_files(["--tool-parser-plugin", str(store / "gone.py")], [str(store)])
    (store / "bad.jinja").write_bytes(b"\xff")
    with pytest.raises(FlagError, match=r"bad\.jinja, which cannot be read"):
        read_named_files(["--chat-template", str(store / "bad.jinja")], [str(store)])
    # Before the first run there is no store yet.
    later = read_named_files(["--tool-parser-plugin", "/nowhere/yet/p.py"], ["/nowhere/yet"])
    assert later.tools.names is None
    assert later.tools.has("anything")


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ('@ReasoningParserManager.register_module("nano_v3")\nclass A: ...\n', ("nano_v3",)),
        ('@ReasoningParserManager.register_module(["a", "b"])\nclass A: ...\n', ("a", "b")),
        ('vllm.ReasoningParserManager.register_module(module=A, name="c", force=True)\n', ("c",)),
        ('ReasoningParserManager.register_lazy_module("d", "m", "C")\n', ("d",)),
        ('@ToolParserManager.register_module("tool")\nclass A: ...\n', None),
        ("@ReasoningParserManager.register_module()\nclass A: ...\n", None),
        ("ReasoningParserManager.register_module(NAME)\n", None),
        ("no python at all", None),
        ("", None),
    ],
)
def test_what_a_plugin_registers(source: str, names: tuple[str, ...] | None) -> None:
    assert registered(source, "ReasoningParserManager") == names
