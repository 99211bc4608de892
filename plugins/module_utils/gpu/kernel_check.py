# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The host's side of the kernel probe: run it in a container of the serving image, read its document, judge it.

The probe (``kernel_probe``) travels over standard input, so nothing is mounted and nothing stays behind. Its result is kept
with the digest of what it depends on (image, driver, kernel, boot, probe) and is used again while that holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..docker.cli import BARE, DOCKER, remove_container, running
from ..report.finding import RED, YELLOW, Finding, as_dicts, fine, sentences
from ..system.files import write_atomic
from ..system.run import GIVEN_UP, MISSING, Runner, run
from ..system.units import ORDER
from .kernel_probe import CHECKS, FORMAT, MARKER
from .policy import ALLOWED, BROKEN, REFUSED, TRY, UNKNOWN, Evidence, Trial, verdicts
from .runtime import Gpu, clock_finding, number, parse_reasons

#: Name of the probe's container, so that one that was left behind is found and removed.
CONTAINER = "spark-kernel-check"
#: GiB that the probe needs: torch's and vLLM's libraries, a CUDA context and some small matrices.
NEED_GIB = 6.0
#: What was looked at, where no single check can be named.
KERNELS = "kernels"
#: Checks that must pass whatever is served; what the others mean is for the policy to say.
ESSENTIAL = ("versions", "device", "bf16_matmul")


class KernelCheckError(Exception):
    """The probe could not be run; ``str()`` is one sentence."""


class ProbeError(KernelCheckError):
    """The probe's container failed; ``finding`` says what that means."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.sentence())
        self.finding = finding


@dataclass(frozen=True)
class Probe:
    """What is run: image (by id), devices of the container, checks, and limits in seconds."""

    image_id: str
    devices: tuple[str, ...]
    checks: tuple[str, ...]
    seconds: float = 300.0
    load_seconds: float = 3.0
    environment: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for name in self.checks:
            if name not in CHECKS:
                raise ValueError(f"checks: {name!r} is unknown, expected {', '.join(CHECKS)}")
        if not self.checks:
            raise ValueError(f"checks is empty, expected some of {', '.join(CHECKS)}")
        if self.seconds <= 0 or not 0.5 <= self.load_seconds <= 60:
            raise ValueError(
                f"seconds is {self.seconds:g} and load_seconds {self.load_seconds:g}, expected more than 0, and 0.5 to 60"
            )

    @property
    def total_seconds(self) -> float:
        """Return the longest that the whole run may take: every check to its limit, and Docker's start."""
        return self.seconds * len(self.checks) + 60

    def argv(self) -> list[str]:
        """Return the ``docker run``: no network, no mounts, the image's Python in place of its entry point."""
        command = [DOCKER, "run", "--rm", "--interactive", "--name", CONTAINER, "--network", "none", *BARE]
        # The clock comes from nvidia-smi in the container, which the toolkit brings along with `utility`.
        command += ["--log-driver", "none", "--shm-size", "1g", "--env", "NVIDIA_DRIVER_CAPABILITIES=compute,utility"]
        for device in self.devices:
            command += ["--device", device]
        for name, value in self.environment:
            command += ["--env", f"{name}={value}"]
        command += ["--entrypoint", "python3", self.image_id, "-"]
        return [*command, f"--seconds={self.seconds:g}", f"--load-seconds={self.load_seconds:g}", *self.checks]


def digest(probe: Probe, source: str, facts: Mapping[str, str]) -> str:
    """Return the digest of what a result depends on.

    Args:
        source: text of the probe.
        facts: of the node: driver, kernel, boot id, GPUs.
    """
    document = {"argv": probe.argv(), "source": source, "facts": dict(sorted(facts.items()))}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def serving_containers(run: Runner) -> list[str]:
    """Return those of the cluster's containers that run now; DockerError where Docker does not answer."""
    names = running(run)
    return [name for name in ORDER if name in names]


def run_probe(probe: Probe, source: str, run: Runner = run) -> dict[str, Any]:
    """Run the probe in its container and return its document.

    Raises:
        KernelCheckError: no document came; says why, as far as Docker's message tells.
    """
    remove_container(run, CONTAINER)
    code, out, err = run(probe.argv(), probe.total_seconds, data=source)
    if code == GIVEN_UP:
        remove_container(run, CONTAINER)
        raise ProbeError(
            Finding(
                "gpu.probe_hangs",
                RED,
                KERNELS,
                f"the kernel check gave no result within {probe.total_seconds:g} s and was stopped, so a kernel hangs in a way that cannot be killed",
                "look at `dmesg | grep -i xid` and reboot the node",
            )
        )
    if code == MISSING and err.startswith(f"{DOCKER}:"):
        raise KernelCheckError(f"{err}; run role container_runtime first")
    if code != 0:
        raise ProbeError(explain_docker(code, err, probe))
    return parse_document(out, err)


