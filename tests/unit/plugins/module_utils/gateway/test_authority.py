# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The gateway's own authority: what it makes is what a client that trusts it alone takes; made by the real openssl."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.authority import (
    DAYS,
    RENEW_DAYS,
    Authority,
    alternative_names,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.certificate import CertificateProblem, judged
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.files import Changes
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.run import run

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
NAMES = ["Spark-1.local", "localhost", "192.168.100.10", "127.0.0.1", "fd00::10", "localhost"]
DAY = 86400


def issue(
    folder: Path, names: list[str] | None = None, days: float = 0, check: bool = False
) -> tuple[bool, Changes, Authority]:
    changes = Changes(check)
    authority = Authority(folder / "authority", changes, run, time.time() + days * DAY)
    return authority.issue(folder / "tls.pem", NAMES if names is None else names), changes, authority


def handshake(pem: Path, trusted: Path, name: str) -> str:
    """Return what a client says that asks for this name and trusts this authority alone; empty where it is content."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(trusted))
    near, far = socket.socketpair()

    def serve() -> None:
        with far:
            try:
                server.wrap_socket(far, server_side=True).close()
            except (ssl.SSLError, OSError):
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with near:
            client.wrap_socket(near, server_hostname=name).close()
    except (ssl.SSLError, OSError) as error:
        return str(error)
    finally:
        thread.join()
    return ""


@needs_openssl
def test_a_client_that_trusts_the_authority_takes_each_name_and_no_other(tmp_path: Path) -> None:
    changed, changes, authority = issue(tmp_path)
    assert changed and len(changes.actions) == 2
    trusted = tmp_path / "authority/ca.pem"
    assert authority.text() == trusted.read_text()
    for name in ("spark-1.local", "localhost", "192.168.100.10", "127.0.0.1", "fd00::10"):
        assert handshake(tmp_path / "tls.pem", trusted, name) == ""
    assert "certificate is not valid for 'other'" in handshake(tmp_path / "tls.pem", trusted, "other")
    (tmp_path / "stranger").mkdir()
    issue(tmp_path / "stranger")
    assert "verify failed" in handshake(tmp_path / "tls.pem", tmp_path / "stranger/authority/ca.pem", "localhost")


@needs_openssl
def test_keys_are_for_root_alone_and_the_file_is_one_that_haproxy_takes(tmp_path: Path) -> None:
    issue(tmp_path)
    modes = {
        name: (tmp_path / name).stat().st_mode & 0o777 for name in ("tls.pem", "authority/ca.key", "authority/ca.pem")
    }
    assert modes == {"tls.pem": 0o600, "authority/ca.key": 0o600, "authority/ca.pem": 0o644}
    chain, mark, key = (tmp_path / "tls.pem").read_text().partition("-----BEGIN EC PRIVATE KEY-----")
    assert judged(chain, mark + key, run)
    assert "PRIVATE" not in chain and chain.count("BEGIN CERTIFICATE") == 2


@needs_openssl
def test_it_is_made_once_and_anew_for_other_names_or_near_its_end(tmp_path: Path) -> None:
    issue(tmp_path)
    first, authority = (tmp_path / "tls.pem").read_text(), (tmp_path / "authority/ca.pem").read_text()
    assert issue(tmp_path)[0] is False
    assert issue(tmp_path, list(reversed(NAMES)))[0] is False
    assert issue(tmp_path, days=DAYS - RENEW_DAYS - 1)[0] is False
    assert issue(tmp_path, [*NAMES, "spark.example"], check=True)[0] is True
    assert (tmp_path / "tls.pem").read_text() == first, "check mode writes nothing"
    assert issue(tmp_path, days=DAYS - RENEW_DAYS + 1)[0] is True
    assert issue(tmp_path, [*NAMES, "spark.example"])[0] is True
    assert (tmp_path / "authority/ca.pem").read_text() == authority, "clients keep their file"
    assert handshake(tmp_path / "tls.pem", tmp_path / "authority/ca.pem", "spark.example") == ""


@needs_openssl
def test_a_lost_authority_is_made_anew_with_its_certificate(tmp_path: Path) -> None:
    issue(tmp_path)
    (tmp_path / "authority/ca.key").unlink()
    changed, changes, _authority = issue(tmp_path)
    assert changed
    assert "clients need its new ca.pem" in changes.actions[0]
    assert handshake(tmp_path / "tls.pem", tmp_path / "authority/ca.pem", "localhost") == ""


@needs_openssl
def test_check_mode_on_a_fresh_head_makes_nothing(tmp_path: Path) -> None:
    changed, _changes, authority = issue(tmp_path, check=True)
    assert changed and authority.text() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["spark 1"], "gateway_tls_names has 'spark 1', expected names of hosts or addresses"),
        (["ok", "a,DNS:evil"], "gateway_tls_names has 'a,DNS:evil'"),
        (["https://spark-1"], "gateway_tls_names has 'https://spark-1'"),
        (["a" * 64], "expected names of hosts"),
        ([], "gateway_tls_names is empty"),
    ],
)
def test_what_is_no_name_is_one_sentence(names: list[str], said: str) -> None:
    with pytest.raises(CertificateProblem, match=said):
        alternative_names(names)


def test_openssl_that_fails_is_one_sentence(tmp_path: Path) -> None:
    authority = Authority(tmp_path, Changes(False), lambda *_given, **_more: (127, "", "openssl: No such file"))
    with pytest.raises(CertificateProblem, match="openssl ecparam failed on the head: openssl: No such file"):
        authority.issue(tmp_path / "tls.pem", ["a"])
    assert list(tmp_path.iterdir()) == []
