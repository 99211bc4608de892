#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the serving image to this node, verified by content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_sync
short_description: Bring the serving image to this node, verified by content
version_added: 1.0.0
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
    description:
      - Folder on this node with the wheels of Ray and of what it needs, instead of a package index.
      - With O(lock), these are wheels of the list.
    type: path
  lock:
    description:
      - Text of a list of Ray and all that it needs with hashes, in the form of pip's requirements.
      - Where it is for O(ray_version), only what is in it is added to the base, and pip refuses a file whose hash is not in it. What the base has stays;
        where that will not do, the build fails. For another Ray pip chooses what it needs and compares no hash.
    type: str
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
  progress_file:
    description:
      - New file on this node into which the module writes how far it is, a sentence every two seconds.
      - Set by the action of the same name, which shows it while the module works.
    type: path
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
origin:
  description: What the registry calls the image, or the base that it was made of (C(repository@sha256:...)); empty where it was never pulled.
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

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.docker.image_source import ImageRequest, ImageSource
from ..module_utils.hub.store import StoreError
from ..module_utils.peer.image_stream import LoadError, load_stream
from ..module_utils.peer.share import DEFAULT_PORT, ShareClient, read_share_token
from ..module_utils.system.progress import Progress
from ..module_utils.system.run import run


def request_from(params: dict[str, Any], temporary: str, progress: Progress) -> ImageRequest:
    """Return what the module was asked for."""

    def from_peer(name: str) -> None:
        share = ShareClient(params["peer_address"], params["peer_port"], read_share_token(params["peer_token_file"]))
        with share.image(name) as stream:
            size = stream.getheader("X-Image-Bytes", "0")
            total = int(size) if size.isdecimal() else 0
            load_stream(stream, f"{name} from {share.where}", total=total, progress=progress)

    names = ("archive", "base", "ray_version", "mirror", "ca_bundle", "wheelhouse", "lock", "content")
    return ImageRequest(
        name=params["name"],
        pull=params["pull"],
        peer=from_peer if params["peer_address"] else None,
        temporary=temporary,
        **{name: params[name] or "" for name in names},
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "base": {"type": "str"},
            "ray_version": {"type": "str"},
            "mirror": {"type": "str"},
            "ca_bundle": {"type": "path"},
            "wheelhouse": {"type": "path"},
            "lock": {"type": "str"},
            "pull": {"type": "bool", "default": False},
            "content": {"type": "str"},
            "peer_address": {"type": "str"},
            "peer_port": {"type": "int", "default": DEFAULT_PORT},
            "peer_token_file": {"type": "path", "default": "/etc/dgx-spark/secrets/cluster_token", "no_log": False},
            "progress_file": {"type": "path"},
        },
        mutually_exclusive=[("archive", "peer_address"), ("base", "peer_address")],
        required_by={"base": ["ray_version"]},
        supports_check_mode=True,
    )
    progress = Progress(module.params["progress_file"])
    request = request_from(module.params, module.tmpdir, progress)
    try:
        result = ImageSource(request, run, module.check_mode, progress).ensure()
    except (DockerError, LoadError, StoreError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or 'image_sync'}: {error.strerror}; the module needs root and Docker on the node"
        )
    before = "" if result["changed"] else result["content"]
    module.exit_json(diff={"before": f"content: {before}\n", "after": f"content: {result['content']}\n"}, **result)


if __name__ == "__main__":
    main()
