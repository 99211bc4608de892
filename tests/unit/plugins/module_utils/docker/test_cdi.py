# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The road of a GPU into a container: what programs print is read, and each way to lose it gets its sentence.

Where an output was copied from is said in the line beside it; what was not copied from a source says `invented` and proves
only that the reader reads what it is said to look like.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cdi import (
    MENDED,
    OWN_UNIT,
    RED,
    REFRESH_UNIT,
    YELLOW,
    Docker,
    Host,
    Look,
    Runtime,
    Spec,
    Unit,
    boot_order,
    cdi_devices,
    collect,
    judge,
    judge_proof,
    parse_block_yaml,
    parse_docker_info,
    parse_limits,
    parse_spec,
    parse_unit,
    reported,
    version_of,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import fine

GPU = "nvidia.com/gpu=all"
DEVICES = [GPU, "/dev/infiniband"]

# Recorded: `docker info --format '{{json .}}'`, Docker 20.10.24 of Debian 12 on x86_64, client 28.2.2; shortened.
INFO_20 = (
    '{"Driver":"overlay2","DriverStatus":[["Backing Filesystem","extfs"],["Supports d_type","true"],["userxattr","false"]],'
    '"CgroupDriver":"cgroupfs","CgroupVersion":"1","Architecture":"x86_64","ServerVersion":"20.10.24+dfsg1",'
    '"Runtimes":{"io.containerd.runc.v2":{"path":"runc"},"io.containerd.runtime.v1.linux":{"path":"runc"},"runc":{"path":"runc"}},'
    '"DefaultRuntime":"runc","CDISpecDirs":null,"Warnings":null,"ClientInfo":{"Version":"28.2.2","Plugins":[]}}'
)
# Recorded: the same client where no daemon listens; it ends with status 1 and says why on standard error.
INFO_DOWN = '{"ID":"","Driver":"","DriverStatus":null,"ServerVersion":"","Runtimes":null,"CDISpecDirs":null,"ClientInfo":{"Version":"28.2.2"}}'
DOWN = "Cannot connect to the Docker daemon at unix:///nonexistent.sock. Is the docker daemon running?"
# DiscoveredDevices came with API 1.50 (docs.docker.com/reference/api/engine/version-history); its rows have Source and ID and nothing else
# (docs.docker.com/reference/api/engine/version/v1.57/schemas/DeviceInfo). CDISpecDirs: API 1.44. The values are invented after Docker
# 29.2.1, which DGX OS has (conselara.dev), and its containerd store.
INFO_29 = json.dumps(
    {
        "Driver": "overlayfs",
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "CgroupDriver": "systemd",
        "Architecture": "aarch64",
        "ServerVersion": "29.2.1",
        "Runtimes": {"nvidia": {"path": "nvidia-container-runtime"}, "runc": {"path": "runc"}},
        "DefaultRuntime": "runc",
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}, {"Source": "cdi", "ID": GPU}],
        "ClientInfo": {"Version": "29.2.1", "Plugins": [{"Name": "buildx"}]},
    }
)

# Head, hooks and the first mount: docker/buildx#3295 (x86_64, driver 575.57.08). The libcuda mount: a setup script for GB10 quotes that
# path. Devices: invented, in the order of keys that NixOS/nixpkgs#278969 shows (`name` behind the edits, `kind` last).
SPEC = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/nvidia-modeset
  - path: /dev/nvidia-uvm
  - path: /dev/nvidia-uvm-tools
  - path: /dev/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - libcuda.so.1::/usr/lib/x86_64-linux-gnu/libcuda.so
    env:
    - NVIDIA_CTK_DEBUG=false
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /run/nvidia-persistenced/socket
    hostPath: /run/nvidia-persistenced/socket
    options:
    - ro
    - nosuid
    - noexec
  - containerPath: /usr/lib/aarch64-linux-gnu/libcuda.so.580.142
    hostPath: /usr/lib/aarch64-linux-gnu/libcuda.so.580.142
    options:
    - ro
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: "0"
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
  name: all
