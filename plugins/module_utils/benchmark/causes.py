# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a server is slower than it should be: causes that a fact of this run stands behind, each with what to do.

A cause is named only where a check found its fact. A check that had nothing to look at is listed as not checked, with the reason, so
that 'no cause found' says what was excluded and what was not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..gpu.runtime import HARDWARE_FAULTS, LOW_CLOCK, REASONS, THERMAL_SOFTWARE
from ..report.finding import YELLOW, Finding
from .result import ABOVE_LIMIT, Shortfall, expectation, flag_value, rate, shortfalls

#: Part of the samples with load in which a clock reason has to be active to count.
REASON_SHARE = 0.2
#: Part of the prompt tokens that may come from the prefix cache before a prefill rate counts as too good.
PREFIX_SHARE = 0.05
#: Pages swapped in during a run from which swapping counts as a cause: 4 MiB, more than a stray page of an idle program.
SWAP_PAGES = 1024
#: Bytes over the link by TCP from which it counts as what the ranks talk over; Ray alone needs less in a minute.
TCP_BYTES = 1 << 20
#: MiB of GPU memory that a strange program must hold to be worth a word, and runnable processes a CPU core from which a node is busy.
STRANGER_MIB, LOAD_PER_CPU = 256, 1.5
#: Part of our own requests that others may add: a watchdog asks a word now and then.
OTHERS_SHARE = 0.1
#: Tokens of a step below which a prompt is computed in small pieces; vLLM's own default is 2048 or more.
SMALL_STEP = 2048
PAGE_KIB = 4

DECODE, PREFILL = "decode", "prefill"
FACTORS = (DECODE, PREFILL)


@dataclass(frozen=True)
class Cause:
    """A fact that makes a server slow.

    Attributes:
        finding: what was seen, and what to do.
        slows: "decode", "prefill" or both.
        explains: whether it can explain a figure below the plan, below the history, or both. What is part of the key cannot have changed
            since an earlier run.
    """

    finding: Finding
    slows: tuple[str, ...] = FACTORS
    explains: tuple[str, ...] = ("plan", "history")

    def fits(self, shortfall: Shortfall) -> bool:
        """Say whether it can explain a shortfall."""
        kind = PREFILL if shortfall.figure == "prefill_tok_s" else DECODE
        return kind in self.slows and shortfall.against in self.explains

    def as_facts(self) -> dict[str, Any]:
        """Return it as plain data: the finding, with what it slows and explains."""
        return {**self.finding.as_dict(), "slows": list(self.slows), "explains": list(self.explains)}


def _cause(code: str, check: str, found: str, remedy: str, **limits: tuple[str, ...]) -> Cause:
    return Cause(Finding(code, YELLOW, check, found, remedy), **limits)


class NotChecked(Exception):
    """A check had nothing to look at; the reason, in words."""


Document = Mapping[str, Any]


def _evidence(document: Document, name: str, reason: str) -> list[tuple[str, Any]]:
    """Return a kind of evidence by node; NotChecked where no node has it."""
    found = [(node, facts[name]) for node, facts in document["evidence"].items() if facts.get(name)]
    if not found:
        raise NotChecked(reason)
    return found


def _flags(document: Document) -> list[str]:
    flags = document["key_parts"].get("flags")
    if not flags:
        raise NotChecked("the server's flags are not known")
    return list(flags)


def tcp(document: Document) -> Iterator[Cause]:
    """The ranks talk over TCP instead of RDMA: by NCCL's log, or by the counters of interface and RDMA devices."""
    if len(document["evidence"]) < 2:
        raise NotChecked("one node has no link")
    remedy = "run playbooks/fabric.yml, which measures the link and names what keeps RDMA out; the containers need /dev/infiniband and an unlimited memlock"
    looked = 0
    for node, facts in document["evidence"].items():
        said, link = facts.get("transport") or {}, facts.get("link") or {}
        if said:
            looked += 1
            if not said.get("rdma"):
                channels = sum(count for name, count in said.get("channels", {}).items() if name.startswith("Socket"))
                over = f"{channels} channels via NET/Socket" if channels else f"network {said.get('network')}"
                yield _cause("benchmark.tcp", "transport", f"NCCL talks over TCP on {node} (its log: {over})", remedy)
        elif "tcp_bytes" in link:
            looked += 1
            over_tcp, over_rdma = link["tcp_bytes"], link.get("rdma_bytes", 0)
            if over_tcp >= TCP_BYTES and over_tcp > over_rdma:
                mib = f"{over_tcp / 2**20:.0f} MiB by TCP and {over_rdma / 2**20:.0f} MiB by RDMA"
                yield _cause(
                    "benchmark.tcp",
                    "transport",
                    f"the ranks talk over TCP: {mib} went over the link of {node} during the run",
                    remedy,
                )
    if not looked:
        raise NotChecked("neither NCCL's log nor the link's counters were readable")


