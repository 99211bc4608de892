# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.mutations [WORD...]``: break the code in one place after the other and see the unit tests notice each.

Each mutation runs in a copy of the checkout; only those whose name has one of the words, where words are given. First all the named tests run
on the code as it is: they must pass there, or their failure would prove nothing. Exit status 1 where a mutation was not noticed, or does not
fit the code any more.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutations.catalog import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
#: What no unit test reads; the copy is made once a worker.
LEFT_OUT = (".git", ".venv", ".ansible", ".cache", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
#: Seconds after which a mutation counts as one that hangs the tests; they take about two when nothing else runs.
PATIENCE = 300
CAUGHT, NOT_CAUGHT = "caught", "NOT CAUGHT"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came of a mutation: ``state`` in words, seconds, and for all but a caught one what was said."""

    mutation: Mutation
    state: str
    seconds: float
    said: str = ""


def mutate(root: Path, mutation: Mutation) -> str:
    """Break the copy; return the text that was there. Raises ValueError where the mutation does not fit the code."""
    path = root / mutation.file
    if not path.is_file():
        raise ValueError(f"there is no {mutation.file}")
    text = path.read_text(encoding="utf-8")
    found = text.count(mutation.old)
    if found != 1:
        raise ValueError(f"its text is {found} times in {mutation.file}, expected once: {mutation.old!r}")
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    return text


def run_tests(root: Path, tests: Sequence[str], workers: int = 0) -> tuple[int, str]:
    """Run tests in a copy; pytest's exit status (-1 where they did not end) and what it wrote."""
    # Bytecode is compared by its source's second and size: a mutation of equal length would be missed.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-n", str(workers), *tests]
    try:
        done = subprocess.run(
            argv, cwd=root, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"the tests did not end within {PATIENCE} s"
    return done.returncode, done.stdout + done.stderr


def judge(root: Path, mutation: Mutation) -> Verdict:
    """Apply one mutation to a copy, run its tests, and put the code back."""
    start = time.monotonic()
    try:
        before = mutate(root, mutation)
    except ValueError as error:
        return Verdict(mutation, "STALE", 0, str(error))
    try:
        status, said = run_tests(root, mutation.tests)
    finally:
        (root / mutation.file).write_text(before, encoding="utf-8")
    # pytest: 0 all passed, 1 a test failed; all else (nothing collected, a bad name) proves nothing.
    state = {0: NOT_CAUGHT, 1: CAUGHT}.get(status, f"pytest ended with {status}")
    return Verdict(mutation, state, time.monotonic() - start, "" if state == CAUGHT else said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutations and show the table."""
    options = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    options.add_argument("words", nargs="*", metavar="WORD", help="part of a mutation's name")
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args(arguments)
    chosen = [one for one in MUTATIONS if not given.words or any(word in one.name for word in given.words)]
    if not chosen:
        print(f"ERROR: no mutation's name has {' or '.join(given.words)}.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mutations-") as place:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(given.workers):
            copy = Path(place, str(number))
            shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
            copies.put(copy)
        copy = copies.get()
        status, said = run_tests(copy, sorted({test for one in chosen for test in one.tests}), given.workers)
        copies.put(copy)
        if status:
            print(f"{said}\nERROR: the tests fail on the code as it is.", file=sys.stderr)
            return 1

        def work(mutation: Mutation) -> Verdict:
            mine = copies.get()
            try:
                return judge(mine, mutation)
            finally:
                copies.put(mine)

        with concurrent.futures.ThreadPoolExecutor(given.workers) as pool:
            verdicts = list(pool.map(work, chosen))
    for one in verdicts:
        print(f"{one.state:<12} {one.seconds:5.1f} s  {one.mutation.name}")
    bad = [one for one in verdicts if one.state != CAUGHT]
    for one in bad:
        print(f"\n--- {one.mutation.name} ({one.mutation.file}): {one.state}\n{one.said.strip()}")
    print(f"\n{len(verdicts) - len(bad)} of {len(verdicts)} mutations were caught.")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
