# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Settings as people wrote them, through everything that is checked before a machine is touched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.dgx_spark.vllm.plugins.action.settings_check import Check
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.chat_template import parser_problem
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.named_files import NamedFiles, read_named_files

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "settings"
ABOUT = (
    "Each file of `tests/field_cases/settings` as the settings of two Sparks. Right is that sound settings pass and that anything else is told before a machine is touched, "
    "each mistake with what to write; the words that must stand there are under reported. The last two rows have the file that the case names on the node, as module vllm_flags reads it."
)
_EXTRA = "reported: extra arguments as a script or a compose file has them"
#: By case: its source, and the words of each sentence in their order; none where the settings are sound.
_RIGHT: dict[str, tuple[str, tuple[str, ...]]] = {
    "environment-null-and-list": (
        "reported: values of an environment that are no text",
        ("NO_PROXY with a list", "HF_HUB_OFFLINE without a value", "NCCL_DEBUG: true, expected"),
    ),
    "environment-with-token": ("reported: a token as environment", ("has HF_TOKEN, which looks like a secret",)),
    "extra-config-file": (_EXTRA, ("write its keys as settings", "set vllm_serve_kv_cache_memory_bytes")),
    "extra-map-item": (_EXTRA, ("has the mapping --moe-backend",)),
    "extra-number": (_EXTRA, ("has 32, which is no text",)),
    "extra-one-element-per-line": (
        _EXTRA,
        ("--limit-mm-per-prompt and its value in one element", "setting vllm_serve_max_num_seqs renders"),
    ),
    "extra-overrides-own-settings": (
        "reported: arguments that contradict a setting",
        (
            "set vllm_serve_gpu_memory_utilization",
            "set vllm_serve_max_model_len",
            "set spark_api_port",
            "set vllm_serve_tensor_parallel_size",
        ),
    ),
    "extra-string": (_EXTRA, ("setting vllm_serve_expert_parallel renders",)),
    "extra-string-key": (_EXTRA, ("use spark_api_key",)),
    "fabric-interfaces-text": ("reported: one interface as text", ("expected a list",)),
    "parser-plugin": ("the maker's recipe for a model with a parser of its own", ()),
    "served-name-changed": ("reported: another name at the endpoint", ()),
    "served-names-list": ("asked for: several names", ()),
    "speculative-json-text": ("vLLM's own form of the flag", ("expected a mapping",)),
    "store-path-tilde": ("reported: a path in the home folder", ("expected an absolute path",)),
    "template-override": ("a template of another format than the model's own", ()),
}


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Settings", ABOUT, [*rows(), with_template(), with_plugin()])


def rows() -> Iterator[Row]:
    """Return the rows of each case; a file without one is an error."""
    for path in sorted(FOLDER.glob("*.yml")):
        source, right = _RIGHT[path.stem]
        said = problems(yaml.safe_load(path.read_text(encoding="utf-8")))
        if not (right or said):
            yield Row(path.stem, source, "settings", "pass", "pass", True)
        for number in range(max(len(right), len(said))):
            told = said[number] if number < len(said) else "nothing"
            words = right[number] if number < len(right) else "pass"
            yield Row(path.stem, source, "settings", told, words, words in told)


def problems(settings: Mapping[str, Any]) -> list[str]:
    """Return what is said of a pair with these settings."""
    names = ["spark-1", "spark-2"]
    hosts = {name: {"spark_fabric_address": f"192.168.100.{10 + i}", **settings} for i, name in enumerate(names)}
    return Check({"hostvars": hosts, "groups": {"sparks": names, "head": names[:1], "workers": names[1:]}}).problems()


def _named(case: str, content: str) -> tuple[dict[str, Any], NamedFiles]:
    """Return the settings of a case, and what its extra arguments name where that file has this content."""
    settings = yaml.safe_load((FOLDER / f"{case}.yml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_text(content, encoding="utf-8")
        flag, _path = settings["vllm_serve_extra_arguments"]
        return settings, read_named_files([flag, str(path)], [folder])


def with_template() -> Row:
    """Return the row of a template of another format than the model's own, which is Hermes."""
    settings, files = _named("template-override", "<tool_call>\n<function=name>\n<parameter=a>\n")
    parser = settings["vllm_serve_tool_call_parser"]
    own = parser_problem('<tool_call>{"name": "f", "arguments": {}}</tool_call>', parser)
    used = parser_problem(files.template or "", parser)
    said = f"{'refused' if used else 'accepted'}, by the model's own template {'refused' if own else 'accepted'}"
    right = "accepted, by the model's own template refused"
    return Row("template-override", _RIGHT["template-override"][0], f"parser {parser}", said, right, said == right)


def with_plugin() -> Row:
    """Return the row of a reasoning parser that only a plugin has."""
    settings, files = _named(
        "parser-plugin", '@ReasoningParserManager.register_module("nano_v3")\nclass Nano(ReasoningParser): ...\n'
    )
    parser = settings["vllm_serve_reasoning_parser"]
    said = f"{parser} {'is' if files.reasoning.has(parser) else 'is not'} the plugin's, nano_v4 {'is' if files.reasoning.has('nano_v4') else 'is not'}"
    right = "nano_v3 is the plugin's, nano_v4 is not"
    return Row("parser-plugin", _RIGHT["parser-plugin"][0], f"parser {parser}", said, right, said == right)
