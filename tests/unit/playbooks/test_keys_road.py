# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""playbooks/keys.yml with the real module, on this machine as the head: what it shows, changes and refuses. No gateway runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.unit.playbooks.collection import empty_modules

ROOT = Path(__file__).parents[3]
KEY = re.compile(r"sk-[\w-]{40,}")
Ask = Callable[..., tuple[int, str]]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Run the playbook with parameters; the module keeps its keys in a folder of the test's."""
    modules = empty_modules(tmp_path)
    keys = tmp_path / "gateway"
    keys.mkdir()
    (tmp_path / "api_key").write_text("the-servers-own-key\n", encoding="utf-8")
    source = (ROOT / "plugins" / "modules" / "gateway_keys.py").read_text(encoding="utf-8")
    source = source.replace("/etc/dgx-spark/gateway", str(keys)).replace(
        "/run/spark-gateway/admin.sock", f"{keys}/none"
    )
    source = source.replace("/etc/dgx-spark/secrets/api_key", f"{tmp_path}/api_key")
    (modules / "gateway_keys.py").write_text(source, encoding="utf-8")
    head = {
        "spark-1": {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "gateway_enabled": True,
        }
    }
    hosts = {"sparks": {"children": {"head": {"hosts": head}, "workers": {"hosts": {}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    (tmp_path / "ansible.cfg").write_text(f"[defaults]\nlocalhost_warning = false\nremote_tmp = {tmp_path}/tmp\n")
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "collections"),
        "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
        "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
    }

    def run(*parameters: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml")]
        command += ["dgx_spark.vllm.keys", "-v", "-e", '{"__settings_checked": true, "ansible_become": false}']
        for parameter in parameters:
            command += ["-e", parameter]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_key_is_made_shown_once_listed_and_withdrawn(ask: Ask, tmp_path: Path) -> None:
    code, made = ask("keys_state=present", "keys_name=alice", "keys_at_once=2")
    assert code == 0, made
    (key,) = set(KEY.findall(made))
    assert made.count(key) == 1, "with -v as well"
    code, listed = ask()
    assert code == 0, listed
    assert "alice" in listed and key not in listed and "changed=0" in listed
    assert key not in (tmp_path / "gateway" / "keys.json").read_text(encoding="utf-8")
    code, gone = ask("keys_state=absent", "keys_name=alice")
    assert code == 0 and "changed=1" in gone
    assert "alice" not in ask()[1]


def test_what_the_module_refuses_ends_the_run_in_its_words(ask: Ask) -> None:
    code, said = ask("keys_state=rotated", "keys_name=nobody")
    assert code != 0
    assert "nobody" in said and "Show the names" not in said
    assert "Traceback" not in said
