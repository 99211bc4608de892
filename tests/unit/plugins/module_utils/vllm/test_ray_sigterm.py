# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ray is a module with an ``init`` that does to SIGTERM what the real one does."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm import ray_sigterm


def rays(_signum: int, _frame: Any) -> None:
    raise SystemExit


def engines(_signum: int, _frame: Any) -> None:
    """Drains."""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module: Any = ModuleType("ray")

    def init(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, rays)
        return SimpleNamespace(arguments=arguments, options=options)

    module.init = init
    monkeypatch.setitem(sys.modules, "ray", module)
    before = signal.getsignal(signal.SIGTERM)
    yield module
    signal.signal(signal.SIGTERM, before)


def test_the_engines_handler_stays(ray: Any) -> None:
    ray_sigterm.keep_handler()
    signal.signal(signal.SIGTERM, engines)
    assert ray.init("auto", namespace="x").options == {"namespace": "x"}
    assert signal.getsignal(signal.SIGTERM) is engines


def test_a_process_without_a_handler_gets_rays(ray: Any) -> None:
    ray_sigterm.keep_handler()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ray.init()
    assert signal.getsignal(signal.SIGTERM) is rays


def test_it_is_done_once_and_works_in_another_thread(ray: Any) -> None:
    ray_sigterm.keep_handler()
    once = ray.init
    ray_sigterm.keep_handler()
    assert ray.init is once
    signal.signal(signal.SIGTERM, engines)
    with ThreadPoolExecutor(1) as other:
        other.submit(ray.init).result()
    assert signal.getsignal(signal.SIGTERM) is engines


def test_without_ray_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    ray_sigterm.keep_handler()
