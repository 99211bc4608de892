# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Marked secrets are given to the pair, and looked for in all that is left: on both nodes, on the controller, and in what processes show meanwhile."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
import pytest
import yaml
from endpoint import api_key, chat
from testinfra.host import Host

from tests.integration.conftest import REPOSITORY, SIMULATION, runner, settings

pytestmark = pytest.mark.long
#: Key of the authority that the role makes.
AUTHORITY = "/etc/dgx-spark/gateway/authority/ca.key"
#: Where a secret belongs on a node: for root alone.
HOMES = {
    "/etc/dgx-spark/secrets/api_key",
    "/etc/dgx-spark/secrets/hf_token",
    "/etc/dgx-spark/secrets/cluster_token",
    AUTHORITY,
}
#: Folders of a node that are not looked through.
LEFT_OUT = ("/proc", "/sys", "/srv/models", "/opt/simulation", "/var/lib/docker/overlay2")
#: The certificate that the gateway serves, with its key.
TLS_HOME = "/etc/dgx-spark/gateway/"
#: Name of the key that is made.
NAMED = f"planted-{secrets.token_hex(4)}"
#: Settings that end a run, each another way: with the name of the playbook, and a word of its last sentence.
FAILURES: dict[str, tuple[str, dict[str, Any], str]] = {
    "hub": ("site.yml", {"model_download_revision": "no-such-branch"}, "no-such-branch"),
    "flags": ("site.yml", {"vllm_serve_extra_arguments": ["--no-such-flag"]}, "--no-such-flag"),
    "start": (
        "playbooks/upgrade.yml",
        {"vllm_serve_extra_arguments": ["--quantization", "awq"], "vllm_serve_start_limit": 1},
        "given up",
    ),
    "certificate": ("site.yml", {"gateway_tls_key": "another"}, "does not belong"),
}
#: Tasks at which a run is killed: while secrets are on their way to the nodes, and while the gateway gets its key.
KILLED_AT = ("dgx_spark.vllm.cluster_secrets : ", "dgx_spark.vllm.gateway : ")


@dataclass
class Planted:
    """The secrets by name, and everything that the controller was left with."""

    values: dict[str, str]
    folder: Path
    variables: Path
    password: Path
    outcomes: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def patterns(self) -> dict[str, str]:
        """Return each secret as text and in base64, which slurp and vaults of others write."""
        plain = dict(self.values)
        coded = {f"{name} in base64": base64.b64encode(value.encode()).decode()[:-4] for name, value in plain.items()}
        return plain | coded

    def names_in(self, text: str) -> set[str]:
        return {name for name, pattern in self.patterns().items() if pattern in text}


class Watch(threading.Thread):
    """Looks, several times a second, for secrets in what processes of this machine (and of the nodes, which share its kernel) show to others."""

    def __init__(self, planted: Planted) -> None:
        super().__init__(daemon=True)
        self.planted, self.stopped, self.looks = planted, threading.Event(), 0

    def run(self) -> None:
        while not self.stopped.wait(0.15):
            self.looks += 1
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    words = (entry / "cmdline").read_text(errors="replace")
                    mine = entry.stat().st_uid == 0
                    # Root's environment is root's alone; that of any other user is not.
                    words += "" if mine else (entry / "environ").read_text(errors="replace")
                except OSError:
                    continue
                self.planted.seen |= {f"{name}: {words[:60]!r}" for name in self.planted.names_in(words)}


def play(planted: Planted, name: str, book: str, extra: dict[str, Any]) -> str:
    """Run a playbook as talkatively as it goes, keep all that ansible-runner keeps, and return its status."""
    private = planted.folder / name
    private.mkdir()
    options = f"-vvv --diff -e @{planted.variables} --vault-password-file {planted.password}"
    watch = Watch(planted)
    watch.start()
    outcome = ansible_runner.run(
        private_data_dir=str(private),
        project_dir=str(REPOSITORY),
        playbook=str(REPOSITORY / book),
        inventory=str(SIMULATION),
        extravars=extra,
        cmdline=options,
        envvars={
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        quiet=True,
    )
    watch.stopped.set()
    watch.join()
    assert watch.looks > 5
    planted.outcomes[name] = Path(outcome.config.artifact_dir, "stdout").read_text(encoding="utf-8", errors="replace")
    return str(outcome.status)


def kill(planted: Planted, extra: dict[str, Any], word: str, number: int) -> None:
    """Kill site.yml without a warning when a task begins that has a word in its name; all that it said is kept."""
    said = planted.folder / f"killed-{number}"
    variables = planted.folder / f"killed-{number}.json"
    variables.write_text(json.dumps(extra), encoding="utf-8")
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        "-i",
        str(SIMULATION),
        "-vvv",
        "--diff",
        "site.yml",
    ]
    command += ["-e", f"@{planted.variables}", "-e", f"@{variables}", "--vault-password-file", str(planted.password)]
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
    }
    with (
        said.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        ) as running,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            kept.write(line)
            if line.startswith("TASK") and word in line:
                time.sleep(1)
                break
        else:
            pytest.fail(f"no task of {word} was met")
        os.killpg(running.pid, signal.SIGKILL)
        kept.write(running.stdout.read())


