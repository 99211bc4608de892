# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""The stand-ins of a GB10: what they say, how they come and go, and how a verdict is found. What the playbooks make of them is in molecule/gb10_stand_in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker.cdi import parse_spec
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric.host import read_host, why_no_port
from ansible_collections.dgx_spark.vllm.plugins.module_utils.gpu.runtime import GPU_FIELDS, parse_gpus
from ansible_collections.dgx_spark.vllm.plugins.module_utils.node import occupants

from simulation import settings
from simulation.gb10 import check, node, stage, stand_in, world
from simulation.gb10.variants import PARTS, REPORTS, VARIANTS, Variant
from simulation.settings import SimulationError

FIRST = settings.NODES[0]


def by_name(name: str) -> Variant:
    return stage.find(name)


# --- worlds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", [None, *VARIANTS], ids=lambda entry: entry.name if entry else "healthy")
def test_each_world_is_a_document_that_fits_a_command_line(variant: Variant | None) -> None:
    text = json.dumps(stage.world(FIRST, [variant] if variant else []).document())
    # MAX_ARG_STRLEN of Linux is 128 KiB.
    assert len(text) < 100_000


def test_a_variant_is_another_world_than_the_healthy_one_or_has_settings() -> None:
    healthy = stage.world(FIRST).document()
    same = [
        entry.name for entry in VARIANTS if stage.world(FIRST, [entry]).document() == healthy and not entry.settings
    ]
    assert same == []


def test_variants_have_names_of_their_own_and_a_source() -> None:
    slugs = [stage.slug(entry.name) for entry in VARIANTS]
    assert len(set(slugs)) == len(slugs) >= 12
    assert all(entry.source and entry.part in PARTS and entry.level in ("red", "yellow") for entry in VARIANTS)
    assert not {stage.HEALTHY, stage.OFF} & set(slugs)


def test_a_variant_is_found_by_name_and_by_word() -> None:
    assert stage.find("Marlin's experts wrong") is stage.find("Marlins-experts-wrong")
    with pytest.raises(SimulationError, match="There is no variant 'well' of a GB10: healthy, "):
        stage.find("well")


def test_a_red_verdict_has_a_remedy() -> None:
    assert [
        entry.name for entry in VARIANTS if entry.level == "red" and not (entry.remedy or entry.part in REPORTS)
    ] == []


def test_the_specification_is_one_that_the_code_reads() -> None:
    spec = parse_spec("/var/run/cdi/nvidia.yaml", world.cdi_specification("580.142"), lambda _path: True)
    assert (spec.error, spec.driver) == ("", "580.142")
    assert spec.names() == tuple(f"nvidia.com/gpu={name}" for name in world.CDI_DEVICES)


def laid(root: Path, variant: Variant | None) -> Any:
    """Put a world's files below a folder; return what runs its programs."""
    document = stage.world(FIRST, [variant] if variant else []).document()
    files = {path: text for path, (text, _mode) in document["files"].items()}
    for target, entries in document["trees"].items():
        files |= {f"{target}/{name}": content for name, content in entries.items()}
    for path, content in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            place.write_text(content)
    answers = json.loads(document["answers"])

    def run(argv: list[str], _seconds: float | None = None) -> tuple[int, str, str]:
        said = " ".join(argv[1:])
        for rule in answers.get(argv[0], []):
            if "out" in rule and all(word in said for word in rule["when"]):
                return 0, rule["out"], ""
        return 127, "", ""

    return run


def test_a_world_without_its_card_is_read_as_that(tmp_path: Path) -> None:
    assert read_host(laid(tmp_path / "well", None), tmp_path / "well").translated() == ""
    bare = tmp_path / "bare"
    host = read_host(laid(bare, by_name("no port at all")), bare)
    assert (host.cards, host.powered, host.removed(), host.marker) == ((), False, True, True)
    assert why_no_port(host).code == "fabric.card_off"
    slow = tmp_path / "slow"
    assert "iommu.passthrough=0" in read_host(laid(slow, by_name("IOMMU translates")), slow).translated()


