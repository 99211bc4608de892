# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A certificate authority of the gateway's own, kept on the head, and the certificate that it gives to the endpoint; made by openssl.

Clients get the authority's certificate once. Its key never leaves the head, and whoever has it can stand for this endpoint alone only
where a client trusts the file for nothing else: docs/security.md says so.
"""

from __future__ import annotations

import ipaddress
import re
import secrets
import ssl
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..system.files import Changes, write_atomic
from ..system.run import Runner, last_line
from .certificate import MODE, CertificateProblem

#: Days that the authority and a certificate of it are in force. Apple's clients take none of a private authority over 825 days (support.apple.com/103769).
AUTHORITY_DAYS, DAYS = 3650, 825
#: Days before its end from which a run makes the certificate anew.
RENEW_DAYS = 90
_DAY = 86400
#: A name of RFC 1123, with or without a wildcard for its first label.
_HOST = re.compile(r"(\*\.)?[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*", re.IGNORECASE)

_CONFIG = """[req]
distinguished_name = subject
prompt = no
[subject]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}
"""


def alternative_names(names: Sequence[str]) -> list[str]:
    """Return the names as a certificate has them, each once: ``DNS:spark-1`` or ``IP:192.168.100.10``.

    Raises:
        CertificateProblem: one is neither a host's name nor an address; one sentence.
    """
    found = []
    for name in names:
        try:
            found.append(f"IP:{ipaddress.ip_address(name)}")
        except ValueError:
            if not _HOST.fullmatch(name) or len(name) > 253:
                raise CertificateProblem(
                    f"gateway_tls_names has {name!r}, expected names of hosts or addresses, as clients write them"
                ) from None
            found.append(f"DNS:{name.lower()}")
    if not found:
        raise CertificateProblem(
            "gateway_tls_names is empty: give the names or addresses by which clients reach the head"
        )
    return list(dict.fromkeys(found))


class Authority:
    """The authority in a folder, with its key for root alone.

    Args:
        folder: where ``ca.pem`` and ``ca.key`` lie, or will.
        changes: what is done, or would be in check mode.
        run: runs openssl.
        now: the second of the epoch; of this moment by default.
    """

    def __init__(self, folder: Path, changes: Changes, run: Runner, now: float | None = None) -> None:
        self.folder, self.changes, self._run = folder, changes, run
        self._now = time.time() if now is None else now
        self._certificate, self._key = folder / "ca.pem", folder / "ca.key"

    def _openssl(self, *arguments: str) -> str:
        status, out, err = self._run(["openssl", *arguments], 60)
        if status:
            raise CertificateProblem(f"openssl {arguments[0]} failed on the head: {last_line(out, err)}")
        return out

    def _lasts(self, certificate: Path, days: float) -> bool:
        """Say whether a certificate can be read and is in force for so many days more."""
        status, out, _err = self._run(["openssl", "x509", "-in", str(certificate), "-noout", "-enddate"], 60)
        end = out.strip().removeprefix("notAfter=")
        return status == 0 and ssl.cert_time_to_seconds(end) - self._now > days * _DAY

    def text(self) -> str:
        """Return the authority's certificate, in PEM; empty where it is still to be made (check mode)."""
        return self._certificate.read_text(encoding="utf-8") if self._certificate.exists() else ""

    def ensure(self) -> bool:
        """Make the authority where there is none that lasts as long as a new certificate; return whether it had to be."""
        if self._key.exists() and self._lasts(self._certificate, RENEW_DAYS):
            return False
        self.changes.actions.append(f"made a certificate authority in {self.folder}; clients need its new ca.pem")
        if not self.changes.check:
            with tempfile.TemporaryDirectory() as work:
                key, made = self._pair(Path(work), "dgx_spark.vllm endpoint authority", "DNS:unused")
                days = str(AUTHORITY_DAYS)
                self._openssl(
                    *(
                        "req",
                        "-x509",
                        "-new",
                        "-sha256",
                        "-days",
                        days,
                        "-config",
                        str(made),
                        "-extensions",
                        "authority",
                    ),
                    *("-key", str(key), "-out", f"{work}/ca.pem"),
                )
                # The key first: a certificate without it would be taken for whole by nobody.
                write_atomic(self._key, key.read_text(encoding="utf-8"), MODE)
                write_atomic(self._certificate, Path(work, "ca.pem").read_text(encoding="utf-8"))
        return True

    def _pair(self, work: Path, name: str, names: str) -> tuple[Path, Path]:
        """Make a key of P-256 and a configuration for openssl in a folder for one process."""
        key, config = work / "key.pem", work / "openssl.cnf"
        self._openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
        write_atomic(config, _CONFIG.format(name=name, names=names))
        return key, config

    def _serves(self, path: Path, names: Sequence[str]) -> bool:
        """Say whether a file of HAProxy's holds a certificate of this authority for exactly these names that lasts."""
        if not path.exists() or not self._lasts(path, RENEW_DAYS):
            return False
        status, _out, _err = self._run(["openssl", "verify", "-CAfile", str(self._certificate), str(path)], 60)
        if status:
            return False
        said = self._openssl("x509", "-in", str(path), "-noout", "-ext", "subjectAltName")
        shown = [word.strip() for line in said.splitlines()[1:] for word in line.split(",")]
        has = {f"IP:{ipaddress.ip_address(one.partition(':')[2])}" if one.startswith("IP") else one for one in shown}
        return has == set(names)

    def issue(self, path: Path, names: Sequence[str]) -> bool:
        """Write certificate, chain and key as HAProxy reads them, where what is there does not do; return whether it had to be.

        Raises:
            CertificateProblem: a name is none, or openssl failed; one sentence.
        """
        wanted = alternative_names(names)
        new = self.ensure()
        if not new and self._serves(path, wanted):
            return False
        self.changes.actions.append(f"made a certificate for {', '.join(wanted)}")
        if not self.changes.check:
            with tempfile.TemporaryDirectory() as work:
                key, config = self._pair(Path(work), "dgx_spark.vllm endpoint", ", ".join(wanted))
                request, made = f"{work}/request.pem", f"{work}/made.pem"
                self._openssl("req", "-new", "-sha256", "-config", str(config), "-key", str(key), "-out", request)
                self._openssl(
                    *("x509", "-req", "-sha256", "-days", str(DAYS), "-set_serial", f"0x{secrets.token_hex(16)}"),
                    *("-in", request, "-CA", str(self._certificate), "-CAkey", str(self._key)),
                    *("-extfile", str(config), "-extensions", "server", "-out", made),
                )
                parts = [Path(made), self._certificate, key]
                write_atomic(path, "".join(part.read_text(encoding="utf-8") for part in parts), MODE)
        return True
