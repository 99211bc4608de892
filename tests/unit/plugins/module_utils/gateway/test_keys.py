# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Keys with names, as they are kept and refused. (What HAProxy makes of them: tests/unit/test_gateway.py.)"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.keys import (
    Key,
    KeyProblem,
    Keys,
    digest,
    held,
    maps,
    parse,
)

HASH = "a" * 64


def keys(folder: Path, check: bool = False) -> Keys:
    return Keys(folder, folder / "no.sock", check)


def test_a_key_is_shown_once_and_kept_as_its_hash(tmp_path: Path) -> None:
    held = keys(tmp_path)
    value = held.add(Key("alice", "", per_minute=60))
    held.save()
    assert value.startswith("sk-") and len(value) >= 40
    text = (tmp_path / "keys.json").read_text()
    assert value not in text and digest(value) in text
    assert (tmp_path / "names.map").read_text() == f"{digest(value)} alice\n"
    assert (tmp_path / "rates.map").read_text() == "alice 60\n"
    assert keys(tmp_path).keys[0].listed() | {"made": ""} == {
        "name": "alice",
        "role": "user",
        "per_minute": 60,
        "at_once": 0,
        "ends": "",
        "made": "",
        "follows": False,
    }
    # No difference shows what is in a file for root alone.
    assert held.diff == []


def test_the_last_day_is_whole() -> None:
    key = Key("a", HASH, ends="2027-01-31")
    assert key.end_s() == 1801440000  # 2027-02-01 00:00:00 UTC
    assert Key("a", HASH).end_s() == 0
    assert maps([key])["ends"] == [("a", "1801440000")]


def test_the_first_key_is_the_servers_and_follows_it_until_it_is_rotated(tmp_path: Path) -> None:
    def site(value: str) -> Keys:
        held = keys(tmp_path)
        held.server(value)
        held.save()
        return held

    assert "added key default" in site("the-key-so-far").actions
    assert site("the-key-so-far").actions == []
    assert "key default is the server's new key" in site("another-key").actions
    assert keys(tmp_path).keys[0].sha256 == digest("another-key")
    assert (tmp_path / "server.map").read_text() == "key another-key\n"
    assert (tmp_path / "server.map").stat().st_mode & 0o777 == 0o600
    held = keys(tmp_path)
    own = held.rotate("default")
    held.save()
    site("a-third-key")
    assert keys(tmp_path).keys[0].sha256 == digest(own)


