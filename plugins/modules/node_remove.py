#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the collection put on a node is taken away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_remove
short_description: Take away what the collection put on a node
version_added: 1.0.0
description:
  - Removes units, containers, files, folders, and what O(keep) does not name of weights, images, packages, secrets and caches.
  - Nothing of anybody else's is touched. A file beside those of others is removed where its first lines or its name say that it is the collection's.
  - Mounts, the NFS export and netplan are undone before, by M(dgx_spark.vllm.nfs_mount), M(dgx_spark.vllm.nfs_export) and
    M(dgx_spark.vllm.fabric_netplan).
options:
  keep:
    description: What stays.
    type: list
    elements: str
    choices: [weights, image, packages, secrets, caches, chat]
    default: [weights, image, packages, chat]
  store:
    description: Folder of the weights.
    type: path
    default: /srv/models
  images:
    description: Names of images to remove with those that the units run; without V(image) in O(keep).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Show what would be removed
  dgx_spark.vllm.node_remove:
  check_mode: true
  register: removal
"""

RETURN = r"""
found:
  description: What was there to be removed.
  returned: success
  type: list
  elements: str
  sample: [spark-vllm.service, /opt/dgx-spark]
notes:
  description: What stays although it was to go, and why.
  returned: success
  type: list
  elements: str
actions:
  description: What was done, or would be done in check mode, in words.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.service.removal import KEEPABLE, Removal
from ..module_utils.system.run import run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "keep": {
                "type": "list",
                "elements": "str",
                "choices": list(KEEPABLE),
                "default": ["weights", "image", "packages", "chat"],
            },
            "store": {"type": "path", "default": "/srv/models"},
            "images": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    removal = Removal(run, module.check_mode, params["keep"], Path(params["store"]), params["images"])
    try:
        removal.everything()
    except DockerError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; node_remove needs root on the node")
    message = "; ".join([*removal.actions, *removal.notes]) or "there is nothing of the collection on this node"
    module.exit_json(
        changed=bool(removal.actions),
        found=removal.found,
        notes=removal.notes,
        actions=removal.actions,
        diff=removal.diff,
        msg=message,
    )


if __name__ == "__main__":
    main()
