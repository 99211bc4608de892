# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A used machine, read from files and outputs, and judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.occupants import (
    Container,
    Holder,
    Survey,
    Surveyor,
    Wanted,
    collect,
    configures,
    connects,
    judge,
    parse_apt_config,
    parse_compute_apps,
    parse_containers,
    parse_dgx_release,
    parse_held,
    passed_over,
    takeover,
    wanted_from,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.packages import is_driver_package
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import GREEN, RED, YELLOW, Finding

ID_SEED, ID_OURS, ID_OTHER = "a" * 64, "b" * 64, "c" * 64
NEED = Wanted(min_available_gib=90)


def inspected(name: str, container: str, **changes: Any) -> dict[str, Any]:
    """Return `docker inspect` of one container; the fields that are read, their form as recorded from Docker 20.10."""
    row: dict[str, Any] = {
        "Id": container,
        "Name": f"/{name}",
        "Path": "/bin/bash",
        "Args": [],
        "State": {"Running": True},
        "Config": {"Image": "nvcr.io/nvidia/vllm:25.11-py3"},
        "HostConfig": {"RestartPolicy": {"Name": "no"}, "DeviceRequests": None, "Devices": None, "Runtime": "runc"},
        "Mounts": [],
    }
    return row | changes


# What run_cluster.sh starts: name, entry point, command, --gpus all and the mount of the cache stand so in vllm-project/vllm 0c37e239,
# examples/online_serving/run_cluster.sh; the image in dataforgex/dgx_spark 7de08505, vllm-qwen3-235b-awq/start-head.sh.
SEED = inspected(
    "node-20817",
    ID_SEED,
    Args=["-c", "ray start --block --head --head --node-ip-address=192.168.100.10 --port=6379"],
    HostConfig={
        "RestartPolicy": {"Name": "no"},
        "DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}],
        "NetworkMode": "host",
    },
    Mounts=[{"Type": "bind", "Source": "/home/anna/.cache/huggingface", "Destination": "/root/.cache/huggingface"}],
)


# --- parsing ------------------------------------------------------------------------------------------------------


def test_the_seeds_container_is_known() -> None:
    (found,) = parse_containers(json.dumps([SEED]))
    assert found == Container(
        "node-20817", "nvcr.io/nvidia/vllm:25.11-py3", True, "no", True, True, ("/home/anna/.cache/huggingface",)
    )


@pytest.mark.parametrize(
    ("row", "seed", "gpu"),
    [
        (inspected("node-exporter", ID_OTHER), False, False),
        (inspected("node-1", ID_OTHER, Args=["-c", "node server.js"]), False, False),
        (inspected("spark-ray-head", ID_OURS, Args=["-c", "ray start --block"]), False, False),
        (inspected("a", ID_OTHER, HostConfig={"Runtime": "nvidia"}), False, True),
        (inspected("a", ID_OTHER, HostConfig={"Devices": [{"PathOnHost": "/dev/nvidia0"}]}), False, True),
        (
            inspected(
                "a", ID_OTHER, HostConfig={"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"]}]}
            ),
            False,
            True,
        ),
        (inspected("a", ID_OTHER, HostConfig=None, Config=None, Mounts=None, Args=None), False, False),
    ],
    ids=["other name", "other command", "ours", "runtime", "device", "cdi", "empty"],
)
def test_containers(row: dict[str, Any], seed: bool, gpu: bool) -> None:
    (found,) = parse_containers(json.dumps([row]))
    assert (found.seed, found.gpu) == (seed, gpu)


@pytest.mark.parametrize(
    ("name", "labels", "ours"),
    [
        ("spark-vllm", None, True),
        ("spark-master", None, False),
        ("later", {"dgx-spark.digest": "1"}, True),
        ("a", {"x": "y"}, False),
    ],
)
def test_ours_are_known_by_label_or_name(name: str, labels: dict[str, str] | None, ours: bool) -> None:
    (found,) = parse_containers(json.dumps([inspected(name, ID_OTHER, Config={"Image": "i", "Labels": labels})]))
    assert found.ours is ours


# Invented: no Docker is known to print these.
ODD: tuple[Any, ...] = (None, "x", 7, True, [], ["x"], [None], [["x"]], [7], {}, {"x": None}, [{}])


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize("key", ["Id", "Name", "Path", "Args", "State", "Config", "HostConfig", "Mounts"])
def test_a_container_of_another_shape(key: str, value: Any) -> None:
    found = parse_containers(json.dumps([inspected("mine", ID_OTHER, **{key: value}), SEED]))
    assert len(found) == 2 and any(entry.seed for entry in found)


