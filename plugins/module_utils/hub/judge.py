# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a hub's answer and the store on the node mean for somebody who wants to serve."""

from __future__ import annotations

from collections.abc import Iterator

from ..report.finding import RED, YELLOW, Finding, fine
from .client import HubError
from .snapshot import Inspection
from .store import StoreError

#: What was checked.
CHECK = "weights"


def judge_refusal(error: StoreError) -> Finding:
    """Return why weights cannot be had, or cannot be kept on this node."""
    said = str(error).rstrip(".")
    if not isinstance(error, HubError):
        return Finding("hub.store", RED, CHECK, said, "correct what it names, and run again")
    found, remedy = error.told
    if error.kind in {"repo", "revision", "file"}:
        return Finding("hub.not_there", RED, CHECK, found, remedy)
    if error.kind in {"gated", "denied"}:
        return Finding("hub.refused", RED, CHECK, found, remedy)
    if error.kind == "tls":
        return Finding("hub.certificate", RED, CHECK, found, remedy)
    if error.kind in {"unreachable", "timeout"}:
        return Finding("hub.unreachable", RED, CHECK, found, remedy)
    return Finding("hub.trouble", RED, CHECK, found, remedy)


def judge_store(seen: Inspection, failed: str) -> list[Finding]:
    """Return what the store holds of a snapshot.

    Args:
        seen: what was found.
        failed: why the last detached download failed; empty where it did not.
    """
    return list(_store(seen, failed)) or [fine("hub", CHECK, seen.msg.rstrip("."))]


def _store(seen: Inspection, failed: str) -> Iterator[Finding]:
    said = seen.msg.rstrip(".")
    if failed:
        yield Finding(
            "hub.download_failed",
            RED,
            CHECK,
            failed.rstrip("."),
            "run playbooks/site.yml again, which goes on from there",
        )
    if seen.running:
        yield Finding("hub.download_runs", YELLOW, CHECK, said, "wait for it")
    elif seen.corrupt:
        yield Finding("hub.damaged", RED, CHECK, said, "run playbooks/site.yml, which fetches just that")
    elif not seen.complete and not failed:
        yield Finding("hub.incomplete", RED, CHECK, said, "run playbooks/site.yml, which fetches what is missing")
    elif seen.complete and not seen.stamped:
        yield Finding("hub.not_verified", YELLOW, CHECK, said, "run playbooks/site.yml, which verifies and stamps them")
