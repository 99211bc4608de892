# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Files that further arguments of ``vllm serve`` name: a chat template in the place of the model's, and plugins with parsers."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .flags import FlagError

#: Flag by the shortest form of it that no other flag of ``vllm serve`` begins with (vLLM 0.20 to 0.33).
TEMPLATE = ("--chat-template", "--chat-template")
TOOL_PLUGIN = ("--tool-parser-plugin", "--tool-p")
REASONING_PLUGIN = ("--reasoning-parser-plugin", "--reasoning-parser-")
#: One of these makes vLLM take a template for the text itself (validate_chat_template in vllm/entrypoints/chat_utils.py).
_JINJA = "{}\n"
#: What plugins call to add a parser (vllm/tool_parsers/abstract_tool_parser.py, vllm/reasoning/abs_reasoning_parsers.py).
_REGISTER = ("register_module", "register_lazy_module")


@dataclass(frozen=True)
class Plugin:
    """A file that adds parsers to vLLM.

    Attributes:
        names: of the parsers that it adds; None where they cannot be known, so that any name may be one of them.
    """

    names: tuple[str, ...] | None = None

    def has(self, parser: str) -> bool:
        """Say whether a parser may be the plugin's."""
        return self.names is None or parser in self.names


#: Where no plugin is named.
NO_PLUGIN = Plugin(())


@dataclass(frozen=True)
class NamedFiles:
    """What the arguments name.

    Attributes:
        template: text of the chat template; None where the model's own counts.
        elsewhere: name of a chat template that is not on the node, so that only the image can have it; empty for none.
        tools: the plugin of tool call parsers.
        reasoning: the plugin of reasoning parsers.
        paths: files on the node that the server must see.
    """

    template: str | None = None
    elsewhere: str = ""
    tools: Plugin = NO_PLUGIN
    reasoning: Plugin = NO_PLUGIN
    paths: tuple[Path, ...] = ()


NO_FILES = NamedFiles()


def read_named_files(arguments: Sequence[str], folders: Iterable[str] = ()) -> NamedFiles:
    """Return what further arguments name.

    Args:
        arguments: of ``vllm serve``.
        folders: of the node that the server's container has at the same path; empty where that is not known.

    Raises:
        FlagError: a file that the server would not find, or that cannot be read; one sentence.
    """
    seen = [Path(folder) for folder in folders]
    paths: list[Path] = []

    def text_of(flag: tuple[str, str]) -> tuple[str, str | None]:
        value = flag_value(arguments, *flag)
        path = Path(value)
        if not path.is_absolute() or any(sign in value for sign in _JINJA):
            return value, None
        inside = next((folder for folder in seen if path.is_relative_to(folder)), None)
        try:
            text = path.read_text(encoding="utf-8") if path.is_file() else None
        except (OSError, ValueError) as error:
            raise FlagError(f"vllm_serve_extra_arguments has {flag[0]} {path}, which cannot be read: {error}") from None
        if text is None and inside is not None and inside.is_dir():
            raise FlagError(f"vllm_serve_extra_arguments has {flag[0]} {path}, which is not on this node: put it there")
        if text is not None and seen and inside is None:
            raise FlagError(
                f"vllm_serve_extra_arguments has {flag[0]} {path}, which the server's container does not have: move the file below {seen[0]}"
            )
        if text is not None:
            paths.append(path)
        return value, text

    def plugin_of(flag: tuple[str, str], manager: str) -> Plugin:
        value, text = text_of(flag)
        if not value:
            return NO_PLUGIN
        return Plugin(None if text is None else registered(text, manager))

    value, template = text_of(TEMPLATE)
    if template is None and any(sign in value for sign in _JINJA):
        template = value
    return NamedFiles(
        template=template,
        elsewhere=value if template is None else "",
        tools=plugin_of(TOOL_PLUGIN, "ToolParserManager"),
        reasoning=plugin_of(REASONING_PLUGIN, "ReasoningParserManager"),
        paths=tuple(dict.fromkeys(paths)),
    )


def registered(source: str, manager: str) -> tuple[str, ...] | None:
    """Return the names that a plugin's source registers with a manager; None where the source alone does not tell them."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        # The image's Python may be another one than the node's.
        return None
    names: list[str] = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REGISTER):
            continue
        if not ast.unparse(node.func.value).endswith(manager):
            continue
        given = next((word.value for word in node.keywords if word.arg == "name"), node.args[0] if node.args else None)
        listed = given.elts if isinstance(given, ast.List | ast.Tuple) else [given]
        for one in listed:
            if not (isinstance(one, ast.Constant) and isinstance(one.value, str)):
                return None
            names.append(one.value)
    return tuple(names) or None


def flag_value(arguments: Sequence[str], long: str, shortest: str) -> str:
    """Return the value of a flag, the last one as argparse takes it; empty where it is not given.

    Args:
        arguments: of ``vllm serve``.
        long: the flag.
        shortest: the shortest form of it that is no other flag's.
    """
    found = ""
    for position, word in enumerate(arguments):
        name, joined, value = word.partition("=")
        name = name.replace("_", "-")
        if not (name.startswith(shortest) and long.startswith(name)):
            continue
        if joined:
            found = value
        elif position + 1 < len(arguments):
            found = arguments[position + 1]
    return found
