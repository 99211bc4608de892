#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The serving image is on this node, proven by content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_sync
short_description: The serving image is on this node, proven by content
version_added: 0.1.0
description:
  - Makes sure that an image is on this node, from an archive that C(docker save) wrote, by adding Ray to a base image that lacks it, by a pull, or
    from a peer that runs M(dgx_spark.vllm.fabric_share).
  - Two nodes have the same image when layers and run configuration are equal; ids differ between Docker's image stores and prove nothing.
  - Nothing is transferred when the image is there.
options:
  name:
    description: Name of the image on this node.
    type: str
    required: true
  archive:
    description: Absolute path of an archive on this node. The image is loaded unless its content is there under O(name) already.
    type: path
  dockerfile:
    description: Text of a Dockerfile without build context. The image is built unless it was built from this very text before.
    type: str
  base:
    description:
      - Image that O(name) is made of, by tag or digest. It is pulled, or loaded from O(archive), when it is missing.
      - Where its Ray is missing or of no use, one layer with O(ray_version) is added; otherwise it only gets the name.
      - O(name) is made again when the base or O(ray_version) changed. What was there under that name before stays when the new one is not good.
    type: str
  ray_version:
    description: Version of Ray for O(base).
    type: str
  mirror:
    description:
      - Registry to pull from instead of the one in the image's name, as V(host:port) or V(host:port/path).
      - A name without registry is looked for below C(library/) there.
    type: str
  ca_bundle:
    description:
      - File on this node with certificate authorities, for the pull and for the package index that Ray comes from.
      - For the pull it is copied below C(/etc/docker/certs.d), unless it is the system's own bundle, which Docker reads anyway.
      - In the build it is mounted for the one command, and in no layer of the image.
    type: path
  wheelhouse:
    description: Folder on this node with the wheels of Ray and of what it needs, instead of a package index.
    type: path
  pull:
    description: Whether to pull O(name), or O(base), when it is missing.
    type: bool
    default: false
  content:
    description: Content digest that the image must have, as this module returned it on another node.
    type: str
  peer_address:
    description: Fabric address of the peer that shares the image.
    type: str
  peer_port:
    description: Port of the peer's share.
    type: int
    default: 8236
  peer_token_file:
    description: File on this node with the cluster's token, which the share asks for.
    type: path
    default: /etc/dgx-spark/secrets/cluster_token
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Load the image on the head
  dgx_spark.vllm.image_sync:
    name: example/serving:1
    archive: /srv/images/serving.tar
  register: head_image

- name: Or make it of NVIDIA's image, which has no Ray
  dgx_spark.vllm.image_sync:
    name: dgx-spark/serving:26.10
    base: nvcr.io/nvidia/vllm:26.10-py3
    ray_version: 2.56.1
    pull: true

- name: Bring it to another node over the fabric
  dgx_spark.vllm.image_sync:
    name: example/serving:1
    content: "{{ head_image.content }}"
    peer_address: 192.168.100.10
"""

RETURN = r"""
image_id:
  description: Id of the image on this node; empty when check mode could not know it.
  returned: success
  type: str
content:
  description: Digest of layers and run configuration, equal on all nodes that have the same image.
  returned: success
  type: str
bytes:
  description: Size of the image in bytes as Docker reports it.
  returned: success
  type: int
ray_added:
  description: Whether a layer with Ray was built in this run.
  returned: success
  type: bool
source:
  description: Where the image came from; C(name) when it was there without its name.
  returned: success
  type: str
  sample: present
msg:
  description: One sentence.
  returned: always
  type: str
