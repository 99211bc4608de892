# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""What a serving image is called, holds and lacks: references, versions, and the one layer that adds Ray.

The probe runs in a container of the image, without network, GPU or an import of torch or vLLM: it reads what is installed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..report.finding import RED, YELLOW, Finding
from ..system.pip_lock import HASHED, canonical, covers, entries, refused
from ..system.run import COLOUR, Runner, last_line
from .cli import DockerError, throwaway

#: What was checked.
CHECK = "serving image"
#: First Ray with token authentication, without which its port runs anybody's code (CVE-2023-48022).
RAY_WITH_TOKENS = (2, 52)
#: (first and last vLLM, Ray, what happens) that are known not to work together.
BAD_PAIRS = (
    ((0, 18, 1), (0, 19, 1), (2, 54, 1), "crash at the first request over several nodes (ray-project/ray#62427)"),
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "amd64": "amd64"}
_REGISTRY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.-]*(?::\d+)?$")
_REPOSITORY = re.compile(r"^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$")
_TAG = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_MIRROR = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9.-]*(?::\d+)?(?:/[a-z0-9][a-z0-9._-]*)*$")
_VERSION = re.compile(r"^\d+(?:\.\d+)+")
_DEFAULT_REGISTRY = "docker.io"
# Words of pip 22 to 26; Docker's BuildKit puts its own before each line.
_UNMET = re.compile(
    r"versions pinned with ==\. These do not:\s*\n(?:#\d+ [\d.]+)?\s*(.+?) from \S+ \(from (\S+?)(?:->|\))"
)
_CONFLICT = re.compile(r"Cannot install (.+?) because these package versions have conflicting")
_MISSING = re.compile(r"No matching distribution found for (\S+)")

#: Seconds for the probe of an image; reading what is installed takes about one.
PROBE_SECONDS = 120
CA_IN_BUILD = "ca.pem"
WHEELS_IN_BUILD = "wheels"
LIST_IN_BUILD = "requirements.txt"
#: Where the list of what was added stays in the image.
LIST_IN_IMAGE = "/usr/local/share/dgx-spark/ray-requirements.txt"
#: What wants the very OpenTelemetry that is there: it takes the version of its sibling, which is released with it under one number.
SIBLINGS = {"opentelemetry-exporter-prometheus": "opentelemetry-semantic-conventions"}


# --- names --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reference:
    """An image's name in its parts; ``tag`` and ``digest`` are empty where the name has none."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        path = f"{self.registry}/{self.repository}" if self.registry else self.repository
        return path + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """Return the parts of `registry/repository:tag@sha256:digest`.

    A first part is a registry when it has a dot or a port, or is localhost, as Docker has it.

    Raises:
        ValueError: one sentence that names the text.
    """
    path, at, digest = text.partition("@")
    head, slash, last = path.rpartition("/")
    # A colon in the last part is before the tag, one further ahead before a port.
    last, colon, tag = last.partition(":")
    path = f"{head}{slash}{last}"
    first, slash, rest = path.partition("/")
    registry = first if slash and ("." in first or ":" in first or first == "localhost") else ""
    repository = rest if registry else path
    fine = (
        (not registry or _REGISTRY.match(registry))
        and _REPOSITORY.match(repository)
        and (not colon or _TAG.match(tag))
        and (not at or _DIGEST.match(digest))
    )
    if not fine:
        raise ValueError(
            f"image {text!r} is no image name: expected one like registry.example/group/name:tag, or name@sha256:<64 hex digits>"
        )
    return Reference(registry, repository, tag, digest)


def mirrored(text: str, mirror: str) -> str:
    """Return the name under which a mirror has an image: its registry replaced, and `library/` put before a short name.

    Args:
        text: the image's own name.
        mirror: registry of the mirror, with a path where it keeps others' images below one; empty for none.

    Raises:
        ValueError: either is no such name.
    """
    reference = parse_reference(text)
    if not mirror:
        return text
    if not _MIRROR.match(mirror) or "://" in mirror:
        raise ValueError(
            f"mirror {mirror!r} is no registry: expected host, host:port or host:port/path, without https://"
        )
    registry, _slash, folder = mirror.partition("/")
    repository = reference.repository
    if reference.registry in ("", _DEFAULT_REGISTRY) and "/" not in repository:
        repository = f"library/{repository}"
    path = f"{folder.rstrip('/')}/{repository}" if folder else repository
    return str(Reference(registry, path, reference.tag, reference.digest))


def architecture(name: str) -> str:
    """Return Docker's name of an architecture (`amd64`, `arm64`) for the kernel's or Docker's own."""
    return _ARCHITECTURES.get(name, name)


