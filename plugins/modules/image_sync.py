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
  - Makes sure that an image is on this node, from an archive that C(docker save) wrote, by building one layer on a base image, by a pull, or from
    a peer that runs M(dgx_spark.vllm.fabric_share).
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
  pull:
    description: Whether to pull O(name) when it is missing.
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
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.container_spec import DOCKER
from ..module_utils.docker_load import LoadError, load_stream
from ..module_utils.fabric_share import ShareClient, read_share_token
from ..module_utils.hf_store import StoreError
from ..module_utils.image_content import content_of_archive, content_of_inspect

BUILD_LABEL = "dgx-spark.dockerfile"


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

    def inspect(self) -> dict[str, Any] | None:
        code, out, err = self.module.run_command([DOCKER, "image", "inspect", self.name])
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
        self.docker("pull", "--quiet", self.name)
        return self.result(self.inspect(), changed=True, source="pull")

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
            "source": source,
            "msg": f"would get {self.name} by {source}",
        }

    def result(
        self, inspected: dict[str, Any] | None, *, changed: bool, source: str, content: str | None = None
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
            "pull": {"type": "bool", "default": False},
            "content": {"type": "str"},
            "peer_address": {"type": "str"},
            "peer_port": {"type": "int", "default": 8236},
            "peer_token_file": {"type": "path", "default": "/etc/dgx-spark/secrets/cluster_token", "no_log": False},
        },
        mutually_exclusive=[("archive", "dockerfile", "peer_address")],
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
