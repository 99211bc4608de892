# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""From config.json to parameters and bytes. Totals are those of the repositories' safetensors metadata, small examples are counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.quantization import (
    PLAIN,
    Quantization,
    ShapeError,
    matches,
    quantization_of,
)
from ansible_collections.dgx_spark.vllm.plugins.module_utils.model.shape import ModelShape

from benchmarks.plan import WITH_DRAFT, model_rows
from tests.unit.plugins.module_utils.plan import shapes
from tests.unit.plugins.module_utils.plan.shapes import AWQ, TINY

GIB = 1024**3
MODELS = sorted((Path(__file__).parents[5] / "models").glob("*.yml"))


def shape(config: dict[str, Any], **changed: Any) -> ModelShape:
    return ModelShape.from_config({**config, **changed})


# --- parameters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (shapes.QWEN3_235B_AWQ, 235_093_634_560),
        (shapes.QWEN3_30B, 30_532_122_624),
        (shapes.QWEN3_480B, 480_154_875_392),
        (shapes.QWEN3_32B, 32_762_123_264),
        (shapes.QWEN3_4B, 4_022_468_096),
        (shapes.LLAMA_8B, 8_030_261_248),
        (shapes.MIXTRAL, 46_702_792_704),
        (shapes.QWEN25_72B, 72_706_203_648),
        (shapes.GPT_OSS_120B, 116_829_156_672),
        (shapes.MINIMAX_M2, 228_689_764_864),
        (shapes.DEEPSEEK_V3, 671_026_419_200),
        (shapes.DEEPSEEK_V2_LITE, 15_706_484_224),
        (shapes.QWEN3_NEXT, 79_674_391_296),
        (shapes.GEMMA3_12B, 11_766_034_176),
    ],
)
def test_parameters_of_published_models(config: dict[str, Any], parameters: int) -> None:
    assert shape(config).parameter_count() == parameters


#: Plain classes with their number of parameters, and the layers that keep every token or a window.
PLAIN_CLASSES: list[tuple[str, dict[str, Any], int, dict[str, int]]] = [
    (
        "phi-4",
        {
            "model_type": "phi3",
            "hidden_size": 5120,
            "intermediate_size": 17920,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
            "num_key_value_heads": 10,
            "vocab_size": 100352,
            "sliding_window": None,
        },
        14_659_507_200,
        {"full": 40},
    ),
    (
        "Seed-OSS-36B",
        {
            "model_type": "seed_oss",
            "hidden_size": 5120,
            "intermediate_size": 27648,
            "num_hidden_layers": 64,
            "num_attention_heads": 80,
            "vocab_size": 155136,
        },
        36_151_104_512,
        {"full": 64},
    ),
    (
        "gemma-2-27b",
        {
            "model_type": "gemma2",
            "hidden_size": 4608,
            "intermediate_size": 36864,
            "num_hidden_layers": 46,
            "num_attention_heads": 32,
            "num_key_value_heads": 16,
            "head_dim": 128,
        },
        27_227_128_320,
        {"full": 23, "sliding": 23},
    ),
    (
        "OLMo-2-7B",
        {
            "model_type": "olmo2",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 100352,
        },
        7_298_617_344,
        {"full": 32},
    ),
    (
        "Olmo-3-7B",
        {
            "model_type": "olmo3",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "vocab_size": 100278,
        },
        7_298_011_136,
        {"full": 8, "sliding": 24},
    ),
    (
        "Mistral-Small-3.2-24B, tower included",
        {
            "model_type": "mistral3",
            "text_config": {
                "model_type": "mistral",
                "hidden_size": 5120,
                "intermediate_size": 32768,
                "num_hidden_layers": 40,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "vocab_size": 131072,
                "sliding_window": None,
            },
            "vision_config": {"model_type": "pixtral", "image_size": 1540, "patch_size": 14},
        },
        24_011_361_280,
        {"full": 40},
    ),
    (
        "granite-3.3-8b",
        {
            "model_type": "granite",
            "hidden_size": 4096,
            "intermediate_size": 12800,
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "vocab_size": 49155,
            "tie_word_embeddings": True,
        },
        8_170_848_256,
        {"full": 40},
    ),
    (
        "SmolLM3-3B",
        {
            "model_type": "smollm3",
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "vocab_size": 128256,
        },
        3_075_098_624,
        {"full": 36},
    ),
    (
        "EXAONE-4.0-32B",
        {
            "model_type": "exaone4",
            "hidden_size": 5120,
            "intermediate_size": 27392,
            "num_hidden_layers": 64,
            "num_attention_heads": 40,
            "num_key_value_heads": 8,
            "vocab_size": 102400,
            "sliding_window_pattern": "LLLG",
        },
        32_003_216_384,
        {"full": 16, "sliding": 48},
    ),
    (
        "command-a",
        {
            "model_type": "cohere2",
            "hidden_size": 12288,
            "intermediate_size": 36864,
            "num_hidden_layers": 64,
            "num_attention_heads": 96,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "sliding_window_pattern": 4,
        },
        111_057_580_032,
        {"full": 16, "sliding": 48},
    ),
    (
        "ERNIE-4.5-21B-A3B",
        {
            "model_type": "ernie4_5_moe",
            "hidden_size": 2560,
            "intermediate_size": 12288,
            "num_hidden_layers": 28,
            "num_attention_heads": 20,
            "vocab_size": 103424,
            "moe_intermediate_size": 1536,
        },
        21_825_437_888,
        {"full": 28},
    ),
    (
        "dots.llm1",
        {
            "model_type": "dots1",
            "hidden_size": 4096,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 62,
            "num_attention_heads": 32,
            "head_dim": 128,
            "n_routed_experts": 128,
            "n_shared_experts": 2,
            "num_experts_per_tok": 6,
            "first_k_dense_replace": 1,
            "vocab_size": 152064,
        },
        142_774_381_696,
        {"full": 62},
    ),
]


