# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Trials of CUDA graphs by the module, against a server that misbehaves; and a trial's container beside the unit on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.docker import service_state, service_unit
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm import graph_steps
from ansible_collections.dgx_spark.vllm.plugins.modules import container_service, vllm_graph_trial

from tests.unit.plugins.vllm_stand_in import stand_in

Trial = Callable[..., dict[str, Any]]
IMAGE = "sha256:" + "a" * 64


@pytest.fixture
def trial(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Run the module with a record of its own; the image's id is its name."""
    boot = tmp_path / "boot_id"
    boot.write_text("boot-1\n")
    monkeypatch.setattr(graph_steps, "BOOT_ID", boot)
    monkeypatch.setattr(graph_steps, "image_id", lambda _run, image: f"sha256:{image}")

    def call(step: str, **arguments: Any) -> dict[str, Any]:
        given = {
            "step": step,
            "image": "serving",
            "model_commit": "c0ffee",
            "nodes": 2,
            "nccl": "2.30.7",
            "model": "tiny",
            "record": str(tmp_path / "trials.json"),
            "soak_seconds": 0.3,
            # Longer than a busy machine lets a sound server wait.
            "stall_seconds": 15,
            "answer_seconds": 30,
            "soak_tokens": 60,
            **arguments,
        }
        with patch_module_args(given), pytest.raises(SystemExit):
            vllm_graph_trial.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_a_mode_that_passes_is_kept_and_remembered(trial: Trial) -> None:
    first = trial("choose", verdict="try")
    assert (first["mode"], first["candidates"], first["changed"]) == ("eager", ["decode", "piecewise"], False)
    with stand_in() as server:
        assert "answers of eager" in trial("reference", base_url=server.url)["msg"]
    trial("begin", mode="decode")
    with stand_in("tie") as server:
        judged = trial("judge", mode="decode", base_url=server.url)
    assert "decode passed: 0 of 8 answers are equal to eager's, 8 differ only at a tie" in judged["msg"]
    assert judged["outcomes"]["decode"]["soak"]["requests"] > 24
    again = trial("choose", verdict="unknown", nccl="")
    assert (again["mode"], again["candidates"], again["changed"]) == ("decode", [], False)
    assert trial("choose", verdict="try", image="other")["candidates"] == ["decode", "piecewise"]
    assert trial("choose", verdict="try", setting="off")["mode"] == "eager"
    assert trial("choose", verdict="allowed", nodes=1)["candidates"] == ["full", "decode", "piecewise"]


@pytest.mark.parametrize(
    ("behaviour", "after", "kind", "said"),
    [
        ("text", 0, "text", "one that eager did not consider"),
        ("stutter", 0, "text", "times in a row"),
        ("nan", 0, "crash", "numbers are broken"),
        ("hang", 0, "hang", "no answer of 48 tokens"),
        ("hang in stream", 16, "hang", "no token for 2 s"),
        ("hang", 42, "hang", "no token for 2 s"),
        ("crash", 20, "crash", "broke off"),
    ],
)
def test_a_mode_that_fails_is_remembered_with_its_reason(
    trial: Trial, behaviour: str, after: int, kind: str, said: str
) -> None:
    with stand_in() as server:
        trial("reference", base_url=server.url)
    trial("begin", mode="decode")
    patience = {"stall_seconds": 2, "answer_seconds": 4} if kind == "hang" else {}
    with stand_in(behaviour, after) as server:
        judged = trial("judge", mode="decode", base_url=server.url, **patience)
    assert judged["failed"] is True
    assert judged["kind"] == kind
    assert said in judged["msg"]
    # What the rescue of the play adds does not hide the reason.
    assert said in trial("fail", mode="decode", reason="the task failed")["msg"]
    again = trial("choose", verdict="try")
    assert (again["mode"], again["candidates"]) == ("eager", ["piecewise"])
    trial("begin", mode="piecewise")
    trial("fail", mode="piecewise", reason="spark-vllm failed too often")
    last = trial("choose", verdict="try")
    assert (last["mode"], last["candidates"], last["changed"]) == ("eager", [], False)
    assert said in last["msg"]
    assert "failed too often" in last["msg"]


def test_text_that_goes_wrong_under_load_is_seen(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in() as server:
        trial("reference", base_url=server.url)
    trial("begin", mode="decode")
    with stand_in() as server:
        soak = graph_steps.GraphProbe.soak

        def spoil(probe: Any) -> Any:
            found = soak(probe)
            server.behaviour = "text"
            return found

        monkeypatch.setattr(graph_steps.GraphProbe, "soak", spoil)
        assert "after the soak" in trial("judge", mode="decode", base_url=server.url)["msg"]


def test_a_run_killed_in_mid_trial_heals(trial: Trial, tmp_path: Path) -> None:
    trial("begin", mode="decode")
    dry = trial("choose", verdict="try", _ansible_check_mode=True)
    assert dry["healed"]
    healed = trial("choose", verdict="try")
    assert (healed["mode"], healed["candidates"], healed["changed"]) == ("eager", ["decode", "piecewise"], True)
    assert "the run ended during the trial" in healed["msg"]
    assert trial("choose", verdict="try")["changed"] is False
    trial("begin", mode="decode")
    (tmp_path / "boot_id").write_text("boot-2\n")
    assert trial("choose", verdict="try")["candidates"] == []


def test_questions_that_cannot_be_asked(trial: Trial) -> None:
    assert "run step reference first" in trial("judge", mode="decode", base_url="http://127.0.0.1:1")["msg"]
    assert "base_url and model are needed" in trial("reference")["msg"]
    assert "model_commit is empty" in trial("choose", model_commit="")["msg"]
    assert "missing" in trial("judge")["msg"]
    with stand_in() as server:
        url = server.url
    assert "the eager server fails before anything is tried" in trial("reference", base_url=url)["msg"]
    assert trial("begin", mode="decode", _ansible_check_mode=True)["skipped"] is True


def test_a_first_run_in_check_mode_knows_no_image(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_run: Any, image: str) -> str:
        raise service_state.ContainerServiceError(f"image {image!r} is not on this node: run role serving_image first")

    monkeypatch.setattr(graph_steps, "image_id", missing)
    assert "not on this node" in trial("choose", verdict="try")["msg"]
    assert trial("choose", verdict="try", _ansible_check_mode=True)["mode"] == "eager"


# --- the container of a trial ---


@pytest.fixture
def service(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """Run container_service over folders of the test, without Docker and systemd."""
    for name in ("UNITS", "RECORDS", "TRIAL_UNITS", "TRIAL_RECORDS"):
        monkeypatch.setattr(service_unit, name, tmp_path / name.lower())
    monkeypatch.setattr(service_unit, "image_id", lambda _run, _image: IMAGE)
    state = service_state.UnitState(True, "active", "running", True, 0, "success", False)
    monkeypatch.setattr(service_unit, "unit_state", lambda _run, _name: state)
    monkeypatch.setattr(service_unit.ContainerService, "systemctl", lambda _self, *_arguments: None)

    def call(**arguments: Any) -> dict[str, Any]:
        given = {"name": "spark-vllm", "image": "serving", "gates": [["address", "10.0.0.1"]], **arguments}
        with patch_module_args(given), pytest.raises(SystemExit):
            container_service.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


def test_a_trial_leaves_the_unit_on_disk_alone(service: Trial, tmp_path: Path) -> None:
    service(command=["vllm", "serve", "--enforce-eager"])
    on_disk = (tmp_path / "units" / "spark-vllm.service").read_text()
    records, trials = tmp_path / "records", tmp_path / "trial_records"
    prepared = service(command=["vllm", "serve", "--graphs"], trial=True, ready=["serving"])
    drop_in = (tmp_path / "trial_units" / "spark-vllm.service.d" / "50-trial.conf").read_text()
    assert prepared["changed"] is True
    assert (tmp_path / "units" / "spark-vllm.service").read_text() == on_disk
    assert drop_in.index("ExecStart=\n") < drop_in.index("--graphs")
    assert "Restart=no" in drop_in
    assert "--graphs" not in on_disk
    wanted = service_state.read_record("spark-vllm", trials)
    assert wanted is not None
    assert wanted["digest"] == prepared["digest"]
    assert service_state.read_record("spark-vllm", records) != wanted
    assert service(command=["vllm", "serve", "--graphs"], trial=True, ready=["serving"])["changed"] is False
    # What passed goes to the disk, as the same container: nothing has to start again.
    kept = service(command=["vllm", "serve", "--graphs"])
    assert kept["changed"] is True
    assert kept["digest"] == prepared["digest"]
    assert not list(trials.glob("*"))
    assert not list((tmp_path / "trial_units").rglob("*.conf"))
    assert service(command=["vllm", "serve", "--graphs"])["changed"] is False


def test_the_next_plain_run_ends_a_trial(service: Trial, tmp_path: Path) -> None:
    eager = service(command=["vllm", "serve", "--enforce-eager"])
    service(command=["vllm", "serve", "--graphs"], trial=True)
    assert service(command=["vllm", "serve", "--enforce-eager"], _ansible_check_mode=True)["changed"] is True
    assert list((tmp_path / "trial_units").rglob("*.conf"))
    healed = service(command=["vllm", "serve", "--enforce-eager"])
    assert healed["digest"] == eager["digest"]
    assert not list((tmp_path / "trial_units").rglob("*.conf"))
    service(command=["vllm", "serve", "--graphs"], trial=True)
    service(command=["vllm"], state="absent")
    assert not list((tmp_path / "trial_units").rglob("*.conf"))


def test_a_unit_that_systemd_has_not_read_is_read_though_no_file_differs(
    service: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(service_unit.ContainerService, "systemctl", lambda _self, *words: told.append(words))
    service(command=["vllm", "serve"])
    assert told == [("daemon-reload",)]
    told.clear()
    assert service(command=["vllm", "serve"])["changed"] is False
    assert told == []
    # A run that died between the file and the reload, for example.
    state = service_state.UnitState(True, "active", "running", True, 0, "success", True)
    monkeypatch.setattr(service_unit, "unit_state", lambda _run, _name: state)
    service(command=["vllm", "serve"])
    assert told == [("daemon-reload",)]