@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "key", ["RestartPolicy", "DeviceRequests", "Devices", "Runtime", "Capabilities", "DeviceIDs", "Labels"]
)
def test_settings_of_a_container_of_another_shape(key: str, value: Any) -> None:
    host: dict[str, Any] = {key: value}
    if key in ("Capabilities", "DeviceIDs"):
        host = {"DeviceRequests": [{key: value}]}
    changes = {"Config": {"Labels": value}} if key == "Labels" else {"HostConfig": host}
    (found,) = parse_containers(json.dumps([inspected("mine", ID_OTHER, **changes)]))
    assert (found.name, found.gpu, found.ours) == ("mine", False, False)


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_documents_that_are_no_containers(value: Any) -> None:
    assert [entry.name for entry in parse_containers(json.dumps(value)) if entry.name] == []
    assert [entry.name for entry in parse_containers(json.dumps([value, SEED])) if entry.seed] == ["node-20817"]


def test_figures_of_another_shape() -> None:
    assert parse_held("RssAnon:\t[N/A] kB\nRssShmem:\nRssAnon: ² kB\n") == 0.0
    assert parse_compute_apps("²,5\n7,.\n7,1.2.3\n7,1024\n,\n") == {7: 1.0}


@pytest.mark.parametrize("text", ["", "garbage", "{}", "null"])
def test_no_containers(text: str) -> None:
    assert parse_containers(text) == []


def test_compute_apps_of_a_gb10() -> None:
    # Used memory is given per process there, unlike the GPU's (facts of the field); the last two lines are invented.
    assert parse_compute_apps("1234, 59000\n1300, [N/A]\n1234, 1024\nNo running processes found\n") == {
        1234: pytest.approx(60024 / 1024),
        1300: 0.0,
    }


def test_memory_that_cannot_be_taken_back() -> None:
    # Names and form as on Linux 6.18 (proc(5)); figures invented.
    status = (
        "Name:\tpython3\nVmRSS:\t 9000000 kB\nRssAnon:\t 1048576 kB\nRssFile:\t 5000000 kB\nRssShmem:\t 2097152 kB\n"
    )
    assert parse_held(status) == 3.0
    assert parse_held("Name:\tkthreadd\n") == 0.0


@pytest.mark.parametrize(
    ("text", "version"),
    [
        # Names of the fields, and that updates are appended: NVIDIA/NemoClaw pull request 7108; values invented.
        ('DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\nDGX_SERIAL_NUMBER="1"\n', "7.2.3"),
        ('DGX_SWBUILD_VERSION="7.2.3"\nDGX_OTA_VERSION="7.4.0"\nDGX_OTA_DATE="x"\nDGX_OTA_VERSION="7.5.0"\n', "7.5.0"),
        ("", ""),
    ],
)
def test_the_version_of_dgx_os(text: str, version: str) -> None:
    assert parse_dgx_release(text) == version


# Invented; the form of `apt-config dump`, lists with :: at the end, is that of apt 2.6.
APT = """APT::Periodic "";
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Package-Blacklist "";
Unattended-Upgrade::Package-Blacklist:: "nvidia-";
Unattended-Upgrade::Package-Blacklist:: "libnvidia-(";
"""


def test_unattended_upgrades() -> None:
    assert parse_apt_config(APT) == (True, ["nvidia-", "libnvidia-("])
    assert parse_apt_config(APT.replace('Upgrade "1"', 'Upgrade "0"'))[0] is False
    assert parse_apt_config("") == (False, [])
    assert passed_over("nvidia-driver-580-open", ["libnvidia-(", "nvidia-"])
    assert not passed_over("libnvidia-compute-580", ["libnvidia-(", "nvidia-"])


# /etc/netplan/40-cx7.yaml as NVIDIA's guide writes it for two stacked Sparks: both twins, different subnets (facts of the field,
# NVIDIA/dgx-spark-playbooks 0db7c14); indentation and quotes invented.
NETPLAN = """network:
  version: 2
  ethernets:
    enp1s0f1np1:   # first twin
      dhcp4: no
      addresses: [192.168.100.10/24]
    "enP2p1s0f1np1":
      addresses: [192.168.101.10/24]
"""


