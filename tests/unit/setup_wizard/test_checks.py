# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Every answer is checked, and a bad one gets a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from setup_wizard import checks
from setup_wizard.console import Console, Refusal


@pytest.mark.parametrize("text", ["10.0.0.5", "fd00::5", "spark-1", "spark-1.lan.", "Localhost"])
def test_addresses_that_are_taken(text: str) -> None:
    assert checks.address(text) == text.rstrip(".").lower()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no address"),
        ("10.0.0.300", "is no address: expected one like 10.0.0.5"),
        ("10.0.0", "is no address"),
        ("you@10.0.0.5", "holds a user"),
        ("-oProxyCommand=x", "is no address"),
        ("a b", "is no address"),
        ("http://spark", "is no address"),
        ("0.0.0.0", "no address of one machine"),
        ("224.0.0.1", "no address of one machine"),
        ("SPARK-2", "named already"),
    ],
)
def test_addresses_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checks.address(text, ["spark-2"])


@pytest.mark.parametrize("text", ["you there", "-l", "", "a;b"])
def test_a_user_is_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="no name of a user"):
        checks.user(text)
    assert checks.user("you.there") == "you.there"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("192.168.100", "no IPv4 address"),
        ("192.168.100.11/24", "no IPv4 address"),
        ("192.168.100.0", "no address of a node"),
        ("192.168.100.255", "no address of a node"),
        ("192.168.100.10", "address of another node"),
        ("192.168.101.11", "not in the subnet of 192.168.100.10"),
    ],
)
def test_an_address_on_the_link_fits_the_others(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checks.fabric_address(text, ["192.168.100.10"])


@pytest.mark.parametrize("text", ["models", "/", "/a b", "/srv/../etc", "$HOME/models", "~/models"])
def test_a_store_is_a_full_path(text: str) -> None:
    with pytest.raises(ValueError, match="full path like /srv/models"):
        checks.store(text)
    assert checks.store("/data/models/") == "/data/models"


def test_options_of_ssh_are_options() -> None:
    assert checks.ssh_args("-F 'my file'") == "-F 'my file'"
    for text, said in (("reboot", "do not begin with an option"), ("-F 'x", "cannot be read")):
        with pytest.raises(ValueError, match=said):
            checks.ssh_args(text)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (["a"], "holds no mapping"),
        ({"password": "x"}, "'password' is unknown: known are nodes, user"),
        ({"nodes": "10.0.0.5"}, "expected a list"),
        ({"nodes": []}, "expected a list"),
        ({"nodes": [1]}, "expected a list"),
        ({"user": 5}, "expected a text"),
        ({"nodes": ["a", "b", "c", "d", "e"]}, "nodes are 5, expected at most 4"),
    ],
)
def test_a_file_of_answers_is_checked(raw: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        checks.answers(raw, "my.yml")


def console(*lines: str, **options: Any) -> tuple[Console, list[str]]:
    said: list[str] = []
    left = list(lines)

    def read(prompt: str) -> str:
        said.append(prompt)
        if not left:
            raise EOFError
        return left.pop(0)

    return Console(say=said.append, read=read, **options), said


def test_a_person_is_asked_until_it_fits() -> None:
    asking, said = console("you there", "", "you")
    assert asking.ask("user", "User", "me", checks.user) == "me"
    assert said == ["User [me]: ", "  'you there' is no name of a user.", "User [me]: "]
    asking, said = console("perhaps", "Y")
    assert asking.yes("Well?", default=False) and said[1] == "  Answer y or n."


def test_the_file_comes_first_and_is_not_asked_again() -> None:
    asking, said = console(given={"user": "a b"}, source="my.yml")
    with pytest.raises(Refusal, match=r"my\.yml: user: 'a b' is no name"):
        asking.ask("user", "User", "me", checks.user)
    assert said == []


def test_nobody_takes_defaults_and_refuses_where_there_is_none() -> None:
    asking, said = console(unattended=True)
    assert asking.ask("user", "User", "me", checks.user) == "me"
    assert asking.yes("Well?") and not asking.yes("Really?", default=False)
    with pytest.raises(Refusal, match="user has no default"):
        asking.ask("user", "User", "", checks.user)
    assert said == []


def test_an_input_that_ends_is_told() -> None:
    with pytest.raises(Refusal, match="the input ended"):
        console()[0].ask("user", "User", "me", checks.user)
