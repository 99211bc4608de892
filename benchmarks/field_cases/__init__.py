# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What real machines and real users showed, held against what the product says: the cases of tests/field_cases as docs/field-cases.md.

Every module beside this one that has a function `section` adds a section, in the order of their names: it returns a `Section`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CASES = ROOT / "tests" / "field_cases"
PAGE = ROOT / "docs" / "field-cases.md"
HEADER = """# Cases from the field

What owners of DGX Sparks and other users of vLLM published (logs, bug reports, files of models), held against what this collection says of it. Written by
`python -m benchmarks.field_cases`; the inputs are in `tests/field_cases`, one file a case, and a test fails where a row is wrong or this page is old.

"""


@dataclass(frozen=True)
class Row:
    """One figure or verdict of a case.

    Attributes:
        case: name of the input.
        source: where it comes from.
        what: figure that is compared.
        says: what the product says.
        reported: what was seen.
        right: whether both agree.
    """

    case: str
    source: str
    what: str
    says: str
    reported: str
    right: bool


@dataclass(frozen=True)
class Section:
    """One part of the page: a title, what it is about, its rows, and what is still open."""

    title: str
    about: str
    rows: Sequence[Row]
    open_ends: Sequence[str] = ()


def sections() -> list[Section]:
    """Return the sections of all modules here."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names if name != "__main__"]
    return [module.section() for module in modules if hasattr(module, "section")]


def page(parts: Sequence[Section]) -> str:
    """Return the page as Markdown."""
    text = HEADER
    for part in parts:
        right = sum(row.right for row in part.rows)
        text += f"## {part.title}\n\n{part.about}\n\n{right} of {len(part.rows)} right.\n\n"
        text += "| case | source | figure | this collection says | reported | right |\n|---|---|---|---|---|---|\n"
        last = ""
        for row in part.rows:
            first = (f"`{row.case}`", _cell(row.source)) if row.case != last else ("", "")
            last = row.case
            cells = (*first, *map(_cell, (row.what, row.says, row.reported)), "yes" if row.right else "**no**")
            text += f"| {' | '.join(cells)} |\n"
        text += "\n"
        if part.open_ends:
            text += "Open:\n\n" + "".join(f"- {line}\n" for line in part.open_ends) + "\n"
    return text.rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
