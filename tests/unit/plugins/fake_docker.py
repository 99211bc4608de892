# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A Docker of files for tests: the command as Docker 20.10 answers it, over images in one JSON file."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import cli
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.image_layer import architecture

HERE = architecture(platform.machine())

# A Docker of files: `world.json` beside it holds the images that are there and those that a registry has, and what it was told to do.
DOCKER = """#!%s
import json, sys
from pathlib import Path
path = Path(__file__).parent / "world.json"
world = json.loads(path.read_text())
images, command = world["images"], sys.argv[1:]
world["log"].append(command)
def leave(text="", error=""):
    path.write_text(json.dumps(world))
    print(text)
    sys.exit(error or 0)
if command[:2] == ["image", "inspect"]:
    known = {**images, **{found["Id"]: found for found in images.values()}}
    name = command[-1]
    if name.startswith("sha256:"):
        leave(json.dumps([known[name] for name in command[2:]]))
    if name not in images:
        leave("[]", "Error: No such image: " + name)
    leave(json.dumps([images[name]]))
elif command[0] == "save":
    sys.stdout.buffer.write(world["saved"].encode())
    sys.exit(world["save_status"])
elif command[:2] == ["image", "ls"]:
    leave("\\n".join(found["Id"] for found in images.values()))
elif command[0] == "load":
    images.update(world["archive"])
    leave("\\n".join("Loaded image: " + name for name in world["archive"]))
elif command[0] == "version":
    leave(world["arch"])
elif command[0] == "info":
    leave(json.dumps({"ServerVersion": "29.2.1", "CDISpecDirs": []}))
elif command[0] == "pull":
    if command[-1] not in world["registry"]:
        leave("", world["refusal"])
    images[command[-1]] = world["registry"][command[-1]]
    leave(command[-1])
elif command[0] == "tag":
    images[command[2]] = {**images, **{found["Id"]: found for found in images.values()}}[command[1]]
    leave()
elif command[:2] == ["image", "rm"]:
    del images[command[-1]]
    leave()
elif command[0] == "build":
    text = (Path(command[-1]) / "Dockerfile").read_text()
    world["built"] = {"text": text, "context": sorted(p.name for p in Path(command[-1]).rglob("*"))}
    if world["build_error"]:
        leave("", world["build_error"])
    base = dict(images[text.split()[1]])
    labels = dict(command[i + 1].split("=", 1) for i, word in enumerate(command) if word == "--label")
    base["Id"], base["Config"] = "sha256:built%%d" %% len(world["log"]), {"Labels": labels}
    if "RUN" in text:
        base["probe"] = world["after"]
        base["RootFS"] = {"Layers": [*base["RootFS"]["Layers"], "ray"]}
    images[command[command.index("--tag") + 1]] = base
    leave()
elif command[0] == "run" and "--detach" in command:
    world["container"] = command
    leave("id", world["run_error"])
elif command[0] == "run":
    image = images[command[command.index("-c") - 1]]
    leave(image["probe"], "exec format error" if image["probe"] is None else "")
elif command[0] == "exec":
    reloads = sum(1 for entry in world["log"] if entry == ["daemon-reload"])
    if command[2] == "nvidia-smi":
        said = world["smi"][min(reloads, len(world["smi"]) - 1)]
        leave(said, "" if said.startswith("GPU") else 9)
    if command[2:] == ["ls", world.get("uvm_node")]:
        # A missing file: status 2 of ls; 124 is what `timeout` says of a command that hangs.
        leave(world["uvm_node"], "" if world["uvm"] == 0 else world["uvm"])
    leave(world["limits"] if command[2] == "cat" else world["infiniband"])
elif command[0] == "ps":
    leave(world["running"])
elif command[0] == "rm":
    leave()
leave("", "unexpected: " + repr(command))
"""
SYSTEMCTL = """#!%s
import json, sys
from pathlib import Path
path = Path(__file__).parent / "world.json"
world = json.loads(path.read_text())
world["log"].append(sys.argv[1:])
path.write_text(json.dumps(world))
"""
LIMITS = "Max open files            1048576              1048576              files\nMax locked memory         unlimited            unlimited            bytes\n"


def probe(ray: str = "", torch: str = "2.15.0a0", vllm: str = "0.31.0") -> str:
    programs = {
        "vllm": "/usr/bin/vllm",
        "ray": "/usr/bin/ray" if ray else "",
        "python3": "/usr/bin/python3",
        "ptxas": "",
    }
    packages = dict.fromkeys(("triton", "flashinfer-python", "transformers"), "")
    return json.dumps(
        {
            "packages": {**packages, "vllm": vllm, "ray": ray, "torch": torch, "aiohttp-cors": "1" if ray else ""},
            "nccl": "2.30.7",
            "nccl_library": "/usr/lib/libnccl.so.2",
            "cuda": "13.4.3",
            "python": "3.12.3",
            "machine": platform.machine(),
            "programs": programs if vllm else {**programs, "vllm": ""},
        }
    )


def image(number: str, ray: str = "", arch: str = HERE, **found: str) -> dict[str, Any]:
    return {
        "Id": f"sha256:{number}",
        "Architecture": arch,
        "RootFS": {"Layers": [number]},
        "Config": {"Labels": {}},
        "Size": 2**30,
        "probe": probe(ray, **found),
    }


class World:
    """The Docker of files, from outside."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "world.json"
        self.set(
            images={},
            registry={},
            refusal="manifest unknown",
            arch=HERE,
            log=[],
            after=probe("2.56.1"),
            build_error="",
            run_error="",
            smi=["GPU 0: NVIDIA GB10 (UUID: GPU-0)"],
            limits=LIMITS,
            infiniband="rdma_cm\nuverbs0\nuverbs1",
            running="",
            saved="",
            save_status=0,
        )

    def get(self, name: str) -> Any:
        return json.loads(self.path.read_text())[name]

    def set(self, **values: Any) -> None:
        before = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.path.write_text(json.dumps({**before, **values}))

    def verbs(self) -> list[str]:
        """Return what Docker was told to change, and forget it."""
        found = [entry[0] for entry in self.get("log") if entry[0] in ("pull", "build", "tag", "load")]
        self.set(log=[])
        return found


def use_docker(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every module that is imported run this program as Docker."""
    real = cli.DOCKER
    for name, module in list(sys.modules.items()):
        if name.startswith("ansible_collections.dgx_spark.vllm.") and getattr(module, "DOCKER", None) == real:
            monkeypatch.setattr(module, "DOCKER", path)


def fake_docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Put this Docker, and a systemctl that notes what it is told, into a folder, and use them."""
    for name, text in (("docker", DOCKER), ("systemctl", SYSTEMCTL)):
        (folder / name).write_text(text % sys.executable)
        (folder / name).chmod(0o755)
    use_docker(str(folder / "docker"), monkeypatch)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return World(folder)