def parse_document(out: str, err: str = "") -> dict[str, Any]:
    """Return the document in the probe's output; whatever the image prints before it is passed over.

    Raises:
        KernelCheckError: there is none, or one of another format.
    """
    lines = [line for line in out.splitlines() if line.startswith(MARKER)]
    try:
        document = json.loads(lines[-1][len(MARKER) :]) if lines else None
    except ValueError:
        document = None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        last = next((line.strip() for line in reversed((err or out).splitlines()) if line.strip()), "nothing")
        raise KernelCheckError(
            f"the kernel check ended without a result (last output: {last[:200]}): the image's python3 cannot run it"
        )
    return document


def explain_docker(code: int, err: str, probe: Probe) -> Finding:
    """Return why ``docker run`` failed."""
    lines = [line.strip() for line in err.splitlines() if line.strip() and "docker run --help" not in line]
    said = " ".join(lines)[-300:].removeprefix("docker: ") or f"status {code}"
    lowered = said.lower()
    device = ", ".join(probe.devices)

    def red(code: str, found: str, remedy: str) -> Finding:
        return Finding(code, RED, KERNELS, found, remedy)

    if "unresolvable cdi devices" in lowered:
        return red(
            "docker.device_unknown",
            f"Docker knows no device {device} ({said})",
            "run role container_runtime, which sets up CDI",
        )
    # The daemon's words; and those of a client before 25, to which a CDI name looks like a path.
    if "could not select device driver" in lowered or "is not an absolute path" in lowered:
        return red(
            "docker.without_cdi",
            f"Docker on this node does not support CDI ({said})",
            "use Docker 25 or newer with CDI on; run role container_runtime",
        )
    if "error gathering device information" in lowered:
        return red(
            "docker.device_missing",
            f"Docker found no device {device} ({said})",
            "see that this node has an NVIDIA GPU and its driver",
        )
    if "mismatch" in lowered:
        return red(
            "gpu.driver_mismatch",
            f"driver and library differ ({said})",
            "the driver was updated under the running kernel: reboot this node",
        )
    if "exec format error" in lowered or "does not match the detected host platform" in lowered:
        return red(
            "image.architecture",
            f"image {probe.image_id} is for another architecture ({said})",
            "take the image for this machine",
        )
    if "no such image" in lowered or "unable to find image" in lowered:
        return red("image.missing", f"image {probe.image_id} is not on this node", "run role serving_image first")
    if code == 127 or "executable file not found" in lowered:
        return red(
            "image.no_python",
            f"image {probe.image_id} has no python3 ({said})",
            "it is no serving image: name another one",
        )
    return red(
        "gpu.probe_failed",
        f"the container of the kernel check failed: {said}",
        "look at `journalctl --unit docker`, and run it again",
    )


# --- judging ------------------------------------------------------------------------------------------------


def evidence(document: Mapping[str, Any], nodes: int, trial: Trial | None) -> Evidence:
    """Return what the policy looks at."""
    checks = {check["name"]: check for check in document["checks"]}
    found = (checks.get("versions") or {}).get("details") or {}
    return Evidence(
        states={name: check["state"] for name, check in checks.items()},
        reasons={name: check["reason"] for name, check in checks.items()},
        vllm=str((found.get("packages") or {}).get("vllm", "")),
        nccl=str(found.get("nccl", "")),
        nodes=nodes,
        trial=trial,
    )


def judge(
    document: Mapping[str, Any], required: Sequence[str], nodes: int = 1, trial: Trial | None = None
) -> dict[str, Any]:
    """Return what follows from a document.

    Args:
        required: capabilities (``awq``, ``nvfp4``, ``cuda_graphs``) without which the node cannot do its work.
        nodes: Sparks that one model is spread over.

    Returns:
        ``healthy``, ``capabilities`` (see ``policy.verdicts``), ``findings`` and ``problems`` (a sentence for each red one).
    """
    decided = verdicts(evidence(document, nodes, trial))
    for name in required:
        if name not in decided:
            raise ValueError(f"required: {name!r} is unknown, expected {', '.join(decided)}")
    findings = [
        *_check_findings(document),
        *(_capability(name, said, name in required) for name, said in decided.items()),
    ]
    problems = sentences(findings)
    return {
        "healthy": not problems,
        "capabilities": decided,
        "findings": as_dicts(findings),
        "problems": problems,
    }


def without_result(message: str) -> list[Finding]:
    """Return what the report says where no kernel was run: it is no fault."""
    return [fine("gpu", KERNELS, message)]


