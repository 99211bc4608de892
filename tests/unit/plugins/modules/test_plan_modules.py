# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The planner as module and as the controller's action, with their arguments as Ansible hands them over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.action import vllm_plan_report
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.arithmetic import GIB
from ansible_collections.dgx_spark.vllm.plugins.module_utils.plan.inputs import FIELDS, fields_of
from ansible_collections.dgx_spark.vllm.plugins.modules import vllm_memory_plan
from ansible_collections.dgx_spark.vllm.plugins.modules import vllm_plan_report as documentation

from tests.unit.plugins.module_utils.plan.shapes import QWEN3_235B_AWQ, TINY

ROOT = Path(__file__).parents[4]
Run = Callable[..., dict[str, Any]]
TWO = {"tensor_parallel_size": 2, "nodes": 2, "memory_gib": 121.69, "max_model_len": 8192}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the module's main and return its result."""

    def call(**arguments: Any) -> dict[str, Any]:
        with patch_module_args(arguments), pytest.raises(SystemExit):
            vllm_memory_plan.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


# --- the module ----------------------------------------------------------------------------------------------


def test_returns_are_those_of_the_documentation(run: Run) -> None:
    result = run(config=QWEN3_235B_AWQ, **TWO)
    documented = set(yaml.safe_load(vllm_memory_plan.RETURN))
    assert documented <= set(result)
    assert set(result) - documented <= {"changed", "invocation"}
    assert (result["changed"], result["fits"], result["kv_bytes_per_token_per_rank"]) == (False, True, 96_256)
    assert result["cuda_graphs"] == "full"
    assert run(config=QWEN3_235B_AWQ, cuda_graphs="decode", **TWO)["cuda_graphs"] == "decode"
    assert run(config=QWEN3_235B_AWQ, enforce_eager=True, **TWO)["cuda_graphs"] == "eager"


def test_files_and_the_machines_memory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_235B_AWQ))
    (tmp_path / "index.json").write_text(json.dumps({"metadata": {"total_size": 100 * GIB}, "weight_map": {}}))
    settings = {**TWO, "config_path": str(tmp_path / "config.json")}
    result = run(index_path=str(tmp_path / "index.json"), **settings)
    assert result["weights_gib_per_rank"] == pytest.approx(50, rel=0.01)
    assert run(weights_bytes=100 * GIB, **settings)["weights_gib_per_rank"] == result["weights_gib_per_rank"]
    del settings["memory_gib"]
    settings.update(tensor_parallel_size=1, nodes=1)
    total = int((Path("/proc/meminfo").read_text()).split()[1]) / 1024**2
    assert run(**settings)["host_headroom_gib"] == pytest.approx(total * 0.25 - 12.5, abs=0.01)


def test_quantization_in_a_file_of_its_own_is_planned_with(run: Run, tmp_path: Path) -> None:
    plain = {key: value for key, value in QWEN3_235B_AWQ.items() if key != "quantization_config"}
    (tmp_path / "config.json").write_text(json.dumps(plain))
    settings = {**TWO, "config_path": str(tmp_path / "config.json")}
    (before, told) = run(**settings), report(config_path=settings["config_path"], memory={"a": 121.69}, plan=PLAN)[0]
    (tmp_path / "hf_quant_config.json").write_text(
        '{"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}'
    )
    assert run(**settings)["weights_gib_per_rank"] < before["weights_gib_per_rank"] / 3
    assert report(config_path=settings["config_path"], memory={"a": 121.69}, plan=PLAN)[0] != told


def test_a_plan_that_does_not_fit_is_no_failure(run: Run) -> None:
    result = run(config=QWEN3_235B_AWQ, memory_gib=121.69)
    assert (result.get("failed"), result["fits"]) == (None, False)
    assert result["msg"].startswith("it does not fit: the weights")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"config": {**TINY, "hidden_size": None}}, "hidden_size is missing in config.json"),
        ({"config_path": "/nowhere/config.json"}, "config_path /nowhere/config.json cannot be read: No such file"),
        ({"config": TINY, "index_path": "/nowhere/index.json"}, "index_path /nowhere/index.json cannot be read"),
        ({"config": TINY, "memory_gib": 0.0}, "memory_gib is 0, expected more than 0"),
        ({"config": TINY, "nodes": 2}, "2 nodes cannot hold 1 x 1 ranks evenly"),
        ({}, "one of the following is required: config_path, config"),
    ],
)
def test_errors_are_one_sentence(run: Run, arguments: dict[str, Any], said: str) -> None:
    result = run(**{"memory_gib": 8.0, **arguments})
    assert result["failed"]
    assert said in result["msg"]
    assert "\n" not in result["msg"]