@pytest.mark.parametrize("name", ["", "update cut off", "swap in use", "kernel with handover"])
def test_a_world_is_judged_as_its_variant_says(tmp_path: Path, name: str) -> None:
    variant = by_name(name) if name else None
    wanted = occupants.Wanted()
    found = occupants.judge(occupants.collect(occupants.Surveyor(laid(tmp_path, variant), tmp_path), wanted), wanted)
    told = [row for row in found if row.level != "green" and row.check in {"updates", "swap", "kernel", "clock"}]
    if variant is None:
        assert told == []
        return
    (row,) = told
    assert (row.level, row.check) == (variant.level, variant.check)
    assert variant.found in row.found and variant.remedy in row.remedy


# --- the stand-in of a program ----------------------------------------------------------------------------------


def ask(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    rules: list[dict[str, Any]],
    *argv: str,
) -> tuple[int, str]:
    (folder / "answers.json").write_text(json.dumps({argv[0]: rules}))
    monkeypatch.setattr(stand_in, "FOLDER", folder)
    monkeypatch.setattr(sys, "argv", [f"/usr/bin/{argv[0]}", *argv[1:]])
    status = stand_in.main()
    return status, capsys.readouterr().out


def test_a_query_is_answered_field_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"when": ["--query-gpu="], "query": "--query-gpu=", "rows": [world.gpu_row("idle")]}]
    query = f"--query-gpu={','.join(GPU_FIELDS)}"
    status, out = ask(tmp_path, monkeypatch, capsys, rules, "nvidia-smi", query, "--format=csv,noheader")
    assert status == 0
    (gpu,) = parse_gpus(out, GPU_FIELDS)
    assert (gpu.name, gpu.memory_total_mib, gpu.clock_sm_mhz) == ("NVIDIA GB10", None, 2405)


def test_an_unknown_field_is_refused_as_nvidia_smi_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"when": [], "query": "--query-gpu=", "rows": [world.gpu_row("idle")]}]
    status, out = ask(tmp_path, monkeypatch, capsys, rules, "nvidia-smi", "--query-gpu=clocks_throttle_reasons.active")
    assert status == 2
    assert "is not a valid field to query" in out


def test_turns_are_taken_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"when": ["exec"], "turns": [{"out": "GPU 0"}, {"err": "lost", "status": 255}]}]
    answers = [ask(tmp_path, monkeypatch, capsys, rules, "docker", "exec") for _turn in range(3)]
    assert [status for status, _out in answers] == [0, 255, 255]


def test_what_no_rule_names_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tmp_path, monkeypatch, capsys, [{"when": ["info"]}], "docker", "ps")[0] == 1


def test_the_program_itself_answers_what_no_rule_names(tmp_path: Path) -> None:
    folder = tmp_path / "gb10"
    (folder / "real").mkdir(parents=True)
    (folder / "real/docker").write_text('#!/bin/sh\necho \'{"Name": "real", "ServerVersion": "20.10"}\'\n')
    (folder / "real/docker").chmod(0o755)
    (folder / "answers.json").write_text(json.dumps({"docker": [{"when": ["info"], "merge": {"ServerVersion": "29"}}]}))
    program = tmp_path / "docker"
    program.write_text(Path(stand_in.__file__).read_text().replace("/run/gb10", str(folder)))
    said = [
        json.loads(subprocess.run([sys.executable, program, word], capture_output=True, text=True, check=True).stdout)
        for word in ("ps", "info")
    ]
    assert said == [{"Name": "real", "ServerVersion": "20.10"}, {"Name": "real", "ServerVersion": "29"}]


# --- coming and going -------------------------------------------------------------------------------------------


