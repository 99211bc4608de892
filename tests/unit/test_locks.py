# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The lists of packages with hashes are those of the roles' defaults, whole for every Python, and bin/locks.py writes their form."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.image_layer import SIBLINGS
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.pip_lock import canonical, covers, entries
from packaging.markers import Marker

from simulation import images

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bin"))
import locks  # noqa: E402 - the path is set just above

LISTS = locks.locks()
PLACES = [(minor, machine) for minor in locks.PYTHONS for machine in locks.MACHINES]


def package(name: str = "part", version: str = "1.0", *hashes: str, url: str = locks.FILES) -> dict[str, Any]:
    """Return what uv says of a package; invented but for its form."""
    wheels = [{"url": f"{url}x/{name}-{version}.whl", "hashes": {"sha256": digest}} for digest in hashes or ("aa",)]
    return {"name": name, "version": version, "wheels": wheels}


@pytest.mark.parametrize("lock", LISTS, ids=lambda lock: lock.path.parent.parent.name)
def test_a_list_is_for_the_default_and_every_line_has_a_hash(lock: locks.Lock) -> None:
    text = lock.path.read_text(encoding="utf-8")
    found = entries(text)
    name, _equals, version = lock.wanted.partition("==")
    assert covers(found, {canonical(name.partition("[")[0]): version})
    assert f"\n{lock.wanted} \\\n" in text
    assert "://" not in text
    # Nothing of the file is overlooked, and each package is a pin with hashes.
    assert "".join(entry.text for entry in found) == re.sub(r"(?m)^#.*\n", "", text)
    for entry in found:
        first, *rest = entry.text.splitlines()
        assert re.fullmatch(r"[\w.-]+(\[default\])?==[\w.]+( ; python_version [<>]=? '3\.\d+')* \\", first), first
        assert rest and all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in rest), entry.name


@pytest.mark.parametrize("minor", locks.PYTHONS)
@pytest.mark.parametrize("lock", LISTS, ids=lambda lock: lock.path.parent.parent.name)
def test_a_list_has_one_version_for_a_python(lock: locks.Lock, minor: int) -> None:
    names = []
    for entry in entries(lock.path.read_text(encoding="utf-8")):
        _pin, _semicolon, marker = entry.text.partition("\\\n")[0].partition(";")
        if not marker.strip() or Marker(marker.strip()).evaluate({"python_version": f"3.{minor}"}):
            names.append(entry.name)
    assert len(names) == len(set(names)) > 10


def test_one_list_of_a_node_for_spark_and_simulation() -> None:
    assert [lock.path for lock in LISTS if lock.wanted.startswith("huggingface_hub")] == [images.NODE_LOCK]


def test_what_the_image_decides_has_hashes_of_several_releases() -> None:
    assert set(locks.SIBLINGS) == set(SIBLINGS)
    found = {entry.name: entry.text for lock in LISTS for entry in entries(lock.path.read_text(encoding="utf-8"))}
    for name, count in locks.SIBLINGS.items():
        assert found[name].count("--hash") == count