def test_files_that_are_something_else(run: Run, tmp_path: Path) -> None:
    for text, said in (("{", "is no JSON"), ("[]", "holds no mapping")):
        (tmp_path / "config.json").write_text(text)
        assert said in run(config_path=str(tmp_path / "config.json"), memory_gib=8.0)["msg"]
    (tmp_path / "index.json").write_text("{}")
    assert "no metadata.total_size" in run(config=TINY, index_path=str(tmp_path / "index.json"), memory_gib=8.0)["msg"]
    params = {"config": TINY, "config_path": None, "index_path": None, "weights_bytes": None, "memory_gib": None}
    with pytest.raises(ValueError, match="memory_gib is missing"):
        vllm_memory_plan.input_from({**params, "memory_bandwidth_gb_s": 273.0}, meminfo=tmp_path / "meminfo")


def test_a_gpu_with_memory_of_its_own_is_asked_for_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    # The second is invented: the smallest counts.
    assert vllm_memory_plan.smallest_gpu_gib("143771\n81559\n") == 81559 / 1024
    assert vllm_memory_plan.smallest_gpu_gib("[N/A]\n") == 0
    settings = {"config": TINY, "memory_bandwidth_gb_s": 4800.0, "max_model_len": 64}
    monkeypatch.setattr(vllm_memory_plan, "run", lambda *_all: (0, "143771\n", ""))
    found = run(**settings)
    assert found["fits"]
    assert found["kv_cache_gib_per_rank"] == pytest.approx(143771 / 1024 * 0.75, abs=2)
    for status, said in ((9, "NVIDIA-SMI has failed"), (0, "[N/A]\n"), (127, "")):
        monkeypatch.setattr(vllm_memory_plan, "run", lambda *_all, _answer=(status, said, ""): _answer)
        failed = run(**settings)
        assert failed["failed"]
        assert failed["msg"].endswith("give memory_gib")


def test_the_module_keeps_the_hosts_headroom(run: Run) -> None:
    result = run(config=QWEN3_235B_AWQ, gpu_memory_utilization=0.95, **TWO)
    assert (result["fits"], result["host_headroom_gib"]) == (False, pytest.approx(-6.42, abs=0.01))
    high = {**TWO, "gpu_memory_utilization": 0.85}
    assert not run(config=QWEN3_235B_AWQ, **high)["fits"]
    assert run(config=QWEN3_235B_AWQ, min_headroom_gib=5, **high)["fits"]
    assert run(config=QWEN3_235B_AWQ, host_gib=7, **high)["fits"]


def test_the_module_knows_the_models_positions(run: Run) -> None:
    long = {
        **TWO,
        "max_model_len": 300_000,
        "max_num_seqs": 64,
        "kv_cache_memory_bytes": 28 * GIB,
        "enforce_eager": True,
    }
    assert not run(config=QWEN3_235B_AWQ, **long)["fits"]
    assert run(config=QWEN3_235B_AWQ, rope_override=True, **long)["fits"]


def test_the_module_takes_what_the_last_start_logged(run: Run) -> None:
    published = run(config=QWEN3_235B_AWQ, **TWO)["kv_cache_gib_range"]
    assert (published["basis"], published["low"] < published["high"]) == ("published", True)
    settings = {key: value for key, value in TWO.items() if key != "memory_gib"} | {"cuda_graphs": "full"}
    record = {"model": "m", "kv_cache_gib": 24.5, "settings": settings}
    found = run(config=QWEN3_235B_AWQ, measured=record, **TWO)["kv_cache_gib_range"]
    assert found == {"low": 24.5, "high": 24.5, "basis": "this record"}
    broken = run(config=QWEN3_235B_AWQ, measured={"model": "m", "settings": {}}, **TWO)
    assert broken["msg"].startswith("the record of the last start has kv_cache_gib: None")


