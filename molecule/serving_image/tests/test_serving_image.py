# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The image is on the node under its name, and what it is made of runs."""

from __future__ import annotations

import json

from testinfra.host import Host

IMAGE = "dgx-spark-sim/serving:current"


def test_the_image_has_its_name_and_is_the_archives(host: Host) -> None:
    with host.sudo():
        (image,) = json.loads(host.check_output(f"docker image inspect {IMAGE}"))
        names = host.check_output("tar --extract --to-stdout --file /opt/simulation/images/serving.tar manifest.json")
        assert image["RootFS"]["Layers"]
        assert any(IMAGE in entry["RepoTags"] for entry in json.loads(names))


def test_vllm_and_ray_are_in_it(host: Host) -> None:
    script = "import importlib.metadata as m; print(m.version('vllm'), m.version('ray'))"
    with host.sudo():
        said = host.check_output(f'docker run --rm --network none --entrypoint python3 {IMAGE} -c "{script}"')
    assert len(said.split()) == 2


def test_no_container_of_the_check_is_left(host: Host) -> None:
    with host.sudo():
        assert host.check_output("docker ps --all --quiet") == ""
