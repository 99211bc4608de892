# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The saved result of a benchmark: its schema, what makes two results comparable, and the comparison with plan and history.

Results lie as JSON files in one folder of the head. Only those with the same *key* are compared: the same model commit, image, nodes
and flags. What differs in anything else (temperature of the room, driver, other programs) is what a comparison is there to show.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..vllm.startup_phases import phases_line

KIND = "dgx_spark.vllm.benchmark"
#: Version of the schema: raised when a reader of the old one would read a new file wrongly.
SCHEMA = 1
NO_JOURNAL = "The journal of the server's start was not there to be read."
#: What a document must have, with the type of each.
REQUIRED: dict[str, type | tuple[type, ...]] = {
    "made": str,
    "key": str,
    "key_parts": dict,
    "model": str,
    "simulation": bool,
    "points": list,
    "plan": dict,
    "startup": dict,
    "evidence": dict,
}
#: Figures of a point that every document has.
POINT_FIGURES = (
    *("concurrency", "prompt_tokens", "output_tokens", "ttft_s", "tpot_ms"),
    *("decode_tok_s_request", "decode_tok_s_total", "prefill_tok_s"),
)
#: Flags that change where the server listens and how it is called, not how fast it is; each has a value.
_INDIFFERENT = (
    "--host",
    "--port",
    "--served-model-name",
    "--api-key",
    "--tool-call-parser",
    "--reasoning-parser",
    "--uvicorn-log-level",
)
_INDIFFERENT_SWITCHES = ("--enable-auto-tool-choice",)
#: Below this part of the median of earlier runs a figure counts as slower. A choice: how far runs on a Spark differ is not measured.
HISTORY_SHARE = 0.85
#: Earlier runs that a figure is compared with.
HISTORY_RUNS = 10
#: A measured rate this far above the plan's limit says that the plan's inputs are wrong.
ABOVE_LIMIT = 1.05
#: Figures of a point that are compared, with their words.
COMPARED = {
    "decode_tok_s_request": "decode rate of a request",
    "decode_tok_s_total": "decode rate of all requests",
    "prefill_tok_s": "prefill rate",
}


class ResultError(ValueError):
    """One sentence for the user."""


# --- what makes two results comparable ----------------------------------------------------------------------


def speed_flags(argv: Sequence[str]) -> list[str]:
    """Return the arguments of ``vllm serve`` that can change its speed, sorted by flag; the path of the weights is not one of them."""
    flags: list[list[str]] = []
    for part in argv:
        if part.startswith("--"):
            name, equals, value = part.partition("=")
            flags.append([name, value] if equals else [name])
        elif flags:
            flags[-1].append(part)
    kept = [flag for flag in flags if flag[0] not in (*_INDIFFERENT, *_INDIFFERENT_SWITCHES)]
    return [" ".join(flag) for flag in sorted(kept)]


def flag_value(flags: Iterable[str], name: str) -> str | None:
    """Return the value of a flag of :func:`speed_flags`; "" for a switch, None where it is absent."""
    for flag in flags:
        found, _space, value = flag.partition(" ")
        if found == name:
            return value
    return None


def key_of(parts: Mapping[str, Any]) -> str:
    """Return 16 hexadecimal digits that stand for model, commit, image, nodes and flags."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def file_name(document: Mapping[str, Any]) -> str:
    """Return the file's name: time, model, key. Times sort as text."""
    stamp = re.sub(r"[^0-9TZ]", "", str(document["made"]))
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", str(document["model"])).strip("-.") or "model"
    return f"{stamp}-{model}-{document['key']}.json"


# --- reading and writing ------------------------------------------------------------------------------------


def check_document(document: Any) -> dict[str, Any]:
    """Return a document that can be read here.

    Raises:
        ResultError: it is none, of a newer schema, or lacks something; one sentence.
    """
    if not isinstance(document, dict) or document.get("kind") != KIND:
        raise ResultError("it is no benchmark of this collection")
    if not isinstance(document.get("schema"), int) or document["schema"] > SCHEMA:
        raise ResultError(f"it has schema {document.get('schema')}, this version reads up to {SCHEMA}")
    for name, kind in REQUIRED.items():
        if not isinstance(document.get(name), kind):
            raise ResultError(f"it has no usable {name}")
    for point in document["points"]:
        for name in POINT_FIGURES:
            value = point.get(name) if isinstance(point, dict) else None
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ResultError(f"one of its points has no number {name}")
    return document


