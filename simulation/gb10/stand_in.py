#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Stands in a program's place on a simulated node and answers as /run/gb10/answers.json says; what is not in there, the program itself does.

A rule is taken when each of its `when` is part of the command line. It says `out`, `err` and `status`; `turns` is a list of
answers, one for each call; `query` and `rows` answer `--query-...=FIELDS --format=csv` as nvidia-smi does; `merge` changes what
the program itself says in JSON; `stdin` reads what is piped in first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path("/run/gb10")


def rows_of(rule: dict[str, Any], arguments: list[str]) -> tuple[int, str]:
    """Answer a query of nvidia-smi."""
    asked = next(argument for argument in arguments if argument.startswith(rule["query"])).partition("=")[2].split(",")
    plain = any("nounits" in argument for argument in arguments)
    lines = []
    for row in rule["rows"]:
        for name in asked:
            if name not in row:
                return 2, f'Field "{name}" is not a valid field to query.\n'
        values = [row[name].partition(" ")[0] if plain and row[name] != "[N/A]" else row[name] for name in asked]
        lines.append(", ".join(values))
    return 0, "".join(f"{line}\n" for line in lines)


def main() -> int:
    """Answer, or hand on."""
    name = Path(sys.argv[0]).name
    arguments = sys.argv[1:]
    line = " ".join(arguments)
    real = FOLDER / "real" / name
    rules = json.loads((FOLDER / "answers.json").read_text(encoding="utf-8")).get(name, [])
    for place, rule in enumerate(rules):
        if not all(words in line for words in rule["when"]):
            continue
        if rule.get("stdin"):
            sys.stdin.read()
        if "turns" in rule:
            counter = FOLDER / f"turn-{name}-{place}"
            turn = int(counter.read_text()) if counter.exists() else 0
            counter.write_text(str(turn + 1))
            rule = rule["turns"][min(turn, len(rule["turns"]) - 1)]
        if "merge" in rule:
            said = subprocess.run([real, *arguments], capture_output=True, text=True, check=False).stdout
            print(json.dumps({**json.loads(said or "{}"), **rule["merge"]}))
            return 0
        if "rows" in rule:
            status, out = rows_of(rule, arguments)
            sys.stdout.write(out)
            return status
        sys.stdout.write(rule.get("out", ""))
        sys.stderr.write(rule.get("err", ""))
        return int(rule.get("status", 0))
    if real.exists():
        os.execv(real, [name, *arguments])
    sys.stderr.write(f"{name}: the stand-in has no answer to: {line}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
