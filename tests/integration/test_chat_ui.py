# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The chat page on the pair, as a person meets it in a browser: the first account, an answer that streams, a tool that is called, the page anew.

Open WebUI is PyPI's package in an image of the official name (simulation/chat_page). `CHAT_PICTURE=docs/chat.png` takes the picture of the docs.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from testinfra.host import Host

from simulation import images, settings
from tests.integration.browser import DRIVER, ENTER, Browser, BrowserError, browser
from tests.integration.conftest import REPOSITORY, Playbook, runner

pytestmark = pytest.mark.long
PORT = 8242
IMAGE = yaml.safe_load((REPOSITORY / "roles" / "chat_ui" / "defaults" / "main.yml").read_text())["chat_ui_image"]
ON = {
    "chat_ui_enabled": True,
    "chat_ui_image_archive": f"{settings.NODE_IMAGES_FOLDER}/chat.tar",
    # The tiny model knows its own two tools.
    "chat_ui_environment": {"DEFAULT_MODEL_METADATA": '{"capabilities": {"builtin_tools": false}}'},
    "gateway_enabled": True,
    "gateway_tls": "own",
    "gateway_tls_authority": "",
}
NAME, MAIL, PASSWORD = "Ada", "ada@example.org", "a password of the test"
TOOL = '''"""
title: Calculator
"""

import math
import re


class Tools:
    def calculate(self, expression: str) -> str:
        """
        Perform calculations

        :param expression: such as factorial(5)
        """
        return str(math.factorial(int(re.search("[0-9]+", expression)[0])))
'''
CREATE = """const ask = new XMLHttpRequest();
ask.open("POST", "/api/v1/tools/create", false);
ask.setRequestHeader("Authorization", "Bearer " + localStorage.token);
ask.setRequestHeader("Content-Type", "application/json");
ask.send(JSON.stringify({id: "calculator", name: "Calculator", content: arguments[0], meta: {description: "Factorials"}}));
return ask.status"""
#: Keeps what the page says at each change.
WATCH = """window.said = [];
new MutationObserver(() => window.said.push(document.body.innerText)).observe(
    document.body, {subtree: true, childList: true, characterData: true})"""
QUANTUM = ("A quantum computer", "can say about it.")
FRANCE = "The capital of France is Paris."
DONE = "The calculation is done"


def sudo(host: Host, command: str) -> str:
    with host.sudo():
        return str(host.check_output(command))


def address() -> str:
    return f"http://{settings.NODES[0].management_address}:{PORT}"


def memory_mib(head: Host) -> float:
    """Return the memory of the container's processes in MiB."""
    (pid,) = sudo(head, "docker inspect --format '{{.State.Pid}}' spark-chat").split()
    return sum(int(line.split()[1]) for line in head.check_output(f"grep VmRSS /proc/{pid}/status").splitlines()) / 1024


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory: pytest.TempPathFactory, head: Host) -> Iterator[None]:
    """Turn the page on without any account, and off again."""
    if not DRIVER.exists():
        pytest.skip("a browser is needed: apt-get install chromium chromium-driver")
    images.chat_archive(IMAGE, print)
    run = runner(tmp_path_factory.mktemp("chat"))
    sudo(head, "rm -rf /var/lib/dgx-spark/chat")
    on = run(extra=ON)
    assert on.status == "successful", on.output[-3000:]
    again = run(extra=ON)
    assert (again.status, again.changed) == ("successful", set()), again.output[-2000:]
    yield
    off = run()
    assert off.status == "successful", off.output[-3000:]
    sudo(head, "rm -rf /var/lib/dgx-spark/chat")


def sign_in(window: Browser) -> None:
    window.go(address())
    window.type("#email", MAIL)
    window.type("#password", PASSWORD)
    window.press("Sign in")
    window.find("#chat-input")


def ask(window: Browser, question: str) -> None:
    window.type("#chat-input", question)
    window.type("#chat-input", ENTER)


def take_tool(window: Browser) -> None:
    """Switch the tool on for the next question; a page that is still loading shuts its menu, or forgets what was pressed."""

    def taken() -> bool:
        try:
            for words in ("Integrations", "Tools 1", "Calculator"):
                window.press(words, 5)
        except BrowserError:
            return False
        finally:
            window.escape()
            time.sleep(2)
        return bool(window.run("return document.querySelector('[aria-label=\"Available Tools\"]') !== null"))

    window.wait(taken, "the tool is not switched on")


def test_the_key_is_the_page_s_own_and_nobody_else_reads_it(head: Host) -> None:
    assert "open-webui" in sudo(head, "cat /etc/dgx-spark/gateway/names.map")
    for path, name in (("/etc/dgx-spark/chat/key", "sk-"), ("/var/lib/dgx-spark/chat/secret_key", "")):
        secret = sudo(head, f"cat {path}").strip()
        assert secret.startswith(name) and len(secret) > 30
        assert sudo(head, f"stat --format '%a %U' {path}") == "400 root"
        shown = [
            sudo(head, "docker inspect spark-chat"),
            head.check_output("systemctl cat spark-chat"),
            head.check_output("ps -eo args"),
            sudo(head, "journalctl --unit spark-chat --no-pager"),
        ]
        assert not [text for text in shown if secret in text], path
    assert not head.run("ls /var/lib/dgx-spark/chat").succeeded


