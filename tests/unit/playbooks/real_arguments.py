# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a module accepts, for its stand-in: a role that passes a wrong option, suboption or type fails with it as with the module itself."""

from __future__ import annotations

import importlib
from typing import Any
from unittest import mock


class _Asked(Exception):
    """A module's main got as far as reading its arguments."""


def arguments(name: str) -> dict[str, Any]:
    """Return what the module `name` gives to AnsibleModule: `argument_spec`, `required_if` and whatever else; its repr is code."""
    module = importlib.import_module(f"ansible_collections.dgx_spark.vllm.plugins.modules.{name}")
    given: dict[str, Any] = {}

    def ask(**everything: Any) -> None:
        given.update(everything)
        raise _Asked

    with mock.patch.object(module, "AnsibleModule", ask):
        try:
            module.main()
        except _Asked:
            return given
    raise AssertionError(f"{name} reads no arguments")
