# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""vllm_flags in process; the image is a snapshot of a real release's parser (module_utils/fixtures/vllm_parsers)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.parser_probe import MARK
from ansible_collections.dgx_spark.vllm.plugins.modules import vllm_flags

SNAPSHOTS = Path(__file__).parents[1] / "module_utils" / "fixtures" / "vllm_parsers"
HERMES = '<tool_call>{"name": <function-name>, "arguments": <args>}</tool_call>'
CODER = "<tool_call>\n<function=name>\n<parameter=a>\n"
CONFIG = {"model_type": "qwen3_moe", "num_hidden_layers": 94, "num_attention_heads": 64, "num_key_value_heads": 4}
Run = Callable[..., dict[str, Any]]


class Image:
    """Docker with one image whose parser is a snapshot; ``refuses`` is what it says of every command line."""

    def __init__(self) -> None:
        self.version = "0.33.0"
        self.refuses = ""
        self.shown: list[list[list[str]]] = []
        self.volumes: list[str] = []
        self.present = True
        self.status = 0

    def __call__(self, argv: list[str], *_seconds: float, **_given: str) -> tuple[int, str, str]:
        if argv[1:3] == ["image", "inspect"]:
            return (
                (0, json.dumps([{"Id": "sha256:" + "c" * 64}]), "")
                if self.present
                else (1, "", "Error: No such image: x")
            )
        if self.status:
            return self.status, "", "python3: can't open file"
        lines = json.loads(argv[-1])
        self.shown.append(lines)
        self.volumes = [word for before, word in pairwise(argv) if before == "--volume"]
        document = json.loads((SNAPSHOTS / f"{self.version}.json").read_text(encoding="utf-8"))
        document["refused"] = [self.refuses for _line in lines]
        return 0, f"banner of the image\n{MARK}{json.dumps(document)}\n", ""


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> Image:
    image = Image()
    monkeypatch.setattr(vllm_flags, "run", image)
    return image


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(HERMES, encoding="utf-8")
    return folder