def _capability(name: str, said: Mapping[str, str], required: bool) -> Finding:
    """Return the finding of a capability: what nobody needs may be refused without spoiling a healthy node."""
    found, remedy = f"{name} is {said['verdict']}: {said['reason']}", said["remedy"]
    if said["verdict"] == ALLOWED or (not required and said["verdict"] != UNKNOWN):
        return fine("gpu", name, f"{found}; {remedy}" if remedy else found, name)
    if said["verdict"] == REFUSED:
        return Finding("gpu.capability_refused", RED, name, found, remedy, subject=name)
    if said["verdict"] == TRY:
        return Finding("gpu.capability_untried", YELLOW, name, found, remedy, subject=name)
    return Finding("gpu.capability_unknown", RED if required else YELLOW, name, found, remedy, subject=name)


def _check_findings(document: Mapping[str, Any]) -> list[Finding]:
    """Return a row for each essential check, for Triton's assembler and for the clock under load."""
    rows = []
    capability = ""
    for check in document["checks"]:
        name, state, details = check["name"], check["state"], check["details"]
        if name == "device" and state == "passed":
            capability = details["compute_capability"]
        if name in ESSENTIAL:
            rows.append(_essential(name, state, check["reason"], details))
        if name == "versions" and state == "passed" and details.get("torch_error"):
            rows.append(Finding("gpu.torch_broken", RED, "torch", details["torch_error"], "take a serving image"))
        if name == "load" and state == "passed" and (gpu := _sampled(details)):
            rows.append(clock_finding(gpu, busy=True, loaded=True))
        elif name == "load" and state in BROKEN:
            rows.append(
                Finding(
                    "gpu.load_failed",
                    RED,
                    "load",
                    f"the GPU failed under load ({check['reason']})",
                    "look at `dmesg | grep -i xid`",
                )
            )
    versions = next((check for check in document["checks"] if check["name"] == "versions"), None)
    if versions and capability == "12.1":
        rows += _assembler(versions["details"].get("ptxas") or [])
    return rows


def _essential(name: str, state: str, reason: str, details: Mapping[str, Any]) -> Finding:
    if state != "passed":
        remedy = "take another image, or look at `dmesg | grep -i -e nvrm -e xid`"
        if name == "device":
            remedy = (
                "see that driver and image fit (CUDA 13 wants a driver of the 580 branch), and that the container gets the GPU by CDI: "
                "run role container_runtime"
            )
        return Finding(
            "gpu.check_failed", RED, name, f"check {name} {state.replace('_', ' ')}: {reason}", remedy, subject=name
        )
    if name == "versions":
        packages = ", ".join(f"{package} {version}" for package, version in (details.get("packages") or {}).items())
        return fine(
            "gpu",
            name,
            f"the image holds {packages or 'none of the packages looked for'}, NCCL {details.get('nccl') or 'unknown'}",
        )
    if name == "device":
        return fine(
            "gpu", name, f"the container sees {details['name']}, compute capability {details['compute_capability']}"
        )
    return fine("gpu", name, f"a bfloat16 product is right (off by {details['error']:g})")


def _sampled(details: Mapping[str, Any]) -> Gpu | None:
    """Return the GPU as nvidia-smi showed it under load; None where the container has no nvidia-smi."""
    if len(details.get("sample") or []) != len(details.get("fields") or []) or not details.get("sample"):
        return None
    value = dict(zip(details["fields"], details["sample"], strict=True))
    clock, highest = number(value["clocks.sm"]), number(value["clocks.max.sm"])
    return Gpu(
        index=0,
        name="",
        clock_sm_mhz=None if clock is None else int(clock),
        clock_sm_max_mhz=None if highest is None else int(highest),
        reasons=parse_reasons(value["clocks_event_reasons.active"]),
        power_w=number(value["power.draw"]),
        temperature_c=number(value["temperature.gpu"]),
    )


def _assembler(found: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Judge Triton's assembler: up to 3.5 the one that Triton brings does not know sm_121a."""
    if not found or any(entry["sm_121a"] for entry in found[:1]):
        return []
    able = next((entry["path"] for entry in found if entry["sm_121a"]), "")
    remedy = (
        f"set TRITON_PTXAS_PATH={able} in the serving environment" if able else "take an image with CUDA 12.9 or newer"
    )
    return [
        Finding(
            "gpu.ptxas_old", YELLOW, "ptxas", f"Triton's assembler {found[0]['path']} does not know sm_121a", remedy
        )
    ]


# --- the record ---------------------------------------------------------------------------------------------


def read_record(path: Path, wanted: str) -> dict[str, Any] | None:
    """Return the document kept for this digest; None where there is none, or it is for another."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        document = record["document"] if record["digest"] == wanted else None
        parse_document(MARKER + json.dumps(document))
    except (OSError, ValueError, KeyError, TypeError, KernelCheckError):
        return None
    return dict(document) if document else None


def write_record(path: Path, wanted: str, document: Mapping[str, Any]) -> None:
    """Keep a document; one with a hang or a crash is not kept, so that the next run looks again."""
    if any(check["state"] in ("timed_out", "crashed") for check in document["checks"]):
        path.unlink(missing_ok=True)
        return
    write_atomic(path, json.dumps({"digest": wanted, "document": document}) + "\n")
