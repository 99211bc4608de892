# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What an image is, by content: equal on two nodes however their Docker stores number it.

The id of an image is the digest of its configuration in the overlay2 store and the digest of its manifest in the containerd
store (default of fresh installs since Docker 29), so ids of two nodes cannot be compared. The layers and the run
configuration can.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Label of an image that was made of a base: what the registry calls that base.
BASE_DIGEST_LABEL = "dgx-spark.base-digest"
_RUN_CONFIGURATION = ("Entrypoint", "Cmd", "Env", "WorkingDir", "User")


def content_digest(layers: list[str], configuration: Mapping[str, Any]) -> str:
    """Return the SHA-256 over layer digests (uncompressed, in order) and what the image runs by default."""
    run = {key: configuration.get(key) or None for key in _RUN_CONFIGURATION}
    return hashlib.sha256(json.dumps({"layers": layers, "run": run}, sort_keys=True).encode()).hexdigest()


def content_of_inspect(inspected: Mapping[str, Any]) -> str:
    """Return the content digest of an element of ``docker image inspect``."""
    return content_digest(list((inspected.get("RootFS") or {}).get("Layers") or []), inspected.get("Config") or {})


def origin_of_inspect(inspected: Mapping[str, Any]) -> str:
    """Return what a registry calls the image, or the base that it was made of: ``repository@sha256:...``; empty where it was never pulled."""
    labels = (inspected.get("Config") or {}).get("Labels") or {}
    return str(labels.get(BASE_DIGEST_LABEL) or next(iter(inspected.get("RepoDigests") or []), ""))


def origin_text(inspected: Mapping[str, Any]) -> str:
    """Return where an image came from, for a sentence."""
    return origin_of_inspect(inspected) or "an archive or a build without a registry's digest"


def content_of_archive(path: Path) -> tuple[str, list[str]]:
    """Return content digest and names of the one image in an archive that ``docker save`` wrote; no layer is read.

    Raises:
        ValueError: not such an archive, or one with more than one image.
    """
    try:
        with tarfile.open(path) as archive:
            index = _member(archive, "manifest.json", path)
            if len(index) != 1:
                raise ValueError(
                    f"archive {path} holds {len(index)} images, expected one: write it with `docker save -o FILE IMAGE`"
                )
            configuration = _member(archive, index[0]["Config"], path)
    except (tarfile.TarError, EOFError, KeyError, TypeError) as error:
        raise ValueError(f"archive {path} is not what `docker save` writes ({error}): write it again") from None
    layers = list(configuration["rootfs"]["diff_ids"])
    return content_digest(layers, configuration.get("config") or {}), list(index[0].get("RepoTags") or [])


def architecture_of_archive(path: Path) -> str:
    """Return Docker's name of the architecture that the image in an archive is for; empty where it does not say.

    Raises:
        ValueError: not such an archive.
    """
    try:
        with tarfile.open(path) as archive:
            index = _member(archive, "manifest.json", path)
            return str(_member(archive, index[0]["Config"], path).get("architecture") or "")
    except (tarfile.TarError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"archive {path} is not what `docker save` writes ({error}): write it again") from None


def _member(archive: tarfile.TarFile, name: str, path: Path) -> Any:
    try:
        stream = archive.extractfile(name)
    except KeyError:
        stream = None
    if stream is None:
        raise ValueError(f"archive {path} has no {name}: it is not what `docker save` writes")
    with stream:
        return json.load(stream)
