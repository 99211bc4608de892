# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What the files say, what the kernel's tables say, and how the two differ. Tables were recorded on Debian 12 (kernel 6.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs import share as nfs_share
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs.share import (
    Changes,
    Export,
    Mounted,
    Nfsd,
    NfsError,
    NfsMount,
    Unit,
)

FABRIC = "192.168.100.0/24"
EXPORT = Export("/srv/models", (FABRIC,))
MOUNT = NfsMount("192.168.100.10:/srv/models", "/srv/models")

ETAB = (
    f"/srv/models\t{FABRIC}(ro,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,"
    f"no_pnfs,fsid={EXPORT.fsid},anonuid=65534,anongid=65534,sec=sys,ro,secure,root_squash,no_all_squash)\n"
)
MOUNTINFO = (
    "24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
    "71 24 0:40 / /srv/models rw,relatime shared:45 - autofs systemd-1 rw,fd=46,pgrp=1,timeout=0,minproto=5,maxproto=5,direct\n"
    "90 71 0:43 / /srv/models ro,nosuid,nodev,noatime shared:50 - nfs4 192.168.100.10:/srv/models ro,vers=4.2,rsize=131072,wsize=131072,"
    "namlen=255,acregmin=1,hard,proto=tcp,nconnect=8,timeo=600,retrans=2,sec=sys,clientaddr=192.168.100.11,addr=192.168.100.10\n"
    "95 24 0:50 / /mnt/with\\040space rw - nfs 10.0.0.1:/old rw,vers=3\n"
)
RUNNING = Nfsd("-2 -3 +4 -4.0 -4.1 +4.2", "16", "15", "15", "tcp 2049\ntcp 2049")


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    # As `systemd-escape --path` of systemd 252 answers.
    [
        ("/srv/models", "srv-models"),
        ("/srv//models/", "srv-models"),
        ("/", "-"),
        ("/mnt/a-b/.c", "mnt-a\\x2db-.c"),
        ("/.hidden/x", "\\x2ehidden-x"),
        ("/data/ü_1:2", "data-\\xc3\\xbc_1:2"),
    ],
)
def test_the_unit_of_a_path(path: str, name: str) -> None:
    assert nfs_share.escape_path(path) == name


@pytest.mark.parametrize("path", ["srv", "/", "//", "/srv/../etc", "/srv models", "/srv\nx", "/srv(ro)", "/a:b"])
def test_a_path_that_files_could_not_carry_is_refused(path: str) -> None:
    with pytest.raises(NfsError, match="expected an absolute folder"):
        nfs_share.check_path(path)


def test_clients_are_networks() -> None:
    assert nfs_share.check_clients(["192.168.100.11/24", "10.0.0.1/32", FABRIC]) == ("10.0.0.1", FABRIC)


@pytest.mark.parametrize("clients", [[], ["*"], ["spark-2"], ["0.0.0.0/0"], ["@group"]])
def test_an_export_to_everybody_is_refused(clients: list[str]) -> None:
    with pytest.raises(NfsError, match="clients"):
        nfs_share.check_clients(clients)


FACTS: dict[str, Any] = {
    "interfaces": ["lo", "enp1s0f1np1", "br-x"],
    "lo": {"ipv4": {"address": "127.0.0.1", "netmask": "255.0.0.0", "network": "127.0.0.0"}},
    "enp1s0f1np1": {
        "ipv4": {"address": "10.99.0.10", "netmask": "255.255.255.0", "network": "10.99.0.0"},
        "ipv4_secondaries": [{"address": "192.168.100.10", "netmask": "255.255.255.0", "network": "192.168.100.0"}],
    },
    "br_x": {},
}


def test_the_network_of_an_address() -> None:
    assert nfs_share.network_of(FACTS, "192.168.100.10") == FABRIC
    for facts in (FACTS, {}):
        with pytest.raises(ValueError, match=r"network of 192\.168\.100\.12 is asked for"):
            nfs_share.network_of(facts, "192.168.100.12")


# --- the server ------------------------------------------------------------------------------------------------


def test_the_export_is_read_only_and_squashed() -> None:
    line = EXPORT.exports().splitlines()[-1]
    assert line == f"/srv/models {FABRIC}(ro,sync,no_subtree_check,root_squash,sec=sys,fsid={EXPORT.fsid})"
    assert EXPORT.fsid == Export("/srv/models", ("10.0.0.1",)).fsid
    assert EXPORT.fsid != Export("/srv/other", (FABRIC,)).fsid