@pytest.mark.parametrize(
    ("config", "parameters", "kinds"), [row[1:] for row in PLAIN_CLASSES], ids=[row[0] for row in PLAIN_CLASSES]
)
def test_plain_classes_with_ways_of_their_own(config: dict[str, Any], parameters: int, kinds: dict[str, int]) -> None:
    found = ModelShape.from_config(config)
    assert found.known
    assert not found.notes
    assert found.parameter_count() == parameters
    assert {kind: found.layers_with(kind) for kind in kinds} == kinds
    assert sum(kinds.values()) == found.layers


def test_an_unknown_class_needs_no_key_that_only_weights_need() -> None:
    plain = {key: value for key, value in TINY.items() if key not in {"intermediate_size", "num_key_value_heads"}}
    found = ModelShape.from_config({**plain, "model_type": "brand_new", "num_attention_groups": 2})
    # All heads in the place of the KV heads would be a multiple of the cache.
    assert (found.known, found.kv_heads) == (False, 2)
    mixed = ModelShape.from_config(
        {
            **TINY,
            "model_type": "brand_new",
            "num_experts": 8,
            "moe_topk": [2, 2],
            "moe_intermediate_size": [32, 64],
        }
    )
    assert (mixed.experts_per_token, mixed.moe_intermediate) == (2, 64)


def test_a_pattern_of_windows_is_a_number_or_written_out() -> None:
    known = {key: value for key, value in PLAIN_CLASSES[8][1].items() if key != "sliding_window_pattern"}
    assert ModelShape.from_config(known).layers_with("full") == 16
    assert ModelShape.from_config({**known, "sliding_window_pattern": "LG"}).layers_with("full") == 32
    with pytest.raises(ShapeError, match=r"sliding_window_pattern of config\.json is 'XYZ'"):
        ModelShape.from_config({**known, "sliding_window_pattern": "XYZ"})


def test_the_layer_for_speculation_is_not_served_and_counted_apart() -> None:
    air = shape(shapes.GLM_45_AIR)
    # The repository's 110,468,824,832 hold that layer, and an embedding and a head of its own.
    copies = 2 * 151_552 * 4096
    assert air.parameter_count() + air.draft_parameter_count() + copies == 110_468_824_832