def test_what_uv_found_becomes_a_list() -> None:
    found = {
        place: [package("hub", "2.0"), package("part", "1.0" if place[0] < 11 else "1.1", "bb", "cc")]
        for place in PLACES
    }
    found[10, "aarch64"].append(package("old"))
    found[10, "x86_64"].append(package("old"))
    lines = locks.text("hub==2.0", found, {"part": [package("part", "0.9", "dd")]}).splitlines()
    assert lines[0].startswith(
        "# hub==2.0 and all that it needs: wheels of PyPI with their SHA-256, for Python 3.10 to 3.14 on"
    )
    assert lines[2:] == [
        "hub==2.0 \\",
        "    --hash=sha256:aa",
        "old==1.0 ; python_version < '3.11' \\",
        "    --hash=sha256:aa",
        "# With the hashes of 0.9: the image decides.",
        "part==1.0 ; python_version < '3.11' \\",
        "    --hash=sha256:bb \\",
        "    --hash=sha256:cc \\",
        "    --hash=sha256:dd",
        "# With the hashes of 0.9: the image decides.",
        "part==1.1 ; python_version >= '3.11' \\",
        "    --hash=sha256:bb \\",
        "    --hash=sha256:cc \\",
        "    --hash=sha256:dd",
    ]
    assert (
        locks.text("hub_of[x]==2.0", {place: [package("hub-of", "2.0")] for place in PLACES}, {}).splitlines()[2]
        == "hub_of[x]==2.0 \\"
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (
            {place: [package(url="https://mirror.example/")] for place in PLACES},
            "mirror.example/x/part-1.0.whl is no file of PyPI",
        ),
        (
            {PLACES[0]: [package()]},
            r"part==1.0 is for \[\(10, 'aarch64'\)\], which is no range of Pythons on each machine",
        ),
        ({place: [package()] for place in PLACES if place[0] != 12}, "which is no range of Pythons"),
    ],
)
def test_what_no_list_can_say(found: locks.Found, words: str) -> None:
    with pytest.raises(locks.LockError, match=words):
        locks.text("part==1.0", found, {})


def test_the_command_asks_uv_for_every_python_and_machine_and_writes_the_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a uv that answers at once; what the real one finds is seen when the lists are renewed."""
    uv = tmp_path / "uv"
    uv.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n"
        f"with open('{tmp_path}/asked', 'a') as log:\n    print(*sys.argv[1:], file=log)\n"
        "found = sys.argv[sys.argv.index('--output-file') + 1]\n"
        "pins = [line for line in Path(sys.argv[-1]).read_text().splitlines() if '==' in line]\n"
        "if pins[0].startswith('bad'):\n    sys.exit('no solution\\nfound')\n"
        "name, _, version = pins[0].partition('==')\n"
        f'wheels = \'[{{ url = "{locks.FILES}x.whl", hashes = {{ sha256 = "00" }} }}]\'\n'
        'Path(found).write_text(f\'[[packages]]\\nname = "{name}"\\nversion = "{version}"\\nwheels = {wheels}\\n\')\n'
    )
    uv.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(locks, "ROOT", tmp_path)
    wanted = locks.Lock("hub==2.0", tmp_path / "role" / "files.txt", ["held<3"])
    (tmp_path / "role").mkdir()
    monkeypatch.setattr(locks, "locks", lambda: [wanted])
    assert locks.main([]) == 0
    assert capsys.readouterr().out == "wrote role/files.txt\n"
    assert wanted.path.read_text().endswith("hub==2.0 \\\n    --hash=sha256:00\n")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == len(PLACES)
    assert all("--only-binary :all: --exclude-newer 7 days" in line for line in asked)
    assert {re.findall(r"--python-version (\S+) --python-platform (\S+)", line)[0] for line in asked} == {
        (f"3.{minor}", f"{machine}-manylinux_2_36") for minor, machine in PLACES
    }

    monkeypatch.setattr(locks, "locks", lambda: [locks.Lock("bad==1", tmp_path / "never")])
    assert locks.main([]) == 1
    assert "uv finds no bad==1 for Python 3.10 on aarch64: no solution found\n" in capsys.readouterr().err
    uv.unlink()
    assert locks.main([]) == 1
    assert capsys.readouterr().err.startswith("ERROR: uv is not there: `pip install uv`")
    assert locks.main(["x"]) == 2
    assert not (tmp_path / "never").exists()


def test_releases_go_back_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(wanted: list[str], *_rest: Any) -> list[dict[str, Any]]:
        _name, _less, bound = wanted[0].partition("<")
        return [package("part", str(int(bound or 9) - 1))]

    monkeypatch.setattr(locks, "resolve", answer)
    assert [release["version"] for release in locks.releases("part", 3)] == ["8", "7", "6"]