def test_the_settings_of_the_server() -> None:
    text = EXPORT.conf()
    assert "vers2=n\nvers3=n\nvers4=y\nvers4.0=n\nvers4.1=n\nvers4.2=y\n" in text
    assert "rdma" not in text
    assert "rdma=y\nrdma-port=20049\n" in replace(EXPORT, transport="rdma").conf()
    # What others need stays as it is.
    shared = replace(EXPORT, v4_only=False).conf()
    assert "vers3" not in shared and "threads" not in shared


@pytest.mark.parametrize("change", [{"threads": 0}, {"grace": 5}, {"lease": 4000}])
def test_figures_that_the_kernel_refuses(change: dict[str, int]) -> None:
    with pytest.raises(NfsError, match="expected"):
        replace(EXPORT, **change)


def test_what_others_export_is_found(tmp_path: Path) -> None:
    (tmp_path / "etc/exports.d").mkdir(parents=True)
    (tmp_path / "etc/exports").write_text("# nothing\n\n")
    (tmp_path / "etc/exports.d/dgx-spark.exports").write_text("/srv/models *(ro)\n")
    assert nfs_share.other_exports(tmp_path) == {}
    (tmp_path / "etc/exports.d/home.exports").write_text("/home \\\n  10.0.0.0/8(rw)\n")
    assert nfs_share.other_exports(tmp_path) == {str(tmp_path / "etc/exports.d/home.exports"): ["/home 10.0.0.0/8(rw)"]}


def test_an_export_in_force() -> None:
    assert nfs_share.export_differences(EXPORT, ETAB) == []


@pytest.mark.parametrize(
    ("etab", "words"),
    [
        ("", "is not exported to 192.168.100.0/24"),
        (ETAB.replace(FABRIC, "10.0.0.0/8"), "/srv/models is exported to 10.0.0.0/8"),
        (ETAB.replace("(ro,", "(rw,").replace(",ro,", ",rw,"), "without ro"),
        (ETAB.replace("root_squash", "no_root_squash"), "without root_squash"),
        (ETAB.replace(EXPORT.fsid, "0"), "without fsid="),
        ("garbage\n", "is not exported"),
    ],
)
def test_an_export_that_differs(etab: str, words: str) -> None:
    assert any(words in difference for difference in nfs_share.export_differences(EXPORT, etab))


def test_a_server_that_runs_as_wanted() -> None:
    assert nfs_share.nfsd_differences(EXPORT, RUNNING) == []


@pytest.mark.parametrize(
    ("running", "words"),
    [
        (Nfsd(), "nfsd does not run"),
        (replace(RUNNING, threads="0"), "nfsd does not run"),
        (replace(RUNNING, versions="+3 +4 +4.0 +4.1 +4.2"), "NFS 3 is on"),
        (replace(RUNNING, versions="+4 -4.2"), "NFS 4.2 is off"),
        (replace(RUNNING, threads="8"), "threads is 8 instead of 16"),
        (replace(RUNNING, grace="90"), "grace time is 90"),
        (replace(RUNNING, ports=""), "does not listen by tcp"),
        (replace(RUNNING, ports="tcp 2049\nrdma 20049"), "it listens by rdma"),
    ],
)
def test_a_server_that_differs(running: Nfsd, words: str) -> None:
    assert any(words in difference for difference in nfs_share.nfsd_differences(EXPORT, running))


def test_a_server_for_others_as_well_may_run_as_it_does() -> None:
    running = Nfsd("+3 +4 +4.1 +4.2", "8", "90", "90", "tcp 2049")
    assert nfs_share.nfsd_differences(replace(EXPORT, v4_only=False), running) == []


# --- the client ------------------------------------------------------------------------------------------------


def test_the_mount_unit() -> None:
    text = MOUNT.mount_text()
    assert "What=192.168.100.10:/srv/models\nWhere=/srv/models\nType=nfs\n" in text
    options = (
        next(line for line in text.splitlines() if line.startswith("Options=")).removeprefix("Options=").split(",")
    )
    assert {"nfsvers=4.2", "ro", "hard", "proto=tcp", "nconnect=8", "rsize=1048576"} <= set(options)
    assert "bg" not in options and "soft" not in options
    # A start that failed is tried again, in both units.
    assert "StartLimitIntervalSec=0" in text and "StartLimitIntervalSec=0" in MOUNT.automount_text()
    assert "LazyUnmount=yes" in text
    assert MOUNT.mount_unit == "srv-models.mount"