def test_a_vision_tower_is_counted() -> None:
    both = shape(shapes.QWEN3_VL_235B)
    text = shape(shapes.QWEN3_235B)
    # By hand: patches, positions, 27 blocks of four matrices and two norms, four mergers.
    width, inner, merge, out = 1152, 4304, 4608, 4096
    block = 4 * width + width * 3 * width + 3 * width + width * width + width + 2 * width * inner + inner + width
    merger = merge * merge + merge + merge * out + out
    tower = width * (3 * 2 * 16 * 16 + 1) + 2304 * width + 27 * block + (2 * width + merger) + 3 * (2 * merge + merger)
    assert both.parameter_count() - text.parameter_count() == tower
    assert both.model_type == "qwen3_moe"


def test_qwen35_is_built_like_qwen3_next() -> None:
    text = {key: value for key, value in shapes.QWEN3_NEXT.items() if key != "intermediate_size"}
    text |= {"model_type": "qwen3_5_moe_text", "rope_parameters": {"partial_rotary_factor": 0.25}}
    del text["partial_rotary_factor"]
    found = ModelShape.from_config({"model_type": "qwen3_5_moe", "text_config": text})
    assert found.parameter_count() == shape(shapes.QWEN3_NEXT).parameter_count()
    assert (found.model_type, found.rotary_dim, found.notes) == ("qwen3_next", 64, ())


def test_by_hand() -> None:
    # Queries 64x64, keys and values 32x64, output 64x64; gate, up and down 128x64; two norms; embedding, head, last norm.
    layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64 + 2 * 64
    assert shape(TINY).parameter_count() == 2 * layer + 2 * 100 * 64 + 64
    assert shape(TINY, tie_word_embeddings=True).parameter_count() == 2 * layer + 100 * 64 + 64
    biases = 64 + 2 * 32 + 64
    assert shape(TINY, attention_bias=True).parameter_count() == 2 * (layer + biases) + 2 * 100 * 64 + 64
    qwen2 = shape(TINY, model_type="qwen2")
    assert qwen2.parameter_count() == 2 * (layer + 64 + 2 * 32) + 2 * 100 * 64 + 64


def test_active_parameters_are_those_of_the_chosen_experts() -> None:
    config = {**TINY, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 1}
    layer = 64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64 + 4 * 64 + 2 * 64
    assert shape(config).active_parameter_count() == 2 * layer + 100 * 64 + 64


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_parameters_of_the_models_that_come_along(path: Path) -> None:
    model = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "config" not in model:
        pytest.skip("has no config")
    found = shape(model["config"])
    assert not found.notes
    if "parameters_billion" in model:
        # Some publish the layers for speculative decoding as well, and the page says which.
        count = found.parameter_count() + (found.draft_parameter_count() if path.stem in WITH_DRAFT else 0)
        assert abs(count / 1e9 / model["parameters_billion"] - 1) <= 0.005
    if model.get("weights_gib", 0) >= 1:
        # What vLLM holds is what the repository has, but for padding, tables and layers that are not served.
        assert found.rank_weights().total / GIB == pytest.approx(model["weights_gib"], rel=0.15)


def test_the_page_names_every_model_with_its_source() -> None:
    rows = model_rows()
    assert [row["name"] for row in rows] == [path.stem for path in MODELS]
    for row in rows:
        assert row["source"] or not row["stated"], row["name"]
        assert row["weights_source"] or row["name"] == "tiny-qwen3-moe", row["name"]
        if row["name"] in WITH_DRAFT:
            assert row["draft"] > 1
            # The sum is nearer to what is published than the model alone.
            assert abs(row["counted"] - row["stated"]) < abs(row["counted"] - row["draft"] - row["stated"])


@pytest.mark.parametrize(
    ("scaling", "positions"),
    [
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}, 4000),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1000}, 4000),
        ({"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}, 4096),
        ({"rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_type": "linear", "factor": 4.0}, 16_384),
        ({"rope_type": "dynamic", "factor": 2.0}, 8192),
        ({"rope_type": "default"}, 4096),
        (None, 4096),
    ],
)
def test_positions_are_those_that_vllm_derives(scaling: dict[str, Any] | None, positions: int) -> None:
    assert shape(TINY, max_position_embeddings=4096, rope_scaling=scaling).max_position == positions


