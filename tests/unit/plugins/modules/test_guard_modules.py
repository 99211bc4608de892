# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The guard's modules in process: systemctl, journalctl and dmesg are stand-ins, nothing of this machine is changed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.modules import node_guard, node_guard_info

Run = Callable[..., dict[str, Any]]
WARNING = "NVRM: Xid (PCI:000f:01:00): 119, pid=1"
SYSTEMCTL = """#!/bin/sh
echo ActiveState=inactive
echo RuntimeWatchdogUSec=0
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program in front of the machine's own."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    put("systemctl", SYSTEMCTL)
    put("journalctl", "#!/bin/sh\nexit 1\n")
    put("dmesg", "#!/bin/sh\nexit 1\n")
    return put


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def codes(result: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in result["findings"]]


def test_a_warning_of_the_span_is_found(run: Run, programs: Callable[[str, str], None]) -> None:
    programs("journalctl", f'#!/bin/sh\ncase "$*" in *--dmesg*) echo "{WARNING}";; esac\n')
    assert codes(run(node_guard_info)) == ["node.ok", "gpu.gsp_lost"]


def test_an_old_warning_does_not_come_back_when_the_kernel_is_quiet(
    run: Run, programs: Callable[[str, str], None]
) -> None:
    programs("journalctl", f'#!/bin/sh\ncase "$*" in *--dmesg*--lines*) echo "{WARNING}";; esac\n')
    programs("dmesg", f'#!/bin/sh\necho "{WARNING}"\n')
    assert codes(run(node_guard_info)) == ["node.ok"]


def test_without_a_journal_of_the_kernel_its_own_buffer_is_read(run: Run, programs: Callable[[str, str], None]) -> None:
    programs("dmesg", f'#!/bin/sh\necho "{WARNING}"\n')
    assert codes(run(node_guard_info)) == ["node.ok", "gpu.gsp_lost"]


def test_a_span_of_nothing_is_refused(run: Run, programs: Callable[[str, str], None]) -> None:
    assert run(node_guard_info, hours=0)["msg"] == "hours is 0, expected at least 1"


def test_all_parts_off_change_nothing_where_nothing_is(run: Run, programs: Callable[[str, str], None]) -> None:
    result = run(node_guard, check=True, earlyoom=False, min_free_mib=0, watchdog_seconds=0)
    assert (result["changed"], result["actions"], result["msg"]) == (False, [], "the guard is in place")


def test_a_value_that_would_do_harm_is_one_sentence(run: Run, programs: Callable[[str, str], None]) -> None:
    result = run(node_guard, check=True, watchdog_seconds=5)
    assert result["failed"] and result["msg"].startswith("watchdog_seconds is 5, expected 0 or 60 to 3600")
