# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The snapshot is whole, proven byte by byte here and now, and readable for a container."""

from __future__ import annotations

import json

from testinfra.host import Host

REPOSITORY = "/srv/models/dgx-spark--tiny-qwen3-moe"


def snapshot(host: Host) -> str:
    return f"{REPOSITORY}/{host.check_output(f'cat {REPOSITORY}/refs/main').strip()}"


def test_every_file_of_the_manifest_has_its_sha256(host: Host) -> None:
    path = snapshot(host)
    manifest = json.loads(host.check_output(f"cat {path}.manifest.json"))
    assert len([name for name in (entry["path"] for entry in manifest["files"]) if name.endswith(".safetensors")]) >= 4
    sums = "\n".join(f"{entry['sha256']}  {path}/{entry['path']}" for entry in manifest["files"])
    assert host.run(f"printf '%s\\n' '{sums}' | sha256sum --check --quiet").rc == 0


def test_the_index_names_only_shards_that_are_there(host: Host) -> None:
    path = snapshot(host)
    index = json.loads(host.check_output(f"cat {path}/model.safetensors.index.json"))
    for shard in set(index["weight_map"].values()):
        assert host.file(f"{path}/{shard}").is_file


def test_there_is_a_stamp_no_link_and_no_orphan(host: Host) -> None:
    assert host.file(f"{snapshot(host)}.verified").is_file
    assert host.check_output(f"find {REPOSITORY} -type l") == ""
    with host.sudo():
        assert host.check_output(f"find {REPOSITORY} -name '*.incomplete'") == ""


def test_others_can_read_but_not_write(host: Host) -> None:
    assert host.file(snapshot(host)).mode == 0o755
    assert host.file(f"{snapshot(host)}/config.json").mode == 0o644
