# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The one way to ask Docker: its command (docs/decisions/0019), and what its answers and its errors mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..system.run import MISSING, SECONDS, Runner, last_line

#: The program that the units run; one that lies elsewhere does not help them.
DOCKER = "/usr/bin/docker"

#: What `docker rm --force` and `docker stop` say of a container that is gone already, in the journal of each unit that cleans up.
GONE = "No such container"


class DockerError(Exception):
    """One sentence for the user."""


class DockerMissing(DockerError):
    """Docker is not installed; in check mode it may be still to come."""


def is_absent(err: str) -> bool:
    """Say whether an error of Docker means that there is no such image, container or object, in the words of its several versions."""
    return "No such" in err or "not found" in err.lower()


def silent(err: str) -> DockerError:
    """Return the sentence for a Docker that gives no answer; ``err`` is what its command said."""
    return DockerError(f"Docker does not answer: {err.strip() or 'no reason given'}; look at `systemctl status docker`")


def ask(run: Runner, *arguments: str) -> tuple[int, str, str]:
    """Run a command of Docker's whose failure is an answer as well; return its status, output and errors."""
    return run([DOCKER, *arguments])


def docker(run: Runner, *arguments: str, purpose: str = "", seconds: float | None = SECONDS) -> str:
    """Run a command of Docker's that must work; return its output.

    Raises:
        DockerError: it failed, or was not done in time (None: it may take as long as it takes); ``purpose`` says what for.
    """
    code, out, err = run([DOCKER, *arguments], seconds)
    if code:
        raise DockerError(f"docker {arguments[0]}{f' for {purpose}' if purpose else ''} failed: {last_line(out, err)}")
    return out


def _inspect(run: Runner, kind: Sequence[str], name: str) -> dict[str, Any] | None:
    code, out, err = run([DOCKER, *kind, name])
    if code == MISSING:
        raise DockerMissing(f"Docker is not installed on this node ({err.strip()}): run role container_runtime first")
    if code:
        if is_absent(err):
            return None
        raise silent(err or out)
    try:
        (document,) = json.loads(out)
    except ValueError:
        raise silent(f"its answer for {name} is no list of one object") from None
    if not isinstance(document, dict):
        raise silent(f"its answer for {name} is no list of one object")
    return document


def inspect_image(run: Runner, image: str) -> dict[str, Any] | None:
    """Return ``docker image inspect`` of an image, or None when it is not on this node.

    Raises:
        DockerError: Docker does not answer.
    """
    return _inspect(run, ("image", "inspect"), image)


def needed_image(run: Runner, image: str) -> dict[str, Any]:
    """Return ``docker image inspect`` of an image that must be here.

    Raises:
        DockerError: Docker does not answer, or has no such image.
    """
    found = inspect_image(run, image)
    if found is None:
        raise DockerError(f"image {image!r} is not on this node: run role serving_image first")
    return found


def image_id(run: Runner, image: str) -> str:
    """Return the id of an image that must be here; DockerError as :func:`needed_image`."""
    return str(needed_image(run, image).get("Id") or "")


def inspect_container(run: Runner, name: str) -> dict[str, Any] | None:
    """Return ``docker inspect`` of a container, or None when there is none.

    Raises:
        DockerError: Docker does not answer.
    """
    return _inspect(run, ("inspect", "--type", "container"), name)


#: Options of every container: no capability, and no program that gives itself more. Decision 0061 says why none is missed.
BARE = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")


def throwaway(
    run: Runner, image: str, argv: Sequence[str], seconds: float, options: Sequence[str] = (), data: str | None = None
) -> tuple[int, str, str]:
    """Run a program in a container of an image: nothing is pulled, the network is off, and the container is gone afterwards.

    Args:
        argv: the program and its arguments.
        seconds: time limit, after which the status is 124.
        options: further options of `docker run`.
        data: text for its standard input.
    """
    if data is None:
        return run(throwaway_command(image, argv, options), seconds)
    return run(throwaway_command(image, argv, ("--interactive", *options)), seconds, data=data)


def throwaway_command(image: str, argv: Sequence[str], options: Sequence[str] = ()) -> list[str]:
    """Return the command that `throwaway` runs."""
    fixed = ("--rm", "--pull", "never", "--network", "none", *BARE)
    return [DOCKER, "run", *fixed, *options, "--entrypoint", argv[0], image, *argv[1:]]


def remove_container(run: Runner, name: str) -> None:
    """Remove a container whether it runs or not; one that is not there is no error."""
    run([DOCKER, "rm", "--force", name])


def running(run: Runner, label: str = "") -> list[str]:
    """Return the names of the containers that run, of those alone that have the label where one is given.

    Raises:
        DockerError: Docker does not answer.
    """
    chosen = ["--filter", f"label={label}"] if label else []
    code, out, err = run([DOCKER, "ps", *chosen, "--format", "{{.Names}}"])
    if code:
        raise silent(err or out)
    return out.split()