def eager(document: Document) -> Iterator[Cause]:
    """Every kernel is launched by the CPU, one by one."""
    if document["simulation"]:
        raise NotChecked("no node has a GPU")
    flags = _flags(document)
    switch = flag_value(flags, "--enforce-eager") is not None
    config = flag_value(flags, "--compilation-config") or flag_value(flags, "-cc") or ""
    try:
        mode = str(json.loads(config).get("cudagraph_mode", "")) if config else ""
    except (ValueError, AttributeError):
        mode = ""
    if not switch and mode.upper() != "NONE":
        return
    plan = document["plan"]
    # A plan that was made for eager execution expects it already.
    if plan.get("enforce_eager") is True or plan.get("cuda_graphs") == "eager":
        return
    said = "--enforce-eager" if switch else "cudagraph_mode NONE"
    yield _cause(
        "benchmark.eager",
        "CUDA graphs",
        f"CUDA graphs are off ({said}), so the CPU launches every kernel of every layer for every token",
        "set vllm_serve_cuda_graphs: auto, which tries them and keeps what works",
        slows=(DECODE,),
        explains=("plan",),
    )


def clock(document: Document) -> Iterator[Cause]:
    """The GPU ran slower than it can, while it had work."""
    for node, seen in _evidence(document, "clocks", "no GPU reported its clocks"):
        if not seen.get("samples"):
            continue
        faults = [word for bit, word in REASONS.items() if bit & (HARDWARE_FAULTS | THERMAL_SOFTWARE)]
        active = [word for word in faults if seen["reasons"].get(word, 0) >= REASON_SHARE]
        at, top = seen.get("clock_mhz"), seen.get("clock_max_mhz")
        heat = f" at {seen['temperature_c']:.0f} degrees Celsius" if seen.get("temperature_c") is not None else ""
        if active:
            share = round(100 * max(seen["reasons"][word] for word in active))
            yield _cause(
                "benchmark.clock",
                "clocks",
                f"the GPU of {node} was slowed down ({', '.join(active)}) in {share} % of the samples under load{heat}",
                "improve its airflow, use its own power supply, and check `nvidia-smi -q -d PERFORMANCE` under load",
            )
        elif at and top and at < LOW_CLOCK * top:
            yield _cause(
                "benchmark.clock",
                "clocks",
                f"the GPU of {node} ran at {at} of {top} MHz under load, and the driver names no reason",
                "pull its power plug for a minute, and use the power supply that came with it: reports of Sparks name this state of the supply",
            )
    if not any(seen.get("samples") for _node, seen in _evidence(document, "clocks", "")):
        raise NotChecked("no sample of the clocks was taken under load")


def swap(document: Document) -> Iterator[Cause]:
    """Memory that the run needed was swapped out."""
    for node, pages in _evidence(document, "swap", "the kernel's swap counters were not readable"):
        if pages.get("pswpin", 0) >= SWAP_PAGES:
            mib = pages["pswpin"] * PAGE_KIB / 1024
            yield _cause(
                "benchmark.swap",
                "swap",
                f"{node} read {mib:.0f} MiB back from swap during the run",
                "lower vllm_serve_gpu_memory_utilization, or stop what else holds memory there; playbooks/report.yml names it",
            )