def judge_architecture(image: str, has: str, node: str) -> Finding | None:
    """Return what is wrong where an image is for another architecture than the node; both in whosever words."""
    if not has or not node or architecture(has) == architecture(node):
        return None
    return Finding(
        "image.architecture",
        RED,
        "image",
        f"image {image!r} is for {architecture(has)} and this node is {architecture(node)}",
        f"name one that is built for {architecture(node)}",
    )


def architecture_problem(image: str, has: str, node: str) -> str:
    """Return the same as a sentence; empty where nothing is wrong."""
    found = judge_architecture(image, has, node)
    return found.sentence() if found else ""


def pull_problem(reference: str, output: str) -> str:
    """Return why a pull failed, in one sentence with what to do, from what Docker said of it."""
    said = output.strip().splitlines()[-1].strip() if output.strip() else "no output"
    text = output.lower()
    if "no matching manifest" in text or "no match for platform" in text:
        platform = re.search(r"no matching manifest for (\S+)", text)
        what = f" for {platform.group(1).rstrip('.')}" if platform else ""
        why = f"exists, but not{what}: name one that is built for this machine"
    elif "x509" in text or "certificate" in text:
        why = "has a certificate that this node does not trust: set spark_ca_bundle to the certificate file of its authority"
    elif any(
        words in text for words in ("unauthorized", "authentication required", "denied", "access forbidden", "401")
    ):
        why = (
            "is refused by its registry: log in on this node with `docker login` as root, and check the name for a typing error "
            "(a registry also answers so for what does not exist)"
        )
    elif "manifest unknown" in text or "not found" in text:
        why = "does not exist in its registry: check its name and tag"
    elif "no space left" in text:
        why = "does not fit on the disk: free some space where Docker keeps its images (`docker system df`; `docker info` names the folder)"
    elif "toomanyrequests" in text or "rate limit" in text:
        why = "is refused because of too many pulls: log in with `docker login`, wait, or set serving_image_mirror"
    elif any(
        words in text
        for words in ("no such host", "dial tcp", "timeout", "connection refused", "name resolution", "eof")
    ):
        why = "cannot be reached from this node: check its network and proxy, or set serving_image_mirror or serving_image_archive"
    else:
        return f"pull of {reference} failed: {said}"
    return f"image {reference} {why} (Docker: {said[:200]})"


# --- content ------------------------------------------------------------------------------------------------

#: Distributions that the probe looks for; NCCL comes under a name for each CUDA.
PACKAGES = ("vllm", "ray", "torch", "triton", "flashinfer-python", "transformers", "aiohttp-cors")

PROBE = r'''
import ctypes, ctypes.util, glob, importlib.metadata as metadata, json, os, platform, re, shutil, sys

def version(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""

def installed():
    """Versions by name: of what is there twice, the one that Python imports."""
    found = [(d.metadata.get("Name"), d.version) for d in metadata.distributions()]
    return {name: number for name, number in reversed(found) if name}

def nccl():
    """(version, where): what torch brings along wins over the system's, as it does when torch is imported."""
    places = [p for path in sys.path for p in glob.glob(os.path.join(path, "nvidia", "nccl", "lib", "libnccl.so.2"))]
    places += sorted(glob.glob("/usr/lib/*-linux-gnu/libnccl.so.2")) + sorted(glob.glob("/usr/local/lib/libnccl.so.2"))
    for place in places:
        number = ctypes.c_int()
        try:
            if ctypes.CDLL(place).ncclGetVersion(ctypes.byref(number)) == 0:
                v = number.value
                return "%d.%d.%d" % (v // 10000, v // 100 % 100, v % 100), place
        except (OSError, AttributeError):
            pass
        found = re.search(r"\.so\.(\d+\.\d+\.\d+)$", os.path.realpath(place))
        if found:
            return found.group(1), place
    return "", ""

number, place = nccl()
print(json.dumps({
    "packages": {name: version(name) for name in PACKAGES},
    "installed": installed(),
    "nccl": number, "nccl_library": place, "cuda": os.environ.get("CUDA_VERSION", ""),
    "python": platform.python_version(), "machine": platform.machine(),
    "programs": {name: shutil.which(name) or "" for name in ("vllm", "ray", "python3", "ptxas")},
}))
'''.replace("PACKAGES", repr(PACKAGES))


