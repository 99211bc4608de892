#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that the services on a node need."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_tools
short_description: Install the programs that the services on a node need
version_added: 1.0.0
description:
  - Installs the Python package that gates, shares and the command C(spark) on a node run, the same code that the modules of this collection run, and its
    launchers.
  - The command gets a link at C(/usr/local/bin/spark), unless something else has that name, and its completion for bash.
  - Optionally makes a virtual environment with third-party packages, because the system's Python is externally managed on DGX OS and Debian.
options:
  path:
    description: Folder of lib, bin and venv.
    type: path
    default: /opt/dgx-spark
  packages:
    description: Packages of the virtual environment, each pinned as C(name==version). Empty, there is no virtual environment.
    type: list
    elements: str
    default: []
  lock:
    description:
      - Text of a list of packages with hashes, in the form of pip's requirements.
      - Where it has each of O(packages) in that version, the whole list is installed, in wheels alone, and pip refuses a file whose hash is not in it.
        What is installed in another version is replaced. Else pip chooses what the packages need and compares no hash, and a note says so.
    type: str
    default: ""
  wheelhouse:
    description:
      - Folder on the node with wheels of the packages and all they need. When set, no package index is asked.
      - With O(lock), these are wheels of the list.
    type: path
  ca_bundle:
    description: File on the node with certificate authorities for the package index, behind a TLS-intercepting proxy.
    type: path
  folders:
    description: Further folders that must exist, readable for all.
    type: list
    elements: path
    default: []
  files:
    description: Texts of further files by their absolute path, readable for all; their folders must be among O(folders).
    type: dict
    default: {}
  cluster:
    description:
      - What the command C(spark) knows of the cluster, written to C(/etc/dgx-spark/cluster.json), readable for all. No secret may be in it.
      - Left out, the file stays as it is.
    type: dict
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Install the node's programs
  dgx_spark.vllm.node_tools:
    packages:
      - huggingface_hub==2.4.0
"""

RETURN = r"""
actions:
  description: What was done, in words.
  returned: success
  type: list
  elements: str
notes:
  description: What was left out, and why.
  returned: success
  type: list
  elements: str
missing_packages:
  description: Packages of the operating system without which the virtual environment cannot be made; install them and run again.
  returned: success
  type: list
  elements: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import command
from ..module_utils.command.cluster import RECORD
from ..module_utils.command.completion import script
from ..module_utils.command.library import LIBRARY as PROGRAM_FILES
from ..module_utils.command.main import parser
from ..module_utils.system.files import Changes, make_folder
from ..module_utils.system.pip_lock import HASHED, canonical, covers, entries, outdated, refused
from ..module_utils.system.run import last_line, run

#: What the services and the command on the node run.
LIBRARY: tuple[ModuleType, ...] = (command, *PROGRAM_FILES)
#: Launcher -> module and Python: what talks to a hub needs the virtual environment, all else the system's own Python.
PROGRAMS = {
    "spark": ("command.main", "/usr/bin/python3"),
    "spark-gate": ("service.gates", "/usr/bin/python3"),
    "spark-watchdog": ("service.watchdog", "/usr/bin/python3"),
    "spark-follower": ("service.follower", "/usr/bin/python3"),
    "spark-metrics": ("service.metrics", "/usr/bin/python3"),
    "spark-fabric-share": ("peer.share", "/usr/bin/python3"),
    "spark-model-download": ("hub.queue", "{path}/venv/bin/python"),
}
#: What tells vLLM in the serving containers of its plugin: the library's folder is on their PYTHONPATH.
PLUGIN = {
    "METADATA": "Metadata-Version: 2.1\nName: dgx-spark-node\nVersion: 1\n",
    "entry_points.txt": "[vllm.general_plugins]\ndgx_spark_ray_sigterm = dgx_spark_node.vllm.ray_sigterm:keep_handler\n",
}
#: Where people find the command, and where bash finds its words.
CONFIG = Path("/etc/dgx-spark")
LINK = Path("/usr/local/bin/spark")
COMPLETION = Path("/etc/bash_completion.d/spark")
# -P: nothing is taken from the folder that somebody stands in, who runs it as root.
_LAUNCHER = """#!/bin/sh
# Written by dgx_spark.vllm.node_tools.
PYTHONPATH={path}/lib exec {python} -P -B -m dgx_spark_node.{module} "$@"
"""
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([A-Za-z0-9.+!_-]+)$")


class NodeToolsError(Exception):
    """One sentence for the user."""


def source(module: ModuleType) -> str:
    """Return the source of a module, also from the archive that Ansible runs modules from."""
    loader: Any = getattr(module.__spec__, "loader", None)
    text = loader.get_source(module.__name__) if hasattr(loader, "get_source") else ""
    if not text:
        raise NodeToolsError(f"the source of {module.__name__} cannot be read: reinstall the collection")
    return str(text)


def place(module: ModuleType) -> str:
    """Return where a module lies below the package on the node: as below module_utils, so that relative imports hold."""
    name = module.__name__.partition(".module_utils.")[2].replace(".", "/")
    return f"{name}/__init__.py" if hasattr(module, "__path__") else f"{name}.py"


def installed(library: Path) -> dict[str, str]:
    """Return the version of each package below the library of a virtual environment."""
    found = (path.stem.rpartition("-") for path in library.glob("site-packages/*.dist-info"))
    return {canonical(name): version for name, _dash, version in found}


