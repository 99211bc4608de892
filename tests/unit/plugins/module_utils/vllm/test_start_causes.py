# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a start failed: real journals, the words of public reports, and what must not be taken for a cause."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.vllm.start_causes import (
    KNOWN,
    Cause,
    Start,
    first_cause,
    kernel_command,
    starts,
    table,
)

FIELD = Path(__file__).parents[4] / "field_cases" / "journals"
ENGINE = "(EngineCore pid=120) ERROR 09-14 08:11:41 [core.py:1139] "
RANK = "(EngineCore pid=9) (RayWorkerWrapper pid=383, ip=192.168.100.11) ERROR 05-10 10:05:30 [worker_base.py:272] "
END = "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"
BANNER = "(APIServer pid=1) INFO 05-10 10:08:00 [api_server.py:1] vLLM API server version 0.31.0"
CONFIG = (
    "(EngineCore pid=9) INFO 05-10 10:08:04 [core.py:93] Initializing a V1 LLM engine (v0.31.0) with config: "
    "model='/srv/models/m', trust_remote_code=True, quantization=awq, disable_custom_all_reduce=False"
)


def cause(*lines: str, kernel: str = "") -> Cause:
    found = first_cause("\n".join(lines), kernel)
    assert found is not None
    return found


def test_the_cause_and_not_its_consequence() -> None:
    found = cause((FIELD / "journal-no-cache-blocks.txt").read_text(encoding="utf-8"))
    assert found.code == "no_cache_blocks"
    assert "raise vllm_serve_gpu_memory_utilization" in found.sentence()
    assert "Engine core initialization failed" not in found.sentence()


def test_a_start_that_went_well_has_no_cause() -> None:
    assert first_cause((FIELD / "journal-worker-clock-3min-behind.txt").read_text(encoding="utf-8")) is None
    assert first_cause("") is None


