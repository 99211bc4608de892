# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How the serving image comes to a node: from an archive, a registry, a base that lacks Ray, or a peer; proven by content."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..system.files import write_atomic
from ..system.progress import Progress, gib
from ..system.run import SECONDS, Runner
from .cli import DOCKER, DockerError, DockerMissing, docker, inspect_image
from .image_digest import (
    BASE_DIGEST_LABEL,
    architecture_of_archive,
    content_of_archive,
    content_of_inspect,
    origin_of_inspect,
    origin_text,
)
from .image_layer import (
    CA_IN_BUILD,
    LIST_IN_BUILD,
    WHEELS_IN_BUILD,
    ImageFacts,
    architecture_problem,
    build_problem,
    layer_digest,
    layer_dockerfile,
    layer_problem,
    mirrored,
    parse_reference,
    probe_image,
    pull_problem,
    ray_problem,
    ray_requirements,
)
from .pull import pull

#: Label with the desired state. Its name is on the images on disk: another one would build them all again.
LAYER_LABEL = "dgx-spark.wish"
BASE_LABEL = "dgx-spark.base"
RAY_LABEL = "dgx-spark.ray"
#: Where Docker looks for the authority of a registry; it reads it at each pull.
REGISTRY_TRUST = Path("/etc/docker/certs.d")
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


class ImageError(DockerError):
    """One sentence for the user."""


@dataclass(frozen=True)
class ImageRequest:
    """What image is wanted on the node, and where it may come from; empty texts for what is not set.

    Attributes:
        name: name of the image on this node.
        archive: file that `docker save` wrote.
        base: image that it is made of; ``ray_version`` is added to it where it has no good Ray.
        mirror: registry to pull from instead of the one in the name.
        ca_bundle: file with certificate authorities for the pull and for the package index.
        wheelhouse: folder with Ray's wheels, instead of a package index.
        lock: list of Ray and all that it needs, with hashes; not used for another Ray than its own.
        pull: whether it may be pulled.
        content: content digest that it must have.
        peer: brings the image of that name from another node; None where there is none.
        temporary: folder for the context of a build; None for the system's own.
    """

    name: str
    archive: str = ""
    base: str = ""
    ray_version: str = ""
    mirror: str = ""
    ca_bundle: str = ""
    wheelhouse: str = ""
    lock: str = ""
    pull: bool = False
    content: str = ""
    peer: Callable[[str], None] | None = None
    temporary: str | None = None