def test_the_container_is_bounded(head: Host) -> None:
    told = json.loads(sudo(head, "docker inspect spark-chat"))[0]["HostConfig"]
    assert told["Memory"] == told["MemorySwap"] == 2048 * 2**20
    assert (told["ReadonlyRootfs"], told["CapDrop"], told["Privileged"]) == (True, ["ALL"], False)
    assert told["OomScoreAdj"] == 900
    assert told["IpcMode"] != "host" and told["PidMode"] != "host"


def test_a_person_signs_up_asks_calls_a_tool_and_comes_back(head: Host, tmp_path: Path) -> None:
    with browser() as window:
        window.go(address())
        window.press("Get started")
        window.type("#name", NAME)
        window.type("#email", MAIL)
        window.type("#password", PASSWORD)
        window.press("Create Admin Account")
        window.find("#chat-input")
        window.press("Okay, Let's Go!")

        window.run(WATCH)
        # The longest of the tiny model's answers: a short one fits into one picture of the screen.
        ask(window, "Explain quantum computing")
        window.says(QUANTUM[1], 180)
        grown = [text for text in window.run("return window.said") if QUANTUM[0] in text and QUANTUM[1] not in text]
        assert grown, "the answer came at once"

        assert window.run(CREATE, TOOL) == 200
        window.go(address())
        window.find("#chat-input")
        take_tool(window)
        ask(window, "What is 5 factorial?")
        window.says(DONE, 180)
        window.press("View Result from calculate")
        window.says("120")
        place = str(window.run("return location.href"))
        assert "/c/" in place
        if picture := os.environ.get("CHAT_PICTURE"):
            window.says("Response complete")
            # What opens and what is written moves for a moment.
            time.sleep(3)
            window.picture(REPOSITORY / picture)

        window.reload()
        window.says(DONE)
        assert "What is 5 factorial?" in window.text()

    with browser() as other:
        # Another browser knows nobody, and sign-up is closed.
        other.go(place)
        other.says("Sign in")
        assert "Sign up" not in other.text()
        sign_in(other)
        other.go(place)
        other.says(DONE)
    print(f"the page takes {memory_mib(head):.0f} MiB")
    # What was asked came through the gateway under the page's name.
    log = sudo(head, "journalctl --unit spark-gateway --no-pager --output cat")
    assert '"key": "open-webui"' in log and '"path": "/v1/chat/completions"' in log


def test_status_and_logs_know_the_page(playbook: Playbook, head: Host) -> None:
    run = playbook("playbooks/status.yml", extra=ON)
    assert "port 8242 of the head: active" in run.output
    assert re.search(r"^\S+ \S+ spark-1 chat +", sudo(head, "spark logs"), re.MULTILINE)


def test_a_key_that_was_rotated_comes_in_and_all_data_stays(playbook: Playbook, head: Host) -> None:
    before = sudo(head, "cat /etc/dgx-spark/chat/key")
    rotated = {**ON, "keys_state": "rotated", "keys_name": "open-webui"}
    assert playbook("playbooks/keys.yml", extra=rotated).status == "successful"
    run = playbook(extra=ON)
    assert run.status == "successful", run.output[-3000:]
    assert sudo(head, "cat /etc/dgx-spark/chat/key") != before
    assert {task for _node, task in run.changed} == {
        "Give the page a key of its own at the gateway",
        "Write the unit of the page",
        "Start or restart the page",
    }
    with browser() as window:
        sign_in(window)
        ask(window, "What is the capital of France?")
        window.says(FRANCE, 180)
        window.says("What is 5 factorial?")


def test_off_leaves_the_data_and_nothing_that_runs(playbook: Playbook, head: Host) -> None:
    off = playbook(extra={**ON, "chat_ui_enabled": False})
    assert off.status == "successful", off.output[-3000:]
    assert not head.file("/etc/systemd/system/spark-chat.service").exists
    assert "spark-chat" not in sudo(head, "docker ps --all --format '{{.Names}}'")
    assert f":{PORT}" not in head.check_output("ss -Hltn")
    assert "open-webui" not in sudo(head, "cat /etc/dgx-spark/gateway/names.map")
    assert not sudo(head, "find /etc/dgx-spark/chat -type f 2>/dev/null || true")
    assert sudo(head, "stat --format %a /var/lib/dgx-spark/chat") == "700"
    assert int(sudo(head, "stat --format %s /var/lib/dgx-spark/chat/data/webui.db")) > 0
    again = playbook(extra={**ON, "chat_ui_enabled": False})
    assert (again.status, again.changed) == ("successful", set()), again.output[-2000:]
    # Removal lists everything but what people wrote.
    listed = playbook("playbooks/remove.yml", check=True)
    assert "/var/lib/dgx-spark/chat" not in listed.output