# --- quantization --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantization", "size"),
    [
        (None, 64 * 128 * 2),
        # Packed weights, a scale in float16 and a zero point of 4 bits for each of two groups and 64 outputs.
        ({**AWQ, "group_size": 64}, 64 * 128 // 2 + 2 * 64 * 2 + 2 * 64 // 2),
        ({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": True}, 64 * 128 // 2 + 2 * 64 * 2),
        # With desc_act each of the 128 inputs has the number of its group; not symmetric, zeros stay.
        (
            {"quant_method": "gptq", "bits": 8, "group_size": 64, "sym": False, "desc_act": True},
            64 * 128 + 2 * 64 * 2 + 2 * 64 + 4 * 128,
        ),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, 64 * 128 // 2 + 64 * 2),
        # Per tensor: a scale of the weights and one of the inputs. Blocks of 128: one scale here.
        ({"quant_method": "fp8"}, 64 * 128 + 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, 64 * 128 + 4),
        # A scale in FP8 for 16 weights, two in float32 for the matrix.
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 64 * 128 // 2 + 64 * 128 // 16 + 8),
        ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}, 64 * 128 + 8),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 4, "type": "int", "group_size": 32, "symmetric": True},
                    }
                },
            },
            64 * 128 // 2 + 4 * 64 * 2,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}}
                },
            },
            64 * 128 // 2 + 64 * 128 // 16 + 8,
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "group_0": {
                        "targets": ["Linear"],
                        "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                    }
                },
            },
            64 * 128 + 64 * 4,
        ),
    ],
)
def test_bytes_of_a_matrix(quantization: dict[str, Any] | None, size: int) -> None:
    found = quantization_of({"quantization_config": quantization} if quantization else {})
    assert found.scheme_of("model.layers.0.mlp.up_proj").matrix_bytes(64, 128) == size


def test_mxfp4_is_for_experts_and_padded() -> None:
    oss = shape(shapes.GPT_OSS_120B)
    # By hand: 2880 becomes 2944 for the experts' inner side and 3072 for the hidden one; 4 bits and a scale of 8 for 32 of them.
    experts = 36 * 128 * 3 * 2944 * 3072 * (0.5 + 1 / 32) + 36 * 128 * (2 * 2944 + 3072) * 2
    assert oss.rank_weights().experts == experts
    assert oss.quantization.scheme_of("model.layers.0.self_attn.q_proj").name == "bf16"
    assert oss.quantization.scheme_of("model.layers.0.mlp.experts.0.up_proj").name == "mxfp4"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("gate", "model.layers.0.mlp.gate", True),
        ("gate", "model.layers.0.mlp.gate_proj", False),
        ("mlp.gate", "model.layers.0.mlp.gate", True),
        ("model.layers.0.", "model.layers.0.mlp.up_proj", True),
        ("model.layers.1", "model.layers.10.mlp.up_proj", False),
        ("re:.*self_attn.*", "model.layers.0.self_attn.q_proj", True),
        ("re:self_attn", "model.layers.0.self_attn.q_proj", False),
        ("model.layers.*.self_attn*", "model.layers.7.self_attn.q_proj", True),
        ("model.layers.*.self_attn", "model.layers.7.self_attn.q_proj", True),
        ("model.language_model.layers.3.self_attn", "model.layers.3.self_attn.q_proj", True),
    ],
)
def test_names_of_what_is_not_converted(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_other_forms_of_a_quantization() -> None:
    def compressed(**weights: Any) -> Quantization:
        groups = {"group_0": {"targets": ["Linear"], "weights": weights or None}}
        return quantization_of({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}})

    blocks = {"num_bits": 8, "type": "float", "strategy": "BLOCK"}
    as_text, as_list = compressed(**blocks, block_structure="128x64"), compressed(**blocks, block_structure=[128, 64])
    assert as_text.scheme_of("x.y").block == as_list.scheme_of("x.y").block == (128, 64)
    # A group of activations alone leaves the weights as they are.
    assert compressed().scheme_of("x.y") is PLAIN
    # One name that is a text is one name, and no list of letters.
    fp8 = quantization_of({"quantization_config": {"quant_method": "fp8", "ignored_layers": "lm_head"}})
    assert fp8.plain == ("lm_head",)
    broken = quantization_of({"quantization_config": {"quant_method": "fp8", "ignore": ["re:(("]}})
    with pytest.raises(ShapeError, match=r"has 're:\(\(', which is no regular expression"):
        broken.scheme_of("x.y")


