# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The modules of the weights, run in process with their arguments as Ansible hands them over."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.hub import fetch
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    fabric_share,
    hf_hub_info,
    hf_model,
    hf_model_copy,
    hf_model_info,
)

from tests.unit.plugins.module_utils.hub.world import REPO, SHARDS, World, open_world

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        capsys.readouterr()
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


def test_from_question_to_removal(run: Run, world: World) -> None:
    pytest.importorskip("huggingface_hub")
    store = str(world.store().root)
    hub = {"repo_id": REPO, "endpoint": world.endpoint}
    first = run(hf_hub_info, store=store, **hub)
    assert (first["local"], first["commit"], first["changed"]) == (False, world.commit, False)
    foreseen = run(hf_model, check=True, dest=store, **hub)
    assert (foreseen["changed"], foreseen["verified"]) == (True, False)
    assert foreseen["msg"].startswith("would fetch 8 of 8 files")
    done = run(hf_model, dest=store, **hub)
    assert (done["changed"], done["verified"], done["diff"]["before"]) == (True, True, "")
    assert done["diff"]["after"] == foreseen["diff"]["after"]
    world.asked()
    again = run(hf_model, dest=store, **hub)
    assert (again["changed"], again["diff"]["before"]) == (False, done["diff"]["after"])
    assert again["manifest_sha256"] == done["manifest_sha256"]
    look = run(hf_hub_info, store=store, **hub)
    # What hf_model would say of it: role model_download asks no second time.
    assert look["local"] is True
    assert [look[name] for name in ("path", "commit", "manifest_sha256")] == [
        done[name] for name in ("path", "commit", "manifest_sha256")
    ]
    assert (look["repo_id"], first["path"], first["manifest_sha256"]) == (first["repo_id"], "", "")
    assert world.asked() == []
    read = run(hf_model_info, repo_id=REPO, dest=store, verify="sha256")
    assert (read["complete"], read["stamped"], read["bytes"]) == (True, True, done["bytes_total"])
    assert run(hf_model, state="absent", check=True, dest=store, **hub)["changed"] is True
    assert run(hf_model, state="absent", dest=store, **hub)["changed"] is True
    assert run(hf_model, state="absent", dest=store, **hub)["changed"] is False
    assert run(hf_model_info, repo_id=REPO, dest=store)["complete"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"repo_id": "one-word"}, "repo_id is 'one-word'"),
        ({"revision": "no such"}, "revision is 'no such'"),
        ({"endpoint": "huggingface.co"}, "endpoint is 'huggingface.co'"),
        ({"revision": "absent-branch"}, "has no revision 'absent-branch'"),
        ({"repo_id": "tests/unknown"}, "no repository 'tests/unknown'"),
        ({"allow_patterns": ["*.gguf"]}, "choose none"),
        ({"dest": "/"}, "the store is '/'"),
        ({"max_workers": 0}, "max_workers is 0"),
        ({"ca_bundle": "/none.pem"}, "ca_bundle '/none.pem'"),
        ({"token": "hf_bad token"}, "token holds"),
    ],
)
def test_wrong_arguments_are_one_sentence(run: Run, world: World, arguments: dict[str, Any], words: str) -> None:
    given = {"repo_id": REPO, "endpoint": world.endpoint, "dest": str(world.store().root), **arguments}
    result = run(hf_model, **given)
    assert result["failed"] is True
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert "hf_bad" not in json.dumps(result["msg"])
    assert not world.store().root.exists()


