# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""How vLLM is to read the weights: from memory left, file system and size; and what reading them came to.

vLLM maps safetensors files into memory and copies tensor by tensor. On a Spark that is slow (8 min 41 s against 1 min 28 s for
reading whole files, NVIDIA forum 349886), and its own prefetch is off for a checkpoint above 90 % of the free memory, which a
model for two Sparks always is (vllm/model_executor/model_loader/weight_utils.py of 0.32, safetensors_weights_iterator).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .startup_phases import WEIGHTS

#: Values of --safetensors-load-strategy (vllm/config/load.py of 0.32), and load formats that read safetensors in another way.
STRATEGIES = ("lazy", "eager", "prefetch", "torchao")
FORMATS = ("fastsafetensors", "runai_streamer", "instanttensor")
AUTO = "auto"
#: File systems over a network, as the kernel calls them. vLLM itself prefetches from the first three only.
NETWORK = ("nfs", "nfs4", "lustre", "cifs", "smb3", "ceph", "fuse.sshfs", "9p", "virtiofs")
PREFETCHED = ("nfs", "nfs4", "lustre")
#: Size of a checkpoint's files where nobody looked: what huggingface_hub splits at by default is 5 GB.
FILE_GIB = 5.0
#: Eager holds a file's bytes and the tensors made of them, and the next file may be read before the last is freed.
FILES_HELD = 2
#: Part of a node's memory above which fastsafetensors was reported to fail (eugr/spark-vllm-docker, README).
FAST_LIMIT = 0.8


@dataclass(frozen=True)
class Checkpoint:
    """What is read, and where.

    Attributes:
        weights_gib: GiB of all files.
        available_gib: GiB free on a node while it loads, beyond its share of the weights; 0 for unknown.
        filesystem: as the kernel calls it, of the node where it is slowest; empty or ``local`` for any local one.
        ranks: GPUs that the weights are spread over.
        load_formats: what the image offers; empty for unknown.
        file_gib: GiB of the largest file.
    """

    weights_gib: float
    available_gib: float = 0.0
    filesystem: str = ""
    ranks: int = 1
    load_formats: tuple[str, ...] = ()
    file_gib: float = 0.0

    def __post_init__(self) -> None:
        if self.weights_gib < 0 or self.available_gib < 0 or self.file_gib < 0:
            raise ValueError("weights_gib, available_gib and file_gib must not be below 0")
        if self.ranks < 1:
            raise ValueError(f"ranks is {self.ranks}, expected at least 1")

    @property
    def over_network(self) -> bool:
        """True for a file system of another machine."""
        return self.filesystem in NETWORK

    @property
    def eager_gib(self) -> float:
        """GiB that reading whole files needs beyond the weights."""
        return FILES_HELD * (self.file_gib or min(FILE_GIB, self.weights_gib))


@dataclass(frozen=True)
class Loading:
    """What follows for the command line; None leaves a flag out."""

    load_format: str | None
    safetensors_load_strategy: str | None
    needs_gib: float
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def choose_loading(strategy: str, files: Checkpoint) -> Loading:
    """Return how to read the weights.

    Args:
        strategy: ``auto``, or one of STRATEGIES or FORMATS, which is taken as it is where the memory allows it.

    Raises:
        ValueError: an unknown strategy, or one that this image or this memory does not allow; one sentence.
    """
    if strategy == AUTO:
        return _auto(files)
    if strategy in STRATEGIES:
        return _named(strategy, files)
    if strategy in FORMATS:
        return _format(strategy, files)
    raise ValueError(f"loading strategy is {strategy!r}, expected {', '.join((AUTO, *STRATEGIES, *FORMATS))}")


def _auto(files: Checkpoint) -> Loading:
    where = f"over {files.filesystem}" if files.over_network else "from the local disk"
    if not files.available_gib or not files.weights_gib:
        return Loading(None, None, 0.0, "how much memory is left is not known: vLLM's own choice")
    if files.filesystem in PREFETCHED and files.weights_gib <= files.available_gib:
        return Loading(
            None,
            None,
            files.weights_gib,
            f"vLLM reads {files.weights_gib:.1f} GiB ahead {where}: all of it fits beside",
        )
    if files.eager_gib <= files.available_gib:
        return Loading(
            None,
            "eager",
            round(files.eager_gib, 1),
            f"whole files {where}, one after the other: {files.eager_gib:.1f} GiB beside the weights, "
            f"{files.available_gib:.1f} GiB are left",
        )
    return Loading(
        None,
        "lazy",
        0.0,
        f"mapped {where}, which is slow: whole files would take {files.eager_gib:.1f} GiB beside the weights, "
        f"{files.available_gib:.1f} GiB are left",
    )


def _named(strategy: str, files: Checkpoint) -> Loading:
    needs = {"eager": files.eager_gib, "prefetch": files.weights_gib}.get(strategy, 0.0)
    if strategy == "eager" and files.available_gib and needs > files.available_gib:
        raise ValueError(
            f"loading strategy eager needs {needs:.1f} GiB beside the weights and {files.available_gib:.1f} GiB are left: "
            "take lazy, or lower vllm_serve_gpu_memory_utilization"
        )
    note = ""
    if strategy == "prefetch" and files.available_gib and needs > files.available_gib:
        note = (
            f", although {needs:.1f} GiB do not fit into the {files.available_gib:.1f} GiB that are left: read in vain"
        )
    return Loading(None, strategy, round(needs, 1), f"{strategy}, as set{note}")


