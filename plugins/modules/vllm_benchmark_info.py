#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: what of a node can make a server slow."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_benchmark_info
short_description: What of a node can make the server slow, before and after a benchmark
version_added: 1.0.0
description:
  - Reads the kernel's swap counters, the bytes over the link by TCP and by RDMA, the load of the CPU, the programs that hold the GPU,
    and what NCCL's log says of its transport.
  - Counters say something by their difference. RV(counters) of an earlier call goes into M(dgx_spark.vllm.vllm_benchmark_result) together
    with that of a later one.
options:
  interface:
    description: Network interface of the link; left out, neither its bytes nor its speed are read.
    type: str
  store:
    description: Folder of the weights; left out, its file system is not looked up.
    type: path
  log:
    description: Whether to search the logs of Ray and vLLM for NCCL's lines, which are there with C(NCCL_DEBUG=INFO).
    type: bool
    default: true
  ray_folder:
    description: Folder of Ray's sessions on the node.
    type: path
    default: /var/lib/dgx-spark/ray
extends_documentation_fragment:
  - dgx_spark.vllm.attributes.info
seealso:
  - module: dgx_spark.vllm.vllm_benchmark
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Inspect the node before the benchmark
  dgx_spark.vllm.vllm_benchmark_info:
    interface: enp1s0f0np0
    store: /srv/models
  register: before
"""

RETURN = r"""
counters:
  description: Counters since boot. pswpin and pswpout in pages; tcp_bytes and rdma_bytes in both directions.
  type: dict
  returned: always
link_gbit_s:
  description: Speed that O(interface) reports; null where it reports none. It is no measurement.
  type: float
  returned: always
filesystem:
  description: File system of O(store) as the kernel calls it, for example C(ext4) or C(nfs4); empty for unknown.
  type: str
  returned: always
load:
  description: Runnable processes, the mean of the last minute.
  type: float
  returned: always
cpus:
  description: CPU cores.
  type: int
  returned: always
gpus:
  description: Names of the GPUs.
  type: list
  elements: str
  returned: always
strangers:
  description: Programs outside of our containers that hold memory of the GPU (pid, process, memory_mib); null without a GPU.
  type: list
  elements: dict
  returned: always
transport:
  description: What NCCL's log says (network, channels, rdma, version); empty where it says nothing.
  type: dict
  returned: always
findings:
  description: What spoils a measurement on this node in yellow; one in green where nothing does.
  type: list
  elements: dict
  returned: always
  contains:
    source: {description: Who found it., type: str}
    code: {description: "What it is, stable over releases; docs/troubleshooting.md has an entry for each.", type: str}
    level: {description: "C(green), C(yellow) or C(red).", type: str}
    check: {description: What was checked., type: str}
    found: {description: What was found., type: str}
    remedy: {description: What to do., type: str}
    commands: {description: The remedy as commands to be run by hand on the node., type: list, elements: str}
    subject: {description: Which one of several it is about., type: str}
msg:
  description: One sentence.
  type: str
  returned: always
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.benchmark.causes import node_findings
from ..module_utils.benchmark.facts import (
    Link,
    parse_loadavg,
    parse_vmstat,
    pids_of,
    sample_gpus,
    strangers,
    transport,
)
from ..module_utils.docker.cli import DOCKER
from ..module_utils.gpu.runtime import Host, parse_holders
from ..module_utils.report.finding import as_dicts, fine
from ..module_utils.system.run import run
from ..module_utils.system.units import ORDER
from ..module_utils.vllm.load_strategy import filesystem_of

#: Lines of NCCL that are kept of each log, and bytes that are read of it: a day of debug output is not.
LINES = 2000
BYTES = 16 << 20


def session_logs(folder: Path) -> Iterator[Path]:
    """Return the logs of the workers of Ray's last session. Its link names a path of the container, so only the name counts."""
    link = folder / "session_latest"
    if link.is_symlink():
        logs = folder / link.readlink().name / "logs"
        yield from sorted(logs.glob("worker-*.out")) if logs.is_dir() else ()
        yield from sorted(logs.glob("worker-*.err")) if logs.is_dir() else ()


class Look:
    """Reads one node."""

    def __init__(self, module: AnsibleModule, root: Path = Path("/")) -> None:
        self.module = module
        self.root = root
        self.host = Host(run, root)

    def strangers(self) -> list[dict[str, Any]]:
        """Return who holds the GPU and is not ours."""
        status, out = self.host.smi("--query-compute-apps=pid,process_name,used_memory", "--format=csv,noheader")
        tops = []
        for name in reversed(ORDER):
            code, text, _err = run([DOCKER, "top", name, "-eo", "pid"])
            tops.append(text if code == 0 else "")
        holders = [vars(holder) for holder in parse_holders(out)] if status == 0 else []
        return strangers(holders, pids_of(tops))

    def nccl_lines(self) -> str:
        """Return NCCL's lines: of the ranks' own logs, and of the server's journal, where Ray repeats them."""
        lines: list[str] = []
        for path in session_logs(Path(self.module.params["ray_folder"])):
            try:
                with path.open(encoding="utf-8", errors="replace") as file:
                    text = file.read(BYTES)
            except OSError:
                continue
            lines += [line for line in text.splitlines() if "NCCL" in line]
        if not lines:
            status, out, _err = run(
                [
                    "journalctl",
                    "--unit",
                    "spark-vllm",
                    "--boot",
                    "--output",
                    "cat",
                    "--grep",
                    "NCCL",
                    "--lines",
                    str(LINES),
                ]
            )
            lines = out.splitlines() if status == 0 else []
        return "\n".join(lines[-LINES:])

    def facts(self) -> dict[str, Any]:
        """Return everything."""
        gpus = sample_gpus(self.host)
        counters = parse_vmstat(self.host.text("/proc/vmstat"))
        link = Link(self.module.params["interface"] or "", self.root)
        counters.update(link.read())
        store = self.module.params["store"]
        return {
            "counters": counters,
            "link_gbit_s": link.gbit_s(),
            "filesystem": filesystem_of(store, self.host.text("/proc/self/mountinfo")) if store else "",
            "load": parse_loadavg(self.host.text("/proc/loadavg")),
            "cpus": os.cpu_count() or 1,
            "gpus": [gpu.name for gpu in gpus],
            "strangers": self.strangers() if gpus else None,
            "transport": transport(self.nccl_lines()) if self.module.params["log"] else {},
        }


def main() -> None:
    """Look and answer."""
    module = AnsibleModule(
        argument_spec={
            "interface": {"type": "str"},
            "store": {"type": "path"},
            "log": {"type": "bool", "default": True},
            "ray_folder": {"type": "path", "default": "/var/lib/dgx-spark/ray"},
        },
        supports_check_mode=True,
    )
    facts = Look(module).facts()
    words = ", ".join(facts["gpus"]) or "no GPU"
    said = f"{words}, load {facts['load']} on {facts['cpus']} CPU cores"
    found = list(node_findings(facts, "this node")) or [fine("benchmark", "other programs", said)]
    module.exit_json(changed=False, msg=said, findings=as_dicts(found), **facts)


if __name__ == "__main__":
    main()