def test_a_python_without_the_library_says_who_makes_one(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fetch.importlib.util.find_spec
    monkeypatch.setattr(
        fetch.importlib.util, "find_spec", lambda name: None if name == "huggingface_hub" else real(name)
    )
    result = run(hf_model, repo_id=REPO, endpoint=world.endpoint, dest=str(world.store().root))
    assert f"({sys.executable}) has no huggingface_hub" in result["msg"]
    assert "/opt/dgx-spark/venv/bin/python" in result["msg"]
    assert not world.store().root.exists()


def test_a_copy_that_needs_a_peer_that_does_not_share(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    token = tmp_path / "token"
    given = {"repo_id": REPO, "commit": "a" * 40, "manifest_sha256": "b" * 64, "dest": str(tmp_path / "store"),
              "source_address": "127.0.0.1", "source_port": free_port(), "cluster_token_file": str(token)}  # fmt: skip
    look = run(hf_model_copy, check=True, **given)
    assert (look["changed"], look["needed"], look["verified"]) == (True, True, False)
    assert "cluster token" in run(hf_model_copy, **given)["msg"]
    token.write_text("secret")
    assert "cannot be reached" in run(hf_model_copy, **given)["msg"]
    assert "commit is 'main'" in run(hf_model_copy, **{**given, "commit": "main"})["msg"]
    assert "manifest_sha256 is ''" in run(hf_model_copy, **{**given, "manifest_sha256": ""})["msg"]
    assert "streams is 0" in run(hf_model_copy, **{**given, "streams": 0})["msg"]


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


SYSTEMD = """#!/usr/bin/env python3
# A systemd of one transient unit: its state is a folder, its process runs in the background.
import os, signal, subprocess, sys, time
from pathlib import Path
here = Path(__file__).parent / "unit"
here.mkdir(exist_ok=True)
pid, about, log = here / "pid", here / "about", here / "log"
def alive():
    return pid.exists() and Path(f"/proc/{pid.read_text()}/cmdline").exists() and Path(f"/proc/{pid.read_text()}/cmdline").read_text()
name, arguments = Path(sys.argv[0]).name, sys.argv[1:]
if name == "systemd-run":
    about.write_text(next(a for a in arguments if a.startswith("--description=")).partition("=")[2])
    command = [a for a in arguments if not a.startswith("--")][:1] + arguments[arguments.index("serve"):]
    with log.open("w") as out:
        child = subprocess.Popen(command, stderr=out, stdout=out, stdin=subprocess.DEVNULL, start_new_session=True)
    pid.write_text(str(child.pid))
elif name == "journalctl":
    print(log.read_text())
elif arguments[0] == "show":
    print("ActiveState=" + ("active" if alive() else "failed" if about.exists() else "inactive"))
    print("Description=" + (about.read_text() if about.exists() else "spark-fabric-share.service"))
elif arguments[0] == "stop":
    if alive():
        os.kill(int(pid.read_text()), signal.SIGTERM)
        # The real one waits as well.
        for _ in range(100):
            if not alive():
                break
            time.sleep(0.1)
elif arguments[0] == "reset-failed":
    about.unlink(missing_ok=True)
"""


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Arguments of the module, on a machine whose systemd is a stand-in."""
    tools = tmp_path / "tools"
    lib = tmp_path / "lib" / "dgx_spark_node"
    tools.mkdir()
    lib.mkdir(parents=True)
    for name in ("systemctl", "systemd-run", "journalctl"):
        (tools / name).write_text(SYSTEMD)
        (tools / name).chmod(0o755)
    shutil.copytree(Path(str(fetch.__file__)).parents[1], lib, dirs_exist_ok=True)
    launcher = tools / "spark-fabric-share"
    launcher.write_text(f'#!/bin/sh\nPYTHONPATH={lib.parent} exec {sys.executable} -m dgx_spark_node.peer.share "$@"\n')
    launcher.chmod(0o755)
    (tmp_path / "token").write_text("cluster secret")
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    yield {"address": "127.0.0.1", "port": free_port(), "store": str(tmp_path), "launcher": str(launcher),
           "cluster_token_file": str(tmp_path / "token")}  # fmt: skip
    subprocess.run([str(tools / "systemctl"), "stop", "x"], check=True)


def test_the_share_starts_once_and_stops_once(run: Run, share: dict[str, Any]) -> None:
    assert run(fabric_share, check=True, **share)["running"] is False
    started = run(fabric_share, **share)
    assert (started.get("changed"), started.get("running")) == (True, True), started
    assert run(fabric_share, **share)["changed"] is False
    other = run(fabric_share, **{**share, "idle_timeout": 30})
    assert (other["changed"], other["running"]) == (True, True)
    foreseen = run(fabric_share, check=True, state="stopped")
    assert (foreseen["changed"], foreseen["running"]) == (True, True)
    assert run(fabric_share, state="stopped")["changed"] is True
    assert run(fabric_share, state="stopped")["changed"] is False


def test_a_share_that_cannot_start_gives_its_own_reason(run: Run, share: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", share["port"])):
        told = run(fabric_share, **share)["msg"]
    assert f"cannot listen on 127.0.0.1:{share['port']} (Address already in use)" in told
    Path(share["cluster_token_file"]).unlink()
    assert "cannot be read" in run(fabric_share, **share)["msg"]


def test_a_weight_that_rots_is_named(run: Run, world: World) -> None:
    pytest.importorskip("huggingface_hub")
    world.bring()
    shard = world.snapshot() / SHARDS[0]
    shard.write_bytes(shard.read_bytes()[::-1])
    result = run(hf_model_info, repo_id=REPO, dest=str(world.store().root), verify="sha256")
    assert (result["complete"], result["stamped"]) == (False, False)
    assert result["corrupt"][0].startswith(f"{SHARDS[0]} has another content")