def test_the_settings_of_the_client() -> None:
    assert "[nfsrahead]\nnfs4=15360\n[nfsd]\nvers2=n\nvers3=n\n" in MOUNT.conf(v4_only=True)
    assert "[nfsd]" not in MOUNT.conf(v4_only=False)


def test_a_given_option_replaces_ours() -> None:
    options = replace(MOUNT, options=("rsize=262144", "sec=sys")).mount_options()
    assert [option for option in options if option.startswith("rsize")] == ["rsize=262144"]
    assert "proto=rdma" in replace(MOUNT, transport="rdma").mount_options()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": "spark-1:/srv/models"}, "source is 'spark-1:/srv/models'"),
        ({"source": "192.168.100.10"}, "expected the server's IPv4 address and a folder"),
        ({"options": ("soft",)}, "names 'soft'"),
        ({"options": ("x,y",)}, "names 'x,y'"),
        ({"read_ahead_kib": 0}, "read_ahead_kib is 0"),
    ],
)
def test_a_mount_that_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(NfsError, match=words):
        replace(MOUNT, **change)


def test_the_gate_reads_what_the_module_wrote(tmp_path: Path) -> None:
    assert nfs_share.read_mount_unit("/srv/models", tmp_path) is None
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    desired = replace(MOUNT, transport="rdma", read_ahead_kib=4096)
    (folder / desired.mount_unit).write_text(desired.mount_text())
    assert nfs_share.read_mount_unit("/srv/models", tmp_path) == desired
    (folder / desired.mount_unit).write_text("[Mount]\nWhat=x\n")
    assert nfs_share.read_mount_unit("/srv/models", tmp_path) is None


def test_only_units_that_the_module_wrote_are_its_own(tmp_path: Path) -> None:
    assert nfs_share.own_paths(tmp_path / "none") == []
    (tmp_path / MOUNT.mount_unit).write_text(MOUNT.mount_text())
    (tmp_path / "home.mount").write_text("[Mount]\nWhat=nas:/home\nWhere=/home\n")
    assert nfs_share.own_paths(tmp_path) == ["/srv/models"]


def test_mounts() -> None:
    mounts = nfs_share.parse_mountinfo(MOUNTINFO)
    seen = nfs_share.mounted_at(mounts, "/srv/models")
    assert seen is not None
    assert (seen.kind, seen.device, seen.source) == ("nfs4", "0:43", "192.168.100.10:/srv/models")
    assert nfs_share.mount_differences(MOUNT, seen) == []
    assert nfs_share.mounted_at(mounts, "/srv") is None
    assert [mount.point for mount in nfs_share.old_mounts(mounts)] == ["/mnt/with space"]


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/srv/models", "/srv/models"),
        ("/srv/models/deep/er", "/srv/models"),
        ("/srv/models2", None),
        ("/srv", None),
        ("/", None),
    ],
)
def test_what_lies_on_another_node(path: str, point: str | None) -> None:
    mounts = nfs_share.parse_mountinfo(MOUNTINFO)
    assert nfs_share.over_nfs(mounts, path) == point
    # An automount that has not mounted yet would, and wait for the server.
    assert nfs_share.over_nfs(mounts[:2], path) == point
    assert nfs_share.over_nfs([], path) is None


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        (None, "is not mounted"),
        (Mounted("/srv/models", "0:40", "autofs", "systemd-1"), "is not mounted"),
        (Mounted("/srv/models", "0:43", "nfs4", "10.0.0.1:/x"), "10.0.0.1:/x is mounted instead"),
        (Mounted("/srv/models", "0:43", "nfs4", MOUNT.source, frozenset({"rw", "soft"})), "without hard"),
    ],
)
def test_a_mount_that_differs(mount: Mounted | None, words: str) -> None:
    assert any(words in difference for difference in nfs_share.mount_differences(MOUNT, mount))


def test_read_ahead_is_set_where_it_differs(tmp_path: Path) -> None:
    mount = Mounted("/srv/models", "0:43", "nfs4", MOUNT.source)
    assert nfs_share.set_read_ahead(mount, 15360, tmp_path) is False
    file = tmp_path / "sys/class/bdi/0:43/read_ahead_kb"
    file.parent.mkdir(parents=True)
    file.write_text("128\n")
    assert nfs_share.set_read_ahead(mount, 15360, tmp_path, check=True) is True
    assert file.read_text() == "128\n"
    assert nfs_share.set_read_ahead(mount, 15360, tmp_path) is True
    assert nfs_share.set_read_ahead(mount, 15360, tmp_path) is False


