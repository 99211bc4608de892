# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs inside a serving image (``python3 -``): what its ``vllm serve`` accepts, asked of its own argument parser.

Takes a JSON list of command lines as its only argument, prints one JSON document after MARK. No GPU, no network, no model: the
parser alone is built. A CUDA build finds no device then and gives up, so it is told that it is a build for CPUs, which changes
no option.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import os
import sys
import typing
from collections.abc import Sequence
from typing import Any

MARK = "DGX-SPARK-VLLM-OPTIONS "
#: Where releases keep the parser, newest first: since 0.33, since 0.29, up to 0.28. `cli.serve` imports it from wherever it is.
PARSER_MODULES = (
    "vllm.entrypoints.common.cli_args",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.cli_args",
    "vllm.entrypoints.cli.serve",
)


def pose_as_cpu() -> str:
    """Let vLLM take itself for a build for CPUs; returns the version that the image really has."""
    real = importlib.metadata.version
    version = real("vllm")

    def posed(distribution_name: str) -> str:
        found = real(distribution_name)
        return f"{found}+cpu" if distribution_name == "vllm" and "cpu" not in found else found

    importlib.metadata.version = posed
    return version


def serve_parser() -> tuple[Any, Any]:
    """Return the parser of ``vllm serve`` and the function that checks what it parsed."""
    for name in PARSER_MODULES:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and not name.startswith(error.name):
                raise
            continue
        source = sys.modules[module.make_arg_parser.__module__]
        return module.make_arg_parser(source.FlexibleArgumentParser()), module.validate_parsed_serve_args
    raise ModuleNotFoundError(f"vLLM keeps its argument parser in none of {', '.join(PARSER_MODULES)}")


def describe(parser: Any) -> dict[str, dict[str, Any]]:
    """Return each long option: aliases, choices, type, whether it takes a value, whether it is deprecated."""
    deprecated: set[Any] = getattr(parser, "_deprecated", set())
    found: dict[str, dict[str, Any]] = {}
    for action in parser._actions:
        names = [name for name in action.option_strings if name.startswith("--")]
        if not names:
            continue
        entry: dict[str, Any] = {}
        others = [*names[1:], *(name for name in action.option_strings if not name.startswith("--"))]
        if others:
            entry["aliases"] = others
        if action.choices:
            entry["choices"] = [str(choice) for choice in action.choices]
        if action.nargs == 0 or type(action).__name__ == "BooleanOptionalAction":
            entry["takes_value"] = False
        elif action.type is not None:
            entry["type"] = getattr(action.type, "__name__", str(action.type))
        if action in deprecated or getattr(action, "deprecated", False) or "[DEPRECATED" in str(action.help).upper():
            entry["deprecated"] = True
        found[names[0]] = entry
    return found


def registered(module: str, manager: str, eager: str) -> list[str]:
    """Return the names of a parser manager, loaded or not."""
    try:
        holder = getattr(importlib.import_module(module), manager)
    except (ImportError, AttributeError):
        return []
    return sorted({*getattr(holder, eager, {}), *getattr(holder, "lazy_parsers", {})})


def values(module: str, *names: str) -> list[str]:
    """Return the values of the first of these names that the module has: a list, a mapping's keys or a Literal's arguments.

    For options that the parser takes as free text although only some words mean anything later.
    """
    try:
        holder = importlib.import_module(module)
    except ImportError:
        return []
    found = next((getattr(holder, name) for name in names if hasattr(holder, name)), ())
    return sorted(str(value) for value in (typing.get_args(found) or found) if value is not None)


def check(parser: Any, validate: Any, command: Sequence[str]) -> str:
    """Return why the parser refuses a command line, empty when it accepts it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            validate(parser.parse_args(list(command)[2:]))
    except SystemExit:
        lines = [line for line in said.getvalue().splitlines() if "error:" in line]
        return (lines or ["the parser exited without a message"])[-1].partition("error: ")[2] or lines[-1]
    except (TypeError, ValueError, OSError) as error:
        return str(error).partition("\n")[0]
    return ""


def main() -> None:
    """Ask and print."""
    os.environ.update(VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1", HF_HUB_OFFLINE="1")
    version = pose_as_cpu()
    with contextlib.redirect_stdout(sys.stderr):
        parser, validate = serve_parser()
        document = {
            "vllm": version,
            "options": describe(parser),
            "tool_parsers": registered("vllm.tool_parsers", "ToolParserManager", "tool_parsers"),
            "reasoning_parsers": registered("vllm.reasoning", "ReasoningParserManager", "reasoning_parsers"),
            "load_formats": values("vllm.model_executor.model_loader", "_LOAD_FORMAT_TO_MODEL_LOADER"),
            "kv_cache_dtypes": values("vllm.config.cache", "KV_CACHE_DTYPES", "CacheDType"),
            "quantizations": values("vllm.model_executor.layers.quantization", "QUANTIZATION_METHODS"),
            "refused": [check(parser, validate, command) for command in json.loads(sys.argv[1])],
        }
    sys.stdout.write(MARK + json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