#: As public reports quote them; vLLM's own are in its sources of 0.32.
LINES = {
    "no_cache_blocks": "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
    "context_too_long": "ValueError: To serve at least one request with the models's max seq len (262144), (23.5 GiB KV cache is needed, which "
    "is larger than the available KV cache memory (16.85 GiB). Based on the available memory, the estimated maximum model length is 187904.",
    "memory_taken": "ValueError: Free memory on device cuda:0 (60.1/119.7 GiB) on startup is less than desired GPU memory utilization "
    "(0.75, 89.78 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
    "memory_moved": "AssertionError: Error in memory profiling. Initial free memory 90.2 GiB, current free memory 91.0 GiB.",
    "mamba_blocks": "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (310). Each decode sequence requires one",
    "cuda_out_of_memory": "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 119.70 GiB",
    "rank_gone": "KeyError: 'cmpl-84aebc65addaea0f-0-b58c89b6'",
    "killed_by_ray": "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
    "memory_lock": "RuntimeError: NCCL error: Call to ibv_reg_mr_iova2 failed with error Cannot allocate memory",
    "disk_full": "OSError: [Errno 28] No space left on device: '/root/.cache/vllm/torch_compile_cache'",
    "open_files": "OSError: [Errno 24] Too many open files",
    "ptxas_old": "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'",
    "no_ninja": "RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)",
    "no_nvcc": "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist",
    "no_compiler": "RuntimeError: Failed to find C compiler. Please specify via CC environment variable",
    "no_kernel_image": "torch.AcceleratorError: CUDA error: no kernel image is available for execution on the device",
    "driver_old": "RuntimeError: The NVIDIA driver on your system is too old: CUDA driver version is insufficient for CUDA runtime version",
    "no_gpu": "RuntimeError: Failed to infer device type, please set the environment variable `VLLM_LOGGING_LEVEL=DEBUG`",
    "device_missing": "docker: Error response from daemon: failed to create task: CDI device injection failed: unresolvable CDI devices "
    "nvidia.com/gpu=all",
    "gloo_no_address": "RuntimeError: [enforce fail at /pytorch/third_party/gloo/gloo/transport/tcp/device.cc:83] ifa != nullptr. "
    "Unable to find address for: enp1s0f1np1",
    "gloo_no_mesh": "RuntimeError: Gloo connectFullMesh failed with [.../gloo/transport/tcp/pair.cc:144] no error",
    "nccl_timeout": "torch.distributed.DistBackendError: [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, "
    "OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600021 milliseconds before timing out.",
    "nccl_error": "RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)",
    "placement_pending": "ValueError: Cannot provide a placement group requiring bundles [{'GPU': 1.0}, {'GPU': 1.0}] within 1800 seconds.",
    "world_size": "pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, World size (2) is larger "
    "than the number of available GPUs (1) in this node.",
    "same_address": "RuntimeError: Every node should have a unique IP address. Got 2 nodes with node ids [...] and 1 unique IP addresses",
    "no_ray": "ConnectionError: Could not find any running Ray instance. Please specify the one to connect to by setting `address`",
    "ray_version": "RuntimeError: Version mismatch: The cluster was started with: Ray: 2.58.0",
    "ray_token": "ray.exceptions.AuthenticationError: Token authentication is enabled but no authentication token was found",
    "rendezvous": "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to connect to (10.0.0.1, 29501).",
    "port_taken": "OSError: [Errno 98] Address already in use",
    "unrecognized_argument": "vllm serve: error: unrecognized arguments: --swap-space 16",
    "bad_argument": "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'fp9'",
    "tool_parser": "KeyError: 'invalid tool call parser: qwen4 (chose from { hermes,mistral })'",
    "reasoning_parser": "KeyError: \"Reasoning parser 'nano_v3' not found. Available parsers: deepseek_r1\"",
    "chat_template": "ValueError: The supplied chat template (/x.jinja) looks like a file path, but it failed to be opened. Reason: [Errno 2]",
    "context_of_model": "  Value error, User-specified max_model_len (262144) is greater than the derived max_model_len (40960)",
    "heads": "  Value error, Total number of attention heads (40) must be divisible by tensor parallel size (3).",
    "architecture": "ValueError: Model architectures ['Qwen9ForCausalLM'] are not supported for now. Supported architectures: dict_keys([",
    "remote_code": "  Value error, Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
    "quantization": "  Value error, Quantization method specified in the model config (awq) does not match the quantization method specified",
    "weights_broken": "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "weights_missing": "RuntimeError: Cannot find any model weights with `/srv/models/m`",
    "stale_share": "OSError: [Errno 116] Stale file handle: '/srv/models/m/model-00001-of-00039.safetensors'",
    "not_offline": "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab",
    "no_model": "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/srv/models/m'",
    "illegal_access": "torch.AcceleratorError: CUDA error: an illegal memory access was encountered",
    "engine_slow": "TimeoutError: Timed out waiting for engine core processes to start. This is often caused by slow weight loading",
    "no_backend": "NotImplementedError: No NvFp4 MoE backend supports the deployment configuration.",
    "kernel_not_built": "RuntimeError: Ninja build failed. Ninja output:",
    "parts_differ": "ImportError: /usr/lib/python3/dist-packages/vllm/_C.abi3.so: undefined symbol: _ZN3c104cuda9SetDeviceEa",
    "image_missing": "docker: Error response from daemon: No such image: dgx-spark/serving:current",
    "model_files_missing": "OSError: Can't load tokenizer for '/srv/models/m'. If you were trying to load it from 'https://huggingface.co/models'",
    "shared_memory": "OSError: [Errno 28] No space left on device: '/dev/shm/psm_1234'",
}
#: Of the kernel: they stand in its own log.
KERNEL = {
    "no_memory_nvrm": "NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x00000051) returned from "
    "_memdescAllocInternal(pMemDesc) @ mem_desc.c:1359",
    "killed_for_memory": "Out of memory: Killed process 4711 (VLLM::Worker_TP) total-vm:260000000kB, anon-rss:1000kB",
}


@pytest.mark.parametrize("code", LINES)
def test_known_lines(code: str) -> None:
    said = LINES[code].splitlines()
    lines = [
        BANNER,
        CONFIG,
        *(line if line.startswith(("ptxas", "docker", "vllm")) else RANK + line for line in said),
        END,
    ]
    found = cause(*lines)
    assert (found.code, bool(found.cause), bool(found.remedy)) == (code, True, True)
    assert found.sentence().startswith(found.cause)
    assert found.as_dict()["sentence"] == found.sentence()


