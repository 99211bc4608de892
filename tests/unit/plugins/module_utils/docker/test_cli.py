# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What answers and errors of the docker command mean; words as Docker 20.10 and 28 say them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import (
    BARE,
    DOCKER,
    DockerError,
    docker,
    image_id,
    inspect_container,
    inspect_image,
    needed_image,
    remove_container,
    running,
    throwaway,
)

LOOKS: list[Callable[..., Any]] = [inspect_image, inspect_container, needed_image, image_id]


class Answer:
    """Gives one answer and notes what it was asked."""

    def __init__(self, code: int = 0, out: str = "", err: str = "") -> None:
        self.answer = (code, out, err)
        self.asked: list[list[str]] = []
        self.given: list[Any] = []

    def __call__(self, argv: Sequence[str], *seconds: Any, **given: Any) -> tuple[int, str, str]:
        self.asked.append(list(argv))
        self.given.append((seconds, given))
        return self.answer


@pytest.mark.parametrize(
    "err",
    [
        "Error: No such image: x",
        "Error response from daemon: No such image: x:latest",
        "Error: No such object: x",
        "x: Not found",
    ],
)
def test_what_is_not_there(err: str) -> None:
    none = Answer(1, "[]", err)
    assert inspect_image(none, "x") is None
    assert inspect_container(none, "x") is None
    with pytest.raises(DockerError, match=r"image 'x' is not on this node: run role serving_image first"):
        image_id(none, "x")
    assert none.asked[:2] == [[DOCKER, "image", "inspect", "x"], [DOCKER, "inspect", "--type", "container", "x"]]


@pytest.mark.parametrize("look", LOOKS)
def test_a_daemon_that_is_away_is_not_a_missing_image(look: Callable[..., Any]) -> None:
    with pytest.raises(DockerError, match=r"Docker does not answer: Cannot connect.*systemctl status docker"):
        look(Answer(1, "", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."), "x")
    with pytest.raises(DockerError, match="Docker does not answer: no answer within 300 s"):
        look(Answer(124, "", "no answer within 300 s"), "x")


@pytest.mark.parametrize("look", LOOKS)
def test_a_node_without_docker_is_no_node_without_the_image(look: Callable[..., Any]) -> None:
    # The words of the missing program would read like those of a missing image.
    with pytest.raises(DockerError, match=r"Docker is not installed on this node .* run role container_runtime first"):
        look(Answer(127, "", f"{DOCKER}: No such file or directory"), "x")


@pytest.mark.parametrize("out", ["", "{}", "[]", "[1]", "[{}, {}]", "warning\n[{}]"])
def test_an_answer_of_another_shape_is_a_sentence(out: str) -> None:
    with pytest.raises(DockerError, match="no list of one object"):
        inspect_image(Answer(0, out), "x")


def test_what_is_there() -> None:
    assert inspect_image(Answer(0, '[{"Id": "sha256:1"}]'), "x") == {"Id": "sha256:1"}
    assert image_id(Answer(0, '[{"Id": "sha256:1"}]'), "x") == "sha256:1"


def test_a_command_that_must_work() -> None:
    assert docker(Answer(0, "said\n"), "tag", "a", "b") == "said\n"
    with pytest.raises(DockerError, match="docker tag for serving failed: last"):
        docker(Answer(1, "", "first\nlast\n"), "tag", "a", "b", purpose="serving")
    load = Answer()
    docker(load, "load", seconds=None)
    assert load.given == [((None,), {})]


def test_a_container_for_one_look() -> None:
    look = Answer()
    throwaway(look, "x:1", ["python3", "-"], 60, ["--label", "a=b"], data="print()")
    fixed = ["--rm", "--pull", "never", "--network", "none", *BARE, "--interactive"]
    assert look.asked == [[DOCKER, "run", *fixed, "--label", "a=b", "--entrypoint", "python3", "x:1", "-"]]
    assert look.given == [((60,), {"data": "print()"})]
    throwaway(look, "x:1", ["true"], 60)
    assert "--interactive" not in look.asked[1]


def test_containers_that_run() -> None:
    assert running(Answer(0, "a\nb\n")) == ["a", "b"]
    labelled = Answer()
    assert running(labelled, "dgx-spark.digest") == []
    assert labelled.asked[0][2:4] == ["--filter", "label=dgx-spark.digest"]
    with pytest.raises(DockerError, match="Docker does not answer: no daemon"):
        running(Answer(1, "", "no daemon"))


def test_a_container_that_is_not_there_is_removed_without_a_word() -> None:
    remove_container(Answer(1, "", "Error: No such container: x"), "x")
