# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A module that works for minutes says meanwhile how far it is: a real run of Ansible on this machine, with shorter times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ACTION = """
from ansible_collections.dgx_spark.vllm.plugins.plugin_utils import long_work
long_work._LOOK_S, long_work._TELL_S = 0.5, 0.5

class ActionModule(long_work.LongWork):
    FOLDER = {folder!r}
"""
MODULE = """
import time
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.progress import Progress

module = AnsibleModule({"want": {"type": "str"}, "progress_file": {"type": "path"}}, supports_check_mode=True)
if module.params["want"] == "nothing":
    module.exit_json(changed=False, msg="is there")
if module.check_mode:
    module.exit_json(changed=True, msg="would work")
progress = Progress(module.params["progress_file"])
progress.note("copying", 2**30, 4 * 2**30)
time.sleep(4)
if module.params["want"] == "failure":
    module.fail_json(msg="it broke off")
module.exit_json(changed=True, msg="worked", answer=42)
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - slow_work: {{want: {want}}}
      register: said
    - copy: {{content: "{{{{ said | to_json }}}}", dest: {out}}}
      check_mode: false
"""


@pytest.mark.parametrize(
    ("want", "flags", "msg", "lines"),
    [
        ("something", [], "worked", 1),
        ("something", ["--check"], "would work", 0),
        ("nothing", [], "is there", 0),
        ("failure", [], "it broke off", 1),
    ],
)
def test_it_says_how_far_it_is(tmp_path: Path, want: str, flags: list[str], msg: str, lines: int) -> None:
    notes, out = tmp_path / "notes", tmp_path / "said.json"
    for folder in ("action_plugins", "library", "notes"):
        (tmp_path / folder).mkdir()
    (tmp_path / "action_plugins/slow_work.py").write_text(ACTION.format(folder=str(notes)))
    (tmp_path / "library/slow_work.py").write_text(MODULE)
    play = tmp_path / "play.yml"
    play.write_text(PLAY.format(want=want, out=out))
    ran = subprocess.run(
        [
            "ansible-playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            play,
            *flags,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path)},
        check=False,
    )
    assert ran.stdout.count("waiting: [localhost] copying: 1.0 GiB of 4.0 GiB (") >= lines, ran.stdout + ran.stderr
    assert bool(lines) == ("waiting:" in ran.stdout)
    if want == "failure":
        assert ran.returncode == 2 and msg in ran.stdout
    else:
        said = json.loads(out.read_text())
        assert said["msg"] == msg
        assert said.get("answer", 42) == 42
        assert not {"ansible_job_id", "finished", "results_file"} & set(said)
    assert not list(notes.iterdir())
    assert not list((tmp_path / ".ansible_async").glob("*"))
