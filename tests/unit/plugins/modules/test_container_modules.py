# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules around Docker, the GPU and the serving image, run in process over a Docker of files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import cdi, cli, image_source
from ansible_collections.dgx_spark.vllm.plugins.modules import (
    container_gpu_check,
    container_runtime_info,
    image_check_info,
    image_sync,
)

from tests.unit.plugins.fake_docker import HERE, LIMITS, World, fake_docker, image, probe

Run = Callable[..., dict[str, Any]]
OTHER = "arm64" if HERE == "amd64" else "amd64"
BASE = "nvcr.io/nvidia/vllm:26.10-py3"
NAME = "dgx-spark/serving:26.10"


# All versions, ids and outputs below are invented, unless a source stands beside them: they prove what the modules do, not what a machine says.
def save(path: Path, members: dict[str, Any]) -> None:
    """Write what `docker save` writes, without layers."""
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(image_source, "REGISTRY_TRUST", tmp_path / "certs.d")
    monkeypatch.setattr(container_gpu_check, "SETTLE_S", 0)
    return fake_docker(tmp_path, monkeypatch)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


# --- image_sync: an image made of a base ---------------------------------------------------------------------

REQUEST: dict[str, Any] = {"name": NAME, "base": BASE, "ray_version": "2.56.1", "pull": True}


def test_a_base_without_ray_gets_it_once(run: Run, world: World) -> None:
    world.set(registry={BASE: image("base")})
    assert run(image_sync, check=True, **REQUEST)["changed"] is True
    assert world.verbs() == []
    first = run(image_sync, **REQUEST)
    assert (first["changed"], first["source"], first["ray_added"]) == (True, "base", True)
    assert world.verbs() == ["pull", "build", "tag"]
    assert '"ray[default]==2.56.1"' in world.get("built")["text"]
    assert f"{NAME}-unchecked" not in world.get("images")
    again = run(image_sync, **REQUEST)
    assert (again["changed"], again["content"], world.verbs()) == (False, first["content"], [])


def test_check_mode_foresees_the_image_where_docker_is_still_to_come(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "DOCKER", "/nowhere/docker")
    assert "Docker is not installed on this node" in run(image_sync, **REQUEST)["msg"]
    result = run(image_sync, check=True, **REQUEST)
    assert (result["changed"], result["source"], result["content"]) == (True, "base", "")
    assert run(image_sync, check=True, name=NAME, content="c0ffee")["source"] == "peer"


def test_a_base_with_ray_gets_no_layer(run: Run, world: World) -> None:
    world.set(images={BASE: image("base", ray="2.60.0")})
    result = run(image_sync, **REQUEST)
    assert (result["changed"], result["ray_added"]) == (True, False)
    assert world.get("built")["text"] == f"FROM {BASE}\n"
    # The same layers and run configuration: no byte more for the other nodes.
    assert result["content"] == run(image_sync, name=BASE)["content"]
    assert run(image_sync, **REQUEST)["changed"] is False


def test_a_base_that_was_cleaned_away_is_not_pulled_again(run: Run, world: World) -> None:
    world.set(registry={BASE: image("base")})
    run(image_sync, **REQUEST)
    world.set(images={NAME: world.get("images")[NAME]}, log=[])
    assert run(image_sync, **REQUEST)["changed"] is False
    assert world.verbs() == []
    world.set(registry={BASE: image("base"), "x/y:2": image("other")})
    assert run(image_sync, **{**REQUEST, "base": "x/y:2"})["changed"] is True


def test_what_was_pulled_by_its_tag_is_recorded_and_pinned_without_building_it_again(run: Run, world: World) -> None:
    digest = f"sha256:{'a' * 64}"
    pulled = {**image("base"), "RepoDigests": [f"nvcr.io/nvidia/vllm@{digest}"]}
    world.set(registry={BASE: pulled})
    first = run(image_sync, **REQUEST)
    assert first["origin"] == f"nvcr.io/nvidia/vllm@{digest}" and first["msg"].endswith(f"from {first['origin']}")
    assert run(image_check_info, name=NAME)["origin"] == first["origin"]
    world.verbs()
    pinned = {**REQUEST, "name": "dgx-spark/serving:pinned", "base": first["origin"]}
    again = run(image_sync, **pinned)
    assert (again["changed"], again["source"], again["content"], world.verbs()) == (
        True,
        "name",
        first["content"],
        ["tag"],
    )
    assert (run(image_sync, **pinned)["changed"], world.verbs()) == (False, [])
    # Another digest, or another Ray on the same base, is another image.
    other = run(image_sync, **{**pinned, "base": f"nvcr.io/nvidia/vllm@sha256:{'b' * 64}"})
    assert other["failed"] and world.verbs() == ["pull"]
    world.set(images={**world.get("images"), first["origin"]: pulled}, after=probe("2.57.0"))
    assert run(image_sync, **{**pinned, "ray_version": "2.57.0"})["source"] == "base"


