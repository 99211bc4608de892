# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Marks of chat templates that people mistook for others, through the look at template and parser."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.chat_template import parser_problem

from benchmarks.field_cases import CASES, Row, Section

FOLDER = CASES / "templates"
ABOUT = (
    "Which tool call parser reads what a template makes the model write. Right is the parser of vLLM 0.33 that looks for the same marks (its source is the reference), and "
    "that another one is refused. [templates.md](templates.md) has the verdict for each template that llama.cpp and vLLM ship."
)
#: Parser that reads each template, and one that was taken for it.
_DSML = {"dsml-v32": ("deepseek_v32", "deepseek_v4"), "dsml-v4": ("deepseek_v4", "deepseek_v32")}


def section() -> Section:
    """Return the rows of all cases."""
    return Section("Chat templates and parsers", ABOUT, list(rows()))


def rows() -> Iterator[Row]:
    """Return the rows of each template and of each line of marks; a file without one is an error."""
    for path in sorted(FOLDER.glob("*.jinja")):
        template = path.read_text(encoding="utf-8")
        for parser, right in zip(_DSML[path.stem], ("reads it", "refused"), strict=True):
            yield _row(path.stem, "marks of vLLM's parsers for DeepSeek's releases", template, parser, right)
    lines = (FOLDER / "MARKS.tsv").read_text(encoding="utf-8").splitlines()[1:]
    for number, line in enumerate(lines, start=1):
        marks, reads, refused = line.split("\t")
        template = marks.replace(" + ", " ").replace('{"name": , "parameters": }', '{"name": "f", "parameters": {}}')
        source = f"vLLM's sources: {marks}"
        if not reads.startswith("("):
            yield _row(f"MARKS-{number}", source, template, reads, "reads it")
        yield _row(f"MARKS-{number}", source, template, refused, "refused")


def _row(case: str, source: str, template: str, parser: str, right: str) -> Row:
    said = parser_problem(template, parser)
    return Row(
        case, source, parser, f"refused: {said}" if said else "reads it", right, bool(said) == (right == "refused")
    )