#: Other words for the same, of other releases and of the libraries below (torch, transformers, vLLM 0.19 to 0.32).
SISTERS = [
    (
        "driver_old",
        "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver",
    ),
    ("no_gpu", "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
    ("no_gpu", "RuntimeError: CUDA driver initialization failed, you might not have a CUDA gpu."),
    ("illegal_access", "torch.AcceleratorError: CUDA error: an illegal instruction was encountered"),
    ("shared_memory", "RuntimeError: unable to write to file </torch_1_2>: No space left on device (28)"),
    ("tool_parser", "KeyError: \"Tool parser 'qwen4' not found.\""),
    (
        "weights_missing",
        "ValueError: Following weights were not initialized from checkpoint: {'model.layers.1.mlp.gate'}",
    ),
    ("no_model", "ValueError: Invalid repository ID or local directory specified: '/srv/models/m'."),
    ("placement_pending", "ValueError: Current node has no GPU available. current_node_resource={'CPU': 20.0}."),
    ("no_backend", "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=256)"),
    ("no_backend", "NotImplementedError: No WNA16 MoE backend supports the deployment configuration."),
    ("no_backend", "NotImplementedError: No W4A8 Int8 MoE backend supports the deployment configuration."),
    ("parts_differ", "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory"),
    ("no_gpu", "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory"),
    ("cuda_out_of_memory", "torch.AcceleratorError: CUDA error: out of memory"),
]


@pytest.mark.parametrize(("code", "said"), SISTERS)
def test_other_words_for_the_same(code: str, said: str) -> None:
    found = cause(BANNER, CONFIG, RANK + said, END)
    assert (found.code, found.line) == (code, said)


@pytest.mark.parametrize("code", KERNEL)
def test_the_kernel_knows_more_of_memory(code: str) -> None:
    oom = RANK + LINES["cuda_out_of_memory"]
    assert cause(BANNER, oom, END).code == "cuda_out_of_memory"
    assert cause(BANNER, oom, END, kernel=KERNEL[code]).code == code
    assert cause(BANNER, END, kernel=KERNEL[code]).code == code
    # Not where the journal names another cause.
    assert cause(BANNER, RANK + LINES["heads"], END, kernel=KERNEL[code]).code == "heads"


def test_every_known_line_has_an_example() -> None:
    assert all(known.pattern.search(known.said) for known in KNOWN)
    assert sorted([*LINES, *KERNEL]) == sorted(known.code for known in KNOWN)
    assert len({known.code for known in KNOWN}) == len(KNOWN) == len(list(table()))


def test_the_value_of_a_line_goes_into_the_remedy() -> None:
    assert cause(RANK + LINES["mamba_blocks"]).remedy == "set vllm_serve_max_num_seqs to 310 or less"
    assert cause(LINES["unrecognized_argument"]).remedy.startswith("take --swap-space 16 out of")


def test_the_first_error_of_a_rank_before_what_the_others_say() -> None:
    own = RANK + "RuntimeError: something that nobody knows"
    found = cause(BANNER, own, RANK + LINES["nccl_error"], RANK + LINES["gloo_no_mesh"], END)
    assert (found.line, found.code) == ("RuntimeError: something that nobody knows", "")
    assert found.sentence() == found.line
    # The other way round NCCL has failed first.
    assert cause(BANNER, RANK + LINES["nccl_error"], own, END).code == "nccl_error"
    # An error that is known is the cause wherever it stands.
    assert cause(BANNER, own, RANK + LINES["no_cache_blocks"], END).code == "no_cache_blocks"


def test_an_error_of_the_engine_before_one_of_the_server() -> None:
    server = "(APIServer pid=1) ValueError: of the server"
    found = cause(BANNER, server, ENGINE + "KeyError: 'of the engine'", END)
    assert found.line == "KeyError: 'of the engine'"
    assert cause(BANNER, server, END).line == "ValueError: of the server"


def test_the_last_start_counts() -> None:
    older = [BANNER, RANK + LINES["gloo_no_address"], END]
    assert cause(*older, BANNER, RANK + LINES["heads"], END).code == "heads"
    assert first_cause("\n".join([*older, BANNER, CONFIG])) is None


def test_a_start_that_waits_for_ray() -> None:
    waits = (
        "(EngineCore pid=9) INFO 05-10 10:20:00 [ray_utils.py:467] Waiting for creating a placement group of specs for 320 seconds. "
        "specs=[{'GPU': 1.0}, {'GPU': 1.0}]"
    )
    assert cause(BANNER, CONFIG, waits).code == "placement_pending"
    # It came after all, and then something else failed.
    assert cause(BANNER, waits, RANK + LINES["heads"], END).code == "heads"


def test_a_rank_that_was_killed_is_no_matter_of_memory() -> None:
    # Ray 2.56 and vLLM 0.26 on two GPUs: what was written when the far rank got a SIGKILL.
    engine = ENGINE + "KeyError: 'cmpl-84aebc65addaea0f-0-b58c89b6'"
    near = RANK + "RuntimeError: NCCL error: remote process exited or there was a network error"
    ray = (
        "(EngineCore pid=4074) (raylet) A worker died or was killed while executing a task by an unexpected system error. Worker exit detail: "
        "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: (1) the process was killed by the OOM "
        "killer due to high memory usage, (2) ray stop --force was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another error."
    )
    assert cause(BANNER, engine, near, ray).code == "rank_gone"
    assert first_cause("\n".join([BANNER, ray])) is None
    # It crashed, and said why.
    assert cause(BANNER, RANK + "RuntimeError: its own", engine, near, ray).line == "RuntimeError: its own"


def test_a_server_that_was_ended_while_it_served_has_no_cause() -> None:
    usual = "(EngineCore pid=9) WARNING 11-26 15:13:59 [ray_utils.py:559] Tensor parallel size (2) exceeds available GPUs (1)."
    assert first_cause("\n".join([BANNER, CONFIG, usual])) is None


def test_what_is_no_cause() -> None:
    quiet = [
        BANNER,
        CONFIG,
        "spark:383:383 [0] NCCL INFO NCCL_IB_TIMEOUT set by environment to 22.",
        "(APIServer pid=1) WARNING 05-10 10:08:00 [x.py:1] Tensor parallel size (2) exceeds available GPUs (1).",
    ]
    assert first_cause("\n".join(quiet[:3])) is None
    assert cause(*quiet, RANK + "RuntimeError: another").line == "RuntimeError: another"


def test_pydantics_sentence_is_in_the_line_after() -> None:
    lines = [
        "(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig",
        "(APIServer pid=1)   Value error, something new is wrong [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]",
    ]
    assert cause(BANNER, *lines).line.startswith("Value error, something new is wrong")


def test_a_long_line_is_cut() -> None:
    said = cause(RANK + "RuntimeError: " + "x" * 1000).sentence()
    assert len(said) == 300
    assert said.endswith("...")


def test_starts_of_a_unit() -> None:
    def row(invocation: str, message: object, moment: int) -> str:
        entry = {"MESSAGE": message, "_SYSTEMD_INVOCATION_ID": invocation, "__REALTIME_TIMESTAMP": str(moment * 10**6)}
        return json.dumps(entry)

    rows = [
        row("a", "one", 10),
        row("a", [27, 91, 51, 49, 109, 116, 119, 111], 11),
        "{broken",
        row("b", "three", 20),
        row("b", None, 21),
    ]
    assert starts("\n".join(rows)) == [Start("one\n\x1b[31mtwo", 10.0), Start("three\n", 20.0)]
    assert starts("") == starts("7\n") == []
    assert "@20" in kernel_command(20.9)


def test_a_warning_that_quotes_an_error_is_no_cause() -> None:
    warning = (
        "(APIServer pid=1) WARNING 11-26 03:37:01 [system_utils.py:255] Found ulimit of 20000 and failed to automatically increase with error "
        "current limit exceeds maximum limit. This can cause fd limit errors like `OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n"
    )
    error = "(APIServer pid=1)   Value error, Cannot find the config file for awq [type=value_error]"
    found = first_cause(f"{warning}\n{error}\n")
    assert found is None or found.code != "open_files"
    real = first_cause("(APIServer pid=1) ERROR 11-26 03:37:01 [core.py:1] OSError: [Errno 24] Too many open files\n")
    assert real is not None and real.code == "open_files"
