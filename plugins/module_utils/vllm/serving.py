# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the running container says of the server in it: its arguments, where it listens, what it serves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ServingError(Exception):
    """One sentence for the user."""


def serve_arguments(argv: Sequence[str]) -> list[str]:
    """Return what follows ``vllm serve`` in a container's argv, which a shell that exports secrets may stand in front of."""
    for index in range(len(argv) - 1):
        if argv[index].rpartition("/")[2] == "vllm" and argv[index + 1] == "serve":
            return list(argv[index + 2 :])
    return list(argv)


@dataclass(frozen=True)
class Server:
    """The server as its container sees it: address, served name, and the folder with the tokenizer."""

    base_url: str
    model: str
    tokenizer: str
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Serving:
    """What the running container says of the server in it.

    Attributes:
        arguments: what follows ``vllm serve``, the path of the weights first.
        started: when the container started, as Docker writes it.
    """

    image_id: str
    image: str
    arguments: tuple[str, ...]
    started: str

    @property
    def model_path(self) -> str:
        """Return the folder of the weights, which holds the tokenizer too."""
        return self.arguments[0]

    def value(self, flag: str) -> str | None:
        """Return the value of a flag, or None."""
        for index, part in enumerate(self.arguments):
            name, equals, value = part.partition("=")
            if name == flag:
                return value if equals else next(iter(self.arguments[index + 1 : index + 2]), None)
        return None

    @property
    def server(self) -> Server:
        """Return the server as the container itself reaches it."""
        host = self.value("--host") or "127.0.0.1"
        # Bound to all addresses it listens on the loopback as well.
        host = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host
        return Server(
            base_url=f"http://{host}:{self.value('--port') or '8000'}",
            model=self.value("--served-model-name") or self.model_path,
            tokenizer=self.value("--tokenizer") or self.model_path,
            trust_remote_code="--trust-remote-code" in self.arguments,
        )


def serving(inspected: Mapping[str, Any] | None, container: str) -> Serving:
    """Return what ``docker inspect`` says of the serving container.

    Raises:
        ServingError: it does not run, or does not run ``vllm serve``.
    """
    if inspected is None or not (inspected.get("State") or {}).get("Running"):
        raise ServingError(
            f"container {container} does not run on this node: run playbooks/site.yml, or playbooks/start.yml after a stop"
        )
    config = inspected.get("Config") or {}
    argv = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
    arguments = serve_arguments(argv)
    if len(arguments) == len(argv) or not arguments or arguments[0].startswith("-"):
        raise ServingError(f"container {container} does not run `vllm serve MODEL`: it runs {' '.join(argv)[:200]!r}")
    return Serving(
        image_id=str(inspected.get("Image") or ""),
        image=str(config.get("Image") or ""),
        arguments=tuple(arguments),
        started=str((inspected.get("State") or {}).get("StartedAt") or ""),
    )