"""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.image_digest import architecture_of_archive, content_of_archive, content_of_inspect
from ..module_utils.docker.image_layer import (
    CA_IN_BUILD,
    WHEELS_IN_BUILD,
    ImageFacts,
    architecture_problem,
    build_problem,
    layer_dockerfile,
    layer_problem,
    layer_wish,
    mirrored,
    parse_probe,
    parse_reference,
    probe_argv,
    pull_problem,
    ray_problem,
)
from ..module_utils.docker.service import DOCKER
from ..module_utils.hub.store import StoreError
from ..module_utils.peer.image_stream import LoadError, load_stream
from ..module_utils.peer.share import ShareClient, read_share_token

BUILD_LABEL = "dgx-spark.dockerfile"
WISH_LABEL = "dgx-spark.wish"
BASE_LABEL = "dgx-spark.base"
RAY_LABEL = "dgx-spark.ray"
#: Where Docker looks for the authority of a registry; it reads it at each pull.
REGISTRY_TRUST = Path("/etc/docker/certs.d")
SYSTEM_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
#: Seconds that the probe of an image may take; reading what is installed takes about one.
PROBE_S = 120


class ImageError(Exception):
    """One sentence for the user."""


class ImageSync:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.name: str = module.params["name"]

    def docker(self, *arguments: str, data: str | None = None) -> str:
        code, out, err = self.module.run_command([DOCKER, *arguments], data=data)
        if code != 0:
            raise ImageError(f"docker {arguments[0]} of {self.name} failed: {(err or out).strip().splitlines()[-1:]}")
        return str(out)

    def inspect(self, name: str = "") -> dict[str, Any] | None:
        code, out, err = self.module.run_command([DOCKER, "image", "inspect", name or self.name])
        if code == 0:
            document: dict[str, Any] = json.loads(out)[0]
            return document
        if "No such image" in err or "not found" in err.lower():
            return None
        raise ImageError(f"Docker does not answer: {err.strip()}; look at `systemctl status docker`")

    def ensure(self) -> dict[str, Any]:
        """Return the result; raises ImageError with one sentence."""
        have = self.inspect()
        wanted = self.params["content"]
        if self.params["peer_address"] or (wanted and not self.params["archive"]):
            return self.from_peer(have, wanted)
        if self.params["base"]:
            return self.from_base(have, self.params["base"], self.params["ray_version"])
        if self.params["archive"]:
            return self.from_archive(have, Path(self.params["archive"]))
        if self.params["dockerfile"]:
            return self.from_dockerfile(have, self.params["dockerfile"])
        if have is not None:
            return self.result(have, changed=False, source="present")
        if not self.params["pull"]:
            raise ImageError(
                f"image {self.name!r} is not on this node and nothing says where from: set archive, dockerfile or pull"
            )
        if self.module.check_mode:
            return self.would("pull")
        pulled = self.pull(self.name)
        if pulled != self.name:
            self.docker("tag", pulled, self.name)
        return self.result(self.inspect(), changed=True, source="pull")

    def pull(self, image: str) -> str:
        """Pull an image, from the mirror where there is one; return the name that it came under."""
        name = mirrored(image, self.params["mirror"] or "")
        self.trust(parse_reference(name).registry)
        code, out, err = self.module.run_command([DOCKER, "pull", "--quiet", name])
        if code != 0:
            raise ImageError(pull_problem(name, err or out))
        found = self.inspect(name) or {}
        if problem := architecture_problem(name, str(found.get("Architecture") or ""), self.node_architecture()):
            raise ImageError(problem)
        return name

    def node_architecture(self) -> str:
        return self.docker("version", "--format", "{{.Server.Arch}}").strip()

    def trust(self, registry: str) -> None:
        """Let Docker trust the certificate authorities of the bundle for one registry."""
        bundle = Path(self.params["ca_bundle"]) if self.params["ca_bundle"] else None
        if bundle is None or not registry:
            return
        self.need_bundle(bundle)
        if bundle.resolve() == SYSTEM_BUNDLE.resolve():
            return
        wanted, place = bundle.read_bytes(), REGISTRY_TRUST / registry / "ca.crt"
        if not place.is_file() or place.read_bytes() != wanted:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(wanted)

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
        if self.module.check_mode:
            return self.would("name", content)
        self.docker("tag", image_id, self.name)
        return self.result(self.inspect(), changed=True, source="name", content=content)

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
        if self.module.check_mode:
            return self.would("archive", content)
        loaded = self.docker("load", "--quiet", "--input", str(archive))
        if self.name not in names:
            self.docker("tag", loaded.strip().rpartition(": ")[2], self.name)
        return self.result(self.inspect(), changed=True, source="archive", content=content)

    def from_dockerfile(self, have: dict[str, Any] | None, text: str) -> dict[str, Any]:
        digest = hashlib.sha256(text.encode()).hexdigest()
        if have is not None and ((have.get("Config") or {}).get("Labels") or {}).get(BUILD_LABEL) == digest:
            return self.result(have, changed=False, source="present")
        if self.module.check_mode:
            return self.would("dockerfile")
        self.docker("build", "--label", f"{BUILD_LABEL}={digest}", "--tag", self.name, "-", data=text)
        return self.result(self.inspect(), changed=True, source="dockerfile")

    def from_base(self, have: dict[str, Any] | None, base: str, ray_version: str) -> dict[str, Any]:
        """Make the image of its base: the base itself where it has a good Ray, with one layer more where it lacks."""
        parse_reference(base)
        if parse_reference(self.name).digest:
            raise ImageError(
                f"image {self.name!r} is made of {base} and cannot have a digest as its name: set spark_serving_image to name:tag"
            )
        labels = ((have or {}).get("Config") or {}).get("Labels") or {}
        place, found = next(
            (
                (name, image)
                for name in (base, mirrored(base, self.params["mirror"] or ""))
                if (image := self.inspect(name))
            ),
            (base, None),
        )
        if found is None:
            layer_wish(base, "", ray_version)
            # The base may have been cleaned away since; what was made of it says so itself, and 20 GB are not pulled to learn that.
            if have is not None and (labels.get(BASE_LABEL), labels.get(RAY_LABEL)) == (base, ray_version):
                return self.result(have, changed=False, source="present")
            if self.module.check_mode:
                return self.would("base")
            place = self.bring_base(base)
            found = self.inspect(place) or {}
        wish = layer_wish(base, str(found.get("Id")), ray_version)
        if have is not None and labels.get(WISH_LABEL) == wish:
            return self.result(have, changed=False, source="present")
        if problem := architecture_problem(base, str(found.get("Architecture") or ""), self.node_architecture()):
            raise ImageError(problem)
        if self.module.check_mode:
            return self.would("base")
        facts = self.probe(place)
        if not facts.vllm:
            raise ImageError(
                f"image {base!r} has no vLLM: set serving_image_base to one that has, NVIDIA's nvidia/vllm for example"
            )
        lacks = ray_problem(facts)
        self.build(place, {WISH_LABEL: wish, BASE_LABEL: base, RAY_LABEL: ray_version}, facts, ray_version, bool(lacks))
        return self.result(self.inspect(), changed=True, source="base", ray_added=bool(lacks))

    def bring_base(self, base: str) -> str:
        """Get the base from its archive or registry; return the name that it has on this node."""
        if not self.params["archive"]:
            if not self.params["pull"]:
                raise ImageError(
                    f"image {base!r} is not on this node and nothing says where from: set serving_image_pull, or serving_image_archive"
                )
            return self.pull(base)
        archive = Path(self.params["archive"])
        if not archive.is_file():
            raise ImageError(
                f"archive is {str(archive)!r}, but there is no such file on this node: copy it there or change serving_image_archive"
            )
        if problem := architecture_problem(str(archive), architecture_of_archive(archive), self.node_architecture()):
            raise ImageError(problem)
        content, _names = content_of_archive(archive)
        self.docker("load", "--quiet", "--input", str(archive))
        if self.inspect(base) is None:
            # The archive's image has another name, or none; a digest cannot be given as one.
            known = self.find(content)
            if not known or parse_reference(base).digest:
                raise ImageError(
                    f"archive {str(archive)!r} was loaded and Docker does not know its image as {base!r}: "
                    "set serving_image_base to the tag that the image was saved under"
                )
            self.docker("tag", known, base)
        return base

    def probe(self, image: str) -> ImageFacts:
        """Return what an image holds."""
        code, out, err = self.module.run_command(["timeout", str(PROBE_S), *probe_argv(DOCKER, image)])
        if code != 0:
            said = ((err or out).strip().splitlines() or ["no output"])[-1]
            raise ImageError(f"image {image!r} cannot be looked into, its python3 failed: {said}")
        return parse_probe(out)

    def build(self, base: str, labels: dict[str, str], facts: ImageFacts, ray_version: str, add_ray: bool) -> None:
        """Build under a name of its own, look at the result, and only then give it the wanted name."""
        bundle = Path(self.params["ca_bundle"]) if self.params["ca_bundle"] and add_ray else None
        wheels = Path(self.params["wheelhouse"]) if self.params["wheelhouse"] and add_ray else None
        fresh = f"{self.name}-unchecked"
        with tempfile.TemporaryDirectory(dir=self.module.tmpdir) as folder:
            context = Path(folder)
            if bundle:
                self.need_bundle(bundle)
                shutil.copyfile(bundle, context / CA_IN_BUILD)
            if wheels:
                if not any(wheels.glob("*.whl")):
                    raise ImageError(f"wheelhouse is {str(wheels)!r}, but there are no wheels in it on this node")
                shutil.copytree(wheels, context / WHEELS_IN_BUILD)
            text = layer_dockerfile(base, ray_version, add_ray=add_ray, ca=bool(bundle), wheels=bool(wheels))
            (context / "Dockerfile").write_text(text, encoding="utf-8")
            command = [DOCKER, "build", "--tag", fresh]
            for name, value in labels.items():
                command += ["--label", f"{name}={value}"]
            environment = {"DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"} if bundle or wheels else {}
            code, out, err = self.module.run_command([*command, str(context)], environ_update=environment)
            if code != 0:
                raise ImageError(f"image {self.name!r}: {build_problem(f'{out}{chr(10)}{err}', ray_version)}")
        try:
            if add_ray:
                built = self.probe(fresh)
                if problem := layer_problem(facts, built) or ray_problem(built):
                    raise ImageError(f"image {self.name!r} is not what it should be: {problem}")
            self.docker("tag", fresh, self.name)
        finally:
            self.docker("image", "rm", "--no-prune", fresh)

    def from_peer(self, have: dict[str, Any] | None, wanted: str | None) -> dict[str, Any]:
        if not wanted:
            raise ImageError("content is missing: give the digest that image_sync returned on the peer")
        if have is not None and content_of_inspect(have) == wanted:
            return self.result(have, changed=False, source="present")
        if known := self.find(wanted):
            return self.name_it(known, wanted)
        if self.module.check_mode:
            return self.would("peer", wanted)
        if not self.params["peer_address"]:
            raise ImageError(f"image {self.name!r} on this node is not the wanted one and peer_address is not set")
        share = ShareClient(
            self.params["peer_address"], self.params["peer_port"], read_share_token(self.params["peer_token_file"])
        )
        with share.image(self.name) as stream:
            load_stream(stream, f"{self.name} from {share.where}")
        return self.result(self.inspect(), changed=True, source="peer", content=wanted)

    def would(self, source: str, content: str = "") -> dict[str, Any]:
        return {
            "changed": True,
            "image_id": "",
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
                f"image {self.name!r} came by {source} with content {found[:12]}, wanted {content[:12]}: run again; if it stays, restart Docker"
            )
        size = int(inspected.get("Size") or 0)
        return {
            "changed": changed,
            "image_id": inspected["Id"],
            "content": found,
            "bytes": size,
            "ray_added": ray_added,
            "source": source,
            "msg": f"{self.name} ({size / 2**30:.1f} GiB, content {found[:12]}) "
            + ("is there" if not changed else f"came by {source}"),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "dockerfile": {"type": "str"},
            "base": {"type": "str"},
            "ray_version": {"type": "str"},
            "mirror": {"type": "str"},
            "ca_bundle": {"type": "path"},
            "wheelhouse": {"type": "path"},
            "pull": {"type": "bool", "default": False},
            "content": {"type": "str"},
            "peer_address": {"type": "str"},
            "peer_port": {"type": "int", "default": 8236},
            "peer_token_file": {"type": "path", "default": "/etc/dgx-spark/secrets/cluster_token", "no_log": False},
        },
        mutually_exclusive=[("archive", "dockerfile", "peer_address"), ("base", "dockerfile", "peer_address")],
        required_by={"base": ["ray_version"]},
        supports_check_mode=True,
    )
    try:
        result = ImageSync(module).ensure()
    except (ImageError, LoadError, StoreError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'image_sync'}: {error.strerror}; the module needs root and Docker on the node"
        )
    before = "" if result["changed"] else result["content"]
    module.exit_json(diff={"before": f"content: {before}\n", "after": f"content: {result['content']}\n"}, **result)


if __name__ == "__main__":
    main()