class NodeTools:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.path = Path(module.params["path"])
        self.changes = Changes(module.check_mode)
        self.notes: list[str] = []

    def library(self) -> None:
        package = self.path / "lib" / "dgx_spark_node"
        for folder in (CONFIG, self.path / "bin", package, *map(Path, self.module.params["folders"])):
            self.changes.folder(folder)
        wanted = {place(module): source(module) for module in LIBRARY}
        wanted["__init__.py"] = '"""Programs of dgx_spark.vllm on this node."""\n'
        for room in sorted({name.partition("/")[0] for name in wanted if "/" in name}):
            self.changes.folder(package / room)
        for name, text in wanted.items():
            self.changes.write(package / name, text, 0o644)
        for stale in sorted(package.rglob("*.py")) if package.is_dir() else ():
            if str(stale.relative_to(package)) not in wanted:
                self.changes.remove(stale)
        described = package.parent / "dgx_spark_node-1.dist-info"
        self.changes.folder(described)
        for name, text in PLUGIN.items():
            self.changes.write(described / name, text, 0o644)
        for name, text in self.module.params["files"].items():
            self.changes.write(Path(name), str(text), 0o644)
        for name, (module_name, python) in PROGRAMS.items():
            text = _LAUNCHER.format(path=self.path, module=module_name, python=python.format(path=self.path))
            self.changes.write(self.path / "bin" / name, text, 0o755)

    def command(self) -> None:
        """Give people the command by its name, with its completion and what it knows of the cluster."""
        if self.module.params["cluster"] is not None:
            self.changes.write(RECORD, json.dumps(self.module.params["cluster"], indent=2, sort_keys=True) + "\n")
        target = self.path / "bin" / LINK.name
        if LINK.is_symlink() and LINK.readlink() == target:
            pass
        elif LINK.is_symlink() or LINK.exists():
            self.notes.append(f"{LINK} is another program and stays: the command is {target}")
            return
        else:
            self.changes.note(f"linked {LINK}", LINK, "", f"{target}\n")
            if not self.module.check_mode:
                make_folder(LINK.parent)
                LINK.symlink_to(target)
        self.changes.folder(COMPLETION.parent)
        self.changes.write(COMPLETION, script(parser()))

    def venv(self, packages: list[str]) -> list[str]:
        """Make the virtual environment; return the operating system's packages that are missing for it."""
        venv = self.path / "venv"
        pins = {}
        for package in packages:
            match = _PIN.match(package)
            if not match:
                raise NodeToolsError(f"packages: {package!r} is not pinned, expected name==version")
            pins[canonical(match[1])] = match[2]
        listed = entries(self.module.params["lock"])
        lock = listed if covers(listed, pins) else []
        if listed and not lock:
            self.notes.append(f"{', '.join(packages)}: not in the collection's list of hashes, so pip compares none")
        python = venv / "bin" / "python"
        current = f"python{sys.version_info.major}.{sys.version_info.minor}"
        # A new Python of the operating system leaves an environment whose packages it does not see.
        usable = python.exists() and (venv / "lib" / current).is_dir()
        have = installed(venv / "lib" / current)
        if usable and pins.items() <= have.items() and not outdated(lock, have):
            return []
        if importlib.util.find_spec("ensurepip") is None:
            return ["python3-venv"]
        self.changes.actions.append(f"installed {', '.join(packages)} into {venv}")
        if self.module.check_mode:
            return []
        if not usable:
            shutil.rmtree(venv, ignore_errors=True)
            self.install([sys.executable, "-m", "venv", str(venv)], "making the virtual environment")
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        if self.module.params["wheelhouse"]:
            command += ["--no-index", "--find-links", self.module.params["wheelhouse"]]
        if self.module.params["ca_bundle"]:
            command += ["--cert", self.module.params["ca_bundle"]]
        wanted = packages
        if lock:
            requirements = Path(self.module.tmpdir) / "requirements.txt"
            requirements.write_text("".join(entry.text for entry in lock), encoding="utf-8")
            wanted = [*HASHED, "--requirement", str(requirements)]
        self.install([*command, *wanted], f"installing {', '.join(packages)}")
        return []

    def install(self, argv: list[str], what: str) -> None:
        # A package index over a slow line takes as long as it takes.
        code, out, err = run(argv, None)
        if not code:
            return
        if file := refused(err):
            raise NodeToolsError(
                f"{what} failed: {file}: look into the package index or node_tools_wheelhouse that it came from"
            )
        remedy = (
            "without a package index set node_tools_wheelhouse, behind a TLS-intercepting proxy set spark_ca_bundle"
        )
        if HASHED[-1] in argv and self.module.params["wheelhouse"]:
            remedy = "node_tools_wheelhouse needs the wheels that the collection lists in roles/node_tools/files/requirements.txt"
        raise NodeToolsError(f"{what} failed: {last_line(out, err)}; {remedy}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/opt/dgx-spark"},
            "packages": {"type": "list", "elements": "str", "default": []},
            "lock": {"type": "str", "default": ""},
            "wheelhouse": {"type": "path"},
            "ca_bundle": {"type": "path"},
            "folders": {"type": "list", "elements": "path", "default": []},
            "files": {"type": "dict", "default": {}},
            "cluster": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    tools = NodeTools(module)
    missing: list[str] = []
    try:
        tools.library()
        tools.command()
        if module.params["packages"]:
            missing = tools.venv(module.params["packages"])
    except NodeToolsError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or tools.path}: {error.strerror}; node_tools needs root on the node")
    result: dict[str, Any] = {"actions": tools.changes.actions, "diff": tools.changes.diff, "missing_packages": missing}
    result["notes"] = tools.notes
    message = "; ".join([*tools.changes.actions, *tools.notes]) or "the node's programs are in place"
    if missing:
        message += f"; missing for the virtual environment: {', '.join(missing)}"
    module.exit_json(changed=bool(tools.changes.actions), msg=message, **result)


if __name__ == "__main__":
    main()
