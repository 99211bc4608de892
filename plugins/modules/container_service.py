#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One container under one systemd unit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_service
short_description: Manage one container under one systemd unit
version_added: 1.0.0
description:
  - Writes the systemd unit that runs one container in the foreground, with its gates, secrets and retry limits, and the record that
    M(dgx_spark.vllm.container_service_info) compares the running container with.
  - With O(state=present) nothing is started or restarted. Restarts belong to the play that knows the order of the whole cluster.
  - O(state=started) and O(state=stopped) need only O(name). They do not wait; wait with
    M(dgx_spark.vllm.container_service_info).
options:
  name:
    description: Name of the container, and of its unit without C(.service).
    type: str
    required: true
  state:
    description:
      - V(present) writes and enables the unit, V(absent) stops and removes it.
      - V(started) starts it unless it is active or on the way, V(stopped) stops it where it is there and runs.
    type: str
    choices: [present, absent, started, stopped]
    default: present
  image:
    description: Name or id of an image that is on this node. The unit runs the id that it has now, so that a moved tag shows as a change.
    type: str
  command:
    description: The program in the container and its arguments.
    type: list
    elements: str
  environment:
    description: Environment of the container. Everyone who may talk to Docker can read it; put secrets into O(secrets).
    type: dict
    default: {}
  mounts:
    description: Bind mounts.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Absolute path on the node.
        type: str
        required: true
      target:
        description: Absolute path in the container.
        type: str
        required: true
      read_only:
        description: Whether the container can only read it.
        type: bool
        default: false
      propagation:
        description:
          - V(rslave) shows the container also what is mounted below the source later, such as an NFS mount that comes back. Left out, Docker's own choice.
          - Docker refuses V(rslave) where the source lies on a private mount.
        type: str
        choices: ["", rprivate, rslave]
        default: ""
  secrets:
    description: Files of the node that are mounted under C(/run/secrets), readable for root only.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the file under C(/run/secrets).
        type: str
        required: true
      path:
        description: Absolute path of the file on the node.
        type: str
        required: true
      environment:
        description: Variable that gets the text of the file, inside the container only.
        type: str
  devices:
    description: Devices as C(docker run --device) takes them, CDI names included.
    type: list
    elements: str
    default: []
  ulimits:
    description: Limits as C(docker run --ulimit) takes them, for example C(memlock) to C(-1).
    type: dict
    default: {}
  shm_size:
    description: Size of C(/dev/shm), for example C(10g). Has no effect with O(ipc=host).
    type: str
  network:
    description: Network mode.
    type: str
    default: host
  ipc:
    description: IPC mode.
    type: str
  pid:
    description: PID mode.
    type: str
  cap_add:
    description: Capabilities that the container keeps; all others are dropped, and no program in it gains rights.
    type: list
    elements: str
    default: []
  read_only:
    description: Whether the root of the container is read-only. C(/tmp) in it is then memory, and its mounts stay as they are.
    type: bool
    default: true
  memory_mib:
    description: Most MiB of memory that the container may take, without swap; it is ended and started again beyond. Left out, no bound.
    type: int
  oom_score:
    description: How early the kernel ends the container when memory is short, of -1000 to 1000; more is earlier.
    type: int
    default: 500
  description:
    description: Description of the unit.
    type: str
  after:
    description: Units that this one is ordered after.
    type: list
    elements: str
    default: []
  gates:
    description: Argument lists of C(spark-gate), run one after the other before each start. A gate waits; it does not fail.
    type: list
    elements: list
    default: []
  ready:
    description: Argument list of C(spark-gate) that runs after the start. The unit is active only once it passed.
    type: list
    elements: str
    default: []
  clear:
    description: Folders on the node that are emptied before each start.
    type: list
    elements: path
    default: []
  restart_sec:
    description: Seconds between an exit and the next start.
    type: int
    default: 10
  start_limit_burst:
    description: Starts within O(start_limit_interval_sec) after which systemd gives up and keeps the unit failed.
    type: int
    default: 5
  start_limit_interval_sec:
    description:
      - Seconds of the window of O(start_limit_burst). Left out, it is longer than that many starts of O(longest_start_sec), so that systemd gives up on
        slow starts too.
      - One that is too short for that is refused.
    type: int
    default: 0
  longest_start_sec:
    description: Seconds that a start may take before it counts as failed.
    type: int
    default: 3600
  stop_timeout_sec:
    description: Seconds that the container gets to stop before it is killed.
    type: int
    default: 60
  replaces:
    description: With O(state=present), units whose place this one takes; those that are there are stopped and removed.
    type: list
    elements: str
    default: []
  trial:
    description:
      - With O(state=present), prepare the container for a trial only, until the next boot and for one start. The unit on disk stays as it is.
      - V(false) ends a trial, if there was one.
    type: bool
    default: false
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Write the unit of the Ray head
  dgx_spark.vllm.container_service:
    name: spark-ray-head
    image: example/vllm-ray:1
    command: [ray, start, --block, --head]
    ipc: host
    pid: host
    gates:
      - [address, 192.168.100.10]

