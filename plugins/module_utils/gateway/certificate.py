# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A certificate with its key, judged before it replaces the one that is served: a gateway with a bad one does not start again."""

from __future__ import annotations

import ssl
import tempfile
import time
from pathlib import Path

from ..system.files import write_atomic
from ..system.run import Runner

MODE = 0o600


class CertificateProblem(ValueError):
    """One sentence for the user."""


def _no_passphrase() -> str:
    # Without it OpenSSL asks on the terminal, which nobody watches.
    return ""


def judged(certificate: str, key: str, run: Runner, now: float | None = None) -> str:
    """Return certificate, chain and key as HAProxy reads them, in one text.

    Args:
        certificate: the certificate and its chain, in PEM, its own first.
        key: its key, in PEM.
        run: runs openssl.
        now: the second of the epoch; of this moment by default.

    Raises:
        CertificateProblem: HAProxy or a client would refuse it; one sentence.
    """
    with tempfile.TemporaryDirectory() as folder:
        chain, secret = Path(folder, "chain.pem"), Path(folder, "key.pem")
        write_atomic(chain, f"{certificate.strip()}\n", MODE)
        write_atomic(secret, f"{key.strip()}\n", MODE)
        status, said, _errors = run(["openssl", "x509", "-in", str(chain), "-noout", "-startdate", "-enddate"], 20)
        dates = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        if status or not {"notBefore", "notAfter"} <= dates.keys():
            raise CertificateProblem(
                "gateway_tls_certificate holds no certificate in PEM: give the file with the certificate and its chain"
            )
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, secret, _no_passphrase)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                raise CertificateProblem(
                    "gateway_tls_key does not belong to gateway_tls_certificate: give the two files of one certificate"
                ) from None
            raise CertificateProblem(
                "gateway_tls_key holds no key in PEM that can be read without a passphrase, or gateway_tls_certificate has a weak or broken chain "
                f"({error.reason or 'unknown'})"
            ) from None
        moment = time.time() if now is None else now
        if moment >= ssl.cert_time_to_seconds(dates["notAfter"]):
            raise CertificateProblem(f"gateway_tls_certificate ended on {dates['notAfter']}: renew it")
        if moment < ssl.cert_time_to_seconds(dates["notBefore"]):
            raise CertificateProblem(
                f"gateway_tls_certificate begins on {dates['notBefore']} only: check the clock of the head"
            )
    return f"{certificate.strip()}\n{key.strip()}\n"
