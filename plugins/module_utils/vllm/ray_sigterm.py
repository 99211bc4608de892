# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A plugin of vLLM's (group ``vllm.general_plugins``) for servers on Ray: the engine keeps its own handler of SIGTERM.

``ray.init`` puts a handler of its own in its place, which ends the process at once ("This method overwrite sigterm handler of the driver process"). The
engine then neither drains nor tells the API server what it dropped, and clients wait for an answer until the server is killed. It runs in the serving
image, so it imports nothing of this package.
"""

from __future__ import annotations

import signal
import threading
from typing import Any


def keep_handler() -> None:
    """Let ``ray.init`` leave the handler of SIGTERM as it found it; without Ray there is nothing to do."""
    try:
        import ray
    except ImportError:
        return
    original = ray.init
    if getattr(original, "keeps_handler", False):
        return

    def init(*arguments: Any, **options: Any) -> Any:
        before = signal.getsignal(signal.SIGTERM)
        try:
            return original(*arguments, **options)
        finally:
            # Python's own rule: only the main thread sets handlers, and Ray sets none elsewhere.
            if callable(before) and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)

    init.keeps_handler = True  # type: ignore[attr-defined]
    ray.init = init