def test_what_is_left_out_stays_bf16() -> None:
    plain = shape(TINY).rank_weights().total
    everything = shape(TINY, quantization_config={**AWQ, "group_size": 64}).rank_weights().total
    first = {**AWQ, "group_size": 64, "modules_to_not_convert": ["model.layers.0", "lm_head"]}
    assert everything < shape(TINY, quantization_config=first).rank_weights().total < plain
    rules = {"quant_method": "gptq", "bits": 4, "group_size": 64, "dynamic": {"-:.*": {}}}
    assert shape(TINY, quantization_config=rules).rank_weights().total == plain


# --- what a rank holds ---------------------------------------------------------------------------------------


def test_the_default_model_in_gib() -> None:
    # Facts: 235.09 billion parameters, 57.64 GiB on each of two ranks for the GPTQ build, which has no zero points.
    default = shape(shapes.QWEN3_235B_AWQ)
    assert default.rank_weights().total / GIB == pytest.approx(115.6, abs=0.05)
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}
    twin = shape(shapes.QWEN3_235B, quantization_config=gptq)
    assert twin.rank_weights(2).total / GIB == pytest.approx(57.64, rel=0.01)


def test_two_ranks_by_hand() -> None:
    # Halves of all matrices, whole norms; the vocabulary of 100 padded to 128 and halved.
    layer = (64 * 64 + 2 * 32 * 64 + 64 * 64 + 3 * 128 * 64) // 2 + 2 * 64
    assert shape(TINY).rank_weights(2).total == 2 * (2 * layer + 2 * 64 * 64 + 64)


def test_kv_heads_are_held_twice_when_ranks_are_more() -> None:
    four = shape(TINY).rank_weights(4)
    # Four heads, two KV heads, four ranks: each has one KV head of 16.
    layer = 64 * 64 // 4 + 2 * 16 * 64 + 64 * 64 // 4 + 3 * 128 * 64 // 4 + 2 * 64
    assert four.total == 2 * (2 * layer + 2 * 64 * 64 + 64)
    assert shape(TINY).kv_bytes_per_token_layer(4) == shape(TINY).kv_bytes_per_token_layer(2) == 2 * 16 * 2


def test_experts_are_divided_by_width_or_whole() -> None:
    config = {**TINY, "model_type": "mixtral", "num_local_experts": 5, "num_experts_per_tok": 1}
    matrix = 3 * 128 * 64 * 2
    assert shape(config).rank_weights(2).experts == 2 * 5 * matrix // 2
    assert shape(config).rank_weights(2, expert_parallel=True).experts == 2 * 3 * matrix


def test_pipeline_stages_are_those_of_vllm() -> None:
    # vllm/distributed/utils.py: what is left over goes to the stages before the last.
    assert [len(part) for part in shape(TINY, num_hidden_layers=10).stages(4)] == [2, 3, 3, 2]
    both = [shape(TINY).rank_weights(1, 2, stage) for stage in (0, 1)]
    assert [part.layers for part in both] == [1, 1]
    assert both[0].total + both[1].total == shape(TINY).rank_weights().total


def test_mla_is_held_whole_and_absorbed() -> None:
    small = shape(shapes.DEEPSEEK_V2_LITE)
    assert small.kv_bytes_per_token_layer() == small.kv_bytes_per_token_layer(8) == (512 + 64) * 2
    assert small.kv_bytes_per_token_layer(1, "fp8") == 512 + 64
    # Beside kv_b_proj, its two halves for absorbed attention, and the table of rotations.
    assert small.derived_bytes() == 27 * 16 * 256 * 512 * 2 + 163840 * 64 * 2
    sparse = shape(shapes.DEEPSEEK_V3, model_type="deepseek_v32", index_head_dim=128, index_n_heads=64)
    assert sparse.kv_bytes_per_token_layer(1, "fp8") == 656 + 128 + 4