@pytest.mark.parametrize(
    ("words", "meaning"),
    [
        ("mount.nfs: access denied by server while mounting 192.168.100.10:/srv/models", "does not export it to this"),
        (
            "Mounting...\nmount.nfs: mounting x failed, reason given by server: No such file or directory",
            "does not export",
        ),
        ("mount.nfs: Connection refused", "refuses the connection"),
        ("mount.nfs: Protocol not supported", "does not offer NFS 4.2"),
        ("mount.nfs: No route to host", "no route to host: mount.nfs"),
        ("no answer within 40 s", "does not answer"),
        ("Job failed. See journalctl", "Job failed. See journalctl"),
        ("", "no reason given"),
    ],
)
def test_why_a_mount_failed(words: str, meaning: str) -> None:
    assert meaning in nfs_share.mount_reason(words)


# --- commands --------------------------------------------------------------------------------------------------


class Commands:
    """Answers commands from a table (by how they start) and notes them."""

    def __init__(self, answers: dict[str, tuple[int, str]] | None = None) -> None:
        self.answers = answers or {}
        self.ran: list[str] = []

    def __call__(self, argv: Sequence[str], seconds: float) -> tuple[int, str, str]:
        command = " ".join(argv)
        self.ran.append(command)
        status, words = next((answer for start, answer in self.answers.items() if command.startswith(start)), (0, ""))
        return (status, "", words) if status else (0, words, "")


def test_a_mount_is_started_whatever_failed_before() -> None:
    run = Commands({"systemctl show": (0, "failed\n")})
    assert nfs_share.start_mount(MOUNT, run) == ""
    assert run.ran == [
        "systemctl show --property=ActiveState --value srv-models.automount",
        "systemctl reset-failed srv-models.automount",
        "systemctl start srv-models.automount",
        "systemctl reset-failed srv-models.mount",
        "systemctl start srv-models.mount",
    ]


def test_a_mount_that_fails_says_why() -> None:
    run = Commands(
        {
            "systemctl show": (0, "active"),
            "systemctl start srv-models.mount": (1, "Job failed."),
            "journalctl": (0, "Mounting...\nmount.nfs: access denied by server while mounting x\nFailed with result"),
        }
    )
    assert nfs_share.start_mount(MOUNT, run).startswith("the server does not export it to this node's address")


def test_a_mount_that_does_not_answer() -> None:
    assert nfs_share.probe("/srv/models", Commands()) == ""
    assert nfs_share.probe("/x", Commands({"stat": (1, "stat: cannot read: Stale file handle")})) == "stale"
    assert nfs_share.probe("/x", Commands({"stat": (124, "no answer within 10 s")})) == "no answer within 10 s"


def test_states_of_units() -> None:
    run = Commands(
        {
            "systemctl show": (
                0,
                "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n\n"
                "LoadState=masked\nActiveState=inactive\nUnitFileState=masked\nNeedDaemonReload=yes",
            )
        }
    )
    assert nfs_share.unit_states(["a", "b"], run) == {
        "a": Unit("loaded", "active", "enabled"),
        "b": Unit("masked", "inactive", "masked", True),
    }
    with pytest.raises(NfsError, match="needs a running systemd"):
        nfs_share.unit_states(["a"], Commands({"systemctl": (1, "Failed to connect to bus")}))


def test_files_change_only_where_they_differ(tmp_path: Path) -> None:
    path = tmp_path / "a/b"
    plan = Changes(check=True)
    assert plan.write(path, "x\n") is True
    assert not path.exists()
    assert plan.diff[0]["after"] == "x\n"
    changes = Changes(check=False)
    assert changes.write(path, "x\n") is True
    assert changes.write(path, "x\n") is False
    path.chmod(0o600)
    assert changes.write(path, "x\n") is True
    assert changes.remove(path) is True
    assert changes.remove(path) is False


def test_old_services_are_masked_once() -> None:
    run = Commands()
    states = {name: Unit("loaded", "active") for name in nfs_share.LEGACY}
    Changes(False, run).mask_legacy(states)
    assert [command.split()[1] for command in run.ran] == ["mask", "stop"]
    changes = Changes(False, Commands())
    changes.mask_legacy({name: Unit("masked", "inactive") for name in nfs_share.LEGACY})
    assert changes.actions == []


def test_a_command_that_fails_gives_a_sentence() -> None:
    changes = Changes(False, Commands({"exportfs": (1, "noise\nexportfs: bad")}))
    with pytest.raises(NfsError, match=r"`exportfs -r` failed: exportfs: bad; see"):
        changes.command(["exportfs", "-r"], why="see it")