def test_an_image_that_no_registry_knows_says_so(run: Run, world: World) -> None:
    world.set(images={NAME: image("x", ray="2.56.1")})
    found = run(image_sync, name=NAME)
    assert found["origin"] == "" and found["msg"].endswith("from an archive or a build without a registry's digest")


def test_another_ray_or_a_moved_base_makes_it_again(run: Run, world: World) -> None:
    world.set(images={BASE: image("base")})
    run(image_sync, **REQUEST)
    world.set(after=probe("2.57.0"))
    assert run(image_sync, **{**REQUEST, "ray_version": "2.57.0"})["changed"] is True
    world.set(images={**world.get("images"), BASE: image("moved")})
    assert run(image_sync, **{**REQUEST, "ray_version": "2.57.0"})["changed"] is True


def test_going_back_to_the_image_before_costs_nothing(run: Run, world: World) -> None:
    old = {**REQUEST, "name": "dgx-spark/serving:26.05", "base": "nvcr.io/nvidia/vllm:26.05-py3"}
    world.set(registry={BASE: image("new"), old["base"]: image("old")})
    run(image_sync, **old)
    run(image_sync, **REQUEST)
    world.verbs()
    assert run(image_sync, **old)["changed"] is False
    assert world.verbs() == []


def test_a_mirror_is_pulled_from(run: Run, world: World) -> None:
    there = "registry.lan:5000/nvidia/vllm:26.10-py3"
    world.set(registry={there: image("base")})
    assert run(image_sync, **REQUEST, mirror="registry.lan:5000")["changed"] is True
    assert world.get("built")["text"].startswith(f"FROM {there}\n")
    world.verbs()
    assert run(image_sync, **REQUEST, mirror="registry.lan:5000")["changed"] is False
    # An image without a base comes from there under the name that was asked for.
    world.set(registry={"registry.lan:5000/x/y:1": image("plain")})
    assert run(image_sync, name="x/y:1", pull=True, mirror="registry.lan:5000")["source"] == "pull"
    assert "x/y:1" in world.get("images")