- name: Start it
  dgx_spark.vllm.container_service:
    name: spark-ray-head
    state: started
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, in words.
  returned: success
  type: list
  elements: str
  sample: ["wrote /etc/systemd/system/spark-ray-head.service"]
digest:
  description: Digest of the desired container.
  returned: when O(state=present)
  type: str
image_id:
  description: Id of the image on this node.
  returned: when O(state=present)
  type: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError
from ..module_utils.docker.service import OOM_SCORE, PROPAGATIONS
from ..module_utils.docker.service_unit import ContainerService
from ..module_utils.system.run import run

ARGUMENTS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent", "started", "stopped"], "default": "present"},
    "image": {"type": "str"},
    "command": {"type": "list", "elements": "str"},
    "environment": {"type": "dict", "default": {}},
    "mounts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "source": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "read_only": {"type": "bool", "default": False},
            "propagation": {"type": "str", "choices": list(PROPAGATIONS), "default": ""},
        },
    },
    "secrets": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "environment": {"type": "str"},
        },
    },
    "devices": {"type": "list", "elements": "str", "default": []},
    "ulimits": {"type": "dict", "default": {}},
    "shm_size": {"type": "str"},
    "network": {"type": "str", "default": "host"},
    "ipc": {"type": "str"},
    "pid": {"type": "str"},
    "cap_add": {"type": "list", "elements": "str", "default": []},
    "read_only": {"type": "bool", "default": True},
    "memory_mib": {"type": "int"},
    "oom_score": {"type": "int", "default": OOM_SCORE},
    "description": {"type": "str"},
    "after": {"type": "list", "elements": "str", "default": []},
    "gates": {"type": "list", "elements": "list", "default": []},
    "ready": {"type": "list", "elements": "str", "default": []},
    "clear": {"type": "list", "elements": "path", "default": []},
    "restart_sec": {"type": "int", "default": 10},
    "start_limit_burst": {"type": "int", "default": 5},
    "start_limit_interval_sec": {"type": "int", "default": 0},
    "longest_start_sec": {"type": "int", "default": 3600},
    "stop_timeout_sec": {"type": "int", "default": 60},
    "replaces": {"type": "list", "elements": "str", "default": []},
    "trial": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", "present", ("image", "command"))],
    )
    service = ContainerService(module.params, run, module.check_mode)
    try:
        result = getattr(service, module.params["state"])()
    except (DockerError, ValueError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or service.name}: {error.strerror}; container_service needs root on the node"
        )
    message = "; ".join(service.actions) or f"{service.name} is in the desired state"
    module.exit_json(changed=bool(service.actions), actions=service.actions, diff=service.diff, msg=message, **result)


if __name__ == "__main__":
    main()