def small_batch(document: Document) -> Iterator[Cause]:
    """The server takes fewer requests, or smaller pieces of a prompt, at a time than the load offers."""
    flags = _flags(document)
    limit = flag_value(flags, "--max-num-seqs")
    top = max(point["concurrency"] for point in document["points"])
    if limit and limit.isdigit() and int(limit) < top:
        yield _cause(
            "benchmark.small_batch",
            "batch",
            f"{top} requests were sent at a time, and the server computes {limit} at a time (--max-num-seqs): the rest waited",
            f"raise vllm_serve_max_num_seqs to {top} or more where memory allows",
            explains=("plan",),
        )
    step = flag_value(flags, "--max-num-batched-tokens")
    if step and step.isdigit() and int(step) < SMALL_STEP:
        yield _cause(
            "benchmark.small_batch",
            "batch",
            f"prefill runs in chunks of {step} tokens (--max-num-batched-tokens)",
            f"raise it to {SMALL_STEP} or more where memory allows",
            slows=(PREFILL,),
            explains=("plan",),
        )


def preemption(document: Document) -> Iterator[Cause]:
    """Requests lost their place in the cache and were computed again."""
    counts = [(point, point["preemptions"]) for point in document["points"] if point.get("preemptions") is not None]
    if not counts:
        raise NotChecked("the server does not count preemptions")
    point, most = max(counts, key=lambda pair: pair[1])
    if most:
        yield _cause(
            "benchmark.preemption",
            "KV cache",
            f"{most} requests were preempted and recomputed at {point['concurrency']} at a time: the KV cache was full",
            "give the cache more memory (vllm_serve_gpu_memory_utilization), keep it in fp8, or take fewer requests at a time (vllm_serve_max_num_seqs)",
        )


def node_findings(facts: Mapping[str, Any], node: str) -> Iterator[Finding]:
    """Return what of a node spoils a measurement on it.

    Args:
        facts: ``strangers`` (see ``facts.strangers``), and ``load`` with ``cpus``, each where it is known.
        node: what to call the node.
    """
    held = [each for each in facts.get("strangers") or () if (each.get("memory_mib") or 0) >= STRANGER_MIB]
    if held:
        names = ", ".join(f"{each['process']} (pid {each['pid']}, {each['memory_mib']} MiB)" for each in held[:3])
        yield Finding(
            "benchmark.gpu_shared",
            YELLOW,
            "other programs",
            f"other programs hold the GPU of {node}: {names}",
            "stop them; playbooks/takeover.yml does it for what it knows, and says how to bring it back",
            subject=node,
        )
    load, cpus = facts.get("load"), facts.get("cpus")
    if load is not None and cpus and load > LOAD_PER_CPU * cpus:
        yield Finding(
            "benchmark.node_busy",
            YELLOW,
            "other programs",
            f"{node} was busy before the run began (load {load:g} on {cpus} CPU cores)",
            "see what runs there with `top`, stop it, and measure again",
            subject=node,
        )


def others(document: Document) -> Iterator[Cause]:
    """Somebody else used the endpoint, the GPU or the CPU."""
    counts = [point["other_requests"] for point in document["points"] if point.get("other_requests") is not None]
    if sum(counts) > OTHERS_SHARE * sum(point.get("requests", 0) for point in document["points"]):
        yield _cause(
            "benchmark.other_requests",
            "other requests",
            f"{sum(counts)} requests of others were answered during the run",
            "measure again while nobody uses the endpoint",
        )
    seen = len(counts)
    for node, facts in document["evidence"].items():
        known = {"strangers": facts.get("strangers"), "load": facts.get("load_before"), "cpus": facts.get("cpus")}
        seen += (known["strangers"] is not None) + bool(known["load"] is not None and known["cpus"])
        yield from (Cause(finding) for finding in node_findings(known, node))
    if not seen:
        raise NotChecked("neither requests, nor GPU, nor CPU load were readable")


Check = Callable[[Document], Iterator[Cause]]
#: Every check by name, with the words for 'no cause found among'; the likeliest first.
CHECKS: dict[str, tuple[str, Check]] = {
    "tcp": ("TCP instead of RDMA", tcp),
    "clock": ("a throttled GPU", clock),
    "swap": ("swapping", swap),
    "eager": ("CUDA graphs that are off", eager),
    "others": ("other programs and requests", others),
    "preemption": ("a full KV cache", preemption),
    "small_batch": ("a small batch", small_batch),
}