def certificate(folder: Path, name: str = "tls") -> tuple[Path, Path]:
    """Make a certificate and its key."""
    crt, key = folder / f"{name}.crt", folder / f"{name}.key"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=spark-1"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True)
    key.chmod(0o600)
    return crt, key


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, head: Host) -> Iterator[Planted]:
    """Give the pair marked secrets by a vault, run what works and what fails, and give it its own key back."""
    folder = tmp_path_factory.mktemp("planted")
    apart = tmp_path_factory.mktemp("apart")
    before = api_key(head)
    crt, key = certificate(apart)
    _, another = certificate(apart, "another")
    values = {
        "API key": f"sk-planted-{secrets.token_hex(24)}",
        "Hugging Face token": f"hf_planted{secrets.token_hex(16)}",
        "TLS key": key.read_text(encoding="utf-8").splitlines()[5],
        "TLS key that does not belong": another.read_text(encoding="utf-8").splitlines()[5],
    }
    values["Ray token"] = script("spark-1", "cat /etc/dgx-spark/secrets/cluster_token").strip()
    password, variables = apart / "password", apart / "secrets.yml"
    password.write_text(secrets.token_hex(16), encoding="utf-8")
    password.chmod(0o600)
    variables.write_text(
        yaml.safe_dump({"spark_api_key": values["API key"], "cluster_secrets_hf_token": values["Hugging Face token"]}),
        encoding="utf-8",
    )
    subprocess.run(
        [str(Path(sys.executable).parent / "ansible-vault"), "encrypt", "--vault-password-file", password, variables],
        check=True,
        capture_output=True,
    )
    found = Planted(values, folder, variables, password)
    gateway = {
        "gateway_enabled": True,
        "gateway_tls": "files",
        "gateway_tls_certificate": str(crt),
        "gateway_tls_key": str(key),
        "node_report_page": str(folder / "report.html"),
    }
    numbers = {
        "vllm_benchmark_concurrency": [1],
        "vllm_benchmark_prompt_tokens": [64],
        "vllm_benchmark_output_tokens": 8,
        "vllm_benchmark_page": str(folder / "benchmark.html"),
    }
    archive = {"node_diagnosis_path": str(folder / "diagnosis.tar.gz")}
    own = {"gateway_enabled": True, "gateway_tls": "own", "gateway_tls_authority": str(apart / "authority.pem")}
    try:
        assert play(found, "own", "site.yml", own) == "successful", found.outcomes["own"][-3000:]
        values["the authority's key"] = script("spark-1", f"sed -n 3p {AUTHORITY}").strip()
        # A new key is shown to whoever made it: that one answer is looked at apart, and all that is left of it elsewhere with the rest.
        made = runner(apart)("playbooks/keys.yml", extra={**own, "keys_state": "present", "keys_name": NAMED})
        (values["key with a name"],) = set(re.findall(r"sk-[\w-]{40,}", made.output))
        for name, book, extra in (
            ("site", "site.yml", {}),
            ("status", "playbooks/status.yml", {}),
            ("keys", "playbooks/keys.yml", {}),
            ("benchmark", "playbooks/benchmark.yml", numbers),
        ):
            assert play(found, name, book, gateway | extra) == "successful", found.outcomes[name][-3000:]
        for number, word in enumerate(KILLED_AT):
            kill(found, gateway, word, number)
        for name, (book, extra, word) in FAILURES.items():
            given = {setting: str(another) if value == "another" else value for setting, value in extra.items()}
            assert play(found, f"failed-{name}", book, {**gateway, **given}) == "failed"
            assert word in " ".join(found.outcomes[f"failed-{name}"].split())
        # Last, so that the archive has the journals of the failures.
        assert play(found, "diagnosis", "playbooks/diagnose.yml", gateway | archive) == "successful"
        with tarfile.open(folder / "diagnosis.tar.gz") as packed:
            packed.extractall(folder / "unpacked", filter="data")
        yield found
    finally:
        back = runner(tmp_path_factory.mktemp("back"))
        back("playbooks/keys.yml", extra={**own, "keys_state": "absent", "keys_name": NAMED})
        run = back(extra={"spark_api_key": before})
        script("spark-1", "rm -f /etc/dgx-spark/secrets/hf_token")
        assert run.status == "successful", run.output[-3000:]
        assert "Paris" in chat("What is the capital of France?", before)["content"]


