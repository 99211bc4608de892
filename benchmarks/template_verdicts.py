# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Judge chat templates that others ship, and write the table of docs/templates.md.

``python -m benchmarks.template_verdicts "package version"=FOLDER ... > docs/templates.md``, where FOLDER holds templates (``*.jinja``, also
in folders below): the source packages of PyPI, unpacked (``pip download --no-binary :all: --no-deps llama-cpp-python vllm``). Each is judged by its marks and, where Jinja can render it, by a call that it has written itself: the second way knows
nothing of the first.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.chat_template import (
    Format,
    call_in_text,
    parser_note,
    parser_problem,
    tool_format,
)
from jinja2 import TemplateError
from jinja2.sandbox import SandboxedEnvironment

HEADER = """# Verdicts on chat templates

Written by `python -m benchmarks.template_verdicts` (its first lines say how). "Writes" is what the marks in the template say, "read by" the parsers that are
let through; any other is refused. "Rendered" compares it with a call that the template itself wrote into a conversation: agrees, or why it could not be
compared; "asked for" where the prompt shows the format and the template repeats a call otherwise or not at all. Of a template whose format is not known a
parser is never refused; a note says when the parser's own mark is nowhere in it. Templates for embedding and ranking are among those without tools. A
template that a package has twice under one name stands here once.
"""
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "City"}},
            "required": ["location"],
        },
    },
}


def conversation(arguments: Any) -> list[dict[str, Any]]:
    """Return a question, a call and its result, with arguments as text or as a mapping: templates want the one or the other."""
    function = {"name": "get_weather", "arguments": arguments}
    # Mistral's templates want nine letters.
    call = {"id": "123456789", "type": "function", "function": function}
    return [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "123456789", "name": "get_weather", "content": "18"},
    ]


def environment() -> SandboxedEnvironment:
    """Return Jinja as transformers sets it up for chat templates."""
    made = SandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    made.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, indent=options.get("indent")
    )
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = lambda form: datetime(2026, 1, 1, tzinfo=UTC).strftime(form)
    return made


def _refuse(words: str) -> None:
    raise TemplateError(words)


def conversation_text(template: str) -> str:
    """Return the conversation as the template writes it.

    Raises:
        TemplateError, TypeError, ValueError: it cannot be rendered.
    """
    failed: Exception | None = None
    for arguments in ({"location": "Paris"}, '{"location": "Paris"}'):
        try:
            return str(
                environment()
                .from_string(template)
                .render(messages=conversation(arguments), tools=[TOOL], bos_token="<s>", eos_token="</s>")
            )
        except (TemplateError, TypeError, ValueError) as error:
            failed = error
    raise failed or TemplateError("not rendered")


def written_call(text: str) -> str:
    """Return what stands around the call in a conversation; empty when there is none."""
    start = text.rfind("get_weather", 0, max(text.rfind("Paris"), 0))
    return text[max(0, start - 60) : start + 140] if start >= 0 else ""


def rendered(template: str, found: Format | None) -> str:
    """Return whether the call that a template writes is what its marks say."""
    try:
        whole = conversation_text(template)
    except (TemplateError, TypeError, ValueError):
        return "cannot be rendered alone"
    text = written_call(whole)
    call = call_in_text(text, ["get_weather"]) if text else None
    asked = found is not None and all(mark in whole for mark in found.marks)
    if call is None:
        return "asked for" if asked else "writes no call"
    if found and (call.parsers == found.parsers or set(call.parsers) & set(found.parsers)):
        return "agrees"
    # Cohere's reasoning tells its two formats apart, and this conversation has none.
    if found and found.marks[0] in text:
        return "agrees"
    return "asked for" if asked else f"**differs: {call.name}**"


def lines(package: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Return each template's line of the table, and its verdict in a word."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*.jinja"), key=lambda path: (path.name.lower(), str(path))):
        template = path.read_text(encoding="utf-8")
        if (path.stem, template) in seen:
            continue
        # Two of one name: the folder tells them apart.
        title = f"{path.parent.name}/{path.stem}" if any(path.stem == name for name, _text in seen) else path.stem
        seen.add((path.stem, template))
        found = tool_format(template)
        if found:
            read = ", ".join((*found.parsers, *found.also)) or "none of vLLM's"
            verdict = "format known"
        else:
            note = parser_note(template, "hermes")
            read = "any, with a note" if note else "any"
            verdict = "no tools" if "never speaks" in note else "format not known"
        name = f"`{found.name}`" if found else verdict
        old = " (glm45 since 0.26)" if parser_problem(template, "glm45", (0, 25)) and "glm45" in read else ""
        cells = (package, title, name.replace("|", "\\|"), read + old, rendered(template, found))
        yield f"| {' | '.join(cells)} |", verdict


def main(arguments: list[str]) -> None:
    """Print the page."""
    table: list[str] = []
    counts: Counter[str] = Counter()
    for argument in arguments:
        package, _equals, folder = argument.partition("=")
        for line, verdict in lines(package, Path(folder)):
            table.append(line)
            counts[verdict] += 1
    agreed = sum(line.endswith(("| agrees |", "| asked for |")) for line in table)
    differ = sum("**differs" in line for line in table)
    said = ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
    print(HEADER)
    print(
        f"{len(table)} templates: {said}. Of those that could be rendered with a call {agreed} agree and {differ} differ.\n"
    )
    print("| package | template | writes | read by | rendered |\n|---|---|---|---|---|")
    print("\n".join(table))


if __name__ == "__main__":
    main(sys.argv[1:])