@pytest.mark.parametrize(
    ("text", "name", "known"),
    [
        (NETPLAN, "enp1s0f1np1", True),
        (NETPLAN, "enP2p1s0f1np1", True),
        (NETPLAN, "enp1s0f0np0", False),
        ("network:\n  ethernets:\n    # enp1s0f0np0:\n    a: {}\n", "enp1s0f0np0", False),
        ("network:\n  ethernets:\n    qsfp:\n      match: \n        name: enp1s0f*\n", "enp1s0f1np1", True),
        ("network:\n  ethernets:\n    qsfp:\n      set-name: enp1s0f1np1\n", "enp1s0f1np1", True),
        ("network:\n  ethernets:\n    enp1s0f1np11:\n      x: 1\n", "enp1s0f1np1", False),
        ("", "enp1s0f1np1", False),
    ],
)
def test_netplan_files(text: str, name: str, known: bool) -> None:
    assert configures(text, name) is known


def test_profiles_of_networkmanager() -> None:
    assert connects("[connection]\nid=cx7\ninterface-name=enp1s0f1np1\n", "enp1s0f1np1")
    assert not connects("[connection]\ninterface-name=enp1s0f1np11\n", "enp1s0f1np1")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("[match]\ninterface-name=enp1s0f*;", True),
        ("[match]\ninterface-name=en*;!enp1s0f1np1;", False),
        ("[match]\ninterface-name=!enp1s0f1np1", False),
        ("[match]\ninterface-name=!wl*", True),
        ("[match]\ninterface-name=|enp1s0f1np1;|eth0", True),
        ("autoconnect=false\ninterface-name=enp1s0f1np1", False),
        ("[ethernet]\nmac-address-denylist=3C:6D:66:CC:B3:B7;", False),
        ("[ethernet]\nmac-address-blacklist=3C:6D:66:00:00:00;", True),
    ],
)
def test_profiles_that_leave_a_port_out(lines: str, expected: bool) -> None:
    text = f"[connection]\nid=mine\ntype=ethernet\n{lines}\n"
    assert connects(text, "enp1s0f1np1", "3c:6d:66:cc:b3:b7") is expected


# --- collecting ---------------------------------------------------------------------------------------------------


