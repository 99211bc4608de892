# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What waits is one line that moves in a terminal, and a line now and then in a log: real runs of Ansible on this machine."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Wait for the copy
      command: sh -c 'echo x >> {count}; test $(wc -l < {count}) -gt 3'
      register: said
      until: said is success
      retries: 9
      delay: 0
    - name: Go on
      debug: msg=done
"""


def command(folder: Path) -> list[str]:
    play = folder / "play.yml"
    play.write_text(PLAY.format(count=folder / "count"))
    return ["ansible-playbook", "-i", "localhost,", "-c", "local", str(play)]


def environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "HOME": str(folder),
        "ANSIBLE_STDOUT_CALLBACK": "dgx_spark.vllm.console",
        "ANSIBLE_NOCOLOR": "1",
        "TERM": "xterm",
    }


def test_in_a_terminal_the_line_moves(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command(tmp_path), env=environment(tmp_path), stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 65536):
                said += piece
        except OSError:  # the last program of the terminal has ended
            pass
        os.close(ours)
    assert process.returncode == 0, said
    text = said.decode()
    moves = text.split("\r\x1b[2K")
    assert len(moves) == 3, text  # three tries failed; the second and third take the place of the one before
    assert all(move.startswith("waiting: [localhost]") for move in moves[1:])
    # What follows begins on a line of its own.
    assert "\r\nchanged: [localhost]" in moves[-1]
    assert "RETRYING" not in text


def test_in_a_log_it_is_told_now_and_then(tmp_path: Path) -> None:
    ran = subprocess.run(command(tmp_path), env=environment(tmp_path), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("waiting: [localhost]") == 1
    assert "\r" not in ran.stdout and "\x1b" not in ran.stdout
