#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: a benchmark as a saved result, compared with the plan and with earlier ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_benchmark_result
short_description: Save a benchmark, compare it with plan and history, and name the cause where it falls short
version_added: 1.0.0
description:
  - Puts the points of M(dgx_spark.vllm.vllm_benchmark) together with what the nodes said before and after, the plan, the versions, the
    flags of the running container, and the seconds of its start by phase, with the rate at which it read the weights.
  - Compares with earlier results of the same key, which is model, commit, image, number of nodes, and flags.
  - Where a figure is well below the plan or its own history, names the likely cause from facts of this run. No cause is named that no
    fact stands behind.
  - Writes one JSON file. It makes no load.
options:
  points:
    description: RV(dgx_spark.vllm.vllm_benchmark#module:points) of all loads.
    type: list
    elements: dict
    required: true
  nodes:
    description:
      - "For each node C(before) and C(after), results of M(dgx_spark.vllm.vllm_benchmark_info), and C(clocks), a list of
        RV(dgx_spark.vllm.vllm_benchmark#module:clocks)."
    type: dict
    required: true
  model:
    description: Name of the model in this project.
    type: str
    required: true
  plan:
    description: What was expected (decode_tok_s_expected, decode_tok_s_limit), for one request at a time; empty for none.
    type: dict
    default: {}
  source_gib_s:
    description:
      - GiB a second that were measured of the disk that the weights come from, or of the link where a node reads them over it; 0 for none.
      - Without it the link counts with what it says of itself (RV(dgx_spark.vllm.vllm_benchmark_info#module:link_gbit_s)), and of a disk
        it is said that nobody measured it.
    type: float
    default: 0
  container:
    description: Container that runs C(vllm serve).
    type: str
    default: spark-vllm
  folder:
    description: Folder of the results on this node.
    type: path
    default: /var/lib/dgx-spark/benchmarks
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  check_mode:
    description: Compares and judges, and writes no file.
    support: full
  diff_mode:
    description: Every run makes a new file.
    support: none
seealso:
  - module: dgx_spark.vllm.vllm_benchmark
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Save and compare
  dgx_spark.vllm.vllm_benchmark_result:
    model: qwen3-235b-awq
    points: "{{ measured.points }}"
    nodes:
      spark-1: {before: "{{ before }}", after: "{{ after }}", clocks: ["{{ measured.clocks }}"]}
    plan: {decode_tok_s_expected: [14, 24], decode_tok_s_limit: 44.8}
  register: result
"""

RETURN = r"""
path:
  description: File that was written; empty in check mode.
  type: str
  returned: success
document:
  description: The result as it is in the file.
  type: dict
  returned: success
earlier:
  description: Earlier results of the same key, the oldest first (made, key, points, startup).
  type: list
  elements: dict
  returned: success
verdict:
  description: >-
    Outcome: level (below, fine, alone), sentence, shortfalls, causes, remarks, what was excluded, and what could not be checked.
  type: dict
  returned: success
table:
  description: The points as lines for a terminal, with the start's seconds by phase and the rate of the weights below.
  type: list
  elements: str
  returned: success
problems:
  description: Files of the folder that could not be read, each with the reason.
  type: list
  elements: str
  returned: success
msg:
  description: The verdict in one sentence.
  type: str
  returned: always
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.benchmark.causes import judge
from ..module_utils.benchmark.facts import merge_clocks, moved
from ..module_utils.benchmark.result import (
    KIND,
    SCHEMA,
    ResultError,
    brief,
    check_document,
    file_name,
    key_of,
    read_folder,
    speed_flags,
    start_lines,
    table,
    text_of,
)
from ..module_utils.benchmark.run import BenchmarkError
from ..module_utils.docker.cli import DockerError, inspect_container
from ..module_utils.hub.store import weights_bytes
from ..module_utils.system.files import write_atomic
from ..module_utils.system.http_json import HttpClient, HttpError
from ..module_utils.system.run import run
from ..module_utils.vllm.load_strategy import Reader, load_facts, source_of
from ..module_utils.vllm.serving import Serving, ServingError, serving
from ..module_utils.vllm.startup_phases import journal_command, start_report


def evidence(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what one node's readings before and after the run come to."""
    before, after = facts.get("before") or {}, facts.get("after") or {}
    counts = moved(before.get("counters") or {}, after.get("counters") or {})
    return {
        "swap": {name: value for name, value in counts.items() if name.startswith("pswp")},
        "link": {name: value for name, value in counts.items() if name.endswith("_bytes")},
        "clocks": merge_clocks(facts.get("clocks") or []),
        "transport": after.get("transport") or before.get("transport") or {},
        "strangers": after.get("strangers"),
        "load_before": before.get("load"),
        "cpus": before.get("cpus"),
        "gpus": before.get("gpus") or [],
        "filesystem": before.get("filesystem") or "",
        "link_gbit_s": before.get("link_gbit_s"),
    }


class Result:
    """Puts a result together."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params

    def version(self, found: Serving) -> str:
        """Return vLLM's version; empty where it is not told."""
        try:
            answer = HttpClient(found.server.base_url, timeout=10).get_json("/version")
        except HttpError:
            return ""
        return str(answer.get("version", "")) if isinstance(answer, Mapping) else ""

    def startup(self, found: Serving, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return ``startup``, the seconds of the container's start by phase, and ``loading``; both empty where its journal is gone."""
        status, out, _err = run(journal_command(self.params["container"], found.started))
        report = start_report(out, weights_bytes(Path(found.model_path))) if status == 0 else {"phases": {}}
        if not report["phases"]:
            return {"startup": {}, "loading": {}}
        readers = [Reader(facts["filesystem"], facts["link_gbit_s"] or 0) for facts in nodes.values()]
        # What vLLM itself said when it read them; the first node's, where several ranks do.
        readers.append(Reader(report.get("filesystem", "")))
        return {
            "startup": report["phases"],
            "loading": load_facts(report, source_of(readers, self.params["source_gib_s"])),
        }

    def document(self) -> dict[str, Any]:
        """Return the result, not yet written."""
        found = serving(inspect_container(run, self.params["container"]), self.params["container"])
        nodes = {name: evidence(facts) for name, facts in self.params["nodes"].items()}
        path = Path(found.model_path)
        parts = {
            "model": self.params["model"],
            "weights": f"{path.parent.name}/{path.name}",
            "image_id": found.image_id,
            "nodes": len(nodes),
            "flags": speed_flags(found.arguments[1:]),
        }
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        return check_document(
            {
                "kind": KIND,
                "schema": SCHEMA,
                "made": now.isoformat().replace("+00:00", "Z"),
                "key": key_of(parts),
                "key_parts": parts,
                "model": self.params["model"],
                # Figures of a node without a GPU say nothing about any GPU.
                "simulation": not any(facts["gpus"] for facts in nodes.values()),
                "versions": {"vllm": self.version(found), "image": found.image},
                "points": self.params["points"],
                "plan": self.params["plan"],
                **self.startup(found, nodes),
                "evidence": nodes,
            }
        )

    def result(self) -> dict[str, Any]:
        """Compare, judge and save."""
        document = self.document()
        folder = Path(self.params["folder"])
        documents, problems = read_folder(folder)
        earlier = [other for other in documents if other["key"] == document["key"]]
        verdict = judge(document, earlier)
        document["verdict"] = verdict.as_facts(document)
        path = folder / file_name(document)
        # Two runs within a second: no result replaces another.
        number = 1
        while path.exists():
            number += 1
            path = folder / file_name(document).replace(".json", f"-{number}.json")
        if not self.module.check_mode:
            write_atomic(path, text_of(document))
        return {
            "changed": True,
            "path": "" if self.module.check_mode else str(path),
            "document": document,
            "earlier": [brief(other) for other in earlier],
            "verdict": document["verdict"],
            "table": [*table(document), *start_lines(document)],
            "problems": problems,
            "msg": f"{self.params['model']}: {document['verdict']['sentence']}",
        }


def main() -> None:
    """Save and answer."""
    module = AnsibleModule(
        argument_spec={
            "points": {"type": "list", "elements": "dict", "required": True},
            "nodes": {"type": "dict", "required": True},
            "model": {"type": "str", "required": True},
            "plan": {"type": "dict", "default": {}},
            "source_gib_s": {"type": "float", "default": 0},
            "container": {"type": "str", "default": "spark-vllm"},
            "folder": {"type": "path", "default": "/var/lib/dgx-spark/benchmarks"},
        },
        supports_check_mode=True,
    )
    if not module.params["points"]:
        module.fail_json(msg="points is empty: there is nothing to save; run vllm_benchmark first")
    try:
        result = Result(module).result()
    except ResultError as error:
        module.fail_json(msg=f"the result cannot be saved: {error}")
    except (BenchmarkError, ServingError, DockerError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or module.params['folder']}: {error.strerror}; the module needs root on the node"
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