def script(name: str, text: str) -> str:
    """Run a script as root on a node. It goes by standard input: sudo writes command lines into the journal, and the search would find itself."""
    command = ["ssh", "-F", str(settings.ssh_config_file()), name, "sudo", "bash", "-s"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def grep(pattern: str, options: str) -> str:
    """Return a grep for a secret that has it from bash alone."""
    return f"grep -aF {options} -f <(echo {base64.b64encode(pattern.encode()).decode()} | base64 -d)"


def search(name: str, planted: Planted, roots: str) -> set[str]:
    """Return the files of a node that hold a secret, with its name; images, weights and the kernel's own files left out."""
    left_out = " ".join(f"! -path '{path}/*'" for path in LEFT_OUT)
    found = set()
    for secret, pattern in planted.patterns().items():
        said = script(
            name,
            f"find {roots} -xdev -type f {left_out} -size -200M -print0 | xargs -0 {grep(pattern, '-l')} -- | sort -u",
        )
        found |= {f"{path} ({secret})" for path in said.splitlines()}
    return found


def paths(found: set[str]) -> set[str]:
    return {entry.partition(" (")[0] for entry in found}


@pytest.fixture(params=["spark-1", "spark-2"])
def node(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_search_finds_a_secret(planted: Planted, node: str) -> None:
    """It would notice: a unit's environment, a log that others may read, a line in base64."""
    coded = base64.b64encode(planted.values["Ray token"].encode()).decode()
    unit = f"Environment=TOKEN={planted.values['API key']}"
    script(node, f"echo {unit} > /var/log/planted.log; echo {coded} > /tmp/planted")
    try:
        assert {"/var/log/planted.log", "/tmp/planted"} <= paths(search(node, planted, "/var/log /tmp"))
    finally:
        script(node, "rm /var/log/planted.log /tmp/planted")


def test_files_of_a_node_hold_secrets_only_where_they_belong(planted: Planted, node: str) -> None:
    found = search(node, planted, "/etc /home /opt /root /run /srv /tmp /var /usr/local /dev/shm")
    homes = {path for path in paths(found) if path in HOMES or path.startswith(TLS_HOME)}
    assert paths(found) - homes == set(), found
    assert any(path.endswith("cluster_token") for path in homes), "it was looked for at all"
    for path in homes:
        owner, mode = script(node, f"stat --format '%U %a' {path}").split()
        assert owner == "root" and int(mode, 8) & 0o077 == 0, path


def test_docker_and_units_tell_none(planted: Planted, node: str) -> None:
    inspected = script(node, "docker inspect $(docker ps --all --quiet)")
    units = script(node, "systemctl show 'spark-*'; systemctl cat 'spark-*'")
    assert len(json.loads(inspected)) >= 1 and "spark-gate" in units
    assert (planted.names_in(inspected), planted.names_in(units)) == (set(), set())


def test_the_journal_tells_none(planted: Planted, node: str) -> None:
    """With every field of every entry, command lines among them."""
    assert int(script(node, "journalctl --no-pager --output export --all | grep -ac __CURSOR")) > 500
    for secret, pattern in planted.patterns().items():
        found = script(node, f"journalctl --no-pager --output export --all | {grep(pattern, '')} || true")
        assert found == "", f"{secret}: {found.splitlines()[0].split('=')[0]}"


def test_processes_show_none_to_others(planted: Planted, node: str) -> None:
    assert planted.seen == set(), "while playbooks ran"
    # What the user that Ansible comes in as reads without more rights.
    words = script(
        node, "sudo -u spark sh -c 'cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr \\\\0 \" \"' || true"
    )
    assert "vllm" in words or "ray" in words
    assert planted.names_in(words) == set()


def test_the_controller_is_left_with_none(planted: Planted) -> None:
    looked = 0
    for root in (planted.folder, Path.home() / ".ansible"):
        for path in (path for path in root.rglob("*") if path.is_file() and not path.is_socket()):
            looked += 1
            found = planted.names_in(path.read_text(encoding="utf-8", errors="replace"))
            assert found == set(), f"{path.relative_to(root)} of the controller"
    assert looked > 100
    parts = {path.name for path in planted.folder.rglob("*")}
    assert {f"killed-{number}" for number in range(len(KILLED_AT))} <= parts
    assert {"report.html", "benchmark.html", "unpacked", "stdout", "command", "extravars"} <= parts


def test_what_was_said_at_vvv_is_long_and_holds_none(planted: Planted) -> None:
    assert {*(f"failed-{name}" for name in FAILURES), "site", "benchmark"} <= set(planted.outcomes)
    for name, said in planted.outcomes.items():
        assert re.search(r"module_args|invocation", said), f"{name} ran at -vvv"
        assert planted.names_in(said) == set(), name