def test_a_certificate_is_for_registry_and_build_and_in_no_layer(run: Run, world: World, tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    world.set(registry={BASE: image("base")})
    assert run(image_sync, **REQUEST, ca_bundle=str(bundle))["changed"] is True
    assert (tmp_path / "certs.d/nvcr.io/ca.crt").read_text() == bundle.read_text()
    assert world.get("built")["context"] == ["Dockerfile", "ca.pem"]
    assert "--mount=type=bind,source=ca.pem" in world.get("built")["text"]


def test_wheels_take_the_place_of_an_index(run: Run, world: World, tmp_path: Path) -> None:
    world.set(images={BASE: image("base")})
    assert "there are no wheels in it" in run(image_sync, **REQUEST, wheelhouse=str(tmp_path / "none"))["msg"]
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels/ray-2.56.1-py3-none-any.whl").write_text("")
    assert run(image_sync, **REQUEST, wheelhouse=str(tmp_path / "wheels"))["changed"] is True
    assert world.get("built")["context"] == ["Dockerfile", "ray-2.56.1-py3-none-any.whl", "wheels"]


def test_the_list_with_hashes_is_for_its_own_ray_alone(run: Run, world: World, tmp_path: Path) -> None:
    lock = "six==1.17.0 \\\n    --hash=sha256:aa\nray[default]==2.56.1 \\\n    --hash=sha256:bb\n"
    told = tmp_path / "progress"
    world.set(images={BASE: image("base")})
    assert run(image_sync, **REQUEST, lock=lock, progress_file=str(told))["changed"] is True
    assert world.get("built")["context"] == ["Dockerfile", "requirements.txt"]
    assert "--require-hashes" in world.get("built")["text"]
    # The image is the same with a list or without.
    assert run(image_sync, **REQUEST)["changed"] is False
    world.set(after=probe("2.57.0"))
    assert (
        run(image_sync, **{**REQUEST, "ray_version": "2.57.0"}, lock=lock, progress_file=str(told))["changed"] is True
    )
    assert world.get("built")["context"] == ["Dockerfile"]
    assert '"ray[default]==2.57.0"' in world.get("built")["text"]
    assert f"adding Ray 2.57.0, whose hashes are not known, to {BASE}" in told.read_text()


@pytest.mark.parametrize(
    ("state", "arguments", "words"),
    [
        ({}, {}, "does not exist in its registry"),
        ({}, {"pull": False}, "nothing says where from"),
        ({}, {"name": "x@sha256:" + "0" * 64}, "cannot have a digest as its name"),
        ({}, {"base": "Not A Name"}, "is no image name"),
        ({}, {"mirror": "https://x"}, "is no registry"),
        ({}, {"ray_version": "newest"}, "ray_version is 'newest'"),
        ({}, {"archive": "/none.tar"}, "there is no such file on this node"),
        ({"registry": {BASE: image("b", arch=OTHER)}}, {}, f"is for {OTHER} and this node is {HERE}"),
        ({"images": {BASE: image("b", arch=OTHER)}}, {}, f"is for {OTHER} and this node is {HERE}"),
        ({"images": {BASE: image("b", vllm="")}}, {}, "has no vLLM"),
        ({"images": {BASE: {**image("b"), "probe": None}}}, {}, "its python3 failed: exec format error"),
        (
            {"images": {BASE: image("b")}},
            {"ca_bundle": "/none.pem"},
            "ca_bundle is '/none.pem', but there is no such file",
        ),
        (
            {"images": {BASE: image("b")}, "build_error": "ERROR: No matching distribution"},
            {},
            "pip finds no Ray 2.56.1",
        ),
        ({"images": {BASE: image("b")}, "after": probe("2.56.1", torch="2.14.0")}, {}, "adding Ray changed torch"),
        ({"images": {BASE: image("b")}, "after": probe("")}, {}, "it has no Ray"),
    ],
)
def test_a_base_of_no_use_changes_nothing(
    run: Run, world: World, state: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    world.set(**state)
    before = {name for name in world.get("images") if name != BASE}
    result = run(image_sync, **{**REQUEST, **arguments})
    assert result["failed"] is True
    assert words in result["msg"]
    assert "\n" not in result["msg"]
    assert {name for name in world.get("images") if name != BASE} == before


def test_an_archive_for_another_machine_is_not_loaded(run: Run, world: World, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    members = {
        "c.json": {"architecture": OTHER, "rootfs": {"diff_ids": ["x"]}},
        "manifest.json": [{"Config": "c.json", "RepoTags": [BASE]}],
    }
    save(path, members)
    for arguments in ({**REQUEST, "archive": str(path)}, {"name": NAME, "archive": str(path)}):
        result = run(image_sync, **arguments)
        assert f"is for {OTHER} and this node is {HERE}" in result["msg"]
    assert world.verbs() == []


def test_a_base_from_an_archive_gets_its_name(run: Run, world: World, tmp_path: Path) -> None:
    path = tmp_path / "base.tar"
    config = {"architecture": HERE, "rootfs": {"diff_ids": ["base"]}, "config": {"Labels": {}}}
    save(path, {"c.json": config, "manifest.json": [{"Config": "c.json", "RepoTags": ["other:1"]}]})
    world.set(archive={"other:1": image("base")})
    result = run(image_sync, **{**REQUEST, "archive": str(path), "pull": False})
    assert (result["changed"], result["ray_added"]) == (True, True)
    assert BASE in world.get("images")
    assert world.verbs() == ["load", "tag", "build", "tag"]
    by_digest = f"nvcr.io/nvidia/vllm@sha256:{'0' * 64}"
    result = run(image_sync, **{**REQUEST, "base": by_digest, "archive": str(path)})
    assert "the tag that the image was saved under" in result["msg"]


def test_an_archive_leaves_no_name_but_the_one_that_was_asked_for(run: Run, world: World, tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    config = {"architecture": HERE, "rootfs": {"diff_ids": ["new"]}, "config": {"Labels": {}}}
    save(path, {"c.json": config, "manifest.json": [{"Config": "c.json", "RepoTags": ["saved:1", "users:1"]}]})
    world.set(images={"users:1": image("users")}, archive={"saved:1": image("new")})
    assert run(image_sync, name=NAME, archive=str(path))["source"] == "archive"
    assert set(world.get("images")) == {NAME, "users:1"}


def test_base_needs_a_version_of_ray(run: Run, world: World) -> None:
    assert run(image_sync, name=NAME, base=BASE)["failed"] is True


# --- image_check_info ----------------------------------------------------------------------------------------


def test_an_image_that_serves(run: Run, world: World) -> None:
    world.set(images={NAME: image("x", ray="2.56.1")})
    result = run(image_check_info, name=NAME, ray_version="2.56.1", min_vllm="0.21.0")
    assert (result["healthy"], result["problems"], result["notes"]) == (True, [], [])
    assert (result["facts"]["vllm"], result["facts"]["nccl"]) == ("0.31.0", "2.30.7")
    holds = (
        "vLLM 0.31.0, Ray 2.56.1, torch 2.15.0a0, NCCL 2.30.7; from an archive or a build without a registry's digest"
    )
    assert result["msg"] == f"image '{NAME}' has {holds}"
    assert [row["level"] for row in result["findings"]] == ["green"]


def test_an_image_without_ray(run: Run, world: World) -> None:
    world.set(images={NAME: image("x")})
    result = run(image_check_info, name=NAME, check=True)
    assert result["healthy"] is False
    assert "failed" not in result
    assert "cannot serve: it has no Ray: set serving_image_base" in result["msg"]
    (row,) = result["findings"]
    assert (row["level"], row["found"]) == ("red", "it has no Ray")


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({}, "is not on this node: run role serving_image first"),
        ({NAME: image("x", arch=OTHER)}, f"is for {OTHER}"),
        ({NAME: {**image("x"), "probe": None}}, "its python3 failed: exec format error"),
        ({NAME: {**image("x"), "probe": "hello"}}, "nothing that could be read"),
    ],
)
def test_an_image_that_cannot_be_looked_into(run: Run, world: World, images: dict[str, Any], words: str) -> None:
    world.set(images=images)
    result = run(image_check_info, name=NAME)
    assert result["failed"] is True
    assert words in result["msg"]


# --- container_gpu_check -------------------------------------------------------------------------------------


@pytest.fixture
def proof(world: World, tmp_path: Path) -> dict[str, Any]:
    world.set(images={NAME: image("x")})
    limits = {"nofile": "1048576:1048576", "memlock": "-1:-1"}
    return {"image": NAME, "ulimits": limits, "stamp": str(tmp_path / "proofs/gpu.json")}


def test_a_container_keeps_its_gpu_and_that_is_remembered(run: Run, world: World, proof: dict[str, Any]) -> None:
    first = run(container_gpu_check, **proof)
    assert (first["proven"], first["reused"], first["changed"]) == (True, False, False)
    assert first["msg"] == "a container gets the GPU and its limits, also after a daemon-reload"
    assert first["after"]["limits"] == {"nofile": "1048576", "memlock": "-1"}
    container = world.get("container")
    assert container[container.index("--device") + 1] == "nvidia.com/gpu=all"
    assert "memlock=-1:-1" in container
    assert ["daemon-reload"] in world.get("log")
    assert ["rm", "--force", "spark-gpu-check"] in world.get("log")[-2:]
    world.set(log=[])
    again = run(container_gpu_check, check=True, **proof)
    assert (again["proven"], again["reused"]) == (True, True)
    assert ["daemon-reload"] not in world.get("log")
    assert again["msg"].endswith("(verified before)")
    assert run(container_gpu_check, force=True, **proof)["reused"] is False
    world.set(images={NAME: image("y")})
    assert run(container_gpu_check, **proof)["reused"] is False


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            {"smi": ["GPU 0: NVIDIA GB10", "Failed to initialize NVML: Unknown Error"]},
            "loses its GPU at `systemctl daemon-reload`",
        ),
        ({"smi": ["No devices were found"]}, "does not see it (nvidia-smi: No devices were found)"),
        ({"limits": LIMITS.replace("1048576 ", "1024 ")}, "nofile 1048576 has 1024 (Docker 29.2.1)"),
        ({"infiniband": "rdma_cm"}, "sees no RDMA device"),
    ],
)
def test_what_a_container_lacks_is_told_and_not_remembered(
    run: Run, world: World, proof: dict[str, Any], state: dict[str, Any], words: str
) -> None:
    world.set(**state)
    result = run(container_gpu_check, **proof)
    assert result["proven"] is False
    assert words in result["msg"]
    assert {row["level"] for row in result["findings"]} == {"red"}
    assert not Path(proof["stamp"]).exists()


