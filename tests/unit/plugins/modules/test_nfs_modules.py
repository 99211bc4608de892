# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The NFS modules in process, on a machine of files: systemctl, exportfs and the kernel's tables are stand-ins. The scenario `nfs` has the real ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs import client
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs import share as nfs_share
from ansible_collections.dgx_spark.vllm.plugins.module_utils.nfs.share import Export, Nfsd, NfsMount
from ansible_collections.dgx_spark.vllm.plugins.modules import nfs_export, nfs_mount

Run = Callable[..., dict[str, Any]]
FABRIC = "192.168.100.0/24"

# systemctl over one JSON file with the state of each unit; every call is noted.
SYSTEMCTL = """#!/usr/bin/env python3
import json, sys
from pathlib import Path
here = Path(__file__).parent
state = json.loads((here / "units.json").read_text())
command, names = sys.argv[1], [word for word in sys.argv[2:] if not word.startswith("--")]
with (here / "ran").open("a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
blank = {"LoadState": "loaded", "ActiveState": "inactive", "UnitFileState": "disabled", "NeedDaemonReload": "no"}
units = [state.setdefault(name, dict(blank)) for name in names]
if command == "show":
    if "--value" in sys.argv:
        print(units[0]["ActiveState"])
    else:
        print("\\n\\n".join("\\n".join(f"{key}={value}" for key, value in unit.items()) for unit in units))
changes = {"mask": {"LoadState": "masked"}, "unmask": {"LoadState": "loaded"}, "enable": {"UnitFileState": "enabled"},
    "start": {"ActiveState": "active"}, "restart": {"ActiveState": "active"}, "stop": {"ActiveState": "inactive"},
    "disable": {"UnitFileState": "disabled"}}
for unit in units:
    unit.update(changes.get(command, {}))
if command in ("start", "restart") and names == ["nfs-server.service"]:
    (here / "runs").write_text("yes")
if command == "start" and names[0].endswith(".mount"):
    source = Path(state["mount_table"]["file"])
    source.write_text(source.read_text() + state["mount_table"]["line"])
if command == "stop" and names[0].endswith(".mount"):
    source = Path(state["mount_table"]["file"])
    source.write_text("".join(line + "\\n" for line in source.read_text().splitlines() if " nfs4 " not in line))
(here / "units.json").write_text(json.dumps(state))
"""


class Machine:
    """Folders and programs that stand for a machine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs = root / "programs"
        self.store = root / "store"
        for folder in (self.programs, self.store, root / "proc/self"):
            folder.mkdir(parents=True)
        self.table = root / "proc/self/mountinfo"
        self.table.write_text("24 1 254:0 / / rw - ext4 /dev/root rw\n")
        # A device that no machine has: nothing may touch the read-ahead of a real one.
        source = f"192.168.100.10:{self.store}"
        line = f"90 24 0:9999999 / {self.store} ro - nfs4 {source} ro,vers=4.2,hard,proto=tcp\n"
        states = {"mount_table": {"file": str(self.table), "line": line}}
        (self.programs / "units.json").write_text(json.dumps(states))
        self.program("systemctl", SYSTEMCTL)
        self.program("stat", "#!/bin/sh\necho nfs\n")
        self.program("rpc.nfsd", "")
        self.program("mount.nfs", "")

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def unit(self, name: str, **state: str) -> None:
        units = json.loads((self.programs / "units.json").read_text())
        blank = {
            "LoadState": "loaded",
            "ActiveState": "inactive",
            "UnitFileState": "disabled",
            "NeedDaemonReload": "no",
        }
        units[name] = {**units.get(name, blank), **state}
        (self.programs / "units.json").write_text(json.dumps(units))

    def ran(self) -> list[str]:
        """The calls of systemctl since the last question that change something."""
        log = self.programs / "ran"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [line for line in lines if not line.startswith("show")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(tmp_path)
    monkeypatch.setenv("PATH", f"{found.programs}:{os.environ['PATH']}")
    etc = tmp_path / "etc"
    etc.mkdir()
    for module in (nfs_share, nfs_export, client):
        for name, path in (
            ("SERVER_CONF", etc / "server.conf"),
            ("CLIENT_CONF", etc / "client.conf"),
            ("EXPORTS", etc / "dgx-spark.exports"),
            ("UNITS", etc / "units"),
            ("SERVER_PROGRAM", str(found.programs / "rpc.nfsd")),
            ("CLIENT_PROGRAM", str(found.programs / "mount.nfs")),
            ("ETAB", tmp_path / "etab"),
        ):
            monkeypatch.setattr(module, name, path, raising=False)
    for module in (nfs_export, client):
        monkeypatch.setattr(module, "other_exports", lambda: nfs_share.other_exports(tmp_path))
        monkeypatch.setattr(module, "mounts_here", lambda: nfs_share.mounts_here(tmp_path))
    monkeypatch.setattr(client, "detach", lambda desired: nfs_share.detach(desired, root=tmp_path))
    monkeypatch.setattr(client, "probe", lambda path: "")
    monkeypatch.setattr(client.Client, "reach_server", lambda self: None)

    desired = Export(str(found.store), (FABRIC,))
    running = Nfsd("-3 +4 -4.0 -4.1 +4.2", "16", "15", "15", "tcp 2049")
    runs = found.programs / "runs"
    monkeypatch.setattr(Nfsd, "read", classmethod(lambda cls: running if runs.exists() else Nfsd()))
    (tmp_path / "etab").write_text(f"{desired.path}\t{FABRIC}({','.join(desired.options())})\n")
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a module's main and return its result; a result of fail_json has ``failed``."""

    def call(module: Any, check: bool = False, **arguments: Any) -> dict[str, Any]:
        with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
            module.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