@dataclass(frozen=True)
class Verdict:
    """What a benchmark comes to.

    Attributes:
        level: "below" (well below plan or history), "fine", or "alone" (nothing to compare with).
        shortfalls: figures that are too low.
        causes: facts that can explain them, the likeliest first.
        remarks: facts of the same kind where nothing is too low or they cannot explain it, and what makes figures look too good.
        excluded: what was checked and not found, in words.
        unchecked: what could not be checked, with the reason.
    """

    level: str
    shortfalls: tuple[Shortfall, ...]
    causes: tuple[Cause, ...]
    remarks: tuple[Cause, ...]
    excluded: tuple[str, ...]
    unchecked: tuple[str, ...]
    runs: int

    def sentence(self, document: Document) -> str:
        """Return the verdict in one sentence."""
        if self.level == "below":
            # The plan's shortfall first: it is the one that users ask about.
            worst = min(self.shortfalls, key=lambda each: (each.against != "plan", each.measured / each.expected))
            cause = next((each for each in self.causes if each.fits(worst)), None)
            why = (
                f"likely cause: {cause.finding.found}; {cause.finding.remedy}"
                if cause
                else f"no cause found among: {', '.join(self.excluded) or 'nothing, no check had facts'}"
            )
            return f"{worst.sentence()}; {why}"
        expected = expectation(document["plan"])
        if self.level == "alone":
            return "measured; there is neither a plan nor an earlier run of the same model, image, nodes and flags to compare with"
        parts = []
        if expected.known:
            parts.append(f"the plan ({rate(expected.low or 0)} to {rate(expected.high or 0)} tok/s for one request)")
        if self.runs:
            parts.append(f"{self.runs} earlier run{'s' if self.runs > 1 else ''}")
        return f"not below what to expect from {' and '.join(parts)}"

    def as_facts(self, document: Document) -> dict[str, Any]:
        """Return plain data."""
        return {
            "level": self.level,
            "sentence": self.sentence(document),
            "shortfalls": [each.as_facts() for each in self.shortfalls],
            "causes": [each.as_facts() for each in self.causes],
            "remarks": [each.as_facts() for each in self.remarks],
            "excluded": list(self.excluded),
            "unchecked": list(self.unchecked),
            "earlier_runs": self.runs,
        }


def too_good(document: Document) -> Iterator[Cause]:
    """What makes a figure better than it is."""
    for point in document["points"]:
        share = point.get("prefix_hit_share")
        if share is not None and share > PREFIX_SHARE:
            yield _cause(
                "benchmark.prefix_cache",
                "prefix cache",
                f"{share:.0%} of the prompt tokens at {point['concurrency']} at a time came from the prefix cache: "
                "this prefill rate is too good",
                "use more tokens of prompt (vllm_benchmark_prompt_tokens), so that no two prompts begin alike",
                slows=(),
                explains=(),
            )
    limit = expectation(document["plan"]).limit
    single = [point["decode_tok_s_request"] for point in document["points"] if point["concurrency"] == 1]
    if limit and single and max(single) > ABOVE_LIMIT * limit:
        yield _cause(
            "benchmark.above_limit",
            "plan",
            f"one request gets {rate(max(single))} tok/s, more than memory bandwidth allows by the plan ({rate(limit)})",
            "check the plan's memory_bandwidth_gb_s; speculative decoding beats this limit by design",
            slows=(),
            explains=(),
        )


def judge(document: Document, earlier: Sequence[Document]) -> Verdict:
    """Compare a document with its plan and with earlier ones, and say why where it falls short.

    Args:
        earlier: documents of earlier runs, the oldest first; those with another key are passed over.
    """
    found: list[Cause] = []
    excluded, unchecked = [], []
    for words, check in CHECKS.values():
        try:
            causes = list(check(document))
        except NotChecked as reason:
            unchecked.append(f"{words} ({reason})")
            continue
        if not causes:
            excluded.append(words)
        found += causes
    short = shortfalls(document, earlier)
    causes = [cause for cause in found if any(cause.fits(each) for each in short)]
    remarks = [*(cause for cause in found if cause not in causes), *too_good(document)]
    runs = sum(1 for other in earlier if other["key"] == document["key"])
    level = "below" if short else "fine" if runs or expectation(document["plan"]).known else "alone"
    return Verdict(level, tuple(short), tuple(causes), tuple(remarks), tuple(excluded), tuple(unchecked), runs)