def test_a_withdrawn_first_key_does_not_come_back(tmp_path: Path) -> None:
    for step in ("made", "withdrawn", "site again"):
        held = keys(tmp_path)
        held.server("the-key-so-far")
        if step == "withdrawn":
            held.withdraw("default")
        held.save()
    assert keys(tmp_path).keys == []
    assert (tmp_path / "names.map").read_text() == ""


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    held = keys(tmp_path, check=True)
    held.add(Key("alice", ""))
    held.save()
    assert held.actions and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "Alice"}, "name is 'Alice', expected"),
        ({"name": ""}, "name is ''"),
        ({"name": "a\nb"}, "name is 'a\\nb'"),
        ({"name": "a" * 33}, "up to 32"),
        ({"name": "keyless"}, "stands for requests without a key"),
        ({"role": "root"}, "role of key a is 'root', expected user or operator"),
        ({"per_minute": -1}, "per_minute of key a is -1"),
        ({"at_once": True}, "at_once of key a is True"),
        ({"at_once": 10**9}, "to 1000000"),
        ({"ends": "tomorrow"}, "ends of key a is 'tomorrow', expected a day such as 2027-01-31"),
        ({"ends": "2027-02-30"}, "ends of key a"),
    ],
)
def test_what_is_not_usable_is_one_sentence_and_nothing_is_changed(
    tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    held = keys(tmp_path)
    with pytest.raises(KeyProblem, match="expected") as caught:
        held.add(Key(**{"name": "a", "sha256": "", **fields}))
    assert said in str(caught.value)
    assert held.keys == []


def test_names_and_keys_are_one_s_own(tmp_path: Path) -> None:
    held = keys(tmp_path)
    held.server("the-same-key", first="a")
    held.save()
    with pytest.raises(KeyProblem, match="there is a key a already"):
        held.add(Key("a", ""))
    with pytest.raises(KeyProblem, match="is the key of another name than a: rotate that one"):
        held.keys.append(Key("c", digest("another-key")))
        held.server("another-key")
    del held.keys[1]
    held.actions.clear()
    assert [key.name for key in held.keys] == ["a"]
    with pytest.raises(KeyProblem, match="there is no key b, known are a"):
        held.rotate("b")
    held.withdraw("b")
    assert held.actions == []


@pytest.mark.parametrize("value", ["", "short", " padded-key ", "with\nbreak-in-it"])
def test_a_first_key_that_no_client_could_send(tmp_path: Path, value: str) -> None:
    with pytest.raises(KeyProblem, match="is not usable"):
        keys(tmp_path).server(value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "has no list `keys`"),
        ({"keys": "a"}, "has no list `keys`"),
        ({"keys": [{"name": "a"}]}, "unknown or missing fields"),
        ({"keys": [{"name": "a", "sha256": HASH, "more": 1}]}, "unknown or missing fields: more, name, sha256"),
        ({"keys": ["a"]}, "unknown or missing fields"),
        ({"keys": [{"name": "a", "sha256": "x"}]}, "is no SHA-256"),
        ({"keys": [{"name": "a", "sha256": HASH, "follows": "yes"}]}, "follows of key a is 'yes'"),
        ({"keys": [{"name": "a", "sha256": HASH}, {"name": "a", "sha256": "b" * 64}]}, "two keys of the name a"),
        ({"keys": [{"name": "a", "sha256": HASH}, {"name": "b", "sha256": HASH}]}, "one key under two names, a and b"),
    ],
)
def test_a_file_that_was_edited_is_told(document: Any, said: str) -> None:
    with pytest.raises(KeyProblem) as caught:
        parse(document, Path("/etc/keys.json"))
    assert said in str(caught.value)


def test_a_file_that_others_read_or_that_is_no_json_stops(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": []}))
    file.chmod(0o644)
    with pytest.raises(KeyProblem, match=r"may be read by others \(mode 0644\): run `chmod 600"):
        keys(tmp_path)
    file.chmod(0o600)
    assert keys(tmp_path).keys == []
    file.write_text("{")
    with pytest.raises(KeyProblem, match="is no JSON"):
        keys(tmp_path)


def test_a_program_s_key_lies_in_a_file_for_root_alone(tmp_path: Path) -> None:
    file = tmp_path / "chat" / "key"

    def given(check: bool = False, **limits: Any) -> tuple[Keys, str]:
        made = keys(tmp_path, check)
        held(made, "open-webui", file, limits)
        made.save()
        return made, file.read_text().strip() if file.exists() else ""

    foreseen, value = given(check=True)
    assert foreseen.actions and value == "" and not (tmp_path / "keys.json").exists()
    _made, value = given()
    assert keys(tmp_path).keys[0].sha256 == digest(value)
    assert file.stat().st_mode & 0o777 == 0o400
    again, same = given()
    assert (again.actions, same) == ([], value)
    assert value not in str(_made.diff)

    # Rotated or withdrawn by hand: the program gets a new one, the earlier one stays refused.
    for change_it in (lambda made: made.rotate("open-webui"), lambda made: made.withdraw("open-webui")):
        by_hand = keys(tmp_path)
        change_it(by_hand)
        by_hand.save()
        _made, newer = given()
        assert newer != value and [key.sha256 for key in keys(tmp_path).keys] == [digest(newer)]
        value = newer
    file.unlink()
    assert given()[1] != value

    # Limits that were given by hand stay.
    limited = keys(tmp_path)
    limited.limit("open-webui", per_minute=60)
    limited.save()
    given()
    assert keys(tmp_path).keys[0].per_minute == 60
