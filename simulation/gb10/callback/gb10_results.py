# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Ansible callback: keeps the findings of the report, and each sentence that a run stopped with, as JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: gb10_results
type: aggregate
short_description: Keeps findings and failures
description: Writes to the file in the environment variable GB10_RESULTS.
"""


class CallbackModule(CallbackBase):
    """Appends one line for each result that says something."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "gb10_results"
    CALLBACK_NEEDS_ENABLED = True

    def _keep(self, **words: Any) -> None:
        with Path(os.environ["GB10_RESULTS"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(words) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        found = result.result
        if result.task.action == "dgx_spark.vllm.preflight_report":
            self._keep(findings=found["findings"], level=found["level"], counts=found["counts"])

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._keep(
            host=result.host.get_name(),
            task=result.task.get_name(),
            failed=str(result.result.get("msg", "")),
        )

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._keep(host=result.host.get_name(), task="reach", failed=str(result.result.get("msg", "")))
