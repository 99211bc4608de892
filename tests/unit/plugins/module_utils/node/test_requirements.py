# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Reading a machine from fixture text, and judging it in tables."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import requirements as node_preflight
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.requirements import (
    START_RECORD,
    CollectError,
    FileSystem,
    Interface,
    Listener,
    Machine,
    Node,
    PathNeed,
    PortNeed,
    Requirements,
    collect,
    interface_with,
    judge,
    nfs_modules,
    on_this_machine,
    parse_cgroup,
    parse_ip_addresses,
    parse_meminfo,
    parse_memory_use,
    parse_os_release,
    parse_proc_net_tcp,
    parse_start_record,
    requirements_from,
    tree_size,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import sentences

ID_A, ID_B = "a" * 64, "b1" * 32

# Format of Ubuntu 24.04; the DGX OS line is invented.
OS_RELEASE = """
PRETTY_NAME="NVIDIA DGX OS 7.2 \\"Spark\\""
# a comment
ID=ubuntu
ID_LIKE=debian
VERSION_ID='24.04'
"""

# Recorded from iproute2 6.1 (fields that are not read left out).
IP_JSON = json.dumps(
    [
        {
            "ifname": "lo",
            "operstate": "UNKNOWN",
            "mtu": 65536,
            "address": "00:00:00:00:00:00",
            "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}],
        },
        {},
        {
            "ifname": "enp1s0f1np1",
            "operstate": "UP",
            "mtu": 9000,
            "address": "02:42:c0:a8:64:0a",
            "addr_info": [
                {"family": "inet", "local": "192.168.100.10", "prefixlen": 24},
                {"family": "inet6", "local": "fe80::42:c0ff:fea8:640a", "prefixlen": 64},
            ],
        },
    ]
)

# Recorded layout; 0x1F90 is 8080 on all addresses, 0x202B is 8235 on 192.168.100.10, the last line is no listener.
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0000000000000000 100
   1: 0A64A8C0:202B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1002 1 0000000000000000 100
   2: 0A64A8C0:202B 0B64A8C0:D431 01 00000000:00000000 00:00000000 00000000     0        0 1003 1 0000000000000000 100
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue tr inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 1004 1
   1: 0000000000000000FFFF00000A64A8C0:202B 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 1005 1
"""


def test_os_release() -> None:
    found = parse_os_release(OS_RELEASE)
    assert found == {
        "PRETTY_NAME": 'NVIDIA DGX OS 7.2 "Spark"',
        "ID": "ubuntu",
        "ID_LIKE": "debian",
        "VERSION_ID": "24.04",
    }


def test_meminfo() -> None:
    # MemTotal as reported from a Spark.
    assert parse_meminfo("MemTotal:       127600748 kB\nMemFree: 1 kB\nMemAvailable:   104857600 kB\n") == (
        121.69,
        100.0,
    )
    assert parse_meminfo("") == (0.0, 0.0)


def test_interfaces() -> None:
    found = parse_ip_addresses(IP_JSON)
    assert [entry.name for entry in found] == ["lo", "enp1s0f1np1"]
    assert (found[1].state, found[1].mtu) == ("UP", 9000)
    assert found[1].addresses == ("192.168.100.10/24", "fe80::42:c0ff:fea8:640a/64")
    assert interface_with(found, "192.168.100.10") == "enp1s0f1np1"
    assert interface_with(found, "FE80:0:0:0:42:c0ff:fea8:640a") == "enp1s0f1np1"
    assert interface_with(found, "192.168.100.1") is None


@pytest.mark.parametrize("text", ["", 'Object "-json" is unknown', "7", '[{"x": 1}]'])
def test_unreadable_interfaces(text: str) -> None:
    with pytest.raises(CollectError, match="install iproute2"):
        parse_ip_addresses(text)


def test_listening_sockets() -> None:
    assert parse_proc_net_tcp(TCP) == [("0.0.0.0", 8080, 1001), ("192.168.100.10", 8235, 1002)]
    assert parse_proc_net_tcp(TCP6) == [("::", 8080, 1004), ("192.168.100.10", 8235, 1005)]
    assert parse_proc_net_tcp("") == []


@pytest.mark.parametrize(
    ("text", "unit", "container"),
    [
        ("0::/system.slice/ssh.service\n", "ssh.service", ""),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", "", ""),
        ("0::/init.scope\n", "", ""),
        (f"0::/system.slice/docker-{ID_A}.scope\n", "", ID_A),
        (f"0::/docker/{ID_A}\n", "", ID_A),
        (f"0::/../{ID_A}/x\n", "", ID_A),
        # cgroup v1 and hybrid: many controllers, all of the same process.
        (f"12:pids:/docker/{ID_A}\n1:name=systemd:/docker/{ID_A}\n0::/\n", "", ID_A),
        ("12:pids:/system.slice/ssh.service\n1:name=systemd:/system.slice/ssh.service\n0::/\n", "ssh.service", ""),
        # A node that is a container itself: its own services, and a container inside it.
        (f"1:name=systemd:/docker/{ID_A}/system.slice/ssh.service\n0::/\n", "ssh.service", ""),
        (f"1:name=systemd:/docker/{ID_A}/docker/{ID_B}\n0::/\n", "", ID_B),
        (f"1:name=systemd:/docker/{ID_A}/init.scope\n", "", ID_A),
        # A container below a unit (--cgroup-parent), and a unit of a user.
        (f"0::/system.slice/spark-vllm.service/docker-{ID_A}.scope\n", "", ID_A),
        (f"0::/docker/{ID_A}/system.slice/spark-vllm.service/docker-{ID_B}.scope\n", "", ID_B),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/web.service\n", "web.service", ""),
        ("", "", ""),
        ("nonsense\n", "", ""),
    ],
)
def test_owner_in_cgroup(text: str, unit: str, container: str) -> None:
    assert parse_cgroup(text) == (unit, container)


# --- a machine of files --------------------------------------------------------------------------------------


class Fake:
    """A machine below a folder, with commands that answer from a table; unknown commands are missing."""

    def __init__(self, root: Path, commands: dict[str, tuple[int, str]] | None = None) -> None:
        self.root = root
        self.commands = {"ip -json": (0, IP_JSON)} | (commands or {})
        self.ran: list[list[str]] = []
        (root / "proc/net").mkdir(parents=True)
        (root / "proc/1").mkdir()
        (root / "proc/1/comm").write_text("systemd\n")
        (root / "proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
        (root / "proc/sys/kernel/random").mkdir(parents=True)
        (root / "proc/sys/kernel/random/boot_id").write_text("3c1a\n")
        (root / "etc").mkdir()
        (root / "etc/os-release").write_text(OS_RELEASE)
        self.machine = Machine(self.run, root)

    def run(self, argv: Sequence[str]) -> tuple[int, str, str]:
        argv = [Path(argv[0]).name, *argv[1:]]
        self.ran.append(argv)
        for start, (status, out) in self.commands.items():
            if " ".join(argv).startswith(start):
                return status, out, "" if status == 0 else "some error"
        return 127, "", "not found"

    def process(self, pid: int, name: str, inode: int, cgroup: str) -> None:
        folder = self.root / f"proc/{pid}"
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(name + "\n")
        (folder / "cgroup").write_text(cgroup)
        (folder / "fd/0").symlink_to("/dev/null")
        (folder / "fd/7").symlink_to(f"socket:[{inode}]")


def test_what_memory_is_used_for() -> None:
    text = "MemTotal: 127600748 kB\nCached: 8388608 kB\nSwapTotal: 16777216 kB\nSwapFree: 14680064 kB\nHugePages_Total: 0\n"
    assert parse_memory_use(text) == (8.0, 16.0, 2.0)
    assert parse_memory_use("Cached: nonsense kB\n") == (0.0, 0.0, 0.0)


def test_the_record_of_a_start_and_who_serves(fake: Fake) -> None:
    assert (collect(fake.machine, Requirements()).serving, collect(fake.machine, Requirements()).vllm_start) == (
        False,
        {},
    )
    units = fake.root / "run/systemd/units"
    units.mkdir(parents=True)
    # systemd's links point to an invocation, not to a file.
    (units / "invocation:spark-ray-worker.service").symlink_to("0123abcd")
    record = fake.root / START_RECORD.lstrip("/")
    record.parent.mkdir(parents=True)
    record.write_text('{"model": "m", "kv_cache_gib": 25.0}')
    node = collect(fake.machine, Requirements())
    assert (node.serving, node.vllm_start) == (True, {"model": "m", "kv_cache_gib": 25.0})
    assert (parse_start_record("{"), parse_start_record("[1]")) == ({}, {})


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    return Fake(tmp_path)


def test_collect(fake: Fake) -> None:
    fake.commands["docker version"] = (0, '{"Client":{"Version":"29.1.0"},"Server":{"Version":"29.0.1"}}\n')
    node = collect(fake.machine, Requirements(fabric_address="192.168.100.10", paths=(PathNeed("/srv/models", 0.0),)))
    assert (node.distribution, node.distribution_like) == ("ubuntu", ("debian",))
    assert (node.memory_total_gib, node.memory_available_gib) == (16.0, 8.0)
    assert (node.init, node.boot_id) == ("systemd", "3c1a")
    assert node.fabric_interface == "enp1s0f1np1"
    assert (node.docker_client, node.docker_server) == ("29.1.0", "29.0.1")
    assert node.file_systems[0].existing == str(fake.root)
    assert node.listeners == []
    facts = node.as_facts()
    assert facts["python"].startswith("3.")
    assert json.dumps(facts)


def test_collect_without_iproute2(fake: Fake) -> None:
    fake.commands.clear()
    with pytest.raises(CollectError, match=r"cannot be read .*install iproute2"):
        collect(fake.machine, Requirements())


@pytest.mark.parametrize(
    ("answer", "versions"),
    [
        ((0, '{"Client":{"Version":"20.10.24"},"Server":{"Version":"20.10.24"}}'), ("20.10.24", "20.10.24")),
        # The daemon is down: status 1, the client's part still comes (Docker 20.10), or nothing does.
        ((1, '{"Client":{"Version":"20.10.24"},"Server":null}\n'), ("20.10.24", None)),
        ((1, ""), ("unknown", None)),
        ((0, "garbage"), ("unknown", None)),
        ((127, ""), (None, None)),
    ],
)
def test_docker_versions(fake: Fake, answer: tuple[int, str], versions: tuple[str | None, str | None]) -> None:
    fake.commands["docker version"] = answer
    assert fake.machine.docker() == versions


@pytest.mark.parametrize(
    ("info", "daemon_json", "store"),
    [
        ((0, '/data/docker [["Backing Filesystem","extfs"]]\n'), "", "/data/docker"),
        # Docker 29 keeps images with containerd.
        ((0, '/var/lib/docker [["driver-type","io.containerd.snapshotter.v1"]]\n'), "", "/var/lib/containerd"),
        # Not installed, or not running, yet.
        ((127, ""), '{"data-root": "/data/docker"}', "/data/docker"),
        ((1, ""), "{broken", "/var/lib/docker"),
        ((127, ""), "", "/var/lib/docker"),
    ],
)
def test_the_folder_where_docker_keeps_images(fake: Fake, info: tuple[int, str], daemon_json: str, store: str) -> None:
    fake.commands["docker info"] = info
    (fake.root / "etc/docker").mkdir(parents=True)
    (fake.root / "etc/docker/daemon.json").write_text(daemon_json)
    wanted = requirements_from({"paths": [{"path": "docker", "need_gib": 30}, {"path": "/srv/models", "need_gib": 1}]})
    assert on_this_machine(wanted, fake.machine).paths == (PathNeed(store, 30), PathNeed("/srv/models", 1))


def test_owners_of_ports(fake: Fake) -> None:
    (fake.root / "proc/net/tcp").write_text(TCP)
    (fake.root / "proc/net/tcp6").write_text(TCP6)
    fake.process(300, "python3", 1002, f"0::/system.slice/docker-{ID_A}.scope\n")
    fake.process(301, "raylet", 1005, f"0::/system.slice/docker-{ID_A}.scope\n")
    fake.process(40, "nginx", 1001, "0::/system.slice/nginx.service\n")
    fake.process(41, "nginx", 1001, "0::/system.slice/nginx.service\n")
    fake.commands["docker inspect"] = (1, f"{ID_A} /spark-vllm\n")
    found = fake.machine.listeners([PortNeed(8235), PortNeed(8080)])
    assert found == [
        Listener(8080, "0.0.0.0", 40, "nginx", "nginx.service", ""),
        Listener(8080, "::"),
        Listener(8235, "192.168.100.10", 300, "python3", "", "spark-vllm"),
        Listener(8235, "192.168.100.10", 301, "raylet", "", "spark-vllm"),
    ]
    assert [argv[-1] for argv in fake.ran if argv[:2] == ["docker", "inspect"]] == [ID_A]


def test_nothing_is_searched_while_nothing_listens(fake: Fake) -> None:
    (fake.root / "proc/net/tcp").write_text(TCP)
    assert fake.machine.listeners([PortNeed(9)]) == []
    assert fake.ran == []


def test_docker_proxy_is_named_after_what_it_publishes(fake: Fake) -> None:
    (fake.root / "proc/net/tcp").write_text(TCP)
    fake.process(77, "docker-proxy", 1001, "0::/system.slice/docker.service\n")
    fake.commands["docker ps"] = (0, "open-webui\n")
    (found,) = fake.machine.listeners([PortNeed(8080)])
    assert found.owner() == "container open-webui (docker-proxy, pid 77)"


def test_an_outer_container_has_no_name_here(fake: Fake) -> None:
    (fake.root / "proc/net/tcp").write_text(TCP)
    fake.process(77, "python3", 1001, f"0::/docker/{ID_A}/init.scope\n")
    fake.commands["docker inspect"] = (1, "\n")
    (found,) = fake.machine.listeners([PortNeed(8080)])
    assert found.owner() == "python3 (pid 77)"


def test_this_very_machine_with_a_real_socket() -> None:
    def run(argv: Sequence[str]) -> tuple[int, str, str]:
        return 127, "", ""

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = Machine(run).listeners([PortNeed(port)])
    assert [(entry.address, entry.pid) for entry in found] == [("127.0.0.1", os.getpid())]
    assert found[0].process == Path("/proc/self/comm").read_text().strip()


def test_a_path_that_does_not_exist_yet(fake: Fake) -> None:
    (found,) = fake.machine.file_systems([PathNeed("/srv/models/a/b", 0.0)])
    assert found.existing == str(fake.root)
    assert found.total_gib > found.free_gib > 0
    assert found.present_gib is None


def test_what_is_there_is_counted_only_when_space_is_short(fake: Fake) -> None:
    folder = fake.root / "srv/models"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 3_000_000)
    (found,) = fake.machine.file_systems([PathNeed("/srv/models", 10.0**9)])
    assert found.present_gib == pytest.approx(3_000_000 / 1024**3, abs=0.01)


def test_what_is_mounted_over_nfs_is_never_touched(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    (fake.root / "srv/models/deep").mkdir(parents=True)
    (fake.root / "proc/self").mkdir()
    (fake.root / "proc/self/mountinfo").write_text(
        "24 1 254:0 / / rw - ext4 /dev/root rw\n71 24 0:40 / /srv/models rw - autofs systemd-1 rw\n"
    )
    touched: list[str] = []
    real = os.statvfs
    monkeypatch.setattr(node_preflight.os, "statvfs", lambda path: touched.append(str(path)) or real(path))
    (found,) = fake.machine.file_systems([PathNeed("/srv/models/deep", 10.0**9)])
    assert (found.existing, found.present_gib) == (str(fake.root / "srv"), 0.0)
    assert touched == [str(fake.root / "srv")]


def test_what_the_kernel_offers_of_nfs(fake: Fake) -> None:
    (fake.root / "proc/filesystems").write_text("nodev\tsysfs\nnodev\tnfs4\n\text4\n")
    assert fake.machine.kernel_lacks(("nfsv4",)) == ()
    assert fake.machine.kernel_lacks(("nfsd",)) == ("nfsd",)
    fake.commands["modprobe --dry-run --quiet nfsd"] = (0, "")
    assert fake.machine.kernel_lacks(("nfsd", "rpcrdma")) == ("rpcrdma",)
    assert fake.machine.rdma_devices() == ()
    (fake.root / "sys/class/infiniband/rocep1s0f1").mkdir(parents=True)
    assert fake.machine.rdma_devices() == ("rocep1s0f1",)
    assert nfs_modules(Requirements()) == ()
    assert nfs_modules(Requirements(nfs="client", nfs_transport="rdma")) == ("nfsv4", "rpcrdma")


def test_tree_size(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/one").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a/one", tmp_path / "a/b/again")
    (tmp_path / "a/b/away").symlink_to("/usr")
    size = tree_size(tmp_path / "a", 10**12)
    # The file once, whatever its names, plus a few blocks of directories.
    assert 100_000 <= size < 140_000
    assert tree_size(tmp_path / "none", 1) == 0


def test_tree_size_stops_when_it_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "file").write_bytes(b"x" * 10_000)
    opened: list[Any] = []
    real = os.scandir

    def scandir(path: Any) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr(node_preflight.os, "scandir", scandir)
    assert tree_size(tmp_path, 15_000) >= 15_000
    assert len(opened) <= 3


# --- judging -------------------------------------------------------------------------------------------------

FIT = Node(
    distribution="ubuntu",
    distribution_like=("debian",),
    distribution_name="Ubuntu 24.04",
    architecture="aarch64",
    init="systemd",
    memory_total_gib=119.7,
    interfaces=[
        Interface("lo", "UNKNOWN", 65536, "", ("127.0.0.1/8", "::1/128")),
        Interface("eth0", "UP", 1500, "", ("172.16.0.5/16", "fe80::1/64")),
        Interface("enp1s0f1np1", "UP", 9000, "", ("192.168.100.10/24",)),
    ],
    fabric_interface="enp1s0f1np1",
    python=(3, 12, 3),
    root=True,
    user="root",
)
DEMANDS = Requirements(
    fabric_address="192.168.100.10",
    min_memory_gib=66.0,
    architectures=("aarch64", "x86_64"),
    distributions=("debian",),
    min_python=(3, 11),
)


def evaluate(node: Node, wanted: Requirements) -> list[str]:
    """Return what is red, as sentences."""
    return sentences(judge(node, wanted))


def test_a_fit_node_has_no_problems() -> None:
    assert evaluate(FIT, DEMANDS) == []
    assert evaluate(Node(), Requirements(systemd=False, root=False)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"root": False, "user": "spark"}, "tasks run as user spark, not as root: set become: true"),
        ({"architecture": "riscv64"}, "architecture riscv64 is not supported, expected aarch64 or x86_64"),
        (
            {"distribution": "fedora", "distribution_like": (), "distribution_name": "Fedora 42"},
            "operating system Fedora 42 is not supported, expected debian, or one derived from it",
        ),
        ({"init": "sh"}, "process 1 is sh, not systemd"),
        ({"init": ""}, "process 1 is unknown, not systemd"),
        ({"python": (3, 9, 2)}, "Python 3.9.2 is too old, expected 3.11 or newer"),
        (
            {"fabric_interface": None},
            "fabric address 192.168.100.10 is on no interface of this node (eth0 172.16.0.5, enp1s0f1np1 192.168.100.10): give",
        ),
        ({"fabric_interface": None, "interfaces": []}, "of this node (none)"),
        ({"memory_total_gib": 30.5}, "memory is 30.5 GiB, 66 GiB are needed"),
    ],
)
def test_one_problem_one_sentence(changes: dict[str, Any], words: str) -> None:
    (problem,) = evaluate(replace(FIT, **changes), DEMANDS)
    assert words in problem


@pytest.mark.parametrize(
    ("nfs", "lacks", "devices", "transport", "words"),
    [
        ("none", ("nfsd",), (), "rdma", None),
        ("server", (), (), "tcp", None),
        ("server", ("nfsd",), (), "tcp", "the kernel cannot serve NFS (it has no module nfsd)"),
        ("client", ("nfsv4",), (), "tcp", "the kernel cannot mount NFS (it has no module nfsv4): install"),
        ("client", (), ("rocep1s0f1",), "rdma", None),
        ("client", (), (), "rdma", "but it has no RDMA device: set model_share_nfs_transport: tcp"),
        ("server", ("rpcrdma",), ("rocep1s0f1",), "rdma", "but its kernel has no module rpcrdma"),
    ],
)
def test_nfs(nfs: str, lacks: tuple[str, ...], devices: tuple[str, ...], transport: str, words: str | None) -> None:
    problems = evaluate(
        replace(FIT, kernel_lacks=lacks, rdma_devices=devices), Requirements(nfs=nfs, nfs_transport=transport)
    )
    assert len(problems) == (words is not None)
    assert words is None or words in problems[0]


def disk(path: str, free: float, device: int = 1, present: float | None = None) -> FileSystem:
    return FileSystem(path, "/", device, 1000.0, free, present)


@pytest.mark.parametrize(
    ("needs", "disks", "words"),
    [
        ([("/srv", 130)], [disk("/srv", 130)], None),
        (
            [("/srv", 130)],
            [disk("/srv", 129, present=0.0)],
            "/srv needs 130 GiB, but the file system at / has 129 GiB free where 130 GiB are still to come",
        ),
        # The weights are there already: nothing more is to come.
        ([("/srv", 130)], [disk("/srv", 5, present=130.0)], None),
        ([("/srv", 130)], [disk("/srv", 5, present=200.0)], None),
        ([("/srv", 130)], [disk("/srv", 5, present=120.0)], "/srv needs 130 GiB of which 120 are there"),
        # Two folders on one file system share it; on two they do not.
        (
            [("/srv", 60), ("/docker", 50)],
            [disk("/srv", 100, present=0.0), disk("/docker", 100, present=0.0)],
            "/srv needs 60",
        ),
        ([("/srv", 60), ("/docker", 50)], [disk("/srv", 100, present=0.0), disk("/docker", 100, present=20.0)], None),
        ([("/srv", 60), ("/docker", 50)], [disk("/srv", 100, 1), disk("/docker", 100, 2)], None),
    ],
)
def test_space(needs: list[tuple[str, float]], disks: list[FileSystem], words: str | None) -> None:
    problems = evaluate(replace(FIT, file_systems=disks), Requirements(paths=tuple(PathNeed(*need) for need in needs)))
    assert len(problems) == (words is not None)
    assert words is None or words in problems[0]


OURS = PortNeed(8235, ("spark-vllm.service",))


@pytest.mark.parametrize(
    ("need", "listener", "words"),
    [
        (
            OURS,
            Listener(8235, "0.0.0.0", 7, "nginx", "nginx.service"),
            "0.0.0.0 by nginx (pid 7, nginx.service): stop that",
        ),
        (OURS, Listener(8235, "0.0.0.0", 7, "python3"), "by python3 (pid 7): stop that"),
        (OURS, Listener(8235, "::", 7, "python3", "", "old-vllm"), "by container old-vllm (python3, pid 7)"),
        (OURS, Listener(8235, "::"), "by a process that cannot be seen from here"),
        (OURS, Listener(8235, "0.0.0.0", 7, "python3", "", "spark-vllm"), None),
        (OURS, Listener(8235, "0.0.0.0", 7, "python3", "spark-vllm.service"), None),
        # Another's container below our unit's cgroup is not ours.
        (OURS, Listener(8235, "0.0.0.0", 7, "x", "spark-vllm.service", "other"), "by container other"),
        (OURS, Listener(8236, "0.0.0.0", 7, "nginx"), None),
        # Addresses: a loopback listener does not keep the fabric address from being bound, a wildcard one does.
        (PortNeed(8235, (), "192.168.100.10"), Listener(8235, "127.0.0.1", 7, "x"), None),
        (
            PortNeed(8235, (), "192.168.100.10"),
            Listener(8235, "192.168.100.10", 7, "x"),
            "port 8235 is needed but in use",
        ),
        (PortNeed(8235, (), "192.168.100.10"), Listener(8235, "::", 7, "x"), "in use on ::"),
        (PortNeed(8235, (), "0.0.0.0"), Listener(8235, "127.0.0.1", 7, "x"), "in use on 127.0.0.1"),
        (PortNeed(8235), Listener(8235, "127.0.0.1", 7, "x"), "in use on 127.0.0.1"),
    ],
)
def test_ports(need: PortNeed, listener: Listener, words: str | None) -> None:
    problems = evaluate(replace(FIT, listeners=[listener]), Requirements(ports=(need,)))
    assert len(problems) == (words is not None)
    assert words is None or words in problems[0]


def test_a_listener_on_both_families_is_told_once() -> None:
    both = [Listener(8235, "0.0.0.0", 7, "nginx"), Listener(8235, "::", 7, "nginx")]
    assert len(evaluate(replace(FIT, listeners=both), Requirements(ports=(OURS,)))) == 1


def test_all_problems_at_once() -> None:
    bad = replace(FIT, init="sh", memory_total_gib=1.0, fabric_interface=None)
    assert len(evaluate(bad, DEMANDS)) == 3


# --- input ---------------------------------------------------------------------------------------------------


def test_requirements_from_parameters() -> None:
    params = {
        "fabric_address": "192.168.100.10",
        "min_memory_gib": 8,
        "paths": [{"path": "/srv/models/", "need_gib": 1}],
        "ports": [{"port": 8235, "units": ["spark-vllm.service"], "address": ""}],
        "architectures": ["aarch64"],
        "distributions": [],
        "min_python": "3.11",
        "require_systemd": False,
        "require_root": True,
    }
    assert requirements_from(params) == Requirements(
        "192.168.100.10",
        8.0,
        (PathNeed("/srv/models", 1.0),),
        (PortNeed(8235, ("spark-vllm.service",)),),
        ("aarch64",),
        (),
        (3, 11),
        False,
        True,
    )
    assert requirements_from({"fabric_address": ""}) == Requirements()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"fabric_address": "spark-1"}, "fabric_address 'spark-1' is not an IP address"),
        ({"paths": [{"path": "srv", "need_gib": 1}]}, "path 'srv' is not absolute"),
        ({"paths": [{"path": "/srv", "need_gib": -1}]}, "need_gib -1 of path /srv is negative"),
        ({"ports": [{"port": 0}]}, "port 0 is not a port"),
        ({"ports": [{"port": 65536}]}, "port 65536 is not a port"),
        ({"min_python": "three"}, "min_python 'three' is not a version"),
    ],
)
def test_unusable_requirements(params: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        requirements_from(params)


# --- rows of the report --------------------------------------------------------------------------------------


def test_a_fit_node_has_a_green_row_for_each_thing_asked() -> None:
    node = Node(
        distribution_name="Ubuntu 24.04.3 LTS",
        architecture="aarch64",
        kernel="6.17.0-1014-nvidia",
        init="systemd",
        root=True,
        memory_total_gib=121.69,
        fabric_interface="enp1s0f1np1",
        file_systems=[FileSystem("/srv/models", "/srv", 1, 3600.0, 900.0)],
        listeners=[Listener(8235, "0.0.0.0", 7, "vllm", "", "spark-vllm")],
    )
    wanted = Requirements(
        fabric_address="192.168.100.10",
        min_memory_gib=66,
        paths=(PathNeed("/srv/models", 116),),
        ports=(PortNeed(8235, ("spark-vllm.service",)),),
        nfs="server",
    )
    assert [(row.check, row.level, row.found) for row in judge(node, wanted)] == [
        ("machine", "green", "Ubuntu 24.04.3 LTS on aarch64, kernel 6.17.0-1014-nvidia"),
        ("fabric address", "green", "192.168.100.10 is on enp1s0f1np1"),
        ("memory size", "green", "121.69 GiB"),
        ("NFS", "green", "the kernel can be an NFS server"),
        ("disk", "green", "room for what is still to come: /srv/models (900 GiB free)"),
        ("TCP ports", "green", "1 port is free, or held by our own spark-vllm"),
    ]


def test_an_unfit_node_has_the_problems_as_red_rows_with_remedies() -> None:
    wanted = Requirements(
        fabric_address="192.168.100.10",
        min_memory_gib=66,
        ports=(PortNeed(8235),),
        architectures=("aarch64",),
        nfs="client",
        nfs_transport="rdma",
    )
    node = Node(
        architecture="s390x",
        init="runit",
        user="anna",
        kernel_lacks=("nfsv4", "rpcrdma"),
        listeners=[Listener(8235, "0.0.0.0", 7, "nginx")],
    )
    red = [row for row in judge(node, wanted) if row.level == "red"]
    assert len(red) == len(evaluate(node, wanted)) == 8
    assert all(row.remedy and row.remedy != row.found for row in red)
    assert {row.remedy for row in red if "RDMA" in row.found} == {"set model_share_nfs_transport: tcp"}


def test_what_was_not_asked_has_no_row() -> None:
    assert [row.check for row in judge(Node(root=True, init="systemd"), Requirements())] == ["machine", "memory size"]
