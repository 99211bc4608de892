# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium, driven by the few commands of W3C WebDriver (https://www.w3.org/TR/webdriver2/) that a test of a page needs.

Needs Debian's packages chromium and chromium-driver; chromedriver speaks JSON over HTTP, which is a dozen lines here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DRIVER = Path("/usr/bin/chromedriver")
#: WebDriver's name of the field that holds an element's id.
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
ENTER, ESCAPE = "\ue007", "\ue00c"


class BrowserError(Exception):
    """What the browser refuses, in its own words."""


class Browser:
    """One window."""

    def __init__(self, base: str, session: str) -> None:
        self._session = f"{base}/session/{session}"

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        return _ask(method, f"{self._session}/{path}", body)

    def go(self, url: str) -> None:
        self._ask("POST", "url", {"url": url})

    def reload(self) -> None:
        self._ask("POST", "refresh", {})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page; return what it returns."""
        return self._ask("POST", "execute/sync", {"script": script, "args": list(arguments)})

    def text(self) -> str:
        """Return what a person reads on the page."""
        return str(self.run("return document.body ? document.body.innerText : ''"))

    def find(self, css: str, seconds: float = 60) -> str:
        """Wait for a visible element; return its id."""

        def found() -> str:
            script = "return [...document.querySelectorAll(arguments[0])].find(e => e.getClientRects().length) || null"
            element = self.run(script, css)
            return str(element[_ELEMENT]) if element else ""

        return str(self.wait(found, f"no {css} on the page", seconds))

    def press(self, words: str, seconds: float = 60) -> None:
        """Click the button or the link that says these words and no more."""
        script = (
            "const e = [...document.querySelectorAll('button, a, [role=button], [role=menuitem]')]"
            ".find(e => e.getClientRects().length && (e.innerText.trim() === arguments[0] || e.ariaLabel === arguments[0]));"
            "if (e) e.click(); return Boolean(e)"
        )
        self.wait(lambda: self.run(script, words), f"nothing to press says {words!r}", seconds)

    def type(self, css: str, words: str, seconds: float = 60) -> None:
        """Type into a field, once nothing lies over it any more."""

        def typed() -> bool:
            try:
                self._ask("POST", f"element/{self.find(css)}/value", {"text": words})
            except BrowserError as error:
                if "not interactable" in str(error) or "stale" in str(error):
                    return False
                raise
            return True

        self.wait(typed, f"nothing can be typed into {css}", seconds)

    def escape(self) -> None:
        """Press the key that closes a menu."""
        keys = [{"type": kind, "value": ESCAPE} for kind in ("keyDown", "keyUp")]
        self._ask("POST", "actions", {"actions": [{"type": "key", "id": "keyboard", "actions": keys}]})

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._ask("GET", "screenshot")))

    def wait(self, done: Callable[[], Any], problem: str, seconds: float = 60) -> Any:
        """Wait until something is true, and return it."""
        ends = time.monotonic() + seconds
        while not (found := done()):
            if time.monotonic() > ends:
                raise BrowserError(f"{problem} after {seconds:g} s; the page says: {self.text()[-1500:]}")
            time.sleep(0.1)
        return found

    def says(self, words: str, seconds: float = 60) -> None:
        """Wait until the page says something."""
        self.wait(lambda: words in self.text(), f"the page does not say {words!r}", seconds)


def _ask(method: str, url: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _OPENER.open(request, timeout=120) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        raise BrowserError(json.load(error)["value"]["message"]) from None


#: The driver is on this machine: no proxy stands between.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextlib.contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Run a browser, and end it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # chromium as root has no sandbox; a proxy of the environment would be asked for the pair's addresses.
    arguments = ["--headless=new", "--no-sandbox", "--no-proxy-server", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += [f"--window-size={width},{height}", "--lang=en-US"]
    wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
    driver = subprocess.Popen(
        [str(DRIVER), f"--port={port}"],
        env={**os.environ, "LANGUAGE": "en"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    base = f"http://127.0.0.1:{port}"
    try:
        session = _started(base, wanted)
        try:
            yield Browser(base, session)
        finally:
            _ask("DELETE", f"{base}/session/{session}")
    finally:
        driver.terminate()
        driver.wait(30)


def _started(base: str, wanted: dict[str, Any]) -> str:
    ends = time.monotonic() + 60
    while True:
        try:
            made = _ask("POST", f"{base}/session", {"capabilities": {"alwaysMatch": wanted}})
            return str(made["sessionId"])
        except OSError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)
