# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Certificates that a gateway may serve, and those that stop before anything is replaced; made by the real openssl."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gateway.certificate import CertificateProblem, judged
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.run import run

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
DAY = 86400


def made(folder: Path, passphrase: str = "") -> tuple[str, str]:
    """Return a certificate for two days and its key."""
    secret = ["-passout", f"pass:{passphrase}"] if passphrase else ["-nodes"]
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-subj", "/CN=spark", "-days", "2", *secret]
    folder.mkdir()
    subprocess.run([*argv, "-keyout", folder / "key", "-out", folder / "crt"], check=True, capture_output=True)
    return (folder / "crt").read_text(), (folder / "key").read_text()


def test_a_certificate_in_force_with_its_key_is_taken(tmp_path: Path) -> None:
    certificate, key = made(tmp_path / "a")
    text = judged(certificate, key, run)
    assert text.index("BEGIN CERTIFICATE") < text.index("PRIVATE KEY")


def test_what_no_client_or_haproxy_would_take_is_one_sentence(tmp_path: Path) -> None:
    certificate, key = made(tmp_path / "a")
    _other, another_key = made(tmp_path / "b")
    now = time.time()
    for given, said in (
        ((certificate, another_key, run), "gateway_tls_key does not belong to gateway_tls_certificate"),
        ((certificate, made(tmp_path / "c", "secret")[1], run), "read without a passphrase"),
        ((certificate, "no key", run), "gateway_tls_key holds no key"),
        (("no certificate", key, run), "gateway_tls_certificate holds no certificate"),
        ((key, certificate, run), "gateway_tls_certificate holds no certificate"),
        ((certificate, key, run, now + 3 * DAY), "gateway_tls_certificate ended on"),
        ((certificate, key, run, now - DAY), "begins on"),
    ):
        with pytest.raises(CertificateProblem) as caught:
            judged(*given)
        assert said in str(caught.value)
        assert "PRIVATE" not in str(caught.value)