def _format(name: str, files: Checkpoint) -> Loading:
    if files.load_formats and name not in files.load_formats:
        offered = [known for known in FORMATS if known in files.load_formats]
        raise ValueError(
            f"loading strategy is {name!r}, which the vLLM in this image does not have: it has {', '.join(offered) or 'none of them'}"
        )
    share = files.weights_gib / files.ranks
    total = share + files.available_gib
    if name == "fastsafetensors" and files.available_gib and share > FAST_LIMIT * total:
        raise ValueError(
            f"loading strategy fastsafetensors with {share:.1f} GiB of weights in {total:.1f} GiB of memory is known to fail: "
            "take eager or lazy"
        )
    return Loading(name, None, 0.0, f"{name}, as set")


def filesystem_of(path: str, mountinfo: str) -> str:
    """Return the type of the file system that holds a path, from the text of /proc/self/mountinfo; empty where it is unknown.

    The longest mount point wins, the last line of equal ones. An automount that waits for its first use counts as what it is.
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        head, dash, tail = line.partition(" - ")
        fields = head.split(" ")
        if not dash or len(fields) < 5:
            continue
        point = fields[4].replace("\\040", " ")
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        if inside and len(point) >= best:
            best, found = len(point), tail.partition(" ")[0]
    return found


# --- what a load took -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """How one node reads the weights.

    Attributes:
        filesystem: as the kernel calls it; empty for unknown.
        link_gbit_s: what the interface of the link runs at by its own word; 0 for unknown.
    """

    filesystem: str = ""
    link_gbit_s: float = 0.0

    @property
    def over_network(self) -> bool:
        """True for a file system of another machine; an automount that nobody has used yet waits for NFS."""
        return self.filesystem in (*NETWORK, "autofs")


@dataclass(frozen=True)
class Source:
    """Where the weights come from, and how fast that can be.

    Attributes:
        kind: ``disk`` or ``link``; empty where no node's file system is known.
        gib_s: GiB a second that it gives; 0 for unknown.
        nominal: what the link runs at by its own word, in words; empty where ``gib_s`` was measured or is unknown.
    """

    kind: str = ""
    gib_s: float = 0.0
    nominal: str = ""


def source_of(readers: Iterable[Reader], measured_gib_s: float = 0.0) -> Source:
    """Return the slowest source that the nodes read from, which is the link as soon as one of them reads over it.

    Args:
        measured_gib_s: what somebody measured of it; 0 for nothing. It counts more than what the link says of itself.
    """
    known = [reader for reader in readers if reader.filesystem]
    over = [reader for reader in known if reader.over_network]
    kind = "link" if over else "disk" if known else ""
    if measured_gib_s > 0:
        return Source(kind, measured_gib_s)
    slowest = min((reader.link_gbit_s for reader in over if reader.link_gbit_s > 0), default=0.0)
    if not slowest:
        return Source(kind)
    return Source(kind, slowest * 1e9 / 8 / 2**30, f"{slowest:g} Gbit/s")


def load_rate(size_gib: float, seconds: float, source: Source | None = None) -> str:
    """Return what a load came to in words: GiB a second, and beside it what disk or link give; that nobody measured it is said.

    Args:
        source: left out, nothing is said of it.
    """
    if size_gib <= 0 or seconds <= 0:
        return ""
    rate = size_gib / seconds
    text = f"weights: {_gib(size_gib)} GiB in {_figure(seconds)} s = {_figure(rate)} GiB/s"
    if source is None:
        return text
    what = source.kind or "disk or link"
    if source.gib_s <= 0:
        return f"{text}; the rate of the {what} was not measured"
    share = f"{text}, {_figure(100 * rate / source.gib_s)} % of the {_figure(source.gib_s)} GiB/s"
    if source.nominal:
        return f"{share} that the {what} is set to ({source.nominal}); the rate of the disk behind it was not measured"
    return f"{share} that were measured of the {what}"


def _gib(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else _figure(value)


def _figure(value: float) -> str:
    """Return three figures, and no exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else "under 0.001"


def load_facts(report: Mapping[str, Any], source: Source | None = None) -> dict[str, Any]:
    """Return what a start says of its weights.

    Args:
        report: what startup_phases.start_report returned.
        source: where they come from; left out, nothing is said of it.

    Returns:
        ``weights_gib``, ``seconds`` (of the slowest rank), ``gib_per_s``, ``source`` (disk, link, or empty), ``source_gib_s``,
        ``source_measured``, and ``text``, one line; None for a figure that is not known.
    """
    size, seconds = report.get("weights_gib"), (report.get("phases") or {}).get(WEIGHTS)
    text = load_rate(size or 0, seconds or 0, source)
    if not text and seconds:
        text = f"weights: {_figure(seconds)} s; how many bytes that were is not known"
    elif not text:
        text = "weights: the server's log does not say how long they took"
    facts: dict[str, Any] = {"weights_gib": size, "seconds": seconds, "gib_per_s": report.get("gib_per_s")}
    if source is not None:
        facts["source"] = source.kind
        facts["source_gib_s"] = round(source.gib_s, 3) or None
        facts["source_measured"] = source.gib_s > 0 and not source.nominal
    return {**facts, "text": text}