@pytest.fixture
def run(image: Image, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_module(check: bool = False, look: bool = True, **intents: Any) -> dict[str, Any]:
        wanted = {
            "model_path": str(model),
            "served_model_name": "m",
            "tensor_parallel_size": 2,
            "nodes": 2,
            "port": 8235,
            **intents,
        }
        arguments = {
            "image": "serving",
            "intents": wanted,
            "record": str(tmp_path / "flags.json"),
            "kernel_record": str(tmp_path / "kernels.json"),
            "folders": [str(tmp_path)],
            "inspect_model": look,
            "_ansible_check_mode": check,
        }
        with patch_module_args(arguments), pytest.raises(SystemExit):
            vllm_flags.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


def test_one_look_is_enough_and_the_second_run_looks_no_more(run: Run, image: Image) -> None:
    first = run(tool_call_parser="hermes")
    assert (first["version"], first["asked"], first["notes"]) == ("0.33.0", 1, [])
    assert image.shown == [[first["command"]]]
    again = run(tool_call_parser="hermes")
    assert (again["command"], again["asked"]) == (first["command"], 0)
    assert run(tool_call_parser="hermes", max_model_len=4096)["asked"] == 1


def test_every_node_has_its_command_without_ray(run: Run, image: Image) -> None:
    found = run(executor="mp", master_address="192.168.100.10", tensor_parallel_size=4, nodes=4)
    assert [line[line.index("--node-rank") + 1] for line in found["commands"]] == ["0", "1", "2", "3"]
    assert ["--headless" in line for line in found["commands"]] == [False, True, True, True]
    assert "--port" not in found["commands"][1]
    assert image.shown == [found["commands"]]


def test_what_the_parser_refuses_stops_here(run: Run, image: Image, tmp_path: Path) -> None:
    image.refuses = "argument --max-model-len: invalid value"
    found = run()
    assert found["failed"]
    assert "vLLM 0.33.0 in this image refuses `vllm serve" in found["msg"]
    assert found["msg"].endswith("argument --max-model-len: invalid value")
    assert not (tmp_path / "flags.json").exists()


def test_a_slip_in_an_extra_argument_is_named(run: Run, image: Image) -> None:
    image.refuses = "unrecognized arguments: --max-modellen 8"
    assert run(extra_arguments=["--max-modellen", "8"])["msg"].endswith(
        "(did you mean --max-model-len, --max-log-len, --model?)"
    )
    image.refuses = "unrecognized arguments: --zzz"
    assert run(extra_arguments=["--zzz"])["msg"].endswith("--zzz (remove it)")


def test_an_old_vllm_is_refused_with_the_reason(run: Run, image: Image) -> None:
    image.version = "0.19.1"
    assert "older than 0.20" in run()["msg"]


def test_a_parser_name_that_does_not_exist(run: Run, model: Path) -> None:
    (model / "chat_template.jinja").unlink()
    assert "nearest are qwen3_coder" in run(tool_call_parser="qwen3_codr")["msg"]


def test_a_parser_that_cannot_read_the_template(run: Run, model: Path, image: Image) -> None:
    found = run(tool_call_parser="qwen3_xml")
    assert found["failed"]
    assert "'qwen3_xml' does not read: set vllm_serve_tool_call_parser to hermes" in found["msg"]
    assert not image.shown
    (model / "chat_template.jinja").write_text(CODER, encoding="utf-8")
    assert "set vllm_serve_tool_call_parser to qwen3_coder" in run(tool_call_parser="hermes")["msg"]


def test_heads_that_do_not_divide(run: Run, model: Path) -> None:
    (model / "config.json").write_text(json.dumps({**CONFIG, "num_attention_heads": 14, "num_key_value_heads": 2}))
    found = run(tensor_parallel_size=4, nodes=4)
    assert "set tensor_parallel_size to 2 and pipeline_parallel_size to 2" in found["msg"]
    assert "failed" not in run(tensor_parallel_size=2, pipeline_parallel_size=2, nodes=4)


def kernels(path: Path, state: str) -> None:
    checks = [{"name": "nvfp4_gemm", "state": state, "reason": "no kernel image", "seconds": 1, "details": {}}]
    path.write_text(json.dumps({"digest": "x", "document": {"checks": checks, "seconds": 1}}), encoding="utf-8")


def test_nvfp4_follows_the_nodes_verdict(run: Run, model: Path, tmp_path: Path) -> None:
    quantized = {**CONFIG, "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}
    (model / "config.json").write_text(json.dumps(quantized), encoding="utf-8")
    assert "NVFP4, which is unknown on this node" in run()["notes"][0]
    kernels(tmp_path / "kernels.json", "failed")
    found = run()
    assert found["failed"]
    assert "NVFP4, which this node refuses: the NVFP4 kernels do not work here (no kernel image)" in found["msg"]
    kernels(tmp_path / "kernels.json", "passed")
    assert "NVFP4, which is try on this node" in run()["notes"][0]


def test_check_mode_keeps_nothing_and_guesses_without_an_image(run: Run, image: Image, tmp_path: Path) -> None:
    assert run(check=True)["asked"] == 1
    assert not (tmp_path / "flags.json").exists()
    image.present = False
    found = run(check=True, model_path="/srv/models/not-yet")
    assert found["version"] == ""
    assert "the command line is a guess: image 'serving' is not on this node" in found["msg"]
    assert "is not there yet" in found["msg"]
    assert "run role serving_image first" in run()["msg"]


@pytest.mark.parametrize(("status", "words"), [(124, "no answer within 300 s"), (1, "can't open file")])
def test_an_image_that_cannot_be_asked(run: Run, image: Image, status: int, words: str) -> None:
    image.status = status
    assert words in run()["msg"]


def test_an_intent_that_does_not_exist(run: Run) -> None:
    assert "intents: " in run(max_model_length=8192)["msg"]


def test_a_parser_of_thoughts_on_a_template_that_has_none(run: Run, image: Image) -> None:
    found = run(tool_call_parser="hermes", reasoning_parser="glm45")
    assert found["failed"]
    assert "has no reasoning tags" in found["msg"]
    assert not image.shown


FIELD = Path(__file__).parents[3] / "field_cases"
GLM = "{%- for call in calls %}{{- '<tool_call>' + call.name }}{%- for k, v in args %}<arg_key>{{ k }}</arg_key><arg_value>{{ v }}</arg_value>{%- endfor %}{%- endfor %}"


def test_a_parser_whose_mark_stands_nowhere_is_said(run: Run, model: Path) -> None:
    (model / "chat_template.jinja").write_text("{{ tools }} <my_call>", encoding="utf-8")
    (note,) = run(tool_call_parser="hermes")["notes"]
    assert "does not show <tool_call>, which the tool call parser 'hermes' looks for" in note
    (model / "chat_template.jinja").write_text("{{ tools }} <tool_call>", encoding="utf-8")
    assert run(tool_call_parser="hermes")["notes"] == []


def test_a_parser_that_reads_a_template_since_a_later_release(run: Run, model: Path, image: Image) -> None:
    (model / "chat_template.jinja").write_text(GLM, encoding="utf-8")
    image.version = "0.25.1"
    for _known in range(2):
        assert run(tool_call_parser="glm45")["msg"].endswith(
            "does not read before vLLM 0.26: set vllm_serve_tool_call_parser to glm47"
        )
    assert "failed" not in run(tool_call_parser="glm47")


def test_the_same_parser_on_a_newer_image(run: Run, model: Path) -> None:
    (model / "chat_template.jinja").write_text(GLM, encoding="utf-8")
    assert run(tool_call_parser="glm45")["notes"] == []


def given(case: str, tmp_path: Path) -> dict[str, Any]:
    """Return the settings of a case as intents, with its files below the test's folder."""
    settings = yaml.safe_load((FIELD / "settings" / case).read_text(encoding="utf-8"))
    words = [word.replace("/srv/models", str(tmp_path)) for word in settings.pop("vllm_serve_extra_arguments")]
    return {key.removeprefix("vllm_serve_"): value for key, value in settings.items()} | {"extra_arguments": words}


def test_the_template_that_is_really_used(run: Run, image: Image, tmp_path: Path) -> None:
    intents = given("template-override.yml", tmp_path)
    path = Path(intents["extra_arguments"][1])
    assert f"--chat-template {path}, which is not on this node" in run(**intents)["msg"]
    path.parent.mkdir()
    path.write_text(CODER, encoding="utf-8")
    assert run(**intents)["notes"] == []
    assert image.volumes == [f"{path}:{path}:ro"]
    found = run(**{**intents, "tool_call_parser": "hermes"})
    assert found["msg"].endswith("set vllm_serve_tool_call_parser to qwen3_coder (or qwen3_xml, step3p5, mimo)")
    assert "failed" not in run(**{**intents, "tool_call_parser": "hermes"}, look=False)


def test_a_template_that_only_the_image_has(run: Run) -> None:
    arguments = ["--chat-template", "examples/tool_chat_template_hermes.jinja"]
    (note,) = run(tool_call_parser="qwen3_xml", extra_arguments=arguments)["notes"]
    assert "is not on this node, so the parsers were not compared with it" in note


def test_a_parser_of_a_plugin(run: Run, tmp_path: Path, model: Path) -> None:
    intents = given("parser-plugin.yml", tmp_path)
    path = Path(intents["extra_arguments"][1])
    path.parent.mkdir()
    path.write_text('@ReasoningParserManager.register_module("nano_v3")\nclass Nano: ...\n', encoding="utf-8")
    assert run(**intents)["notes"] == []
    assert "reasoning_parser is 'nano_v4'" in run(**{**intents, "reasoning_parser": "nano_v4"})["msg"]
    assert "nearest are nano_v3" in run(**{**intents, "reasoning_parser": "nano_v4"})["msg"]
    assert "does not know" in run(reasoning_parser="nano_v3")["msg"]
    # What a plugin reads is not known, so that no template speaks against it.
    (model / "chat_template.jinja").write_text("<|channel|>analysis", encoding="utf-8")
    assert run(**intents)["notes"] == []
    assert "harmony channels" in run(**{**intents, "reasoning_parser": "qwen3"})["msg"]
    (model / "chat_template.jinja").write_text(HERMES, encoding="utf-8")
    # One that registers names of its own making may have any.
    path.write_text("register()", encoding="utf-8")
    assert run(**{**intents, "reasoning_parser": "nano_v4"})["notes"] == []
    # vLLM's own parsers stay comparable beside a plugin.
    path.write_text('@ToolParserManager.register_module(["mine"])\nclass Mine: ...\n', encoding="utf-8")
    tools = ["--tool-parser-plugin", str(path)]
    assert run(tool_call_parser="mine", extra_arguments=tools)["notes"] == []
    assert "does not read" in run(tool_call_parser="qwen3_xml", extra_arguments=tools)["msg"]


def test_a_plugin_does_not_narrow_a_release_whose_parsers_are_not_known(
    run: Run, image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = json.loads((SNAPSHOTS / "0.33.0.json").read_text(encoding="utf-8"))
    (tmp_path / "0.33.0.json").write_text(json.dumps({**document, "tool_parsers": []}), encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "SNAPSHOTS", tmp_path)
    (tmp_path / "p.py").write_text('ToolParserManager.register_module("mine")', encoding="utf-8")
    found = run(tool_call_parser="hermes", extra_arguments=["--tool-parser-plugin", str(tmp_path / "p.py")])
    assert "failed" not in found


@pytest.mark.parametrize("name", ["nvfp4-mixed-modelopt", "mixed-known-family", "nvfp4-only-hf_quant_config"])
def test_nvfp4_of_the_field_follows_the_nodes_verdict(run: Run, tmp_path: Path, name: str) -> None:
    kernels(tmp_path / "kernels.json", "failed")
    case = FIELD / "config" / name
    if not case.is_dir():
        case = tmp_path / "case"
        case.mkdir()
        (case / "config.json").write_bytes((FIELD / "config" / f"{name}.json").read_bytes())
    assert "NVFP4, which this node refuses" in run(model_path=str(case))["msg"]


@pytest.mark.parametrize("arguments", [["--quantization", "nvfp4_per_token"], ["-q=nvfp4_per_token"]])
def test_weights_that_vllm_makes_nvfp4(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    kernels(tmp_path / "kernels.json", "failed")
    assert "NVFP4, which this node refuses" in run(extra_arguments=arguments)["msg"]
    assert "failed" not in run(extra_arguments=["--quantization", "fp8"])


def test_the_unit_hears_how_long_a_stop_drains(run: Run, image: Image) -> None:
    assert run()["drain_seconds"] == 0
    assert run(drain_timeout=30)["drain_seconds"] == 30
    assert run(drain_timeout=30, extra_arguments=["--shutdown-timeout=5"])["drain_seconds"] == 5
