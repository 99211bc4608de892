#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ansible module: the command line of vLLM that the image on this node accepts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_flags
short_description: The command line of vLLM that the image on this node accepts
version_added: 1.0.0
description:
  - Turns intents (context, memory, graphs, tools, executor and so on) into the command line of C(vllm serve), for the vLLM that is in the image.
  - The image's own argument parser is asked, in a container without network and GPU, so before anything that serves is touched. A flag that
    this version does not have is mapped, dropped with the reason in RV(notes), or refused in one sentence. vLLM before 0.20 is refused.
  - What the parser said is kept for the image. While image and intents stay the same nothing is run.
  - The model's own files are checked too. A tool call parser that cannot read what the chat template makes the model write is refused, so are
    ranks that cannot share the model's heads, and NVFP4 weights where M(dgx_spark.vllm.gb10_kernel_check) found that they do not work.
  - A C(--chat-template) among the extra arguments counts instead of the model's own. The parsers that C(--tool-parser-plugin) and
    C(--reasoning-parser-plugin) add are taken as they are.
options:
  image:
    description: Name or id of the serving image; it must be on the node.
    type: str
    required: true
  intents:
    description:
      - What the server is to be. C(model_path), C(served_model_name) and C(tensor_parallel_size) are required.
      - See C(ServeIntents) in C(module_utils/vllm/flags.py) for all names. An empty value counts as not given.
    type: dict
    required: true
  min_vllm:
    description: Oldest vLLM that serves the model; an older one is refused.
    type: str
  inspect_model:
    description: Whether chat template, heads and quantization of the model in C(model_path) are checked.
    type: bool
    default: true
  folders:
    description:
      - Folders of the node that the server's container has at the same path. A chat template or a plugin among the extra arguments that lies
        elsewhere on the node is refused. Empty refuses none.
    type: list
    elements: path
    default: []
  seconds:
    description: Longest that one inspection of the image may take.
    type: int
    default: 300
  record:
    description: File on the node that keeps what the image answered.
    type: path
    default: /var/lib/dgx-spark/vllm-flags.json
  kernel_record:
    description: Result of M(dgx_spark.vllm.gb10_kernel_check) on this node.
    type: path
    default: /var/lib/dgx-spark/kernel-check.json
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
attributes:
  check_mode:
    description: Asks the image as well, and keeps nothing. Where the image or the model is not there yet, it says so and guesses.
    support: full
  diff_mode:
    description: It changes nothing but its own record.
    support: none
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Find the command line before anything is stopped
  dgx_spark.vllm.vllm_flags:
    image: dgx-spark/serving:26.10
    intents:
      model_path: /srv/models/QuantTrio--Qwen3-235B-A22B-Instruct-2507-AWQ/0123456789abcdef0123456789abcdef01234567
      served_model_name: qwen3-235b-awq
      tensor_parallel_size: 2
      nodes: 2
      executor: mp
      master_address: 192.168.100.10
      tool_call_parser: hermes
  register: flags

- name: Show it
  ansible.builtin.debug:
    msg: "{{ flags.command | join(' ') }}"
"""

RETURN = r"""
command:
  description: Command line of the server.
  type: list
  elements: str
  returned: success
commands:
  description: The same, then one for each further node where the executor is C(mp); the position is the node's rank.
  type: list
  elements: list
  returned: success
drain_seconds:
  description: Seconds that running requests get to end when the server is stopped; 0 where this vLLM cuts them.
  type: int
  returned: success
python_path:
  description: What the image itself has in PYTHONPATH.
  type: str
  returned: success
version:
  description: Version of vLLM in the image; empty where the image is not there yet.
  type: str
  returned: success
notes:
  description: One sentence for each intent that was dropped and for each thing that could not be known.
  type: list
  elements: str
  returned: success
asked:
  description: How often a container was run; 0 where the record had the answer.
  type: int
  returned: success
msg:
  description: One sentence.
  type: str
  returned: always
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.docker.cli import DockerError, needed_image
from ..module_utils.model.against_flags import SnapshotError, is_nvfp4, rank_problem, read_config, read_template
from ..module_utils.model.chat_template import parser_note, parser_problem, reasoning_problem
from ..module_utils.system.run import run
from ..module_utils.vllm import parser_probe
from ..module_utils.vllm.accepted_flags import Record, ask_parser, decide, nvfp4_verdict
from ..module_utils.vllm.flags import DRAIN, FlagError, ServeIntents, commands, version_tuple
from ..module_utils.vllm.named_files import flag_value, read_named_files


def probe_source() -> str:
    """Return the text of the probe, also from the archive that Ansible runs modules from."""
    loader: Any = getattr(parser_probe.__spec__, "loader", None)
    text = loader.get_source(parser_probe.__name__) if hasattr(loader, "get_source") else ""
    if not text:
        raise FlagError("the source of vllm_probe cannot be read: reinstall the collection")
    return str(text)


def drain_seconds(command: Sequence[str]) -> int:
    """Return how long a stop lets running requests go on; further arguments may have changed it."""
    value = flag_value(command, DRAIN, DRAIN)
    return int(value) if value.isdigit() else 0


def python_path(image: Mapping[str, Any]) -> str:
    """Return the PYTHONPATH that an image sets; a unit that sets one adds to it."""
    environment = (image.get("Config") or {}).get("Env") or []
    return next(
        (value for name, _equals, value in (entry.partition("=") for entry in environment) if name == "PYTHONPATH"), ""
    )