# --- the action on the controller ----------------------------------------------------------------------------


class Screen:
    """Takes the place of Ansible's display."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def display(self, text: str, color: str | None = None) -> None:
        self.lines.append(text)

    def warning(self, text: str) -> None:
        self.warnings.append(text)


def report(**arguments: Any) -> tuple[dict[str, Any], Screen]:
    """Run the action as a task would."""
    task = SimpleNamespace(
        args={"name": "qwen", **arguments},
        check_mode=False,
        diff=False,
        async_val=0,
        action="x",
        environment=None,
        no_log=False,
        delegate_to=None,
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="x"))
    action = vllm_plan_report.ActionModule(
        task, connection, SimpleNamespace(check_mode=False, diff=False), None, None, None
    )
    action._display = screen = Screen()
    return action.run(task_vars={}), screen


PLAN = {"tensor_parallel_size": "2", "nodes": 2, "max_model_len": 8192, "max_num_seqs": 0, "cuda_graphs": "decode"}


def test_the_smallest_node_counts() -> None:
    memory = {"spark-1": 121.69, "spark-2": 119.7, "spark-3": 0}
    result, screen = report(config=QWEN3_235B_AWQ, memory=memory, plan=PLAN, contexts=[8192, 262144])
    assert result["plan"]["fits"]
    assert [row["length"] for row in result["context_table"]] == [8192, 262144]
    assert 200_000 < result["safe_length"] < 262_144
    # Lines are wrapped to the width of the terminal.
    shown = " ".join(" ".join(screen.lines).split())
    assert "119.70 GiB each (read from spark-1, spark-2; spark-3 not reached)" in shown
    assert screen.lines == result["lines"]


def test_what_the_nodes_hold_is_shown_and_counts() -> None:
    look = {"memory_available_gib": 60.0, "page_cache_gib": 30.0, "swap_total_gib": 16.0, "swap_used_gib": 2.0}
    refused, screen = report(config=QWEN3_235B_AWQ, memory={"a": 121.69}, looks={"a": look}, plan=PLAN, gate=True)
    assert "the machine has 60.0 of 121.7 GiB available" in refused["msg"]
    shown = " ".join(" ".join(screen.lines).split())
    assert "memory now 60.0 GiB available, 30.0 GiB of page cache; 2.0 of 16 GiB of swap used" in shown
    stated, screen = report(config=QWEN3_235B_AWQ, memory_gib=121.69, looks={"a": look}, plan=PLAN, gate=True)
    assert not stated.get("failed")
    serving = {
        **look,
        "serving": True,
        "vllm_start": {"model": "qwen", "kv_cache_gib": 22.0, "settings": stated["settings"]},
    }
    found, _ = report(config=QWEN3_235B_AWQ, memory={"a": 121.69}, looks={"a": serving, "b": {}}, plan=PLAN, gate=True)
    assert found["plan"]["kv_cache_gib_range"] == {"low": 22.0, "high": 22.0, "basis": "this record"}


def test_the_gate() -> None:
    result, screen = report(
        config=QWEN3_235B_AWQ,
        memory={"a": 121.69},
        plan={**PLAN, "gpu_memory_utilization": 0.85},
        show=False,
        gate=True,
    )
    # Nothing but the sentence: what a failed task returns is printed whole.
    assert set(result) == {"changed", "failed", "msg"}
    assert "at most 0.8" in result["msg"]
    assert result["msg"].endswith("ansible-playbook playbooks/plan.yml")
    assert screen.lines == []
    shown, screen = report(
        config=QWEN3_235B_AWQ, memory={"a": 121.69}, plan={**PLAN, "gpu_memory_utilization": 0.85}, gate=True
    )
    assert shown["failed"]
    assert "plan.yml" not in shown["msg"]
    assert screen.lines
    long, _ = report(
        config=QWEN3_235B_AWQ, memory={"a": 121.69}, plan={**PLAN, "max_model_len": 300_000}, show=False, gate=True
    )
    assert "the model knows 262144 positions" in long["msg"]
    open_gate, _ = report(
        config=QWEN3_235B_AWQ, memory={"a": 121.69}, plan={**PLAN, "gpu_memory_utilization": 0.85}, show=False
    )
    assert not open_gate.get("failed")
    lowered, _ = report(
        config=QWEN3_235B_AWQ,
        memory={"a": 121.69},
        plan={**PLAN, "gpu_memory_utilization": 0.85},
        min_headroom_gib=5,
        gate=True,
    )
    assert not lowered.get("failed")


def test_a_stated_size_needs_no_node(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(QWEN3_235B_AWQ))
    result, _ = report(config_path=str(tmp_path / "config.json"), memory={"a": 0}, memory_gib=121.69, plan=PLAN)
    assert "121.69 GiB each (stated)" in "\n".join(result["lines"])
    failed, _ = report(config=QWEN3_235B_AWQ, memory={"a": 0}, plan=PLAN)
    assert failed["msg"].startswith("the memory of a could not be read")


def test_a_model_without_config_is_told_and_refused_by_the_gate() -> None:
    refused, _ = report(memory={"a": 121.69}, gate=True)
    assert set(refused) == {"changed", "failed", "msg"}
    assert "add config: to it" in refused["msg"]
    assert "vllm_plan_gate: false" in refused["msg"]
    result, screen = report(memory={"a": 121.69})
    assert not result.get("failed")
    assert result["plan"] == {}
    assert screen.warnings == [result["msg"]]
    assert "models/qwen.yml has no config" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"plan": {"speed": 1}}, "plan has 'speed', known are"),
        ({"plan": {"max_model_len": "long"}}, "max_model_len: 'long', expected a whole number"),
        (
            {"config_path": "/nowhere"},
            "config_path /nowhere cannot be read: No such file or directory; give a path on the controller",
        ),
    ],
)
def test_the_actions_errors(arguments: dict[str, Any], said: str) -> None:
    result, _ = report(**{"config": QWEN3_235B_AWQ, "memory": {"a": 121.69}, **arguments})
    assert result["failed"]
    assert said in result["msg"]


def test_files_of_the_action(tmp_path: Path) -> None:
    for text, said in (("{", "is no JSON"), ("[]", "holds no mapping")):
        (tmp_path / "c.json").write_text(text)
        assert said in report(config_path=str(tmp_path / "c.json"), memory_gib=1)[0]["msg"]


def test_settings_as_text() -> None:
    found = fields_of(
        {"expert_parallel": "true", "allreduce_us": 0, "cpu_kv_gib": 0, "kv_cache_dtype": "", "max_model_len": "128"}
    )
    assert found == {"expert_parallel": True, "allreduce_us": 0.0, "max_model_len": 128}


def test_documentation_and_arguments_agree() -> None:
    documented = set(yaml.safe_load(documentation.DOCUMENTATION)["options"])
    with pytest.raises(AnsibleActionFail) as caught:
        report(nonsense=1)
    assert documented == set(str(caught.value).partition("include: ")[2].rstrip(".").split(", "))


# --- the role ------------------------------------------------------------------------------------------------


def test_what_the_role_plans_with_are_settings_of_the_server() -> None:
    server = yaml.safe_load((ROOT / "roles/vllm_serve/defaults/main.yml").read_text())
    planned = yaml.safe_load((ROOT / "roles/vllm_plan/vars/main.yml").read_text())["__vllm_plan_input"]
    own = {name for name, text in planned.items() if "vllm_serve_" in str(text)}
    assert {f"vllm_serve_{name}" for name in ("gpu_memory_utilization", "max_model_len", "max_num_seqs")} <= set(server)
    assert own <= set(FIELDS)
    assert set(planned) <= set(FIELDS)
    # The server's own settings, with no fallback of another kind beside them.
    for name in ("gpu_memory_utilization", "max_model_len", "max_num_seqs", "kv_cache_memory_bytes"):
        assert planned[name] == f"{{{{ lookup('dgx_spark.vllm.setting', 'vllm_serve_{name}') }}}}"


@pytest.mark.parametrize(
    "change",
    [
        {"decoder_sparse_step": [1]},
        {"mlp_only_layers": 1.5},
        {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": "x"}},
        {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": 1.5}},
    ],
)
def test_a_key_of_another_type_is_one_sentence(change: dict[str, Any]) -> None:
    result, _screen = report(config={**QWEN3_235B_AWQ, **change}, memory={"a": 121.69}, plan=PLAN, show=False)
    assert "another type than the model's class wants" in result["msg"]