def probe_image(run: Runner, image: str) -> ImageFacts:
    """Return what an image holds.

    Raises:
        DockerError: its container cannot be run, or says what is no answer.
    """
    code, out, err = throwaway(run, image, ["python3", "-c", PROBE], PROBE_SECONDS)
    if code:
        raise DockerError(f"image {image!r} cannot be inspected, its python3 failed: {last_line(out, err)}")
    try:
        return parse_probe(out)
    except ValueError as error:
        raise DockerError(f"image {image!r} cannot be inspected: {error}") from None


@dataclass(frozen=True)
class ImageFacts:
    """Versions in an image, empty for what it has not; ``programs`` by name with their paths.

    ``ray_dashboard`` says whether Ray came with its extra `default`: the dashboard, which the cluster's checks ask. ``installed`` is
    every Python package, by the name that packages are compared by.
    """

    vllm: str = ""
    ray: str = ""
    ray_dashboard: bool = False
    torch: str = ""
    triton: str = ""
    flashinfer: str = ""
    transformers: str = ""
    nccl: str = ""
    nccl_library: str = ""
    cuda: str = ""
    python: str = ""
    architecture: str = ""
    programs: Mapping[str, str] = field(default_factory=dict)
    installed: Mapping[str, str] = field(default_factory=dict)

    def as_facts(self) -> dict[str, Any]:
        """Return what is worth showing; the hundreds of packages are not."""
        return {name: value for name, value in asdict(self).items() if name != "installed"}


def _text(document: Mapping[str, Any], name: str) -> str:
    """Return a text of the probe's document; empty where it is none."""
    value = document.get(name)
    return value if isinstance(value, str) else ""


