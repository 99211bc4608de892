# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a running container says of the server in it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.serving import (
    Server,
    ServingError,
    serve_arguments,
    serving,
)


def container(*command: str, running: bool = True) -> dict[str, Any]:
    shell = ["-c", 'VLLM_API_KEY="$(cat /run/secrets/api_key)"; export VLLM_API_KEY; exec "$@"', "spark-vllm"]
    return {
        "Image": "sha256:1",
        "State": {"Running": running, "StartedAt": "2026-11-23T18:57:44.1Z"},
        "Config": {"Image": "serving:1", "Entrypoint": ["/bin/sh"], "Cmd": [*shell, *command]},
    }


def test_the_running_server() -> None:
    found = serving(
        container(
            "vllm",
            "serve",
            "/srv/m",
            "--host",
            "0.0.0.0",
            "--port=8235",
            "--served-model-name",
            "qwen3",
            "--trust-remote-code",
        ),
        "spark-vllm",
    )
    assert found.server == Server("http://127.0.0.1:8235", "qwen3", "/srv/m", trust_remote_code=True)
    assert (found.model_path, found.image_id) == ("/srv/m", "sha256:1")
    found = serving(container("vllm", "serve", "/srv/m", "--host", "192.168.100.10"), "spark-vllm")
    assert found.server == Server("http://192.168.100.10:8000", "/srv/m", "/srv/m")


@pytest.mark.parametrize(
    ("inspected", "sentence"),
    [
        (None, "container spark-vllm does not run on this node: run playbooks/site.yml"),
        (container("vllm", "serve", "/m", running=False), "does not run on this node"),
        (container("sleep", "9"), "does not run `vllm serve MODEL`"),
        (container("vllm", "serve", "--model", "/m"), "does not run `vllm serve MODEL`"),
    ],
)
def test_a_container_that_does_not_serve(inspected: dict[str, Any] | None, sentence: str) -> None:
    with pytest.raises(ServingError, match=sentence):
        serving(inspected, "spark-vllm")


def test_what_follows_vllm_serve() -> None:
    assert serve_arguments(["/bin/sh", "-c", "x", "spark-vllm", "/opt/bin/vllm", "serve", "/m"]) == ["/m"]
    assert serve_arguments(["sleep", "9"]) == ["sleep", "9"]