def test_off_undoes_the_last_first_and_also_after_a_step_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "FOLDER", tmp_path / "run")
    monkeypatch.setattr(node, "COVERS", tmp_path / "covers")
    monkeypatch.setattr(node, "STATE", tmp_path / "state.json")
    calls: list[str] = []

    def call(*argv: str, quiet: bool = False) -> str:
        calls.append(" ".join(argv))
        if "mount" in argv and not quiet:
            sys.exit("no mounts here")
        return ""

    monkeypatch.setattr(node, "call", call)
    present = tmp_path / "etc/present"
    present.parent.mkdir()
    present.write_text("mine")
    document = {
        "undo": [["true"]],
        "links": [
            {
                "name": "enp1",
                "id": 1,
                "remote": "10.0.0.2",
                "mac": "m",
                "mtu": 9000,
                "addresses": ["10.1.0.1/24"],
                "up": True,
            }
        ],
        "commands": [],
        "pids": [],
        "enable": [],
        "answers": "{}",
        "files": {str(tmp_path / "new/folder/file"): ["text", 0o644], str(present): ["other", 0o644]},
    }
    with pytest.raises(SystemExit, match="no mounts here"):
        node.Stage().stand(document)
    assert (tmp_path / "new/folder/file").read_text() == "text"
    calls.clear()
    node.Stage().off()
    assert not (tmp_path / "new").exists()
    assert present.read_text() == "mine"
    assert calls == ["ip link delete enp1", "true"]
    assert not (tmp_path / "state.json").exists()


# --- runs and verdicts ------------------------------------------------------------------------------------------


def test_variants_share_a_run_and_a_node_where_they_are_about_different_things() -> None:
    runs = check.plan(VARIANTS)
    shown = [
        entry.name for run in runs for place in (0, 1) for entry in run.shown[place] if place == 0 or not entry.both
    ]
    assert sorted(shown) == sorted(entry.name for entry in VARIANTS)
    assert len(runs) < len(VARIANTS) / 2
    for run in runs:
        for shown_there in run.shown:
            aspects = [entry.aspect for entry in shown_there]
            assert len(set(aspects)) == len(aspects)
            if any(entry.blind for entry in shown_there):
                assert not {"docker", "kernels", "memory"} & set(aspects)
        if run.differ:
            assert "gpu" not in [entry.aspect for entry in run.shown[0]]


def row(level: str, name: str, found: str, remedy: str = "") -> dict[str, str]:
    return {"level": level, "check": name, "found": found, "remedy": remedy}


LATCHED = row(
    "red", "clocks", "GPU 0 runs at 721 MHz of 3003 under load", "shut it down and take it off its power supply"
)


@pytest.mark.parametrize(
    ("node_name", "entry", "fits"),
    [
        ("spark-1", LATCHED, True),
        ("spark-2", LATCHED, False),
        ("spark-1", {**LATCHED, "level": "yellow"}, False),
        ("spark-1", {**LATCHED, "check": "memory"}, False),
        ("spark-1", {**LATCHED, "remedy": "see the manual"}, False),
        ("spark-1", {**LATCHED, "level": "green"}, False),
    ],
)
def test_a_verdict_needs_node_colour_row_sentence_and_remedy(node_name: str, entry: dict[str, str], fits: bool) -> None:
    verdict = check.judge(by_name("power supply latched"), "spark-1", [{"findings": {node_name: [entry]}}])
    assert verdict.fits is fits
    assert bool(verdict.why) is not fits


def test_a_sentence_that_a_run_stopped_with_is_a_verdict() -> None:
    variant = by_name("GPU lost at daemon-reload")
    failed = {
        "host": "spark-2",
        "task": "Assert that the container keeps the GPU and its limits",
        "failed": f"{variant.found}: {variant.remedy} or newer",
    }
    assert check.judge(variant, "spark-2", [failed]).fits
    assert not check.judge(variant, "spark-1", [failed]).fits
    assert check.judge(variant, "spark-1", []).why == "nothing was said"


def test_the_table_is_put_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{check.START}\nold\n{check.END}\nafter\n")
    verdict = check.judge(by_name("power supply latched"), "spark-1", [{"findings": {"spark-1": [LATCHED]}}])
    check.write_table(page, [verdict])
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert "| power supply latched | report | red, clocks | GPU 0 runs at 721 MHz" in text
    page.write_text("no marks")
    with pytest.raises(SimulationError, match="has no lines"):
        check.write_table(page, [verdict])


def test_every_variant_is_in_the_documentation() -> None:
    text = (settings.REPOSITORY / "docs/preflight-variants.md").read_text()
    assert [entry.name for entry in VARIANTS if f"| {entry.name} |" not in text] == []
