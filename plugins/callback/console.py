# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Ansible's default output, except that waiting reads as waiting and not as failure."""

from __future__ import annotations

DOCUMENTATION = r"""
name: console
type: stdout
author: dgx_spark.vllm contributors (@dgx-spark)
version_added: 0.1.0
short_description: Ansible's default output, with waiting shown as waiting
description:
  - The default output prints C(FAILED - RETRYING) at each try of a task that waits. This one prints what is waited for, when it changes and
    every half minute.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
requirements:
  - set as stdout in configuration
"""

import re
import time
from typing import Any

from ansible.plugins.callback.default import CallbackModule as Default

_REMIND_S = 30.0
# A number with its unit: 95.0 MiB that become 0.1 GiB are the same line of progress.
_FIGURES = re.compile(r"\d+(\.\d+)?( (bytes|MiB|GiB|s|min|h)\b)?")


class CallbackModule(Default):
    """See DOCUMENTATION; the recap stays the default's, because tools read it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "dgx_spark.vllm.console"

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[str, tuple[str, float]] = {}
        self._since: dict[str, float] = {}

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._shown.clear()
        self._since.clear()
        super().v2_playbook_on_task_start(task, is_conditional)

    def v2_runner_retry(self, result: Any) -> None:
        host = result._host.get_name()
        text = str(result._result.get("msg") or "not there yet").splitlines()[0]
        now = time.monotonic()
        since = self._since.setdefault(host, now)
        # Figures that move are no news: a progress line comes every half minute, a new reason at once.
        kind = _FIGURES.sub("0", text)
        shown, at = self._shown.get(host, ("", -_REMIND_S))
        if kind == shown and now - at < _REMIND_S:
            return
        self._shown[host] = (kind, now)
        self._display.display(f"waiting: [{host}] {text} ({now - since:.0f} s)", color="bright gray")