def test_dense_layers_among_experts() -> None:
    assert shape(shapes.DEEPSEEK_V3).moe_layers == 58
    assert shape(shapes.QWEN3_235B, mlp_only_layers=[0, 5], decoder_sparse_step=2).moe_layers == 46
    assert shape(shapes.QWEN3_32B).moe_layers == 0


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        (shapes.GPT_OSS_120B, {"sliding": 18, "full": 18, "linear": 0}),
        (shapes.GEMMA3_12B, {"sliding": 40, "full": 8, "linear": 0}),
        (shapes.QWEN3_NEXT, {"sliding": 0, "full": 12, "linear": 36}),
        ({**TINY, "model_type": "mistral", "sliding_window": 8}, {"sliding": 2, "full": 0, "linear": 0}),
        (
            {**TINY, "layer_types": ["full_attention", "sliding_attention"], "sliding_window": 8},
            {"full": 1, "sliding": 1},
        ),
        ({**shapes.QWEN3_32B, "sliding_window": 4096, "use_sliding_window": False}, {"full": 64}),
        (
            {**shapes.QWEN3_32B, "sliding_window": 4096, "use_sliding_window": True, "max_window_layers": 60},
            {"full": 60, "sliding": 4},
        ),
    ],
)
def test_kinds_of_attention(config: dict[str, Any], kinds: dict[str, int]) -> None:
    found = shape(config)
    assert {kind: found.layers_with(kind) for kind in kinds} == kinds


def test_state_of_linear_attention() -> None:
    # 36 layers: three steps of the convolution's 8192 channels and 32 heads of 128x128, all in bf16; in float32 where config.json says so.
    assert shape(shapes.QWEN3_NEXT).state_bytes_per_request() == 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 2)
    told = shape(shapes.QWEN3_NEXT, mamba_ssm_dtype="float32")
    assert told.state_bytes_per_request() == 36 * (3 * 8192 * 2 + 32 * 128 * 128 * 4)


def test_rotations_are_computed_for_scaled_positions() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    scaled = shape(shapes.QWEN3_32B, rope_scaling=yarn)
    assert (scaled.max_position, scaled.rotary_positions) == (131072, 131072)
    assert shape(shapes.QWEN3_VL_235B).rotary_positions == 4 * 262144
    assert shape(shapes.GEMMA3_12B).derived_bytes() == 2 * 131072 * 256 * 2
    linear = shape(shapes.GEMMA3_12B, rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert linear.rotary_positions == 8 * 131072


# --- what is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is missing in config.json"),
        ({"vocab_size": "100"}, "vocab_size of config.json is '100', expected a whole number"),
        ({"hidden_size": 0}, "hidden_size of config.json is 0"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers of config.json is 1000000000, expected at most 10000"),
        ({"hidden_size": 10**30}, "expected at most 1099511627776: is the file damaged?"),
        ({"model_type": ""}, "model_type is missing"),
        ({"quantization_config": {"quant_method": "awq", "group_size": 128}}, "quantization_config.bits is missing"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "config_groups is missing"),
        ({"layer_types": ["full_attention"]}, "layer_types of config.json has 1 entries, but num_hidden_layers is 2"),
        ({"layer_types": ["full_attention", "mamba"]}, "layer_types of config.json has 'mamba'"),
        ({"num_experts": 4}, "num_experts_per_tok is missing"),
        ({"num_key_value_heads": -2}, "num_key_value_heads of config.json is -2"),
        ({"head_dim": -64}, "head_dim of config.json is -64"),
        ({"num_attention_heads": -4}, "num_attention_heads of config.json is -4"),
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": "four"}},
            "factor of config.json is 'four', expected a number above 0",
        ),
        ({"model_type": "bert"}, "model_type 'bert' is an encoder: it answers with vectors and has no KV cache"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "reads with an encoder and writes with a decoder"),
        (
            {"model_type": "nemotron_h"},
            "hybrid_override_pattern is missing in config.json: add it",
        ),
        (
            {"model_type": "nemotron_h", "hybrid_override_pattern": "MX"},
            "hybrid_override_pattern of config.json has 'X'",
        ),
    ],
)
def test_one_sentence_names_the_key(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ShapeError, match=r"^[^\n]*$") as caught:
        shape(TINY, **changed)
    assert said in str(caught.value)


def test_ranks_must_divide_the_heads_and_types_be_known() -> None:
    with pytest.raises(ShapeError, match="num_attention_heads 4 cannot be divided"):
        shape(TINY).rank_weights(3)
    with pytest.raises(ShapeError, match="kv_cache_dtype is 'int3'"):
        shape(TINY).kv_bytes_per_token_layer(1, "int3")
    with pytest.raises(ShapeError, match="holds no mapping"):
        ModelShape.from_config({})


