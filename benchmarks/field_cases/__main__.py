# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/field-cases.md and the plan's table in docs/figures.md: ``python -m benchmarks.field_cases``; ``--check`` writes nothing and fails when it would change or a row is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.field_cases import PAGE, ROOT, page, plan, sections

FIGURES = ROOT / "docs" / "figures.md"
BEGIN, END = "<!-- plan: begin -->\n", "<!-- plan: end -->\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 where a row is wrong, or, with --check, where the page would change."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field_cases", description="Write docs/field-cases.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page would change")
    options = parser.parse_args(arguments)
    found = sections()
    figures = FIGURES.read_text(encoding="utf-8")
    before, rest = figures.split(BEGIN)
    changed = False
    for path, text in ((PAGE, page(found)), (FIGURES, f"{before}{BEGIN}\n{plan.summary()}\n{END}{rest.split(END)[1]}")):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        changed = True
        print(f"{'would change' if options.check else 'written'}: {path.relative_to(ROOT)}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    wrong = [row for part in found for row in part.rows if not row.right]
    for row in wrong:
        print(f"wrong: {row.case}: {row.what}: {row.says}, reported {row.reported}")
    return 1 if wrong or (options.check and changed) else 0


if __name__ == "__main__":
    sys.exit(main())