class Used:
    """A machine that somebody used before: files below a folder, answers of commands by their first words."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[tuple[str, ...], tuple[int, str]] = {
            ("docker", "version"): (0, json.dumps({"Client": {"Version": "29.2.1"}, "Server": {"Version": "29.2.1"}})),
            ("docker", "ps"): (0, f"{ID_SEED}\n{ID_OURS}\n"),
            ("docker", "inspect"): (0, json.dumps([SEED, inspected("spark-vllm", ID_OURS)])),
            ("nvidia-smi",): (0, "200, 59392\n300, 512\n"),
            ("nvidia-ctk",): (0, "NVIDIA Container Toolkit CLI version 1.19.0\ncommit: 0\n"),
            ("uname",): (0, "aarch64\n"),
            ("apt-config",): (0, 'APT::Periodic::Unattended-Upgrade "1";\n'),
            ("apt-mark",): (0, "libnvidia-compute-580\n"),
            ("dpkg-query",): (
                0,
                "ii  nvidia-driver-580-open\nhi  libnvidia-compute-580\nrc  nvidia-dkms-570\nii  bash\n"
                "ii  linux-image-6.17.0-1014-nvidia\n",
            ),
        }
        # MemTotal of a GB10 as quoted in the field; the rest invented.
        self.write("proc/meminfo", "MemTotal: 127600748 kB\nMemAvailable: 62914560 kB\n")
        self.write("etc/os-release", 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nID=ubuntu\n')
        self.write("etc/dgx-release", 'DGX_SWBUILD_VERSION="7.2.3"\nDGX_OTA_VERSION="7.5.0"\n')
        self.write("proc/sys/kernel/osrelease", "6.17.0-1014-nvidia\n")
        self.write("sys/module/nvidia/version", "580.159.03\n")
        self.write("sys/class/dmi/id/bios_version", "5.36_0ACUM018\n")
        self.write("sys/class/infiniband/rocep1s0f1/fw_ver", "28.45.4028\n")
        self.write("sys/class/infiniband/roceP2p1s0f1/fw_ver", "28.45.4028\n")
        self.write("usr/lib/aarch64-linux-gnu/libnvidia-ml.so.1", "")
        self.write("usr/lib/aarch64-linux-gnu/libnvidia-ml.so.580.173.02", "")
        self.write("usr/bin/unattended-upgrade", "")
        self.write("run/reboot-required.pkgs", "linux-base\nlinux-base\n")
        self.write("run/reboot-required", "")
        self.write("etc/netplan/40-cx7.yaml", NETPLAN)
        self.write("etc/netplan/90-nm.yaml", "network:\n  ethernets:\n    enp1s0f1np1:\n      mtu: 9000\n")
        for name in ("lo", "enP7s7", "enp1s0f1np1", "enP2p1s0f1np1", "enp1s0f0np0"):
            self.write(f"sys/class/net/{name}/mtu", "1500")
        self.write(
            "etc/exports", "# weights\n/home/anna/.cache/huggingface 192.168.100.11(rw,no_root_squash)\n/data *(ro)\n"
        )
        self.write(
            "proc/self/mountinfo",
            "30 1 0:40 / /home/anna/.cache/huggingface rw - nfs4 192.168.100.10:/home/anna/.cache/huggingface rw\n"
            "31 1 259:2 / / rw - ext4 /dev/nvme0n1p2 rw\n",
        )
        self.process(1, "systemd", 0.01, "0::/init.scope")
        self.process(200, "ray::RayWorkerW", 1.5, f"0::/system.slice/docker-{ID_SEED}.scope")
        self.process(300, "ollama", 0.2, "0::/system.slice/ollama.service")
        self.process(400, "jupyter", 2.5, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/jupyter.service")
        self.process(500, "raylet", 0.01, "0::/user.slice/user-1000.slice/session-3.scope")
        self.process(600, "python3", 3.0, f"0::/system.slice/docker-{ID_OURS}.scope")

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def process(self, pid: int, name: str, gib: float, cgroup: str) -> None:
        self.write(f"proc/{pid}/status", f"Name:\t{name}\nRssAnon:\t{int(gib * 1024 * 1024)} kB\nRssShmem:\t0 kB\n")
        self.write(f"proc/{pid}/comm", f"{name}\n")
        self.write(f"proc/{pid}/cgroup", f"{cgroup}\n")

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        argv = [Path(argv[0]).name, *argv[1:]]
        for length in (2, 1):
            if tuple(argv[:length]) in self.answers:
                status, out = self.answers[tuple(argv[:length])]
                return status, out, ""
        return 127, "", f"{argv[0]}: not found"

    def survey(self, wanted: Wanted = NEED) -> Survey:
        surveyor = Surveyor(self.run, self.root)
        surveyor.now = lambda: 1_790_000_000.4
        return collect(surveyor, wanted)


@pytest.fixture
def used(tmp_path: Path) -> Used:
    return Used(tmp_path)


def test_a_used_machine_is_read(used: Used) -> None:
    survey = used.survey()
    assert survey.identity == {
        "architecture": "aarch64",
        "os": "Ubuntu 24.04.3 LTS",
        "dgx_os": "7.5.0",
        "kernel": "6.17.0-1014-nvidia",
        "firmware": "5.36_0ACUM018",
        "nic_firmware": "28.45.4028",
        "driver": "580.159.03",
        "toolkit": "1.19.0",
        "docker": "29.2.1",
        "product": "",
        "time": "1790000000",
    }
    assert (survey.memory_total_gib, survey.memory_available_gib) == (121.69, 60.0)
    assert [(holder.kind, holder.name, holder.gib) for holder in survey.holders] == [
        ("container", "node-20817", 59.5),
        ("container", "spark-vllm", 3.0),
        ("session", "jupyter-400", 2.5),
        ("unit", "ollama.service", 0.7),
    ]
    assert survey.loose == ("raylet (pid 500)",)
    assert survey.hf_exports == survey.open_exports == ("/home/anna/.cache/huggingface",)
    assert survey.hf_mounts == ("/home/anna/.cache/huggingface from 192.168.100.10:/home/anna/.cache/huggingface",)
    assert survey.ports == {
        "enP2p1s0f1np1": ("/etc/netplan/40-cx7.yaml",),
        "enp1s0f0np0": (),
        "enp1s0f1np1": ("/etc/netplan/40-cx7.yaml", "/etc/netplan/90-nm.yaml"),
    }
    assert survey.libraries == ("580.173.02",)
    assert survey.reboot_for == ("linux-base",)
    assert survey.driver_packages == ("linux-image-6.17.0-1014-nvidia", "nvidia-driver-580-open")
    assert json.loads(json.dumps(survey.as_facts()))["containers"][0]["seed"] is True


def test_a_used_machine_is_judged(used: Used) -> None:
    used.answers["docker", "inspect"] = (0, json.dumps([SEED]))
    rows = judge(used.survey(), NEED)
    told = {(row.check, row.level): row for row in rows}
    assert told["containers", RED].commands == ("docker update --restart=no node-20817", "docker stop node-20817")
    memory = told["memory", RED]
    assert "60.0 of 121.7 GiB are available, 90 GiB are needed" in memory.found
    assert "container node-20817 (59.5 GiB, 58.0 of it on the GPU)" in memory.found
    assert "docker stop node-20817" in memory.commands
    assert "sudo kill 400" in memory.commands
    assert "580.159.03, the libraries on disk are of 580.173.02" in told["driver", RED].found
    assert {row.check for row in rows if row.level == YELLOW} == {"containers", "shares", "network files", "updates"}
    assert [row.level for row in rows if row.check == "network files"] == [YELLOW, YELLOW, GREEN]
    assert takeover(used.survey(), NEED) == {"containers": ["node-20817"], "units": ["ollama.service"]}


def test_an_empty_machine_is_green(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    survey = collect(Surveyor(lambda _argv: (127, "", ""), tmp_path), Wanted())
    assert {row.level for row in judge(survey, Wanted())} == {GREEN}


def test_ray_in_another_engines_container_is_not_loose(used: Used) -> None:
    used.process(700, "raylet", 0.01, f"0::/machine.slice/libpod-{ID_OTHER}.scope")
    assert used.survey().loose == ("raylet (pid 500)",)


def test_docker_that_does_not_answer_is_no_crash(used: Used) -> None:
    used.answers["docker", "inspect"] = (1, "")
    survey = used.survey()
    assert survey.containers == []
    assert [holder.kind for holder in survey.holders] == ["session", "session", "session", "unit"]


# --- judging ------------------------------------------------------------------------------------------------------

OURS = [
    Container("spark-ray-head", "i", True, gpu=True, ours=True),
    Container("spark-vllm", "i", True, gpu=True, ours=True),
]
OUR_RANK = Holder("container", "spark-ray-head", 3.0, 88.0, ("ray::RayWorkerW",), (7,), True)
OLLAMA = Holder("unit", "ollama.service", 1.0, 20.0, ("ollama",), (8,))
CLEAN = Survey(memory_total_gib=121.69, memory_available_gib=113.0)


def rows(survey: Survey, check: str, wanted: Wanted = NEED) -> list[Finding]:
    return [row for row in judge(survey, wanted) if row.check == check]


def test_a_serving_node_is_green() -> None:
    survey = replace(CLEAN, memory_available_gib=20.0, containers=OURS, holders=[OUR_RANK])
    found = judge(survey, NEED)
    assert {row.level for row in found} == {GREEN}
    assert "our own spark-ray-head, spark-vllm hold 91.0 GiB" in found[1].found
    assert takeover(survey, NEED) == {"containers": [], "units": []}


def test_a_serving_node_is_green_where_the_gpus_memory_is_not_told() -> None:
    survey = replace(CLEAN, memory_available_gib=20.0, containers=OURS)
    assert {row.level for row in judge(survey, NEED)} == {GREEN}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, GREEN, "113.0 of 121.7 GiB are available (90 GiB are needed for a start)"),
        ({"memory_available_gib": 60.0, "holders": [OLLAMA]}, RED, "held by ollama.service (21.0 GiB, 20.0 of it on the GPU)"),
        ({"memory_available_gib": 60.0}, RED, "no program is seen that holds the rest"),
        ({"memory_available_gib": 15.0, "containers": OURS, "holders": [OLLAMA]}, YELLOW, "a restart would not get its 90 GiB"),
        ({"memory_available_gib": 5.0, "containers": OURS, "holders": [OUR_RANK]}, YELLOW, "freeze under load below about 6"),
    ],
    ids=["free", "held", "lost", "ours and theirs", "no headroom"],
)  # fmt: skip
def test_memory(changes: dict[str, Any], level: str, words: str) -> None:
    (row,) = rows(replace(CLEAN, **changes), "memory")
    assert row.level == level
    assert words in row.found


def test_memory_of_others_is_taken_only_where_it_is_short() -> None:
    database = Holder("container", "postgres", 4.0, 0.0, ("postgres",), (9,))
    survey = replace(CLEAN, containers=[Container("postgres", "i", True)], holders=[database, OLLAMA])
    assert takeover(survey, NEED) == {"containers": [], "units": ["ollama.service"]}
    assert takeover(replace(survey, memory_available_gib=60.0), NEED) == {
        "containers": ["postgres"],
        "units": ["ollama.service"],
    }
    assert takeover(replace(survey, memory_available_gib=60.0), Wanted()) == {
        "containers": [],
        "units": ["ollama.service"],
    }


def test_what_must_not_be_stopped_gets_no_command() -> None:
    for name in ("docker.service", "containerd.service", "ssh.service", "systemd-journald.service", "dbus.service"):
        assert Holder("unit", name, 40.0, 0.0, ("x",), (1,)).commands() == ()
    (row,) = rows(
        replace(
            CLEAN, memory_available_gib=60.0, holders=[Holder("unit", "docker.service", 40.0, 0.0, ("dockerd",), (1,))]
        ),
        "memory",
    )
    assert (row.level, row.commands) == (RED, ())


def test_the_gpu_of_a_desktop() -> None:
    survey = replace(CLEAN, holders=[Holder("session", "Xorg-9", 0.1, 0.2, ("Xorg",), (9,)), OLLAMA])
    (row,) = rows(survey, "GPU in use")
    assert "Xorg (pid 9)" in row.found
    assert row.commands == ("sudo systemctl disable --now ollama.service",)


@pytest.mark.parametrize(
    ("container", "level", "words"),
    [
        (Container("node-7", "i", True, gpu=True, seed=True), RED, "container node-7 of run_cluster.sh"),
        (Container("node-7", "i", False, gpu=True, seed=True), YELLOW, "left over"),
        (Container("comfy", "i", True, gpu=True), YELLOW, "runs and has the GPU"),
        (Container("comfy", "i", True, "unless-stopped", gpu=True), YELLOW, "comes back at every boot"),
        (Container("comfy", "i", False, "always", gpu=True), YELLOW, "starts with Docker"),
        (Container("comfy", "i", False, gpu=True), GREEN, "no container of others"),
        (Container("web", "i", True), GREEN, "no container of others"),
    ],
)
def test_containers_are_judged(container: Container, level: str, words: str) -> None:
    (row,) = rows(replace(CLEAN, containers=[container]), "containers")
    assert row.level == level
    assert words in row.found


@pytest.mark.parametrize(
    ("files", "level", "words"),
    [
        ((), GREEN, "enp1s0f1np1 (no file)"),
        (("/etc/netplan/60-ours.yaml",), GREEN, "enp1s0f1np1 (/etc/netplan/60-ours.yaml)"),
        (("/etc/netplan/40-cx7.yaml",), YELLOW, "which is not ours"),
        (("/etc/netplan/40-cx7.yaml", "/etc/netplan/60-ours.yaml"), YELLOW, "the addresses of both together"),
    ],
)
def test_network_files(files: tuple[str, ...], level: str, words: str) -> None:
    wanted = Wanted(netplan_files=("/etc/netplan/60-ours.yaml",))
    (row,) = rows(replace(CLEAN, ports={"enp1s0f1np1": files}), "network files", wanted)
    assert row.level == level
    assert words in row.found


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, {}),
        ({"identity": {"driver": "580.1"}, "libraries": ("580.1",)}, {"driver": GREEN}),
        ({"identity": {"driver": "580.1"}}, {"driver": GREEN}),
        ({"identity": {"driver": "580.1"}, "libraries": ("580.2",)}, {"driver": RED}),
        ({"identity": {"kernel": "6.17.0-1008-nvidia"}}, {"kernel": YELLOW}),
    ],
)
def test_the_driver_and_the_kernel(changes: dict[str, Any], levels: dict[str, str]) -> None:
    found = {
        row.check: row.level for row in judge(replace(CLEAN, **changes), NEED) if row.check in {"driver", "kernel"}
    }
    assert found == levels


@pytest.mark.parametrize(
    ("changes", "levels"),
    [
        ({}, [GREEN]),
        ({"upgrades": True}, [GREEN]),
        ({"upgrades": True, "driver_packages": ("nvidia-driver-580-open",)}, [YELLOW]),
        ({"reboot_for": ()}, [YELLOW]),
        (
            {"reboot_for": ("linux-base",), "upgrades": True, "driver_packages": ("a", "b", "c", "d", "e")},
            [YELLOW, YELLOW],
        ),
    ],
)
def test_updates(changes: dict[str, Any], levels: list[str]) -> None:
    assert [row.level for row in rows(replace(CLEAN, **changes), "updates")] == levels


# --- what Sparks have by default, and what owners ran into ---------------------------------------------------------

CASES = Path(__file__).parents[4] / "field_cases" / "gb10"


def test_packages_of_driver_and_kernel_as_on_owners_machines(used: Used) -> None:
    lines = (CASES / "packages_driver_unheld.txt").read_text().splitlines()
    names = [line for line in lines if not line.startswith("#")]
    others = [
        "bash",
        "libnvidia-container1",
        "nvidia-container-toolkit",
        "linux-image-generic",
        "linux-base",
        "nvidia-ai-workbench",
    ]
    used.answers[("dpkg-query",)] = (0, "".join(f"ii  {name}\n" for name in [*names, *others]))
    used.answers[("apt-mark",)] = (0, "")
    assert used.survey().driver_packages == tuple(sorted(names))
    more = [
        "linux-modules-extra-6.17.0-1029-nvidia",
        "linux-nvidia-64k-hwe-24.04",
        "libnvidia-compute-580",
        "nvidia-spark-grub-kho",
    ]
    assert all(map(is_driver_package, more))


def test_swap_is_on_by_default_and_told_where_it_is_used(used: Used) -> None:
    used.write("proc/meminfo", (CASES / "meminfo_121.txt").read_text())
    survey = used.survey()
    assert (survey.memory_total_gib, survey.memory_available_gib, survey.swap_total_gib) == (121.69, 113.07, 16.0)
    assert [row.level for row in rows(survey, "swap")] == [GREEN]
    used.write("proc/meminfo", "MemTotal: 127600748 kB\nSwapTotal: 16777212 kB\nSwapFree: 12582908 kB\n")
    (row,) = rows(used.survey(), "swap")
    assert (row.level, row.code) == (YELLOW, "node.swapped")
    assert row.found.startswith("4.0 of 16.0 GiB of swap are in use")
    assert rows(CLEAN, "swap") == []


def test_an_update_that_was_cut_off(used: Used) -> None:
    used.answers[("dpkg-query",)] = (
        0,
        "ii  bash\niF  dgx-release\niU  nvidia-driver-580-open\niHR linux-firmware\nit  man-db\nrc  old\nun  never\n",
    )
    survey = used.survey()
    assert survey.unfinished == ("nvidia-driver-580-open", "dgx-release", "linux-firmware", "man-db")
    row = next(row for row in rows(survey, "updates") if row.code == "node.update_torn")
    assert row.level == YELLOW and "The driver may be gone after the next boot" in row.found
    assert row.commands[0] == "sudo dpkg --configure -a"
    assert "driver" not in rows(replace(CLEAN, unfinished=("man-db",)), "updates")[0].found


def test_what_nvidia_sync_put_aside(used: Used) -> None:
    used.write("etc/netplan/99-zz-dgx-spark-fabric.yaml.sync-disabled-20260605", NETPLAN)
    used.write("etc/netplan/99-nvidia-sync-cluster.yaml", NETPLAN)
    wanted = Wanted(netplan_files=("/etc/netplan/99-zz-dgx-spark-fabric.yaml",))
    found = [row for row in judge(used.survey(wanted), wanted) if row.code == "node.netplan_put_aside"]
    assert [row.found for row in found] == [
        "NVIDIA Sync put our /etc/netplan/99-zz-dgx-spark-fabric.yaml aside as 99-zz-dgx-spark-fabric.yaml.sync-disabled-20260605, "
        "and what it said no longer holds"
    ]
    # It is no netplan file any more.
    assert not any(".sync-disabled" in path for files in used.survey(wanted).ports.values() for path in files)


def test_profiles_that_networkmanager_makes_by_itself(used: Used) -> None:
    for path in used.root.glob("etc/netplan/*"):
        path.unlink()
    made = "[connection]\nid=Wired connection {0}\ntype=ethernet\ninterface-name={1}\n\n[ipv4]\nmethod=auto\n"
    ports = ("enp1s0f1np1", "enP2p1s0f1np1", "enp1s0f0np0")
    for number, name in enumerate(ports, 2):
        used.write(
            f"run/NetworkManager/system-connections/Wired connection {number}.nmconnection", made.format(number, name)
        )
    (row,) = rows(used.survey(), "network files")
    assert row.level == GREEN
    assert "enp1s0f1np1 (only NetworkManager's own 'Wired connection 2')" in row.found
    # A profile that somebody kept is one that holds, by name, by address, or for any port.
    for kept in ("interface-name=enp1s0f1np1;", "mac-address=3C:6D:66:CC:B3:B7", "type=ethernet"):
        used.write("etc/NetworkManager/system-connections/mine.nmconnection", f"[connection]\nid=mine\n{kept}\n")
        used.write("sys/class/net/enp1s0f1np1/address", "3c:6d:66:cc:b3:b7\n")
        found = [row for row in rows(used.survey(), "network files") if row.level == YELLOW]
        assert any(row.found.startswith("enp1s0f1np1 is configured by /etc/NetworkManager") for row in found), kept
    assert not connects("[connection]\ntype=wifi\n", "enp1s0f1np1")
    assert not connects(
        "[connection]\ntype=ethernet\nmac-address=00:00:00:00:00:01\n", "enp1s0f1np1", "3c:6d:66:cc:b3:b7"
    )


@pytest.mark.parametrize(
    ("kernel", "command_line", "codes"),
    [
        ("6.17.0-1014-nvidia", "ro quiet", []),
        ("6.17.0-1021-nvidia", "ro quiet", ["node.reported_kernel"]),
        ("7.0.0-1019-nvidia", "ro quiet", ["node.kernel_handover"]),
        ("7.0.0-1019-nvidia-64k", "ro quiet", ["node.kernel_handover"]),
        ("7.0.0-1019-nvidia", "ro kho=off quiet", []),
    ],
)
def test_kernels_that_owners_name(used: Used, kernel: str, command_line: str, codes: list[str]) -> None:
    used.write("proc/cmdline", f"{command_line}\n")
    used.write("proc/sys/kernel/osrelease", f"{kernel}\n")
    found = rows(used.survey(), "kernel")
    assert [(row.level, row.code) for row in found] == [(YELLOW, code) for code in codes]


@pytest.mark.parametrize(("said", "expected"), [("no\n", [YELLOW]), ("yes\n", [GREEN]), ("", [])])
def test_the_clock(used: Used, said: str, expected: list[str]) -> None:
    used.answers[("timedatectl",)] = (0, said)
    assert [row.level for row in rows(used.survey(), "clock")] == expected


def test_every_command_names_a_quoted_thing() -> None:
    survey = replace(
        CLEAN,
        containers=[Container("a b;rm", "i", True, gpu=True)],
        hf_mounts=("/home/x y/.cache/huggingface from h:/x",),
    )
    commands = [command for row in judge(survey, NEED) for command in row.commands]
    assert "docker stop 'a b;rm'" in commands
    assert "sudo umount '/home/x y/.cache/huggingface'" in commands


# --- input --------------------------------------------------------------------------------------------------------


def test_wanted() -> None:
    assert wanted_from({}) == Wanted()
    assert wanted_from({"min_available_gib": 90, "netplan_files": ["/a"], "interfaces": ["eth0"]}) == Wanted(
        90.0, ("/a",), ("eth0",)
    )


@pytest.mark.parametrize(
    ("params", "words"),
    [({"min_available_gib": -1}, "min_available_gib -1 is negative"), ({"netplan_files": ["a.yaml"]}, "absolute path")],
)
def test_wanted_that_is_unusable(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wanted_from(params)


def test_other_interfaces_are_looked_at_when_named(used: Used) -> None:
    ask: Callable[..., Survey] = used.survey
    assert set(ask(Wanted(interfaces=("enP7s7", "not-here"))).ports) >= {"enP7s7"}
    assert "not-here" not in ask(Wanted(interfaces=("enP7s7", "not-here"))).ports