class VllmFlags:
    """Looks at the model, asks the image, answers."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params = module.params
        self.source = probe_source()
        given = {name: value for name, value in self.params["intents"].items() if value is not None and value != ""}
        try:
            self.intents = ServeIntents(**given)
        except TypeError as error:
            # Python's words: an unexpected argument, or the names of those that are missing.
            raise FlagError(f"intents: {str(error).removeprefix('ServeIntents.__init__() ')}") from None
        self.files = read_named_files(self.intents.extra_arguments, self.params["folders"])

    def ask(self, image: str, lines: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Show command lines to the parser inside the image."""
        return ask_parser(run, image, lines, self.source, self.params["seconds"], self.files.paths)

    def inspect_model(self) -> list[str]:
        """Return what is worth saying of the model's heads and weights; raises FlagError for what does not fit."""
        folder = Path(self.intents.model_path)
        if self.is_to_come(folder):
            return [f"{folder} is not there yet, so chat template and heads were not checked"]
        config = read_config(folder)
        intents = self.intents
        ranks = intents.tensor_parallel_size * intents.pipeline_parallel_size
        if problem := rank_problem(config, intents.tensor_parallel_size, intents.pipeline_parallel_size, ranks):
            raise FlagError(problem)
        if not is_nvfp4(config) and "nvfp4" not in self.quantization():
            return []
        verdict, reason = nvfp4_verdict(Path(self.params["kernel_record"]))
        if verdict == "refused":
            raise FlagError(f"the model's weights are NVFP4, which this node refuses: {reason}")
        return [f"the model's weights are NVFP4, which is {verdict} on this node: {reason}"]

    def look_at_template(self, version: str) -> list[str]:
        """Return what is worth saying of the chat template and the parsers; raises FlagError for what does not fit.

        Args:
            version: of vLLM; empty while it is not known.
        """
        folder = Path(self.intents.model_path)
        tools, reasoning = self.intents.tool_call_parser or "", self.intents.reasoning_parser or ""
        # Only the plugin knows what its parsers read.
        tools = "" if self.files.tools.has(tools) else tools
        reasoning = "" if self.files.reasoning.has(reasoning) else reasoning
        if self.is_to_come(folder) or not (tools or reasoning):
            return []
        if self.files.elsewhere:
            return [
                f"chat template {self.files.elsewhere} is not on this node, so the parsers were not compared with it"
            ]
        template = read_template(folder) if self.files.template is None else self.files.template
        if not template:
            return ["the model has no chat template, so its parsers were not checked"]
        problem = parser_problem(template, tools, version_tuple(version)) or reasoning_problem(template, reasoning)
        if problem:
            raise FlagError(problem)
        return [note] if (note := parser_note(template, tools)) else []

    def quantization(self) -> str:
        """Return the quantization that the command line names, which vLLM may do itself while it loads."""
        extra = self.intents.extra_arguments
        return (
            self.intents.quantization
            or flag_value(extra, "--quantization", "--quantization")
            or flag_value(extra, "-q", "-q")
        )

    def is_to_come(self, folder: Path) -> bool:
        """Say whether a real run would download the model first."""
        return bool(self.module.check_mode) and not folder.is_dir()

    def result(self) -> dict[str, Any]:
        """Return the answer; raises FlagError, SnapshotError, DockerError or ValueError with one sentence."""
        looks = self.params["inspect_model"]
        notes = self.inspect_model() if looks else []
        # What no release reads is refused before the image is asked, which takes its time.
        said = self.look_at_template("") if looks else []
        try:
            document = needed_image(run, self.params["image"])
        except DockerError as error:
            if not self.module.check_mode:
                raise
            lines, dropped = commands(self.intents)
            guess = f"the command line is a guess: {error}"
            return self.answer(lines, "", [*notes, *said, *dropped, guess], 0)
        image = str(document.get("Id") or "")
        record = Record(Path(self.params["record"]), image, self.source)
        wanted = self.params["min_vllm"] or ""
        keep = not self.module.check_mode
        found = decide(
            self.intents, lambda lines: self.ask(image, lines), record, keep=keep, min_vllm=wanted, files=self.files
        )
        said = self.look_at_template(found.version) if looks else []
        told = [*notes, *said, *found.notes]
        return {**self.answer(found.commands, found.version, told, found.asked), "python_path": python_path(document)}

    def answer(self, lines: list[list[str]], version: str, notes: list[str], asked: int) -> dict[str, Any]:
        """Return the module's result."""
        return {
            "command": lines[0],
            "commands": lines,
            "python_path": "",
            "drain_seconds": drain_seconds(lines[0]),
            "version": version,
            "notes": notes,
            "asked": asked,
            "msg": ". ".join([f"vLLM {version} accepts the command line" if version else "not asked yet", *notes]),
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "intents": {"type": "dict", "required": True},
            "min_vllm": {"type": "str"},
            "inspect_model": {"type": "bool", "default": True},
            "folders": {"type": "list", "elements": "path", "default": []},
            "seconds": {"type": "int", "default": 300},
            "record": {"type": "path", "default": "/var/lib/dgx-spark/vllm-flags.json"},
            "kernel_record": {"type": "path", "default": "/var/lib/dgx-spark/kernel-check.json"},
        },
        supports_check_mode=True,
    )
    try:
        result = VllmFlags(module).result()
    except (FlagError, SnapshotError, DockerError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
