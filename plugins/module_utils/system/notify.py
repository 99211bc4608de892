# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Signs of life to systemd, after sd_notify(3): a unit with WatchdogSec is started again when they stop."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(state: str) -> None:
    """Send a state such as ``READY=1`` or ``WATCHDOG=1``; nothing happens outside of a unit that asks for it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        # A leading @ stands for the abstract name space.
        line.connect("\0" + path[1:] if path.startswith("@") else path)
        line.sendall(state.encode())
