# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Command line of the hub: `python3 -m hub --port 8080 --repository owner/name=folder`."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from .server import Hub


def parse_repositories(given: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Repositories from `owner/name[@branch]=folder`; the branch is `main` unless named.

    Raises ValueError with the word that is wrong.
    """
    found: dict[str, dict[str, Path]] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        name, _, branch = name.partition("@")
        if not equals or not folder or len(name.split("/")) != 2 or not all(name.split("/")):
            raise ValueError(f"'{text}' is not owner/name[@branch]=folder")
        found.setdefault(name, {})[branch or "main"] = Path(folder)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="hub", description="A local model hub for tests.")
    parser.add_argument("--address", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="port to listen at (default: 8080)")
    parser.add_argument("--repository", action="append", required=True, metavar="OWNER/NAME[@BRANCH]=FOLDER")
    options = parser.parse_args(arguments)
    try:
        hub = Hub((options.address, options.port), parse_repositories(options.repository))
    except (OSError, ValueError) as error:
        print(f"The hub cannot start: {error}", file=sys.stderr)
        return 1

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    print(f"The hub listens at http://{options.address}:{hub.server_port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        hub.serve_forever()
    hub.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