def read_folder(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the documents of a folder, the oldest first, and one sentence for each file that cannot be read."""
    documents, problems = [], []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            documents.append(check_document(json.loads(path.read_text(encoding="utf-8"))))
        except ResultError as error:
            problems.append(f"{path} is left out: {error}")
        except (OSError, ValueError) as error:
            problems.append(f"{path} is left out: {getattr(error, 'strerror', None) or 'it is not JSON'}")
    documents.sort(key=lambda document: str(document["made"]))
    return documents, problems


def text_of(document: Mapping[str, Any]) -> str:
    """Return the text of a document's file."""
    # In the order they were put together: the phases of a start are in order of time.
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def brief(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a history needs of an earlier document."""
    return {
        "made": document["made"],
        "key": document["key"],
        "points": [{name: point[name] for name in POINT_FIGURES} for point in document["points"]],
        "startup": document["startup"],
    }


# --- comparing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expectation:
    """What the plan expects of one request at a time, in tokens a second; None where it says nothing."""

    low: float | None = None
    high: float | None = None
    limit: float | None = None

    @property
    def known(self) -> bool:
        """Say whether the plan gives a range."""
        return self.low is not None and self.high is not None


def expectation(plan: Mapping[str, Any]) -> Expectation:
    """Return the expected decode rate of a plan: a range, a mapping with low and high, or one number."""
    limit = _positive(plan.get("decode_tok_s_limit"))
    value = plan.get("decode_tok_s_expected")
    if isinstance(value, Mapping):
        low, high = _positive(value.get("low")), _positive(value.get("high"))
    elif isinstance(value, (list, tuple)) and len(value) == 2:
        low, high = _positive(value[0]), _positive(value[1])
    else:
        low = high = _positive(value)
    if low is None or high is None:
        return Expectation(limit=limit)
    return Expectation(min(low, high), max(low, high), limit)


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 else None


@dataclass(frozen=True)
class Shortfall:
    """A figure that is lower than it should be.

    Attributes:
        figure: a name of COMPARED.
        against: "plan" or "history".
        expected: the low end of the plan's range, or the median of the earlier runs.
        runs: how many earlier runs that median is of; 0 for the plan.
    """

    figure: str
    concurrency: int
    prompt_tokens: int
    measured: float
    expected: float
    against: str
    runs: int = 0

    def sentence(self) -> str:
        """Return it in words."""
        at = "1 request" if self.concurrency == 1 else f"{self.concurrency} requests"
        below = round(100 * (1 - self.measured / self.expected))
        than = (
            "the low end of the plan's range"
            if self.against == "plan"
            else f"the median of {self.runs} earlier run{'s' if self.runs > 1 else ''}"
        )
        return (
            f"{COMPARED[self.figure]} at {at} with {self.prompt_tokens} tokens of prompt is {rate(self.measured)} tok/s, "
            f"{below} % below {than} ({rate(self.expected)})"
        )

    def as_facts(self) -> dict[str, Any]:
        """Return plain data, with the sentence."""
        return {**asdict(self), "text": self.sentence()}


def median(values: Sequence[float]) -> float:
    """Return the middle of the values, the mean of the two in the middle for an even number of them."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def load_of(point: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return what makes two points the same load."""
    return int(point["concurrency"]), int(point["prompt_tokens"]), int(point["output_tokens"])


def same_load(point: Mapping[str, Any], earlier: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the points of earlier documents under the same load, the oldest first."""
    wanted = load_of(point)
    return [other for document in earlier for other in document["points"] if load_of(other) == wanted]


def shortfalls(document: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> list[Shortfall]:
    """Return where a document is well below its plan or its own history.

    The plan speaks of one request at a time, so only such points are held against it; of several prompt lengths the shortest, whose
    attention costs least.
    """
    found = []
    expected = expectation(document["plan"])
    single = sorted(
        (point for point in document["points"] if point["concurrency"] == 1), key=lambda point: point["prompt_tokens"]
    )
    if single and expected.low is not None and single[0]["decode_tok_s_request"] < expected.low:
        point = single[0]
        found.append(
            Shortfall(
                "decode_tok_s_request", 1, point["prompt_tokens"], point["decode_tok_s_request"], expected.low, "plan"
            )
        )
    recent = [other for other in earlier if other["key"] == document["key"]][-HISTORY_RUNS:]
    for point in document["points"]:
        before = same_load(point, recent)
        for figure in COMPARED if before else ():
            # For one request both decode rates are the same thing.
            if figure == "decode_tok_s_total" and point["concurrency"] == 1:
                continue
            usual = median([float(other[figure]) for other in before])
            if usual > 0 and point[figure] < HISTORY_SHARE * usual:
                found.append(
                    Shortfall(
                        figure,
                        point["concurrency"],
                        point["prompt_tokens"],
                        point[figure],
                        usual,
                        "history",
                        len(before),
                    )
                )
    return found


def rate(value: float) -> str:
    """Return a rate with three figures: 9.72, 36.4, 11900."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def table(document: Mapping[str, Any]) -> list[str]:
    """Return the points as lines for a terminal."""
    head = ("at a time", "prompt", "answer", "first token", "token", "decode/request", "decode/all", "prefill")
    rows: list[tuple[str, ...]] = [head, ("", "tokens", "tokens", "s", "ms", "tok/s", "tok/s", "tok/s")]
    for point in sorted(document["points"], key=lambda each: (each["prompt_tokens"], each["concurrency"])):
        rows.append(
            (
                *(str(point[name]) for name in ("concurrency", "prompt_tokens", "output_tokens")),
                f"{point['ttft_s']:.3f}",
                f"{point['tpot_ms']:.1f}",
                *(rate(point[name]) for name in ("decode_tok_s_request", "decode_tok_s_total", "prefill_tok_s")),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [*lines[:2], "-" * len(lines[0]), *lines[2:]]


def start_lines(document: Mapping[str, Any]) -> list[str]:
    """Return the server's last start as lines for a terminal: seconds by phase, and the rate at which it read the weights."""
    phases = phases_line(document["startup"])
    if not phases:
        return ["", NO_JOURNAL]
    weights = str((document.get("loading") or {}).get("text") or "")
    return ["", phases, *([weights] if weights else [])]