kind: nvidia.com/gpu
"""
SPEC_WITHOUT_UVM = SPEC.replace("  - path: /dev/nvidia-uvm\n  - path: /dev/nvidia-uvm-tools\n", "")
NEEDED = (
    "/dev/nvidia-modeset",
    "/dev/nvidia-uvm",
    "/dev/nvidia-uvm-tools",
    "/dev/nvidiactl",
    "/run/nvidia-persistenced/socket",
    "/usr/lib/aarch64-linux-gnu/libcuda.so.580.142",
    "/usr/bin/nvidia-cdi-hook",
    "/dev/nvidia0",
)
# Format: `nvidia-ctk --version` in NVIDIA/nvidia-container-toolkit#50; the version is the one that DGX OS had in May 2026.
CTK = "NVIDIA Container Toolkit CLI version 1.19.0\ncommit: 62bd015475656ef795cb0d59cc4030a6bd4a9526\n"
# Form: systemctl show; what stands behind After is the ordering of the unit in NVIDIA/nvidia-container-toolkit commit 044b670d.
REFRESH_LATE = (
    "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nResult=success\n"
    "After=multi-user.target basic.target sysinit.target\nBefore=shutdown.target\n"
)
# Before: the drop-in 10-container-engines.conf, NVIDIA/nvidia-container-toolkit commit 5bd3282f.
REFRESH_EARLY = (
    "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\nResult=success\n"
    "After=basic.target\nBefore=docker.service containerd.service crio.service shutdown.target multi-user.target\n"
)
OWN = "LoadState=loaded\nUnitFileState=enabled\nActiveState=inactive\nResult=success\nAfter=\nBefore=spark-ray-head.service\n"


# --- reading ------------------------------------------------------------------------------------------------


def test_docker_without_cdi() -> None:
    docker = parse_docker_info(INFO_20)
    assert (docker.version, docker.client, docker.cgroup_driver) == ("20.10.24+dfsg1", "28.2.2", "cgroupfs")
    assert (docker.cdi_folders, docker.devices, docker.containerd_store, docker.buildx) == ((), None, False, False)
    assert docker.error == ""


def test_docker_with_cdi() -> None:
    docker = parse_docker_info(INFO_29)
    assert docker.cdi_folders == ("/etc/cdi", "/var/run/cdi")
    assert docker.devices == ("nvidia.com/gpu=0", GPU)
    assert (docker.containerd_store, docker.buildx, docker.runtimes) == (True, True, ("nvidia", "runc"))


# Invented: shapes that no Docker is known to print; they prove that none of them raises.
ODD: tuple[Any, ...] = (
    None,
    "x",
    7,
    True,
    [],
    ["x"],
    [None],
    [[]],
    [["a"]],
    [7],
    {},
    {"x": None},
    [{}],
    [{"ID": None}],
)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("key", [*json.loads(INFO_29), "ServerErrors"])
def test_docker_info_of_another_shape(key: str, value: Any) -> None:
    docker = parse_docker_info(json.dumps(json.loads(INFO_29) | {key: value}))
    assert json.dumps(replace(docker).__dict__)
    assert judge(Runtime(docker=docker), DEVICES)


@pytest.mark.parametrize(
    ("rows_", "devices"),
    [
        (None, None),
        ("cdi", None),
        ({"Source": "cdi"}, None),
        ([], ()),
        ([None, "cdi", ["cdi"], 7, {}, {"Source": "other", "ID": GPU}], ()),
        ([{"Source": "cdi"}, {"Source": "cdi", "ID": None}, {"ID": GPU}], ("", "")),
        ([{"Source": "cdi", "Name": GPU}, {"Source": "cdi", "ID": GPU, "More": 1}], ("", GPU)),
    ],
)
def test_discovered_devices_of_another_shape(rows_: Any, devices: tuple[str, ...] | None) -> None:
    docker = parse_docker_info(json.dumps(json.loads(INFO_29) | {"DiscoveredDevices": rows_}))
    assert (docker.version, docker.devices) == ("29.2.1", devices)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "key", ["kind", "devices", "containerEdits", "deviceNodes", "mounts", "hooks", "edits of a device"]
)
def test_a_specification_of_another_shape(key: str, value: Any) -> None:
    edits = {key: value} if key in ("deviceNodes", "mounts", "hooks") else {}
    data: dict[str, Any] = {"kind": "nvidia.com/gpu", "devices": [{"name": "all"}], "containerEdits": edits}
    if key == "edits of a device":
        data["devices"][0]["containerEdits"] = value
    elif not edits:
        data[key] = value
    spec = parse_spec("x.json", json.dumps(data), bool)
    assert (spec.uvm, spec.driver) == (False, "")


@pytest.mark.parametrize("text", ["null", "7", '"x"', "[]", "[1]", "{}", "{", "NaN"])
def test_settings_and_documents_of_another_shape(text: str, machine: Machine) -> None:
    machine.put("/etc/docker/daemon.json", text)
    machine.put("/etc/cdi/odd.json", text)
    machine.answers["docker"] = (0, text, "")
    assert "docker.silent" in machine.look()


@pytest.mark.parametrize(
    ("text", "said", "error"),
    [
        (INFO_DOWN, DOWN, DOWN),
        ("", "permission denied", "permission denied"),
        ("not json", "", "no answer"),
        ("[]", "", "no answer"),
        ('{"ServerErrors": ["it is down"]}', "x", "it is down"),  # invented: older clients put the reason there
    ],
)
def test_docker_that_does_not_answer(text: str, said: str, error: str) -> None:
    assert parse_docker_info(text, said).error == error


@pytest.mark.parametrize(
    ("text", "version"), [("1.19.0~rc.1-1", (1, 19, 0)), ("580.142", (580, 142)), ("none", ()), ("29", ())]
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert version_of(text) == version


def test_paths_are_no_cdi_names() -> None:
    assert cdi_devices([*DEVICES, "/dev/x=y", "vendor.org/class=a.b:c"]) == [GPU, "vendor.org/class=a.b:c"]


def test_the_reader_of_yaml_agrees_with_a_real_one() -> None:
    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: as_text(item) for key, item in value.items()}
        return [as_text(item) for item in value] if isinstance(value, list) else str(value)

    assert parse_block_yaml(SPEC) == as_text(yaml.safe_load(SPEC))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: b # why\n", {"a": "b"}),
        ("a:\n  - b\n  -\n    c: 'd: e'\n", {"a": ["b", {"c": "d: e"}]}),
        ("a: {}\nb: []\nc:\n", {"a": {}, "b": [], "c": None}),
        ("- --link\n- x::y\n", ["--link", "x::y"]),
    ],
)
def test_yaml(text: str, value: Any) -> None:
    assert parse_block_yaml(text) == value


@pytest.mark.parametrize(
    "text", ["a: {b: c}\n", "a: |\n  b\n", "\ta: b\n", "just text\n", "a: b\n   c: d\n", "a: &x b\n", "a:\n- - x\n"]
)
def test_yaml_that_is_more_than_a_specification(text: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+|more of YAML"):
        parse_block_yaml(text)


def test_a_specification_and_what_it_asks_for() -> None:
    here = set(NEEDED) - {"/usr/lib/aarch64-linux-gnu/libcuda.so.580.142"}
    spec = parse_spec("/var/run/cdi/nvidia.yaml", SPEC, here.__contains__)
    assert spec.names() == ("nvidia.com/gpu=0", GPU)
    assert spec.missing == ("/usr/lib/aarch64-linux-gnu/libcuda.so.580.142",)
    assert (spec.driver, spec.uvm) == ("580.142", True)
    assert parse_spec("x", SPEC, set().__contains__).missing == NEEDED


def test_a_specification_in_json_whose_node_has_another_path_on_the_host() -> None:
    node = {"path": "/dev/nvidia0", "hostPath": "/dev/nvidia7"}
    text = json.dumps(
        {"kind": "nvidia.com/gpu", "devices": [{"name": "all", "containerEdits": {"deviceNodes": [node]}}]}
    )
    assert parse_spec("x.json", text, set().__contains__).missing == ("/dev/nvidia7",)


@pytest.mark.parametrize(
    ("text", "error"), [("{", "Expecting"), ("a: b\n", "no 'kind'"), ("- a\n", "list"), ("", "None")]
)
def test_a_file_that_is_no_specification(text: str, error: str) -> None:
    assert error in parse_spec("x.yaml", text, bool).error


def test_a_unit() -> None:
    unit = parse_unit(REFRESH_UNIT, REFRESH_LATE)
    assert (unit.loaded, unit.enabled, "multi-user.target" in unit.after) == (True, True, True)
    assert parse_unit("x", "LoadState=not-found\nUnitFileState=\n") == Unit("x")


# --- a machine from a folder --------------------------------------------------------------------------------


class Machine:
    """A folder that plays a node, and the programs on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, tuple[int, str, str]] = {
            "docker": (0, INFO_29, ""),
            "nvidia-ctk": (0, CTK, ""),
            REFRESH_UNIT: (0, REFRESH_LATE, ""),
            OWN_UNIT: (0, OWN, ""),
        }
        for path in (*NEEDED, "/usr/bin/docker"):
            self.put(path, "")
        self.put("/sys/module/nvidia/version", "580.142\n")
        self.put("/var/run/cdi/nvidia.yaml", SPEC)

    def put(self, path: str, text: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def remove(self, path: str) -> None:
        (self.root / path.lstrip("/")).unlink()

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        name = argv[2] if argv[0] == "systemctl" else argv[0].rpartition("/")[2]
        return self.answers.get(name, (127, "", "not found"))

    def look(self, devices: Sequence[str] = DEVICES) -> dict[str, str]:
        """Return the sentences by name."""
        return {found.code: found.sentence() for found in judge(collect(Host(self.run, self.root)), devices)}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_spark_as_it_should_be(machine: Machine) -> None:
    runtime = collect(Host(machine.run, machine.root))
    assert (runtime.toolkit, runtime.driver_loaded, runtime.driver_installed) == ("1.19.0", "580.142", "580.142")
    assert boot_order(runtime) == "unit"
    assert judge(runtime, DEVICES) == []
    assert runtime.as_facts()["specs"][0]["driver"] == "580.142"
    assert json.dumps(runtime.as_facts())


def test_a_node_without_gpu_is_judged_by_docker_alone(machine: Machine) -> None:
    machine.answers = {"docker": (0, INFO_20, "")}
    assert machine.look(["/dev/infiniband"]) == {}
    assert machine.look([]) == {}


def sick(name: str, machine: Machine) -> None:
    """Make the machine ill in the way that the finding is named for."""
    other = SPEC.replace("580.142", "580.126")
    if name == "docker.missing":
        machine.remove("/usr/bin/docker")
    elif name == "docker.snap":
        machine.remove("/usr/bin/docker")
        machine.put("/snap/bin/docker", "")
    elif name == "docker.silent":
        machine.answers["docker"] = (1, INFO_DOWN, DOWN)
    elif name == "docker.without_cdi":
        machine.answers["docker"] = (0, INFO_20, "")
    elif name == "docker.cdi_off":
        machine.answers["docker"] = (
            0,
            INFO_29.replace('["/etc/cdi", "/var/run/cdi"]', "[]").replace("29.2.1", "27.5.1"),
            "",
        )
    elif name == "docker.settings_broken":
        machine.put("/etc/docker/daemon.json", '{"runtimes": }')
    elif name == "docker.toolkit_missing":
        del machine.answers["nvidia-ctk"]
    elif name == "docker.toolkit_old":
        machine.answers["nvidia-ctk"] = (0, CTK.replace("1.19.0", "1.17.8"), "")
    elif name == "gpu.driver_missing":
        machine.remove("/sys/module/nvidia/version")
        machine.remove("/usr/lib/aarch64-linux-gnu/libcuda.so.580.142")
    elif name == "gpu.driver_mismatch":
        machine.put("/usr/lib/aarch64-linux-gnu/libcuda.so.580.159", "")
    elif name == "docker.device_unknown":
        machine.remove("/var/run/cdi/nvidia.yaml")
    elif name == "docker.spec_stale":
        machine.put("/var/run/cdi/nvidia.yaml", other)
    elif name == "docker.spec_other_driver":
        machine.put("/var/run/cdi/nvidia.yaml", other)
        machine.put("/usr/lib/aarch64-linux-gnu/libcuda.so.580.126", "")
    elif name == "docker.spec_without_uvm":
        # What nvidia-ctk writes before the nodes are there: it names those that it finds.
        machine.put("/var/run/cdi/nvidia.yaml", SPEC_WITHOUT_UVM)
    elif name == "docker.spec_shadowed":
        machine.put("/etc/cdi/nvidia.yaml", other)
    elif name == "docker.device_twice":
        machine.put("/var/run/cdi/mine.yaml", SPEC)
    elif name == "docker.spec_unreadable":
        machine.put("/etc/cdi/other.yaml", "kind: [")
    elif name == "docker.device_unseen":
        machine.answers["docker"] = (0, INFO_29.replace(GPU, "nvidia.com/gpu=1"), "")
    elif name == "docker.boot_order":
        del machine.answers[OWN_UNIT]
    else:
        raise AssertionError(name)


SICK: Mapping[str, tuple[str, str]] = {
    "docker.missing": (RED, "run role container_runtime"),
    "docker.snap": (RED, "snap remove docker"),
    "docker.silent": (RED, f"does not answer ({DOWN})"),
    "docker.without_cdi": (RED, "Docker 20.10.24+dfsg1 does not support CDI"),
    "docker.cdi_off": (RED, "CDI is switched off in Docker 27.5.1"),
    "docker.settings_broken": (RED, "/etc/docker/daemon.json is not JSON"),
    "docker.toolkit_missing": (RED, "there is no nvidia-ctk"),
    "docker.toolkit_old": (YELLOW, "toolkit 1.17.8 does not renew"),
    "gpu.driver_missing": (RED, "no NVIDIA driver on this node"),
    "gpu.driver_mismatch": (RED, "runs NVIDIA driver 580.142 while the libraries are of 580.159"),
    "docker.device_unknown": (RED, f"no CDI specification names {GPU}: `systemctl restart {REFRESH_UNIT}`"),
    "docker.spec_stale": (RED, "asks for /usr/lib/aarch64-linux-gnu/libcuda.so.580.126, which this node does not have"),
    "docker.spec_other_driver": (RED, "was written for driver 580.126 and the kernel runs 580.142"),
    "docker.spec_without_uvm": (
        RED,
        f"names no /dev/nvidia-uvm, which this node has, so no CUDA program starts in a container with {GPU}",
    ),
    "docker.spec_shadowed": (YELLOW, "remove /etc/cdi/nvidia.yaml"),
    "docker.device_twice": (RED, "named by /var/run/cdi/mine.yaml and by /var/run/cdi/nvidia.yaml"),
    "docker.spec_unreadable": (YELLOW, "/etc/cdi/other.yaml is no CDI specification"),
    "docker.device_unseen": (RED, "Docker does not list it"),
    "docker.boot_order": (YELLOW, f"which installs {OWN_UNIT}"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_sick_machine_gets_its_sentence(name: str, machine: Machine) -> None:
    sick(name, machine)
    level, words = SICK[name]
    found = {finding.code: finding for finding in judge(collect(Host(machine.run, machine.root)), DEVICES)}
    assert name in found
    assert found[name].level == level
    assert words in found[name].sentence()
    assert found[name].remedy
    assert "\n" not in found[name].sentence()


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in SICK
        if name not in ("gpu.driver_mismatch", "docker.spec_other_driver", "docker.toolkit_missing")
    ],
)
def test_one_illness_is_told_once(name: str, machine: Machine) -> None:
    sick(name, machine)
    assert set(machine.look()) == {name}


def test_a_node_without_uvm_asks_for_none(machine: Machine) -> None:
    machine.put("/var/run/cdi/nvidia.yaml", SPEC_WITHOUT_UVM)
    machine.remove("/dev/nvidia-uvm")
    assert machine.look() == {}


def test_the_specification_of_another_vendor_needs_no_uvm(machine: Machine) -> None:
    machine.put("/var/run/cdi/nvidia.yaml", SPEC_WITHOUT_UVM.replace("nvidia.com/gpu", "vendor.org/gpu"))
    machine.answers["docker"] = (0, INFO_29.replace("nvidia.com/gpu", "vendor.org/gpu"), "")
    assert machine.look(["vendor.org/gpu=all"]) == {}


def test_a_specification_without_uvm_is_written_anew_by_the_role(machine: Machine) -> None:
    sick("docker.spec_without_uvm", machine)
    findings = judge(collect(Host(machine.run, machine.root)), DEVICES)
    assert [found.level for found in reported(findings, "well")] == [RED]
    assert [found.level for found in reported(findings, "well", managed=True)] == [YELLOW]
    role = yaml.safe_load((Path(__file__).parents[5] / "roles/container_runtime/vars/main.yml").read_text())
    assert "docker.spec_without_uvm" in role["__container_runtime_spec_invalid"]
    assert set(role["__container_runtime_spec_invalid"]) <= MENDED


def test_a_driver_that_is_installed_and_not_loaded(machine: Machine) -> None:
    machine.remove("/sys/module/nvidia/version")
    assert "driver 580.142 is installed and the kernel has not loaded it" in machine.look()["gpu.driver_not_loaded"]


def test_an_old_toolkit_is_told_its_own_command(machine: Machine) -> None:
    sick("docker.device_unknown", machine)
    del machine.answers[REFRESH_UNIT]
    assert "nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml" in machine.look()["docker.device_unknown"]


def test_a_folder_that_is_a_link_is_read_once(machine: Machine) -> None:
    info = INFO_29.replace('["/etc/cdi", "/var/run/cdi"]', '["/run/cdi", "/var/run/cdi"]')
    machine.answers["docker"] = (0, info, "")
    (machine.root / "run").mkdir(exist_ok=True)
    (machine.root / "run/cdi").symlink_to(machine.root / "var/run/cdi")
    assert machine.look() == {}


@pytest.mark.parametrize(
    ("refresh", "own", "order"),
    [
        (REFRESH_LATE, "", "none"),
        (REFRESH_LATE, OWN, "unit"),
        (REFRESH_EARLY, "", "toolkit"),
        (REFRESH_EARLY, OWN, "toolkit"),
    ],
)
def test_what_orders_the_boot(refresh: str, own: str, order: str) -> None:
    runtime = Runtime(refresh=parse_unit(REFRESH_UNIT, refresh), own=parse_unit(OWN_UNIT, own))
    assert boot_order(runtime) == order


def test_our_unit_makes_no_cycle() -> None:
    text = (Path(__file__).parents[5] / "roles/container_runtime/templates/spark-cdi.service.j2").read_text()
    after = [line for line in text.splitlines() if line.startswith("After=")]
    assert after and not any(REFRESH_UNIT in line or "multi-user.target" in line for line in after)
    assert "--output=${NVIDIA_CTK_CDI_OUTPUT_FILE_PATH}" in text


def test_our_unit_makes_the_nodes_before_it_writes_of_them() -> None:
    text = (Path(__file__).parents[5] / "roles/container_runtime/templates/spark-cdi.service.j2").read_text()
    steps = [line for line in text.splitlines() if line.startswith("ExecStart")]
    assert [step.rpartition("/")[2].partition(" ")[0] for step in steps] == [
        "nvidia-smi",
        "nvidia-modprobe",
        "nvidia-ctk",
    ]
    # A node without that program still gets its specification.
    assert steps[1] == "ExecStartPre=-/usr/bin/nvidia-modprobe -u -c=0"


# --- the proof ----------------------------------------------------------------------------------------------

# What a container says whose GPU is gone: NVIDIA/nvidia-container-toolkit#1227.
LOST = Look(
    gpu=False,
    said="Failed to initialize NVML: Unknown Error",
    limits={"nofile": "1048576", "memlock": "-1"},
    rdma=("uverbs0",),
)
# Form of nvidia-smi -L: the same issue; the name is what a GB10 prints in owners' reports, the number is invented.
SEEN = replace(LOST, gpu=True, said="GPU 0: NVIDIA GB10 (UUID: GPU-00000000-0000-0000-0000-000000000000)")
LIMITS = {"nofile": "1048576:1048576", "memlock": "-1:-1"}


def test_a_container_that_keeps_everything() -> None:
    assert judge_proof(SEEN, SEEN, gpu=True, rdma=True, ulimits=LIMITS) == []
    assert judge_proof(SEEN, None, gpu=True, rdma=True, ulimits={"nofile": "1048576"}) == []
    assert judge_proof(replace(SEEN, uvm=True), None, gpu=True, rdma=True, ulimits=LIMITS) == []
    assert judge_proof(replace(LOST, rdma=()), None, gpu=False, rdma=False, ulimits={}) == []


@pytest.mark.parametrize(
    ("before", "after", "name", "words"),
    [
        (LOST, None, "docker.gpu_missing", "does not see it (nvidia-smi: Failed to initialize NVML: Unknown Error)"),
        (SEEN, LOST, "docker.gpu_lost", "loses its GPU at `systemctl daemon-reload`"),
        (replace(SEEN, limits={"nofile": "1024"}), SEEN, "docker.limit", "nofile 1048576 has 1024 (Docker 29.2.1)"),
        (replace(SEEN, limits={"memlock": "8388608"}), SEEN, "docker.limit", "memlock -1 has 8388608"),
        (replace(SEEN, rdma=("rdma_cm",)), SEEN, "docker.rdma_missing", "no RDMA device"),
        (replace(SEEN, uvm=False), SEEN, "docker.uvm_missing", "has no /dev/nvidia-uvm, which this node has"),
        (replace(LOST, uvm=False), None, "docker.gpu_missing", "does not see it"),
    ],
)
def test_a_container_that_lacks_something(before: Look, after: Look | None, name: str, words: str) -> None:
    (found,) = judge_proof(before, after, gpu=True, rdma=True, ulimits=LIMITS, docker="29.2.1")
    assert (found.code, found.level) == (name, RED)
    assert words in found.sentence()


def test_limits_of_this_very_process() -> None:
    text = Path("/proc/self/limits").read_text()
    found = parse_limits(text)
    soft = subprocess.run(["/bin/sh", "-c", "ulimit -Sn"], capture_output=True, text=True, check=True).stdout.strip()
    assert found["nofile"] == ("-1" if soft == "unlimited" else soft)
    # Form of /proc/<pid>/limits, proc(5).
    assert parse_limits("Max locked memory         unlimited            unlimited            bytes\n") == {
        "memlock": "-1"
    }


@pytest.mark.parametrize("text", ["", "Max open files", "Max open files   \n", "Max locked memory\n", "\x00\n"])
def test_limits_that_say_nothing(text: str) -> None:
    assert parse_limits(text) == {}


def test_what_the_report_shows() -> None:
    assert reported([], "well") == [fine("docker", "Docker", "well")]
    runtime = Runtime(docker=Docker(), specs=(Spec("x"),))
    found = judge(runtime, DEVICES)
    assert {entry.level for entry in found} == {RED}
    assert reported(found, "well") == found


def test_a_bare_machine_is_yellow_where_the_role_comes_next() -> None:
    """What no role mends, the driver, stays red, and is a check of its own."""
    findings = judge(Runtime(docker=Docker()), DEVICES)
    found = reported(findings, "well", managed=True)
    assert [(entry.check, entry.level) for entry in found] == [("Docker", YELLOW), ("driver", RED), ("Docker", YELLOW)]
    assert {entry.remedy for entry in found if entry.level == YELLOW} == {"site.yml fixes it (role container_runtime)"}
    assert [entry.level for entry in reported(judge(Runtime(docker=Docker())), "well", managed=True)] == [YELLOW]