def test_an_unknown_class_is_a_guess_and_told() -> None:
    found = shape(TINY, model_type="brand_new")
    assert not found.known
    assert [note.partition(":")[0] for note in found.notes] == ["model_type 'brand_new' is not known"]
    assert "the KV figure is a guess" in found.notes[0]
    # Kinds of layers that nobody knows keep every token.
    strange = shape(
        TINY, model_type="brand_new", layer_types=["chunked_attention", "sliding_attention"], sliding_window=64
    )
    assert strange.attention == ("full", "sliding")
    tower = ModelShape.from_config({**TINY, "model_type": "brand_new_vl", "vision_config": {"depth": 2}})
    assert any("vision tower" in note for note in tower.notes)


@pytest.mark.parametrize(
    "raw", [{"quant_method": "gguf"}, {"quant_method": "modelopt", "quant_algo": "W4A8"}, {"quant_method": "quark"}]
)
def test_a_quantization_that_nobody_counts_is_no_error_of_the_shape(raw: dict[str, Any]) -> None:
    assert not quantization_of({"quantization_config": raw}).counted


def test_mixed_precision_names_each_layer() -> None:
    layers = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4", "group_size": 16},
    }
    raw = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    found = quantization_of({"quantization_config": raw})
    assert found.counted
    names = ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
    assert [found.scheme_of(f"model.layers.0.{name}").name for name in names] == ["fp8", "nvfp4", "bf16"]
    strange = {
        "quant_method": "modelopt",
        "quant_algo": "MIXED_PRECISION",
        "quantized_layers": {"a": {"quant_algo": "INT3"}},
    }
    assert not quantization_of({"quantization_config": strange}).counted


# --- what the class says where config.json is silent ---------------------------------------------------------


def test_defaults_belong_to_the_class() -> None:
    bare = {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64, "num_attention_heads": 64}
    qwen = ModelShape.from_config({**bare, "model_type": "qwen3"})
    assert (qwen.head_dim, qwen.kv_heads, qwen.vocab) == (128, 32, 151_936)
    mistral = ModelShape.from_config({**bare, "model_type": "mistral"})
    assert (mistral.head_dim, mistral.kv_heads, mistral.layers_with("sliding")) == (80, 8, 64)
    llama = ModelShape.from_config({**bare, "model_type": "llama"})
    assert (llama.kv_heads, llama.vocab, llama.layers_with("full")) == (64, 32_000, 64)
    # Written out as nothing, it is as many as there are heads, whatever the class has.
    assert ModelShape.from_config({**bare, "model_type": "mistral", "num_key_value_heads": None}).kv_heads == 64


def test_a_factor_that_is_text_is_taken_and_told() -> None:
    yarn = {"rope_type": "yarn", "factor": "4.0", "original_max_position_embeddings": 32768}
    found = shape(shapes.QWEN3_32B, rope_scaling=yarn)
    assert found.max_position == 131_072
    assert any("is the text '4.0'" in note for note in found.notes)


@pytest.mark.parametrize(
    ("config", "billion", "kinds"),
    [
        # ibm-granite/granite-4.0-h-small: 32.2B. nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B: 31.6B, 3.2B active without the embedding.
        # moonshotai/Kimi-Linear-48B-A3B: 49.1B. mistralai/Mamba-Codestral-7B: 7,285,403,648. google/gemma-4-31B: 31.27B and, as vLLM
        # holds them, keys a second time where they are values as well.
        (shapes.GRANITE_H_SMALL, 32.207, {"full": 4, "linear": 36}),
        (shapes.NEMOTRON_NANO, 31.578, {"full": 6, "linear": 23, "none": 23}),
        (shapes.KIMI_LINEAR, 49.123, {"full": 7, "linear": 20}),
        (shapes.CODESTRAL_MAMBA, 7.285403648, {"linear": 64}),
        (shapes.GEMMA4_31B, 31.383, {"full": 10, "sliding": 50}),
        (shapes.GEMMA4_26B, 25.820, {"full": 5, "sliding": 25}),
    ],
)
def test_hybrids_and_gemma_4(config: dict[str, Any], billion: float, kinds: dict[str, int]) -> None:
    found = shape(config)
    assert found.parameter_count() / 1e9 == pytest.approx(billion, abs=0.0006)
    assert {kind: found.layers_with(kind) for kind in kinds} == kinds
    assert found.notes == ()