class ImageSource:
    """Brings the wanted image to this node."""

    def __init__(self, request: ImageRequest, run: Runner, check: bool, progress: Progress | None = None) -> None:
        self.request = request
        self.progress = progress or Progress()
        self.run = run
        self.check = check
        self.name = request.name

    def docker(self, *arguments: str, seconds: float | None = SECONDS) -> str:
        return docker(self.run, *arguments, purpose=self.name, seconds=seconds)

    def ensure(self) -> dict[str, Any]:
        """Return the result; raises ImageError with one sentence."""
        request = self.request
        wanted = request.content
        try:
            have = inspect_image(self.run, self.name)
        except DockerMissing:
            if not self.check:
                raise
            chosen = next((name for name in ("base", "archive") if getattr(request, name)), "pull")
            return self.would("peer" if request.peer or wanted else chosen, wanted)
        if request.peer or (wanted and not request.archive):
            return self.from_peer(have, wanted)
        if request.base:
            return self.from_base(have, request.base, request.ray_version)
        if request.archive:
            return self.from_archive(have, Path(request.archive))
        if have is not None:
            return self.result(have, changed=False, source="present")
        if not request.pull:
            raise ImageError(
                f"image {self.name!r} is not on this node and nothing says where from: set archive, base or pull"
            )
        if self.check:
            return self.would("pull")
        pulled = self.pull(self.name)
        if pulled != self.name:
            self.docker("tag", pulled, self.name)
        return self.result(inspect_image(self.run, self.name), changed=True, source="pull")

    def pull(self, image: str) -> str:
        """Pull an image, from the mirror where there is one; return the name that it came under."""
        name = mirrored(image, self.request.mirror)
        self.trust(parse_reference(name).registry)
        # 20 GB over a slow line take as long as they take.
        code, out, err = (
            pull(name, self.progress) if self.progress.file else self.run([DOCKER, "pull", "--quiet", name], None)
        )
        if code:
            raise ImageError(pull_problem(name, err or out))
        found = inspect_image(self.run, name) or {}
        if problem := architecture_problem(name, str(found.get("Architecture") or ""), self.node_architecture()):
            raise ImageError(problem)
        return name

    def node_architecture(self) -> str:
        return self.docker("version", "--format", "{{.Server.Arch}}").strip()

    def trust(self, registry: str) -> None:
        """Let Docker trust the certificate authorities of the bundle for one registry."""
        bundle = Path(self.request.ca_bundle) if self.request.ca_bundle else None
        if bundle is None or not registry:
            return
        self.need_bundle(bundle)
        if bundle.resolve() == SYSTEM_BUNDLE.resolve():
            return
        wanted, place = bundle.read_bytes(), REGISTRY_TRUST / registry / "ca.crt"
        if not place.is_file() or place.read_bytes() != wanted:
            write_atomic(place, wanted)

    def need_bundle(self, bundle: Path) -> None:
        if not bundle.is_file():
            raise ImageError(
                f"ca_bundle is {str(bundle)!r}, but there is no such file on this node: copy it there or change spark_ca_bundle"
            )

    def find(self, content: str) -> str:
        """Return the id of an image that has the content under whatever name, or nothing."""
        ids = sorted(set(self.docker("image", "ls", "--quiet", "--no-trunc").split()))
        inspected = json.loads(self.docker("image", "inspect", *ids)) if ids else []
        return next((str(image["Id"]) for image in inspected if content_of_inspect(image) == content), "")

    def name_it(self, image_id: str, content: str) -> dict[str, Any]:
        """Give the wanted name to an image that is there already."""
        if self.check:
            return self.would("name", content)
        self.docker("tag", image_id, self.name)
        return self.result(inspect_image(self.run, self.name), changed=True, source="name", content=content)

    def from_archive(self, have: dict[str, Any] | None, archive: Path) -> dict[str, Any]:
        if not archive.is_file():
            raise ImageError(
                f"archive is {str(archive)!r}, but there is no such file on this node: copy it there or change serving_image_archive"
            )
        content, names = content_of_archive(archive)
        if have is not None and content_of_inspect(have) == content:
            return self.result(have, changed=False, source="present")
        if known := self.find(content):
            return self.name_it(known, content)
        if problem := architecture_problem(str(archive), architecture_of_archive(archive), self.node_architecture()):
            raise ImageError(problem)
        if self.check:
            return self.would("archive", content)
        self.progress.note(f"loading {archive} ({gib(archive.stat().st_size)})")
        brought = [name for name in names if name != self.name and inspect_image(self.run, name) is None]
        loaded = self.docker("load", "--quiet", "--input", str(archive), seconds=None)
        if self.name not in names:
            self.docker("tag", loaded.strip().rpartition(": ")[2], self.name)
        # Nobody asked for the archive's own names, and remove.yml would not know whose they are.
        for name in brought:
            self.docker("image", "rm", name)
        return self.result(inspect_image(self.run, self.name), changed=True, source="archive", content=content)

    def from_base(self, have: dict[str, Any] | None, base: str, ray_version: str) -> dict[str, Any]:
        """Make the image of its base: the base itself where it has a good Ray, with one layer more where it lacks."""
        parse_reference(base)
        if parse_reference(self.name).digest:
            raise ImageError(
                f"image {self.name!r} is made of {base} and cannot have a digest as its name: set spark_serving_image to name:tag"
            )
        if (pinned := parse_reference(base).digest) and (made := self.made_of(pinned, ray_version)):
            if have is not None and have["Id"] == made["Id"]:
                return self.result(have, changed=False, source="present")
            return self.name_it(str(made["Id"]), content_of_inspect(made))
        labels = ((have or {}).get("Config") or {}).get("Labels") or {}
        place, found = next(
            (
                (name, image)
                for name in (base, mirrored(base, self.request.mirror))
                if (image := inspect_image(self.run, name))
            ),
            (base, None),
        )
        if found is None:
            layer_digest(base, "", ray_version)
            # The base may have been cleaned away since; what was made of it says so itself, and 20 GB are not pulled to learn that.
            if have is not None and (labels.get(BASE_LABEL), labels.get(RAY_LABEL)) == (base, ray_version):
                return self.result(have, changed=False, source="present")
            if self.check:
                return self.would("base")
            place = self.bring_base(base)
            found = inspect_image(self.run, place) or {}
        wanted = layer_digest(base, str(found.get("Id")), ray_version)
        if have is not None and labels.get(LAYER_LABEL) == wanted:
            return self.result(have, changed=False, source="present")
        if problem := architecture_problem(base, str(found.get("Architecture") or ""), self.node_architecture()):
            raise ImageError(problem)
        if self.check:
            return self.would("base")
        facts = probe_image(self.run, place)
        if not facts.vllm:
            raise ImageError(
                f"image {base!r} has no vLLM: set serving_image_base to one that has, NVIDIA's nvidia/vllm for example"
            )
        lacks = ray_problem(facts)
        made = {LAYER_LABEL: wanted, BASE_LABEL: base, RAY_LABEL: ray_version}
        if origin := origin_of_inspect(found):
            made[BASE_DIGEST_LABEL] = origin
        self.build(place, made, facts, ray_version, bool(lacks))
        return self.result(inspect_image(self.run, self.name), changed=True, source="base", ray_added=bool(lacks))

    def made_of(self, digest: str, ray_version: str) -> dict[str, Any] | None:
        """Return an image that was made of the base of this digest: to pin what was pulled by its tag builds nothing again."""
        said = self.docker("image", "ls", "--quiet", "--no-trunc", "--filter", f"label={BASE_DIGEST_LABEL}")
        ids = sorted(set(said.split()))
        for image in json.loads(self.docker("image", "inspect", *ids)) if ids else []:
            labels = (image.get("Config") or {}).get("Labels") or {}
            if str(labels.get(BASE_DIGEST_LABEL)).endswith(f"@{digest}") and labels.get(RAY_LABEL) == ray_version:
                return dict(image)
        return None

    def bring_base(self, base: str) -> str:
        """Get the base from its archive or registry; return the name that it has on this node."""
        if not self.request.archive:
            if not self.request.pull:
                raise ImageError(
                    f"image {base!r} is not on this node and nothing says where from: set serving_image_pull, or serving_image_archive"
                )
            return self.pull(base)
        archive = Path(self.request.archive)
        if not archive.is_file():
            raise ImageError(
                f"archive is {str(archive)!r}, but there is no such file on this node: copy it there or change serving_image_archive"
            )
        if problem := architecture_problem(str(archive), architecture_of_archive(archive), self.node_architecture()):
            raise ImageError(problem)
        content, _names = content_of_archive(archive)
        self.progress.note(f"loading {archive} ({gib(archive.stat().st_size)})")
        self.docker("load", "--quiet", "--input", str(archive), seconds=None)
        if inspect_image(self.run, base) is None:
            # The archive's image has another name, or none; a digest cannot be given as one.
            known = self.find(content)
            if not known or parse_reference(base).digest:
                raise ImageError(
                    f"archive {str(archive)!r} was loaded and Docker does not know its image as {base!r}: "
                    "set serving_image_base to the tag that the image was saved under"
                )
            self.docker("tag", known, base)
        return base

    def build(self, base: str, labels: dict[str, str], facts: ImageFacts, ray_version: str, add_ray: bool) -> None:
        """Build under a name of its own, look at the result, and only then give it the wanted name."""
        bundle = Path(self.request.ca_bundle) if self.request.ca_bundle and add_ray else None
        wheels = Path(self.request.wheelhouse) if self.request.wheelhouse and add_ray else None
        fresh = f"{self.name}-unchecked"
        hashed = ray_requirements(self.request.lock, ray_version, facts.installed) if add_ray else ""
        with tempfile.TemporaryDirectory(dir=self.request.temporary) as folder:
            context = Path(folder)
            if bundle:
                self.need_bundle(bundle)
                shutil.copyfile(bundle, context / CA_IN_BUILD)
            if wheels:
                if not any(wheels.glob("*.whl")):
                    raise ImageError(f"wheelhouse is {str(wheels)!r}, but there are no wheels in it on this node")
                shutil.copytree(wheels, context / WHEELS_IN_BUILD)
            if hashed:
                (context / LIST_IN_BUILD).write_text(hashed, encoding="utf-8")
            text = layer_dockerfile(
                base, ray_version, add_ray=add_ray, ca=bool(bundle), wheels=bool(wheels), hashed=bool(hashed)
            )
            (context / "Dockerfile").write_text(text, encoding="utf-8")
            adding = f"adding Ray {ray_version}{'' if hashed else ', whose hashes are not known,'} to {base}"
            self.progress.note(adding if add_ray else f"labelling {base}")
            command = [DOCKER, "build", "--tag", fresh]
            for name, value in labels.items():
                command += ["--label", f"{name}={value}"]
            environment = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"} if bundle or wheels else {}
            code, out, err = self.run([*command, str(context)], None, environment=environment)
            if code:
                raise ImageError(f"image {self.name!r}: {build_problem(f'{out}{chr(10)}{err}', ray_version)}")
        try:
            if add_ray:
                built = probe_image(self.run, fresh)
                if problem := layer_problem(facts, built) or ray_problem(built):
                    raise ImageError(f"image {self.name!r} is not what it should be: {problem}")
            self.docker("tag", fresh, self.name)
        finally:
            self.docker("image", "rm", "--no-prune", fresh)

    def from_peer(self, have: dict[str, Any] | None, wanted: str) -> dict[str, Any]:
        if not wanted:
            raise ImageError("content is missing: give the digest that image_sync returned on the peer")
        if have is not None and content_of_inspect(have) == wanted:
            return self.result(have, changed=False, source="present")
        if known := self.find(wanted):
            return self.name_it(known, wanted)
        if self.check:
            return self.would("peer", wanted)
        if self.request.peer is None:
            raise ImageError(
                f"image {self.name!r} on this node differs from the expected one and peer_address is not set"
            )
        self.request.peer(self.name)
        return self.result(inspect_image(self.run, self.name), changed=True, source="peer", content=wanted)

    def would(self, source: str, content: str = "") -> dict[str, Any]:
        return {
            "changed": True,
            "image_id": "",
            "origin": "",
            "content": content,
            "bytes": 0,
            "ray_added": False,
            "source": source,
            "msg": f"would get {self.name} by {source}",
        }

    def result(
        self,
        inspected: dict[str, Any] | None,
        *,
        changed: bool,
        source: str,
        content: str | None = None,
        ray_added: bool = False,
    ) -> dict[str, Any]:
        if inspected is None:
            raise ImageError(f"image {self.name!r} came by {source} but Docker does not know it under that name")
        found = content_of_inspect(inspected)
        if content and found != content:
            raise ImageError(
                f"image {self.name!r} came by {source} with content {found[:12]}, expected {content[:12]}: run again; if that does not help, restart Docker"
            )
        size = int(inspected.get("Size") or 0)
        return {
            "changed": changed,
            "image_id": inspected["Id"],
            "origin": origin_of_inspect(inspected),
            "content": found,
            "bytes": size,
            "ray_added": ray_added,
            "source": source,
            "msg": f"{self.name} ({size / 2**30:.1f} GiB, content {found[:12]}) "
            + ("is there" if not changed else f"came by {source}")
            + f", from {origin_text(inspected)}",
        }