def parse_probe(text: str) -> ImageFacts:
    """Return what the probe printed; an image's entry point may print before it.

    Raises:
        ValueError: no line of it is the probe's.
    """
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        packages = found.get("packages") if isinstance(found, Mapping) else None
        if not isinstance(packages, Mapping):
            continue
        programs, installed = found.get("programs"), found.get("installed")
        return ImageFacts(
            vllm=_text(packages, "vllm"),
            ray=_text(packages, "ray"),
            ray_dashboard=bool(_text(packages, "ray") and _text(packages, "aiohttp-cors")),
            torch=_text(packages, "torch"),
            triton=_text(packages, "triton"),
            flashinfer=_text(packages, "flashinfer-python"),
            transformers=_text(packages, "transformers"),
            nccl=_text(found, "nccl"),
            nccl_library=_text(found, "nccl_library"),
            cuda=_text(found, "cuda"),
            python=_text(found, "python"),
            architecture=architecture(_text(found, "machine")),
            programs={str(name): str(path) for name, path in programs.items() if path}
            if isinstance(programs, Mapping)
            else {},
            installed={canonical(str(name)): str(version) for name, version in installed.items()}
            if isinstance(installed, Mapping)
            else {},
        )
    raise ValueError("the probe printed nothing that could be read")


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version (`0.31.0+nv26.10` is 0, 31, 0); empty for none."""
    match = _VERSION.match(version)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def ray_problem(facts: ImageFacts) -> str:
    """Return why the Ray of an image will not do; empty when it will."""
    if not facts.ray:
        return "it has no Ray"
    if numbers(facts.ray) < RAY_WITH_TOKENS:
        return f"its Ray {facts.ray} has no token authentication, which came with {'.'.join(map(str, RAY_WITH_TOKENS))}"
    if not facts.ray_dashboard:
        return f"its Ray {facts.ray} came without the dashboard (the extra ray[default])"
    for first, last, ray, what in BAD_PAIRS:
        if first <= numbers(facts.vllm) <= last and numbers(facts.ray) == ray:
            return f"its Ray {facts.ray} and its vLLM {facts.vllm} {what}"
    return ""


def judge_image(
    facts: ImageFacts, *, node_architecture: str = "", ray_version: str = "", min_vllm: str = ""
) -> list[Finding]:
    """Return what speaks against a serving image: red what keeps it from serving, yellow what is worth a word.

    Args:
        facts: what is in it.
        node_architecture: of the node that shall run it; empty accepts any.
        ray_version: version that was to be added where it lacked; another good one is yellow.
        min_vllm: oldest vLLM that this collection's flags are for; empty accepts any.
    """
    return [*_judge_vllm(facts, node_architecture, min_vllm), *_judge_ray(facts, ray_version), *_judge_nccl(facts)]


def _judge_vllm(facts: ImageFacts, node_architecture: str, min_vllm: str) -> Iterator[Finding]:
    if node_architecture and facts.architecture and architecture(node_architecture) != facts.architecture:
        here = architecture(node_architecture)
        yield Finding(
            "image.architecture",
            RED,
            CHECK,
            f"it is for {facts.architecture} and this node is {here}",
            f"name one that is built for {here}",
        )
    if not facts.vllm or "vllm" not in facts.programs:
        lack = "no vLLM" if not facts.vllm else f"vLLM {facts.vllm}, but no program vllm on its PATH"
        yield Finding(
            "image.no_vllm",
            RED,
            CHECK,
            f"it has {lack}",
            "name an image that serves, NVIDIA's nvidia/vllm for example",
        )
    elif min_vllm and numbers(facts.vllm) < numbers(min_vllm):
        yield Finding(
            "image.old_vllm", RED, CHECK, f"its vLLM {facts.vllm} is older than {min_vllm}", "name a newer image"
        )


def _judge_ray(facts: ImageFacts, ray_version: str) -> Iterator[Finding]:
    if lack := ray_problem(facts):
        yield Finding(
            "image.ray_unusable", RED, CHECK, lack, "set serving_image_base, on which the pinned Ray is then added"
        )
    elif "ray" not in facts.programs:
        yield Finding(
            "image.ray_not_on_path",
            RED,
            CHECK,
            f"it has Ray {facts.ray}, but no program ray on its PATH",
            "set serving_image_base to another image",
        )
    elif ray_version and facts.ray != ray_version:
        yield Finding(
            "image.other_ray",
            YELLOW,
            CHECK,
            f"it came with Ray {facts.ray}, which is kept; {ray_version} would have been added where Ray lacked",
        )


def _judge_nccl(facts: ImageFacts) -> Iterator[Finding]:
    if not facts.nccl and not facts.torch.endswith("+cpu"):
        yield Finding(
            "image.nccl_unknown",
            YELLOW,
            CHECK,
            "its NCCL could not be found, so nothing can be said of CUDA graphs from its version",
        )


def layer_problem(base: ImageFacts, built: ImageFacts) -> str:
    """Return a sentence where adding Ray changed what the image was chosen for; empty otherwise."""
    moved = [
        f"{name} from {before} to {after}"
        for name in ("vllm", "torch", "triton", "flashinfer", "transformers", "nccl")
        if (before := getattr(base, name)) != (after := getattr(built, name))
    ]
    if not moved:
        return ""
    return f"adding Ray changed {' and '.join(moved)}: choose another serving_image_ray_version"


# --- the layer ----------------------------------------------------------------------------------------------


def layer_digest(base: str, base_id: str, ray_version: str) -> str:
    """Return the digest of what decides about the image: a moved tag of the base is a change, its certificate is not.

    Raises:
        ValueError: the version is no version.
    """
    if not re.fullmatch(r"\d+(\.\d+)+([a-z]+\d+)?", ray_version):
        raise ValueError(f"ray_version is {ray_version!r}, expected a version such as 2.56.1")
    document = {"base": base, "base_id": base_id, "ray": ray_version}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def ray_requirements(lock: str, ray_version: str, installed: Mapping[str, str]) -> str:
    """Return the part of a list with hashes that an image lacks; nothing where the list is for another Ray.

    What the image has is left out: pip takes it as it is, and fails where it will not do, since without a hash nothing replaces it.
    Ray itself stays in: the one that is there is of no use.
    """
    listed = entries(lock)
    if not covers(listed, {"ray": ray_version}):
        return ""
    lacking = [entry for entry in listed if entry.name == "ray" or entry.name not in installed]
    return "".join(
        entry.text.replace(f"=={entry.version}", f"=={installed.get(SIBLINGS.get(entry.name, ''), entry.version)}", 1)
        for entry in lacking
    )


def layer_dockerfile(
    base: str, ray_version: str, *, add_ray: bool, ca: bool = False, wheels: bool = False, hashed: bool = False
) -> str:
    """Return the Dockerfile of the serving image: the base, and Ray where it lacks.

    The list with hashes is copied, which every builder can, and stays in the image as the record of what was added.
    Certificate and wheels are mounted for the one command only and are in no layer; that needs BuildKit.
    PIP_BREAK_SYSTEM_PACKAGES: the images run from the system's Python, which Ubuntu 24.04 marks as managed.
    """
    lines = [f"FROM {base}"]
    if add_ray:
        mounts, environment, options = [], ["PIP_BREAK_SYSTEM_PACKAGES=1"], ["--no-cache-dir"]
        if ca:
            mounts.append(f"--mount=type=bind,source={CA_IN_BUILD},target=/run/{CA_IN_BUILD}")
            environment += [f"PIP_CERT=/run/{CA_IN_BUILD}", f"SSL_CERT_FILE=/run/{CA_IN_BUILD}"]
        if wheels:
            mounts.append(f"--mount=type=bind,source={WHEELS_IN_BUILD},target=/run/{WHEELS_IN_BUILD}")
            options += ["--no-index", "--find-links", f"/run/{WHEELS_IN_BUILD}"]
        wanted = [f'"ray[default]=={ray_version}"']
        if hashed:
            lines.append(f"COPY {LIST_IN_BUILD} {LIST_IN_IMAGE}")
            wanted = [*HASHED, "--requirement", LIST_IN_IMAGE]
        command = ["python3", "-m", "pip", "install", *options, *wanted]
        lines.append(" ".join(["RUN", *mounts, *environment, *command]))
    return "\n".join(lines) + "\n"


def build_problem(output: str, ray_version: str) -> str:
    """Return why a build failed, in one sentence with what to do, from what Docker said of it."""
    # The builder without BuildKit colours each line of pip's complaints.
    output = COLOUR.sub("", output)
    text = output.lower()
    lines: Sequence[str] = [line.strip() for line in output.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no output")
    if "buildx component is missing" in text or "requires buildkit" in text or "the --mount option requires" in text:
        return (
            "a build with a certificate or wheels needs Docker's BuildKit, which is not on this node: "
            "install package docker-buildx-plugin (Docker's packages) or docker-buildx (Ubuntu's)"
        )
    if "certificate_verify_failed" in text or "certificate verify failed" in text:
        return "pip does not trust the package index: set spark_ca_bundle to the file with the proxy's authority"
    if file := refused(output):
        return f"{file}: look into the package index or serving_image_wheelhouse that it came from"
    other = (
        f"set serving_image_base to another image, or serving_image_ray_version to another than {ray_version}, "
        "for which pip chooses without hashes"
    )
    if unmet := _UNMET.search(output):
        return f"{unmet[2]} needs {unmet[1]}, which this image does not have, and what it has is not replaced: {other}"
    if conflict := _CONFLICT.search(output):
        return f"pip's constraints in this image forbid {conflict[1]}, which Ray {ray_version} would bring: {other}"
    if "no matching distribution" in text or "could not find a version" in text:
        package = missing[1] if (missing := _MISSING.search(output)) else f"Ray {ray_version}"
        return (
            f"pip finds no {package} for this image's Python and architecture: choose another serving_image_ray_version, or put "
            "its wheels into serving_image_wheelhouse (docs/images.md)"
        )
    if any(words in text for words in ("name resolution", "connection refused", "timed out", "network is unreachable")):
        return (
            "pip does not reach the package index from the build: check the node's network, or put the wheels of Ray into "
            "serving_image_wheelhouse"
        )
    if "no space left" in text:
        return "the disk is full: free some space where Docker keeps its images (`docker system df`; `docker info` names the folder)"
    return f"the build failed: {said[:300]}"
