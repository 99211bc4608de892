# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The collection as it is built: all that a user needs, and nothing that somebody's checkout holds besides."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: What lies in a checkout that is in use.
PRIVATE = (
    ".env",
    ".vault-password",
    "artifacts/site.log",
    "benchmark.html",
    "dgx-spark-report-2026-11-25.html",
    "dgx-spark-diagnosis-2026-11-25.tar.gz",
    "docs/notes.txt",
    "id_ed25519",
    "inventory/mine/group_vars/all.yml",
    "inventory/mine/hosts.yml",
    "inventory/sparks/hosts.yml",
    "notes.md.swp",
    "playbooks/files/key.pem",
    "plugins/module_utils/__pycache__/x.pyc",
    "roles/cluster_secrets/files/api_key",
    "vars.yml",
    ".netrc",
    "LICENSES/key.pem",
    "changelogs/fragments/notes.txt",
    "examples/.env",
    "examples/notes.log",
    "meta/token",
)
#: Folders that are packed whole, as far as they are under version control.
WHOLE = ("meta/", "models/", "playbooks/", "plugins/", "roles/", "docs/", "changelogs/", "examples/")
#: Files of those folders that serve the checkout alone.
UNPACKED = {"docs/exposure.py", "docs/generate.py", "changelogs/fragments/.gitkeep"}


def tracked() -> list[str]:
    """Return the files under version control."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files of the artefact that a used checkout gives."""
    checkout = tmp_path_factory.mktemp("used") / "checkout"
    for name in tracked():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, checkout / name, follow_symlinks=False)
    for name in PRIVATE:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("private\n")
    tool = Path(sys.executable).parent / "ansible-galaxy"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [tool, "collection", "build", "--output-path", str(checkout.parent)],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = checkout.parent.glob("dgx_spark-vllm-*.tar.gz")
    with tarfile.open(archive) as found:
        return {member.name for member in found if not member.isdir()} - {"MANIFEST.json", "FILES.json"}


def test_nothing_private_is_packed(packed: set[str]) -> None:
    assert not packed & set(PRIVATE)
    assert packed <= set(tracked())


def test_everything_that_a_user_needs_is_packed(packed: set[str]) -> None:
    wanted = {name for name in tracked() if name.startswith(WHOLE) and name not in UNPACKED}
    assert wanted - packed == set()
    assert {"LICENSE", "README.md", "requirements.txt", "requirements.yml", "site.yml"} <= packed
    assert not {name for name in packed if name.startswith(("simulation/", "tests/unit/", "molecule/", "inventory/"))}
