# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Write docs/field-cases.md: ``python -m benchmarks.field_cases``; ``--check`` writes nothing and fails when it would change or a row is wrong."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.field_cases import PAGE, ROOT, page, sections


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 where a row is wrong, or, with --check, where the page would change."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.field_cases", description="Write docs/field-cases.md.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page would change")
    options = parser.parse_args(arguments)
    found = sections()
    text = page(found)
    changed = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text
    if changed:
        print(f"{'would change' if options.check else 'written'}: {PAGE.relative_to(ROOT)}")
        if not options.check:
            PAGE.write_text(text, encoding="utf-8")
    wrong = [row for part in found for row in part.rows if not row.right]
    for row in wrong:
        print(f"wrong: {row.case}: {row.what}: {row.says}, reported {row.reported}")
    return 1 if wrong or (options.check and changed) else 0


if __name__ == "__main__":
    sys.exit(main())