def test_states_by_hand() -> None:
    # A window of 3 in bf16, a matrix for each head: float32 in Nemotron-H and Kimi, the model's type in Granite and Mamba 2.
    nano = 3 * (4096 + 2 * 8 * 128) * 2 + 64 * 64 * 128 * 4
    assert shape(shapes.NEMOTRON_NANO).state_bytes_per_request() == 23 * nano
    kimi = 3 * 3 * 32 * 128 * 2 + 32 * 128 * 128 * 4
    assert shape(shapes.KIMI_LINEAR).state_bytes_per_request() == 20 * kimi
    assert shape(shapes.KIMI_LINEAR).state_bytes_per_request(2) == 20 * kimi // 2
    # Two more tokens in the window with two guessed ones; one group alone is held by both ranks.
    assert shape(shapes.NEMOTRON_NANO).state_bytes_per_request(1, [0], 2) == nano + 2 * (4096 + 2048) * 2
    granite = 3 * (8192 + 2 * 2 * 128) // 2 * 2 + 64 * 64 * 128 * 2
    assert shape(shapes.GRANITE_H_SMALL).state_bytes_per_request(2) == 36 * granite


def test_ranks_and_groups_of_mamba() -> None:
    with pytest.raises(ShapeError, match="64 heads in 8 groups of Mamba cannot be divided"):
        shape(shapes.NEMOTRON_NANO).rank_weights(3)
    with pytest.raises(ShapeError, match="6 KV heads can neither be divided by it nor be held by as many ranks each"):
        shape(shapes.LLAMA_8B, num_attention_heads=24, num_key_value_heads=6).rank_weights(4)
    assert shape(shapes.LLAMA_8B, num_key_value_heads=4).kv_bytes_per_token_layer(8) == 2 * 128 * 2


def test_layers_of_gemma_4_differ() -> None:
    found = shape(shapes.GEMMA4_31B)
    assert (found.attention[4], found.attention[5]) == ("sliding", "full")
    assert (found.kv_bytes_per_token_layer(1, "auto", 4), found.kv_bytes_per_token_layer(1, "auto", 5)) == (
        16_384,
        8_192,
    )
    text = ModelShape.from_config({**shapes.GEMMA4_31B["text_config"], "num_kv_shared_layers": 10})
    assert [text.keeps_cache(layer) for layer in (49, 50)] == [True, False]


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}, "fp8"),
        (
            {"quant_method": "modelopt", "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "NVFP4"}},
            "nvfp4",
        ),
        (
            {
                "quant_method": "modelopt",
                "quant_algo": "FP8",
                "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
            },
            "fp8",
        ),
        # vLLM takes it only where it says that its scales are fixed (get_kv_cache_quant_algo_string).
        (
            {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            "auto",
        ),
        ({"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "auto"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "auto"),
        (
            {"quant_method": "compressed-tensors", "config_groups": {"0": {}}, "kv_cache_scheme": {"num_bits": 8}},
            "fp8",
        ),
        (AWQ, "auto"),
    ],
)
def test_the_type_that_a_checkpoint_asks_for(raw: dict[str, Any], expected: str) -> None:
    assert shape(TINY, quantization_config=raw).kv_cache_type == expected


def test_caches_with_scales() -> None:
    llama = shape(shapes.LLAMA_8B)
    sizes = {dtype: llama.kv_bytes_per_token_layer(1, dtype) for dtype in ("fp8", "nvfp4", "fp8_per_token_head")}
    assert sizes == {"fp8": 2 * 8 * 128, "nvfp4": 2 * 8 * 72, "fp8_per_token_head": 2 * 8 * 132}
    with pytest.raises(ShapeError, match="for models with latent attention"):
        llama.kv_bytes_per_token_layer(1, "fp8_ds_mla")
    latent = shape(shapes.DEEPSEEK_V3)
    assert latent.kv_bytes_per_token_layer(1, "fp8_ds_mla") == 656
    assert latent.kv_bytes_per_token_layer(1, "nvfp4_ds_mla") == 352
    with pytest.raises(ShapeError, match="is not for models with latent attention"):
        latent.kv_bytes_per_token_layer(1, "nvfp4")