@pytest.mark.parametrize(
    ("status", "seen", "proven"), [(0, True, True), (2, False, False), (1, False, False), (124, None, True)]
)
def test_a_container_without_the_node_that_cuda_needs(
    run: Run,
    world: World,
    proof: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    seen: bool | None,
    proven: bool,
) -> None:
    node = tmp_path / "nvidia-uvm"
    node.touch()
    monkeypatch.setattr(container_gpu_check, "UVM", str(node))
    world.set(uvm_node=str(node), uvm=status)
    result = run(container_gpu_check, **proof)
    assert (result["before"]["uvm"], result["proven"]) == (seen, proven)
    assert ("has no /dev/nvidia-uvm, which this node has" in result["msg"]) is not proven
    assert Path(proof["stamp"]).exists() is proven


@pytest.mark.parametrize("kept", ["null", "[]", "{}", '{"result": []}', '{"result": {"proven": true}}'])
def test_a_stamp_that_is_none_is_made_anew(run: Run, proof: dict[str, Any], kept: str) -> None:
    run(container_gpu_check, **proof)
    stamp = Path(proof["stamp"])
    digest = json.loads(stamp.read_text())["digest"]
    document = json.loads(kept)
    stamp.write_text(json.dumps({**document, "digest": digest} if isinstance(document, dict) else document))
    result = run(container_gpu_check, **proof)
    assert (result["proven"], result["reused"]) == (True, False)