# --- nfs_export --------------------------------------------------------------------------------------------------


def test_an_export_from_nothing_and_again(run: Run, machine: Machine) -> None:
    arguments: dict[str, Any] = {"path": str(machine.store), "clients": [FABRIC]}
    planned = run(nfs_export, check=True, **arguments)
    assert planned["changed"] is True
    assert machine.ran() == []
    assert not (machine.root / "etc/server.conf").exists()
    done = run(nfs_export, **arguments)
    assert done["missing_packages"] == []
    assert machine.ran() == [
        "mask rpcbind.service rpcbind.socket rpc-statd.service",
        "enable nfs-server.service",
        "start nfs-server.service",
    ]
    again = run(nfs_export, **arguments)
    assert (again["changed"], again["actions"], machine.ran()) == (False, [], [])


def test_all_is_prepared_before_the_server_is_installed(run: Run, machine: Machine) -> None:
    (machine.programs / "rpc.nfsd").unlink()
    result = run(nfs_export, path=str(machine.store), clients=[FABRIC])
    assert result["missing_packages"] == ["nfs-kernel-server"]
    assert machine.ran() == ["mask rpcbind.service rpcbind.socket rpc-statd.service"]
    assert (machine.root / "etc/server.conf").exists()


def test_drift_of_the_server_is_healed(run: Run, machine: Machine) -> None:
    arguments: dict[str, Any] = {"path": str(machine.store), "clients": [FABRIC]}
    run(nfs_export, **arguments)
    machine.ran()
    machine.unit("nfs-server.service", UnitFileState="disabled")
    machine.unit("rpcbind.socket", LoadState="loaded", ActiveState="active")
    assert run(nfs_export, **arguments)["changed"] is True
    assert machine.ran() == ["mask rpcbind.socket", "stop rpcbind.socket", "enable nfs-server.service"]
    changed = run(nfs_export, **arguments, threads=32)
    assert changed["failed"] is True
    assert "is not in the desired state after its start: threads is 16 instead of 32" in changed["msg"]
    assert machine.ran() == ["restart nfs-server.service"]


def test_a_table_that_differs_is_exported_anew(run: Run, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"path": str(machine.store), "clients": [FABRIC]}
    run(nfs_export, **arguments)
    ran: list[str] = []
    etab = machine.root / "etab"
    whole = etab.read_text()
    etab.write_text("")
    real = nfs_share.run

    def exportfs(argv: Any, seconds: float) -> tuple[int, str, str]:
        if argv[0] != "/usr/sbin/exportfs":
            return real(argv, seconds)
        ran.append(argv[0])
        etab.write_text(whole)
        return 0, "", ""

    monkeypatch.setattr(nfs_export, "Changes", lambda check: nfs_share.Changes(check, exportfs))
    assert run(nfs_export, **arguments)["actions"] == [f"re-exported: {machine.store} is not exported to {FABRIC}"]
    assert len(ran) == 1


def test_who_serves_others_is_not_disturbed(run: Run, machine: Machine) -> None:
    (machine.root / "etc/exports").write_text("/home 10.0.0.0/8(rw)\n")
    arguments: dict[str, Any] = {"path": str(machine.store), "clients": [FABRIC]}
    refused = run(nfs_export, **arguments)
    assert refused["failed"] is True
    assert "exports exports /home" in refused["msg"]
    assert "model_share_nfs_v4_only: false" in refused["msg"]
    assert machine.ran() == []
    assert run(nfs_export, **arguments, v4_only=False)["changed"] is True
    assert not any(command.startswith("mask") for command in machine.ran())
    (machine.root / "etc/exports").write_text(f"{machine.store} 10.0.0.0/8(rw)\n")
    assert "remove that line" in run(nfs_export, **arguments, v4_only=False)["msg"]


def test_an_export_is_taken_away(run: Run, machine: Machine) -> None:
    assert run(nfs_export, path=str(machine.store), state="absent")["changed"] is False
    run(nfs_export, path=str(machine.store), clients=[FABRIC])
    machine.ran()
    assert run(nfs_export, path=str(machine.store), state="absent")["changed"] is True
    assert machine.ran() == [
        "unmask rpcbind.service rpcbind.socket rpc-statd.service",
        "disable --now nfs-server.service",
    ]
    assert run(nfs_export, path=str(machine.store), state="absent")["changed"] is False


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"path": "/srv/models"}, "clients is empty"),
        ({"path": "/", "clients": [FABRIC]}, "path is '/'"),
        ({"path": "/srv/models", "clients": ["*"]}, "clients names '*'"),
        ({"path": "/srv/models", "clients": [FABRIC], "lease_seconds": 1}, "lease_seconds is 1: expected 10 to 3600"),
        ({"path": "/no/such/folder", "clients": [FABRIC]}, "is not on this node: download the model first"),
    ],
)
def test_a_bad_export_gets_a_sentence(run: Run, machine: Machine, arguments: dict[str, Any], words: str) -> None:
    result = run(nfs_export, **arguments)
    assert result["failed"] is True
    assert words in result["msg"]


