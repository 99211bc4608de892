# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What stands in a list of packages with hashes, and what pip says where a file is another."""

from __future__ import annotations

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.pip_lock import (
    Entry,
    canonical,
    covers,
    entries,
    outdated,
    refused,
)

# Invented hashes; the form is that of bin/locks.py.
LOCK = """# huggingface_hub==2.4.0 and all that it needs
# Written by a program.
filelock==4.1.0 ; python_version < '3.11' \\
    --hash=sha256:aa
filelock==4.2.12 ; python_version >= '3.11' \\
    --hash=sha256:bb \\
    --hash=sha256:cc
# With the hashes of 1, 2: a comment between.
huggingface_hub==2.4.0 \\
    --hash=sha256:dd
ray[default]==2.56.1 \\
    --hash=sha256:ee"""
# Recorded: pip 26.3; pip 22.3.1 says the same, with the file's hash behind its address.
REFUSED = """ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have updated the package versions, please update the hashes. Otherwise, examine the package contents carefully; someone may have tampered with them.
    six==1.17.0 from https://files.example/six-1.17.0-py2.py3-none-any.whl (from -r bad.txt (line 1)):
        Expected sha256 0000000000000000000000000000000000000000000000000000000000000000
        Expected     or 1000000000000000000000000000000000000000000000000000000000000000
             Got        4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274
"""


def test_a_list_has_each_package_with_its_lines() -> None:
    found = entries(LOCK)
    assert [(entry.name, entry.version) for entry in found] == [
        ("filelock", "4.1.0"),
        ("filelock", "4.2.12"),
        ("huggingface-hub", "2.4.0"),
        ("ray", "2.56.1"),
    ]
    kept = [line for line in LOCK.splitlines() if not line.startswith("#")]
    assert "".join(entry.text for entry in found).splitlines() == kept
    assert entries("") == entries("# nothing\n") == []


@pytest.mark.parametrize("name", ["huggingface_hub", "Huggingface-Hub", "huggingface.hub"])
def test_a_name_is_compared_as_pip_does(name: str) -> None:
    assert canonical(name) == "huggingface-hub"


@pytest.mark.parametrize(
    ("pins", "there"),
    [
        ({"huggingface-hub": "2.4.0"}, True),
        ({"huggingface-hub": "2.4.1"}, False),
        ({"huggingface-hub": "2.4.0", "own": "1"}, False),
        ({"filelock": "4.1.0"}, True),
    ],
)
def test_whether_a_list_has_what_is_wanted(pins: dict[str, str], there: bool) -> None:
    assert covers(entries(LOCK), pins) is there
    assert not covers([], pins)


def test_what_is_there_in_another_version_than_any_of_the_list() -> None:
    have = {"filelock": "4.3.1", "huggingface-hub": "2.4.0", "pip": "23.0"}
    assert outdated(entries(LOCK), have) == {"filelock"}
    assert outdated(entries(LOCK), {**have, "filelock": "4.1.0"}) == set()
    assert outdated([Entry("a", "1", "a==1")], {}) == set()


@pytest.mark.parametrize("before", ["", "#8 1.234 "], ids=["pip", "in a build of BuildKit"])
def test_a_file_that_pip_refused(before: str) -> None:
    said = "".join(f"{before}{line}\n" for line in REFUSED.splitlines())
    assert refused(said) == (
        "six==1.17.0 from https://files.example/six-1.17.0-py2.py3-none-any.whl has the SHA-256 "
        "4721f391ed90541fddacab5acf947aa0d3dc7d27b2e1e8eda2be8970586c3274, which is not in the list of this collection"
    )
    secret = said.replace("https://files.example/", "https://me:secret@files.example/").replace(
        ".whl ", ".whl#sha256=47 "
    )
    assert refused(secret) == refused(said)


@pytest.mark.parametrize(
    "said", ["", "ERROR: No matching distribution found for six==1.17.0", "DO NOT MATCH THE HASHES"]
)
def test_other_complaints_are_none_of_a_hash(said: str) -> None:
    assert refused(said) == ""
