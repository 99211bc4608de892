# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What is said about a node that cannot be worked on, and the interface of an address."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.reach import interface_of, judge_reach


def reach_problem(result: dict[str, Any], host: str, variables: dict[str, Any]) -> str:
    """Return why a node cannot be worked on, as a sentence."""
    found = judge_reach(result, host, variables)
    return found.sentence() if found else ""


VARIABLES = {"ansible_host": "172.16.0.5", "ansible_user": "spark"}


def test_a_node_that_answers() -> None:
    assert reach_problem({"ansible_facts": {}, "changed": False}, "spark-1", VARIABLES) == ""


# Recorded from ansible-core 2.19.14 with OpenSSH 9.2 and sudo 1.9.13, unless said otherwise.
PIPELINED = (
    'Task failed: Data could not be sent to remote host "172.16.0.5". Make sure this host can be reached over ssh: '
)
HOST_KEY = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Host key for 172.16.0.5 has changed and you have requested strict checking.
Host key verification failed."""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            PIPELINED + "ssh: connect to host 172.16.0.5 port 22: Connection refused",
            "node spark-1 (ansible_host 172.16.0.5) does not answer over SSH (connect to host 172.16.0.5 port 22: "
            "Connection refused): see that the machine is up and that sshd runs on that port",
        ),
        (
            # Not recorded: without pipelining.
            "Failed to connect to the host via ssh: ssh: connect to host 172.16.0.5 port 22: No route to host",
            "over SSH (connect to host 172.16.0.5 port 22: No route to host): see that the machine is up and in your network",
        ),
        (PIPELINED + "ssh: connect to host 172.16.0.5 port 22: Connection timed out", "no firewall is between"),
        (PIPELINED + "ssh: connect to host 172.16.0.5 port 22: Network is unreachable", "in the same network"),
        (
            PIPELINED + "ssh: Could not resolve hostname spark-none.invalid: Name or service not known",
            "over SSH (Could not resolve hostname spark-none.invalid: Name or service not known): correct ansible_host",
        ),
        (
            PIPELINED + "spark@172.16.0.5: Permission denied (publickey).",
            "over SSH (spark@172.16.0.5: Permission denied (publickey)): log in by hand as spark",
        ),
        (PIPELINED + HOST_KEY, "over SSH (Host key verification failed): its host key is new or changed"),
        (
            PIPELINED + "kex_exchange_identification: reset",
            "kex_exchange_identification: reset): try it by hand: ssh 172",
        ),
    ],
)
def test_unreachable(message: str, words: str) -> None:
    found = reach_problem({"unreachable": True, "msg": message}, "spark-1", VARIABLES)
    assert words in found
    assert "\n" not in found


UNREADABLE = "Module result deserialization failed: No start of json char found"


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (
            {"msg": "Task failed: Missing sudo password"},
            "node spark-1 (ansible_host 172.16.0.5) answers, but sudo asks user spark for a password: run again with -K",
        ),
        # Not recorded: where sudo runs with -n.
        ({"msg": UNREADABLE, "module_stderr": "sudo: a password is required\n"}, "run again with -K"),
        ({"msg": "Task failed: Incorrect sudo password"}, "the sudo password for user spark is wrong"),
        ({"msg": UNREADABLE, "module_stderr": "spark is not in the sudoers file.\n"}, "user spark may not use sudo"),
        ({"msg": UNREADABLE, "module_stderr": "/bin/sh: 1: /usr/bin/sudo: not found\n"}, "sudo is missing"),
        (
            {
                "msg": "The module interpreter '/usr/bin/python3' was not found.",
                "module_stderr": "/bin/sh: 1: /usr/bin/python3: not found\n",
                "module_stdout": "",
            },
            "Python is missing at /usr/bin/python3: install python3",
        ),
        ({"msg": "something else\nentirely."}, "answers, but no task can run on it: something else entirely"),
        ({}, "it says nothing"),
    ],
)
def test_reachable_but_useless(result: dict[str, Any], words: str) -> None:
    assert words in reach_problem(result, "spark-1", VARIABLES)


def test_names_that_are_not_set() -> None:
    message = reach_problem({"unreachable": True, "msg": "Permission denied"}, "spark-1", {})
    assert "node spark-1 (ansible_host spark-1)" in message
    assert "as (yours)" in message


def test_long_words_are_cut() -> None:
    assert len(reach_problem({"msg": "x" * 5000}, "spark-1", {})) < 500


# In the form of ansible.builtin.setup, shortened.
FACTS: dict[str, Any] = {
    "interfaces": ["lo", "enp1s0f1np1", "br-a:1", "gone"],
    "lo": {"ipv4": {"address": "127.0.0.1"}},
    "enp1s0f1np1": {
        "ipv4": {"address": "192.168.100.10"},
        "ipv4_secondaries": [{"address": "192.168.101.10"}],
        "ipv6": [{"address": "fe80::1"}],
    },
    "br_a_1": {"ipv4": {"address": "172.17.0.1"}},
}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.168.100.10", "enp1s0f1np1"),
        ("192.168.101.10", "enp1s0f1np1"),
        ("fe80::1", "enp1s0f1np1"),
        ("172.17.0.1", "br-a:1"),
    ],
)
def test_interface_of(address: str, name: str) -> None:
    assert interface_of(FACTS, address) == name


def test_no_interface_holds_it() -> None:
    with pytest.raises(ValueError, match=r"address 10.0.0.1 \(lo 127.0.0.1, enp1s0f1np1 192.168.100.10,"):
        interface_of(FACTS, "10.0.0.1")


@pytest.mark.parametrize("facts", [{}, {"interfaces": "lo"}])
def test_no_facts(facts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no network facts were gathered"):
        interface_of(facts, "10.0.0.1")
