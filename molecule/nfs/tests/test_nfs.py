# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The share through restarts, reboots and power cuts, in the order of this file; after each of them the role finds nothing to do.

Emulated machines are slow: each look is one command by ssh.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulation import machines
from simulation.machines import MACHINES, Machine

SERVER, CLIENT = MACHINES
SCENARIO = Path(__file__).parents[1]
ROOT = SCENARIO.parents[1]
STORE = "/srv/models"
READER = "spark-reader.service"


@pytest.fixture(scope="session")
def snapshot() -> dict[str, Any]:
    """What prepare.yml wrote: `published`, and `sha256` of each shard."""
    found: dict[str, Any] = json.loads((machines.state_folder() / "snapshot.json").read_text(encoding="utf-8"))
    return found


def root(one: Machine, script: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
    """Run a shell script on a machine as root."""
    return machines.run(one, f"sudo -n timeout {timeout - 5:.0f} sh -c {shlex.quote(script)}", timeout=timeout)


def out(one: Machine, script: str, timeout: float = 90) -> str:
    """Return what such a script prints; it must succeed."""
    done = root(one, script, timeout)
    assert done.returncode == 0, f"{one.name}: {script}: {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def apply(*extra: str) -> tuple[dict[str, int], str]:
    """Run the scenario's playbook; return the number of changed tasks by machine, and what was said."""
    argv = ["ansible-playbook", "-i", str(SCENARIO / "inventory"), str(SCENARIO / "converge.yml"), *extra]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(argv, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    recap = re.findall(r"^(spark-\d)\s+: .*\bchanged=(\d+)", done.stdout, re.MULTILINE)
    return {name: int(changed) for name, changed in recap}, done.stdout


def nothing_to_do(*extra: str) -> None:
    """The role finds everything in place."""
    changed, said = apply(*extra, "--diff", "-v")
    assert changed == {"spark-1": 0, "spark-2": 0}, said


def the_reader_runs(seconds: int = 60) -> None:
    """Wait until the gates let the service through that needs the weights."""
    waited = f"for i in $(seq {seconds}); do systemctl -q is-active {READER} && exit 0; sleep 1; done; exit 1"
    done = root(CLIENT, waited, seconds + 40)
    assert done.returncode == 0, out(CLIENT, f"journalctl -b -u {READER} -u srv-models.mount -o cat --no-pager")


@contextlib.contextmanager
def reading(snapshot: dict[str, Any]) -> Iterator[None]:
    """Read a shard through the mount again and again, from the server each time; every reading must be right."""
    name, digest = next(iter(snapshot["sha256"].items()))
    path = f"{snapshot['published']['path']}/{name}"
    script = (
        "rm -f /run/enough; until [ -e /run/enough ]; do "
        f"echo 1 >/proc/sys/vm/drop_caches; sha256sum <{path} || exit 1; done; echo 1 >/proc/sys/vm/drop_caches; sha256sum <{path}"
    )
    argv = machines.ssh_command(CLIENT, f"sudo -n timeout 200 sh -c {shlex.quote(script)}")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as reader:
        assert reader.stdout is not None
        lines = [reader.stdout.readline()]
        try:
            yield
        finally:
            root(CLIENT, "touch /run/enough")
            lines += reader.communicate(timeout=200)[0].splitlines()
    assert reader.returncode == 0, "".join(lines)
    assert {line.split()[0] for line in lines} == {digest}


# --- as the role leaves it ---------------------------------------------------------------------------------------------


def test_the_mount_is_as_wanted() -> None:
    script = (
        f"ls {STORE} >/dev/null; grep ' {STORE} nfs' /proc/self/mounts; "
        f"cat /sys/class/bdi/$(mountpoint -d {STORE})/read_ahead_kb; systemctl is-enabled srv-models.automount"
    )
    mount, read_ahead, enabled = out(CLIENT, script).splitlines()
    source, point, kind, options, *_ = mount.split()
    assert (source, point, kind) == (f"{SERVER.fabric_address}:{STORE}", STORE, "nfs4")
    assert {"ro", "noatime", "hard", "vers=4.2", "proto=tcp", "nconnect=8", "rsize=1048576"} <= set(options.split(","))
    assert (read_ahead, enabled) == ("15360", "enabled")


def test_a_service_that_needs_the_weights_started() -> None:
    the_reader_runs()


def test_nothing_but_nfs_4_2_listens() -> None:
    script = "cat /proc/fs/nfsd/versions; ss -Hltun | awk '{ print $5 }'; systemctl is-enabled rpcbind.socket rpcbind.service rpc-statd.service"
    for one in MACHINES:
        done = root(one, script if one is SERVER else script.partition("; ")[2])
        words = done.stdout.split()
        ports = {word.rpartition(":")[2] for word in words if ":" in word}
        assert words[-3:] == ["masked"] * 3, done.stdout
        assert "111" not in ports, done.stdout
        if one is SERVER:
            assert {"-3", "+4", "-4.0", "-4.1", "+4.2"} <= set(words), done.stdout
            assert ports & {"2049"} == {"2049"}


def test_what_is_seen_is_what_the_server_holds(snapshot: dict[str, Any]) -> None:
    folder = snapshot["published"]["path"]
    seen = dict(reversed(line.split()) for line in out(CLIENT, f"cd {folder} && sha256sum *.safetensors").splitlines())
    assert seen == snapshot["sha256"]


def test_the_mount_takes_no_write_and_root_is_nobody(snapshot: dict[str, Any]) -> None:
    repository = str(Path(snapshot["published"]["path"]).parent)
    assert out(SERVER, f"cat {repository}/secret") == "for root alone"
    done = root(CLIENT, f"touch {STORE}/new; cat {repository}/secret; mount -o remount,rw {STORE}; touch {STORE}/new")
    assert done.returncode != 0
    assert "Read-only file system" in done.stderr
    assert f"{repository}/secret: Permission denied" in done.stderr
    assert out(SERVER, f"ls {STORE}").split() == [Path(repository).name]
    # The kernel's own rule sets the read-ahead of a new mount a moment later; the role, should it come in between, would do so itself.
    out(
        CLIENT,
        f"systemctl restart srv-models.mount && timeout 20 ls {STORE} && "
        f"timeout 60 sh -c 'until grep -qx 15360 /sys/class/bdi/$(mountpoint -d {STORE})/read_ahead_kb; do sleep 1; done'",
    )


def test_who_is_not_in_the_fabrics_network_is_refused() -> None:
    script = f"mkdir -p /mnt/outside; timeout 30 mount -t nfs -o nfsvers=4.2,ro,retry=0 {SERVER.outside_address}:{STORE} /mnt/outside"
    done = root(CLIENT, script)
    assert done.returncode == 32
    assert "access denied by server" in done.stderr


def test_the_role_has_nothing_to_do_and_proves_every_byte() -> None:
    nothing_to_do("--extra-vars", "model_share_verify=sha256")


# --- through trouble ---------------------------------------------------------------------------------------------------


def test_the_server_restarts_while_it_is_read(snapshot: dict[str, Any]) -> None:
    with reading(snapshot):
        out(SERVER, "systemctl stop nfs-server && sleep 2 && systemctl start nfs-server")
    nothing_to_do()


def test_the_export_is_healed() -> None:
    out(SERVER, "rm /etc/exports.d/dgx-spark.exports && exportfs -r")
    assert apply()[0] == {"spark-1": 1, "spark-2": 0}
    out(CLIENT, f"timeout 30 ls {STORE}")


def test_the_servers_machine_reboots_while_it_is_read(snapshot: dict[str, Any]) -> None:
    with reading(snapshot):
        machines.reboot(print, [SERVER])
    the_reader_runs()
    nothing_to_do()


def test_the_clients_machine_reboots() -> None:
    machines.reboot(print, [CLIENT])
    the_reader_runs()
    test_the_mount_is_as_wanted()
    nothing_to_do()


def test_both_machines_lose_power() -> None:
    machines.reboot(print, MACHINES, hard=True)
    the_reader_runs()
    test_the_mount_is_as_wanted()
    nothing_to_do()


def test_the_client_boots_while_the_server_is_off() -> None:
    machines.off(print, [SERVER], hard=True)
    # Cleanly: the mount of a server that is gone keeps no machine from going down.
    machines.reboot(print, [CLIENT])
    gate = f"timeout 10 /opt/dgx-spark/bin/spark-gate mount {STORE} {SERVER.fabric_address} 2>&1"
    state, *told = out(CLIENT, f"systemctl show -P ActiveState {READER}; {gate}; [ $? = 124 ]").splitlines()
    assert state == "activating"
    assert any(f"the weights are on {SERVER.fabric_address}" in line for line in told), told
    machines.on(print, [SERVER])
    the_reader_runs()
    test_the_mount_is_as_wanted()
    nothing_to_do()