def test_nothing_is_tried_while_the_cluster_serves(run: Run, world: World, proof: dict[str, Any]) -> None:
    world.set(running="spark-ray-head\nspark-vllm")
    result = run(container_gpu_check, **proof)
    assert (result["proven"], result["problems"]) == (False, [])
    assert "spark-ray-head, spark-vllm runs" in result["msg"]
    assert result["findings"][0]["level"] == "yellow"
    assert ["daemon-reload"] not in world.get("log")
    assert run(container_gpu_check, while_serving=True, **proof)["proven"] is True


def test_check_mode_starts_nothing(run: Run, world: World, proof: dict[str, Any]) -> None:
    assert "check mode starts no container" in run(container_gpu_check, check=True, **proof)["msg"]
    assert not [entry for entry in world.get("log") if entry[0] == "run"]
    world.set(images={})
    result = run(container_gpu_check, check=True, **proof)
    assert (result["problems"], "the image is still to come" in result["msg"]) == ([], True)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"images": {}}, "is not on this node: run role serving_image first"),
        # Docker's words, moby/moby#47633; the device's name is replaced.
        (
            {
                "run_error": "docker: Error response from daemon: CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=all."
            },
            "docker run for the check of the GPU failed: docker: Error response from daemon: CDI device injection failed",
        ),
    ],
)
def test_a_container_that_does_not_start(
    run: Run, world: World, proof: dict[str, Any], state: dict[str, Any], words: str
) -> None:
    world.set(**state)
    result = run(container_gpu_check, **proof)
    assert result["failed"] is True
    assert words in result["msg"]


# --- container_runtime_info ----------------------------------------------------------------------------------


def test_this_machine_is_read(run: Run) -> None:
    result = run(container_runtime_info)
    assert result["changed"] is False
    assert result["wanted"] == []
    assert isinstance(result["runtime"]["docker"]["installed"], bool)
    assert result["healthy"] is (result["problems"] == [])
    assert result["findings"]


def test_all_that_is_wrong_is_told_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = cdi.Runtime(docker=cdi.Docker())
    monkeypatch.setattr(cdi, "collect", lambda host: nothing)
    result = run(container_runtime_info, devices=["nvidia.com/gpu=all", "/dev/infiniband"])
    assert "failed" not in result
    assert (result["healthy"], result["wanted"]) == (False, ["nvidia.com/gpu=all"])
    assert [found["code"] for found in result["findings"]] == [
        "docker.missing",
        "gpu.driver_missing",
        "docker.toolkit_missing",
    ]
    assert result["msg"] == "; ".join(result["problems"])