# --- nfs_mount ---------------------------------------------------------------------------------------------------


def wanted(machine: Machine) -> dict[str, Any]:
    return {"path": str(machine.store), "source": f"192.168.100.10:{machine.store}"}


def test_a_mount_from_nothing_and_again(run: Run, machine: Machine) -> None:
    (machine.store / "old-copy").mkdir()
    unit = NfsMount(**wanted(machine)).automount_unit
    planned = run(nfs_mount, check=True, **wanted(machine))
    assert (planned["changed"], machine.ran()) == (True, [])
    done = run(nfs_mount, **wanted(machine))
    assert done["hidden"] == ["old-copy"]
    assert "stay there, hidden by the mount: old-copy" in done["msg"]
    assert "vers=4.2" in done["options"]
    assert f"start {unit}" in machine.ran()
    again = run(nfs_mount, **wanted(machine))
    assert (again["changed"], again["hidden"], machine.ran()) == (False, [], [])


def test_a_changed_option_mounts_anew(run: Run, machine: Machine) -> None:
    run(nfs_mount, **wanted(machine))
    result = run(nfs_mount, **wanted(machine), options=["rsize=262144"])
    assert f"unmounted {machine.store}: its units changed" in result["actions"]
    assert f"mounted 192.168.100.10:{machine.store} on {machine.store}" in result["actions"]
    assert " nfs4 " in machine.table.read_text()


def test_the_first_reader_of_an_automount_is_no_change(run: Run, machine: Machine) -> None:
    run(nfs_mount, **wanted(machine))
    # As after a reboot: the automount is armed, and nobody has touched the folder.
    machine.table.write_text(f"71 24 0:40 / {machine.store} rw - autofs systemd-1 rw\n")
    assert run(nfs_mount, **wanted(machine))["changed"] is False
    assert " nfs4 " in machine.table.read_text()


def test_the_client_is_asked_for_before_anything_is_mounted(run: Run, machine: Machine) -> None:
    (machine.programs / "mount.nfs").unlink()
    result = run(nfs_mount, **wanted(machine))
    assert result["missing_packages"] == ["nfs-common"]
    assert machine.ran() == ["mask rpcbind.service rpcbind.socket rpc-statd.service"]
    assert not (machine.root / "etc/units").exists()


def test_a_disk_that_is_mounted_there_is_left_alone(run: Run, machine: Machine) -> None:
    machine.table.write_text(f"30 24 254:1 / {machine.store} rw - ext4 /dev/sdb1 rw\n")
    result = run(nfs_mount, **wanted(machine))
    assert "is a mount point already (ext4 from /dev/sdb1): set spark_store_path" in result["msg"]
    assert machine.ran() == []


def test_another_servers_folder_is_left_alone(run: Run, machine: Machine) -> None:
    machine.table.write_text(f"30 24 0:9999999 / {machine.store} rw - nfs4 192.168.1.5:/nas rw,vers=4.2\n")
    assert "mount point already (nfs4 from 192.168.1.5:/nas)" in run(nfs_mount, **wanted(machine))["msg"]
    assert machine.ran() == []


def test_a_store_that_moved_leaves_no_mount_behind(run: Run, machine: Machine) -> None:
    run(nfs_mount, path="/old/store", source="192.168.100.10:/old/store")
    assert len(list((machine.root / "etc/units").iterdir())) == 2
    result = run(nfs_mount, **wanted(machine))
    assert f"removed {machine.root}/etc/units/old-store.mount" in result["actions"]
    assert {path.name.partition(".")[0] for path in (machine.root / "etc/units").iterdir()} == {
        nfs_share.escape_path(str(machine.store))
    }


def test_a_mount_is_taken_away(run: Run, machine: Machine) -> None:
    assert run(nfs_mount, path=str(machine.store), state="absent")["changed"] is False
    assert machine.ran() == []
    run(nfs_mount, **wanted(machine))
    result = run(nfs_mount, path=str(machine.store), state="absent")
    assert f"unmounted {machine.store}" in result["actions"]
    assert " nfs4 " not in machine.table.read_text()
    assert list((machine.root / "etc/units").iterdir()) == []
    assert run(nfs_mount, path=str(machine.store), state="absent")["changed"] is False


def test_a_source_that_is_none_gets_a_sentence(run: Run, machine: Machine) -> None:
    result = run(nfs_mount, path="/srv/models", source="spark-1:/srv/models")
    assert "source is 'spark-1:/srv/models': expected the server's IPv4 address" in result["msg"]
