# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The second node has a proven copy of its own, and nothing is shared any more, also after both plugs were pulled."""

from __future__ import annotations

import json

from testinfra.host import Host

REPOSITORY = "/srv/models/dgx-spark--tiny-qwen3-moe"


def commit(host: Host) -> str:
    return str(host.check_output(f"cat {REPOSITORY}/refs/main")).strip()


def test_the_copy_is_what_the_heads_manifest_names_byte_by_byte(host: Host, worker: Host) -> None:
    path = f"{REPOSITORY}/{commit(host)}"
    manifest = host.check_output(f"cat {path}.manifest.json")
    assert worker.check_output(f"cat {path}.manifest.json") == manifest
    files = json.loads(manifest)["files"]
    assert len([entry for entry in files if entry["path"].endswith(".safetensors")]) >= 4
    sums = "\n".join(f"{entry['sha256']}  {path}/{entry['path']}" for entry in files)
    checked = worker.run(f"printf '%s\\n' '{sums}' | sha256sum --check --quiet")
    assert checked.rc == 0, checked.stdout + checked.stderr


def test_the_copy_is_stamped_and_has_no_orphan(host: Host, worker: Host) -> None:
    assert worker.file(f"{REPOSITORY}/{commit(host)}.verified").is_file
    with worker.sudo():
        assert worker.check_output(f"find {REPOSITORY} -type l -o -name '*.incomplete'") == ""


def test_the_gate_of_a_container_lets_the_copy_through(host: Host, worker: Host) -> None:
    with worker.sudo():
        gate = worker.run(f"timeout 20 /opt/dgx-spark/bin/spark-gate weights {REPOSITORY}/{commit(host)}")
    assert gate.rc == 0, gate.stdout + gate.stderr


def test_others_can_read_but_not_write(host: Host, worker: Host) -> None:
    path = f"{REPOSITORY}/{commit(host)}"
    assert worker.file(path).mode == 0o755
    assert worker.file(f"{path}/config.json").mode == 0o644


def test_nothing_is_shared_any_more(host: Host, worker: Host) -> None:
    for node in (host, worker):
        listening = node.check_output("ss --listening --tcp --numeric --no-header")
        assert ":8236 " not in listening
        assert node.run("findmnt --types nfs,nfs4").stdout == ""
