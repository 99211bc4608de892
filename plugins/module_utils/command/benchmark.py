# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""``spark benchmark``: the last measurements of this cluster, which playbooks/benchmark.yml keeps on the head.

It measures nothing itself: a measurement is judged by the plan and by what every node did meanwhile, which is known where the inventory is.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ..benchmark.result import read_folder, start_lines, table
from .cluster import Cluster, CommandError
from .terminal import Terminal

FOLDER = Path("/var/lib/dgx-spark/benchmarks")
MEASURE = "to measure anew: `ansible-playbook playbooks/benchmark.yml` where the inventory is; it loads the endpoint for some minutes"


def run(cluster: Cluster, terminal: Terminal, count: int, folder: Path = FOLDER) -> int:
    """Show the last results.

    Raises:
        CommandError: this is not the head; one sentence.
    """
    if not cluster.on_head:
        raise CommandError(
            f"this is {cluster.node}, and results are kept on the head: run `sudo spark benchmark` on {cluster.head}"
        )
    found, problems = read_folder(folder)
    for document in found[-count:]:
        made, vllm = document["made"], (document.get("versions") or {}).get("vllm") or "of unknown version"
        terminal.say(
            f"{made}  {document['model']}, vLLM {vllm}" + (", without a GPU" if document.get("simulation") else "")
        )
        verdict = (document.get("verdict") or {}).get("sentence")
        for line in [*table(document), *start_lines(document), *([str(verdict)] if verdict else []), ""]:
            terminal.say(line)
    for problem in problems:
        sys.stderr.write(f"{problem}\n")
    terminal.say(MEASURE if found else f"nothing was measured yet; {MEASURE}")
    return 0
