# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Small kernels that really run inside the serving image, each result checked against the CPU.

Run as ``python3 - CHECK... < kernel_probe.py`` in the image: it needs nothing but the image's Python, and imports torch and
vLLM only where a check needs them. The last line of its output is ``MARKER`` and one JSON document.

A broken kernel may hang, kill its process, or leave the CUDA context unusable for all that follows. So the checks run in a
child; one that hangs or dies is told as such, and the checks after it, and after any failed one, get a child of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import platform
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

MARKER = "DGX_SPARK_KERNEL_PROBE "
#: Version of the document; the host refuses one that it does not know.
FORMAT = 1

#: Largest relative error (Frobenius norm of the difference by the norm of the reference) that counts as right. bfloat16 has
#: 8 bits of mantissa, so a product of rounded factors is off by about 0.3 %; kernels that are wrong are off by about 100 %.
TOLERANCE = {"bfloat16": 0.02, "float16": 0.01}
#: Products of two NVFP4 matrices, against the very numbers that went in: only accumulation and the output are rounded.
NVFP4_TOLERANCE = 0.02
#: A matrix of normal numbers against its own NVFP4: 4 bits carry about 10 % error, and so does a product of two.
NVFP4_LOSS = 0.2

#: Largest values of the two formats that NVFP4 is made of, and the numbers that its 4 bits stand for.
E4M3_MAX, E2M1_MAX = 448.0, 6.0
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
#: Order in which AWQ lays eight 4-bit numbers into 32 bits (AutoAWQ's interleave, which vLLM's repack undoes).
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)

#: Where vLLM keeps fused_marlin_moe: since 0.2x, and before.
MARLIN_MOE_MODULES = (
    "vllm.model_executor.layers.fused_moe.experts.marlin_moe",
    "vllm.model_executor.layers.fused_moe.fused_marlin_moe",
)
#: Packages whose versions are told.
PACKAGES = (
    "torch",
    "vllm",
    "ray",
    "flashinfer-python",
    "triton",
    "transformers",
    "nvidia-nccl-cu13",
    "nvidia-nccl-cu12",
)

# Magic of a fat binary and of its entries: what cuobjdump reads, after the layout that nvcc has written since CUDA 5.
_FATBIN = struct.pack("<I", 0xBA55ED50)
_FATBIN_KINDS = {1: "ptx", 2: "sm"}


class Unavailable(Exception):
    """The check cannot be made with this image or GPU; ``str()`` says why. It says nothing about the kernel."""


class Unsupported(Exception):
    """The image says itself that it has no such kernel for this GPU; ``str()`` is what it lacks."""


class Wrong(Exception):
    """The kernel ran and its result is not right; ``str()`` has the numbers."""


# --- numbers ------------------------------------------------------------------------------------------------


def relative_error(torch: Any, result: Any, reference: Any) -> float:
    """Return the norm of the difference by the norm of the reference; infinity where the result has no finite norm."""
    result, reference = result.detach().float().cpu(), reference.float()
    if not bool(torch.isfinite(result).all()):
        return float("inf")
    return float(torch.linalg.vector_norm(result - reference) / torch.linalg.vector_norm(reference))


def expect_close(
    torch: Any, what: str, result: Any, reference: Any, tolerance: float, against: str = "the CPU"
) -> float:
    """Return the relative error; raises Wrong where it is above the tolerance."""
    error = relative_error(torch, result, reference)
    if not error <= tolerance:
        said = "holds numbers that are not finite" if error == float("inf") else f"is off by {error:.3g}"
        raise Wrong(f"{what} {said} against {against}, expected at most {tolerance:g}")
    return round(error, 6)


def awq_quantize(torch: Any, weights: Any, group: int) -> tuple[Any, Any, Any, Any]:
    """Quantize weights [k, n] to 4 bits with a zero point for each group of ``group`` rows.

    Returns:
        Packed numbers [k, n/8] and packed zero points [k/group, n/8] as AWQ stores them, scales [k/group, n] in the
        weights' type, and what the numbers stand for, [k, n] in float32.
    """
    size_k, size_n = weights.shape
    blocks = weights.float().reshape(size_k // group, group, size_n)
    low, high = blocks.amin(1), blocks.amax(1)
    scales = ((high - low).clamp(min=1e-5) / 15).to(weights.dtype)
    zeros = torch.round(-low / scales.float()).clamp(0, 15)
    numbers = (torch.round(blocks / scales.float()[:, None]) + zeros[:, None]).clamp(0, 15)
    meaning = ((numbers - zeros[:, None]) * scales.float()[:, None]).reshape(size_k, size_n)
    return awq_pack(torch, numbers.reshape(size_k, size_n)), awq_pack(torch, zeros), scales, meaning


def awq_pack(torch: Any, numbers: Any) -> Any:
    """Return whole numbers 0 to 15 of shape [k, n], eight to each int32 [k, n/8], in AWQ's order."""
    size_k, size_n = numbers.shape
    eights = numbers.to(torch.int64).reshape(size_k, size_n // 8, 8)
    packed = torch.zeros(size_k, size_n // 8, dtype=torch.int64)
    for place, column in enumerate(AWQ_ORDER):
        packed |= eights[:, :, column] << (4 * place)
    return torch.where(packed >= 2**31, packed - 2**32, packed).to(torch.int32)


def nvfp4_quantize(torch: Any, values: Any) -> tuple[Any, Any, Any, Any]:
    """Quantize [m, k] to NVFP4 on the CPU: 4-bit floats with an 8-bit scale for each 16 and one scale for all.

    Returns:
        Packed numbers [m, k/2] (uint8, the even column in the low half), scales [m, k/16] (float8_e4m3fn, not swizzled),
        the global scale, and what the numbers stand for, [m, k] in float32.
    """
    rows, columns = values.shape
    blocks = values.float().reshape(rows, columns // 16, 16)
    global_scale = E4M3_MAX * E2M1_MAX / blocks.abs().amax()
    scales = (blocks.abs().amax(2) / E2M1_MAX * global_scale).clamp(max=E4M3_MAX).to(torch.float8_e4m3fn)
    step = scales.float()[:, :, None] / global_scale
    scaled = torch.where(step > 0, blocks / step, torch.zeros_like(blocks))
    levels = torch.tensor(E2M1)
    index = (scaled.abs()[..., None] - levels).abs().argmin(-1)
    codes = index + 8 * (scaled < 0)
    meaning = (levels[index] * torch.sign(scaled) * step).reshape(rows, columns)
    codes = codes.reshape(rows, columns // 2, 2)
    packed = (codes[..., 0] | (codes[..., 1] << 4)).to(torch.uint8)
    return packed, scales, global_scale, meaning


def swizzle_scales(torch: Any, scales: Any) -> Any:
    """Return block scales [m, k/16] in the tiles of 128 x 4 that Blackwell's tensor cores read, padded with zeros."""
    rows, columns = scales.shape
    tiles_m, tiles_k = -(-rows // 128), -(-columns // 4)
    padded = torch.zeros(tiles_m * 128, tiles_k * 4, dtype=torch.uint8)
    padded[:rows, :columns] = scales.view(torch.uint8)
    tiles = padded.reshape(tiles_m, 4, 32, tiles_k, 4).permute(0, 3, 2, 1, 4)
    return tiles.reshape(tiles_m * 128, tiles_k * 4).contiguous().view(torch.float8_e4m3fn)


def fitting(function: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    """Return those of the offered arguments that the function takes: vLLM's signatures differ between versions.

    Raises:
        Unavailable: the function asks for something that is not offered.
    """
    parameters = inspect.signature(function).parameters
    missing = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        and name not in offered
    ]
    if missing:
        raise Unavailable(
            f"this vLLM's {function.__name__} asks for {', '.join(missing)}, which this check does not know"
        )
    return {name: value for name, value in offered.items() if name in parameters}


# --- what the image holds -----------------------------------------------------------------------------------


def fatbin_architectures(data: Any) -> dict[str, int]:
    """Count the programs for each architecture in a library: ``{"sm_120": 27, "ptx_80": 9}``.

    Args:
        data: the file's bytes, or a memory map of it.
    """
    found: dict[str, int] = {}
    start = data.find(_FATBIN)
    while start >= 0:
        following = start + 4
        if start + 16 <= len(data):
            _magic, version, header, size = struct.unpack_from("<IHHQ", data, start)
            end = start + header + size
            if version == 1 and header == 16 and end <= len(data):
                position = start + header
                while position + 32 <= end:
                    kind, _version, entry, length = struct.unpack_from("<HHIQ", data, position)
                    (architecture,) = struct.unpack_from("<I", data, position + 28)
                    if kind not in _FATBIN_KINDS or entry < 32 or not 20 <= architecture <= 200:
                        break
                    name = f"{_FATBIN_KINDS[kind]}_{architecture}"
                    found[name] = found.get(name, 0) + 1
                    position += entry + length
                following = max(following, end)
        start = data.find(_FATBIN, following)
    return dict(sorted(found.items()))


def library_architectures(package: str) -> dict[str, dict[str, int]]:
    """Return the architectures in each compiled library that lies directly in a package's folder."""
    import mmap

    spec = importlib.util.find_spec(package)
    found = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.so")):
            with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                architectures = fatbin_architectures(data)
            if architectures:
                found[path.name] = architectures
    return found


def nccl_version(code: int) -> str:
    """Return NCCL's version code as text: 23004 is 2.30.4 (since 2.9: major * 10000 + minor * 100 + patch)."""
    if code >= 10000:
        return f"{code // 10000}.{code % 10000 // 100}.{code % 100}"
    return f"{code // 1000}.{code % 1000 // 100}.{code % 100}"


def loaded_nccl() -> str:
    """Return the version of the NCCL that vLLM uses: the one it is told to load, or the one that torch has loaded already.

    A preloaded library counts as well, for it answers in place of torch's own. Empty for none.
    """
    try:
        library = ctypes.CDLL(os.environ.get("VLLM_NCCL_SO_PATH") or "libnccl.so.2")
        code = ctypes.c_int()
        return nccl_version(code.value) if library.ncclGetVersion(ctypes.byref(code)) == 0 else ""
    except (OSError, AttributeError):
        return ""


def ptxas_facts() -> list[dict[str, Any]]:
    """Return each assembler that Triton may use, its version, and whether it knows sm_121a."""
    candidates = [os.environ.get("TRITON_PTXAS_PATH", ""), os.environ.get("TRITON_PTXAS_BLACKWELL_PATH", "")]
    spec = importlib.util.find_spec("triton")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        candidates += [str(path) for path in sorted(Path(folder).glob("backends/nvidia/bin/ptxas*"))]
    candidates.append(shutil.which("ptxas") or "/usr/local/cuda/bin/ptxas")
    found = []
    for path in dict.fromkeys(candidates):
        if path and os.access(path, os.X_OK):
            version = _output([path, "--version"])
            release = re.search(r"release ([\d.]+)", version)
            found.append(
                {
                    "path": path,
                    "release": release.group(1) if release else "",
                    "sm_121a": "sm_121a" in _output([path, "--help"]),
                }
            )
    return found


def _output(argv: Sequence[str], seconds: float = 20) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""


def check_versions(_options: dict[str, Any]) -> dict[str, Any]:
    """Versions, and the architectures that are compiled in."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    facts: dict[str, Any] = {
        "packages": versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "ptxas": ptxas_facts(),
    }
    try:
        torch = _torch()
    except Unavailable as error:
        facts["torch_error"] = str(error)
    else:
        facts |= {
            "torch_cuda": torch.version.cuda or "",
            "nccl": loaded_nccl(),
            "torch_architectures": torch._C._cuda_getArchFlags().split()
            if hasattr(torch._C, "_cuda_getArchFlags")
            else [],
        }
    facts["vllm_architectures"] = library_architectures("vllm")
    return facts


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise Unavailable(f"the image has no usable torch: {_line(error)}") from None


def _gpu() -> Any:
    """Return torch, with a GPU that answers."""
    torch = _torch()
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        why = ""
        try:
            torch.cuda.init()  # says what is_available() keeps to itself, a driver that is too old for example
        except Exception as error:
            why = f": {_line(error)}"
        raise Unavailable(f"torch {torch.__version__} ({built}) sees no GPU in the container{why}")
    return torch


def _vllm(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Unavailable(f"{name} cannot be imported: {_line(error)}") from None


def _vllm_ops() -> Any:
    """Return vLLM's kernels, with its compiled libraries loaded: vLLM itself only warns where one of them cannot be.

    Raises:
        RuntimeError: a library is there but cannot be loaded, one that is built for another torch for example.
    """
    ops = _vllm("vllm._custom_ops")
    for path in sorted(Path(importlib.import_module("vllm").__path__[0]).glob("*.so")):
        name = path.name.partition(".")[0]
        if name.startswith(("_C", "_moe_C")):
            try:
                importlib.import_module(f"vllm.{name}")
            except ImportError as error:
                raise RuntimeError(f"vLLM's compiled library {path.name} cannot be loaded: {_line(error)}") from None
    return ops


def _line(error: BaseException) -> str:
    """Return an error in one line: the first that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


# --- the checks ---------------------------------------------------------------------------------------------


def check_device(_options: dict[str, Any]) -> dict[str, Any]:
    """What torch sees of the GPU."""
    torch = _gpu()
    properties = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info(0)
    return {
        "name": properties.name,
        "count": torch.cuda.device_count(),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "integrated": bool(getattr(properties, "is_integrated", False)),
        "multiprocessors": properties.multi_processor_count,
        "memory_total_gib": round(total / 2**30, 2),
        "memory_free_gib": round(free / 2**30, 2),
    }


def check_bf16_matmul(_options: dict[str, Any]) -> dict[str, Any]:
    """A product of two bfloat16 matrices."""
    torch = _gpu()
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(512, 1024, generator=generator).bfloat16()
    right = torch.randn(1024, 768, generator=generator).bfloat16()
    result = left.cuda() @ right.cuda()
    error = expect_close(torch, "the product", result, left.float() @ right.float(), TOLERANCE["bfloat16"])
    return {"error": error}


def check_awq_marlin_moe(_options: dict[str, Any]) -> dict[str, Any]:
    """A layer of experts with AWQ weights on the road that vLLM takes: repack for Marlin, then fused_marlin_moe."""
    torch = _gpu()
    ops = _vllm_ops()
    utils = _vllm("vllm.model_executor.layers.quantization.utils.marlin_utils")
    scalar_types = _vllm("vllm.scalar_type").scalar_types
    refused = []
    for name in MARLIN_MOE_MODULES:
        try:
            function = _vllm(name).fused_marlin_moe
            break
        except (Unavailable, AttributeError) as error:
            refused.append(_line(error))
    else:
        raise Unavailable("; ".join(refused))
    errors = {}
    for dtype in (torch.float16, torch.bfloat16):
        for tokens in (1, 33):
            label = f"{str(dtype).removeprefix('torch.')}, {tokens} token{'s' if tokens > 1 else ''}"
            errors[label] = _awq_moe(torch, ops, utils, scalar_types, function, dtype, tokens, label)
    return {"errors": errors, "error": max(errors.values()), "function": f"{function.__module__}.{function.__name__}"}


def _awq_moe(
    torch: Any, ops: Any, utils: Any, types: Any, function: Callable[..., Any], dtype: Any, tokens: int, label: str
) -> float:
    """Return the relative error of one layer: 8 experts, 3 of them for each token, groups of 128 as in the real model."""
    experts, top, hidden, inner, group = 8, 3, 512, 256, 128
    generator = torch.Generator().manual_seed(7)
    states = (torch.randn(tokens, hidden, generator=generator) / 4).to(dtype)
    router = torch.randn(tokens, experts, generator=generator)
    weights, chosen = torch.topk(torch.softmax(router, dim=1), top, dim=1)
    offered: dict[str, Any] = {
        "hidden_states": states.cuda(),
        "bias1": None,
        "bias2": None,
        "gating_output": router.to(dtype).cuda(),
        "topk_weights": weights.cuda(),
        "topk_ids": chosen.to(torch.int32).cuda(),
        "quant_type_id": types.uint4.id,
        "global_num_experts": experts,
        "expert_map": None,
        "workspace": utils.marlin_make_workspace_new(torch.device("cuda", 0), 4),
        "is_k_full": True,
    }
    meanings = []
    for number, (rows, columns) in enumerate(((hidden, 2 * inner), (inner, hidden)), start=1):
        layers = [
            awq_quantize(torch, (torch.randn(rows, columns, generator=generator) / rows**0.5).to(dtype), group)
            for _expert in range(experts)
        ]
        packed, zeros, scales = (torch.stack([layer[part] for layer in layers]).cuda() for part in range(3))
        no_order = torch.empty((experts, 0), dtype=torch.int32, device="cuda")
        offered[f"w{number}"] = ops.awq_marlin_moe_repack(packed, no_order, rows, columns, 4)
        offered[f"w{number}_scale"] = utils.marlin_moe_permute_scales(scales, rows, columns, group)
        offered[f"w{number}_zeros"] = utils.moe_awq_to_marlin_zero_points(zeros, rows // group, columns, 4)
        meanings.append([layer[3] for layer in layers])
    result = function(**fitting(function, offered))
    torch.cuda.synchronize()
    reference = torch.zeros(tokens, hidden)
    for token in range(tokens):
        for weight, expert in zip(weights[token].tolist(), chosen[token].tolist(), strict=True):
            gate, up = (states[token].float() @ meanings[0][expert]).chunk(2)
            reference[token] += weight * ((torch.nn.functional.silu(gate) * up) @ meanings[1][expert])
    name = str(dtype).removeprefix("torch.")
    return expect_close(torch, f"the layer of experts ({label})", result, reference, TOLERANCE[name])


def check_nvfp4_gemm(_options: dict[str, Any]) -> dict[str, Any]:
    """A product of two NVFP4 matrices by vLLM's CUTLASS kernel, and the kernel that quantizes activations."""
    torch = _gpu()
    ops = _vllm_ops()
    major, minor = torch.cuda.get_device_capability(0)
    try:
        supported = bool(ops.cutlass_scaled_mm_supports_fp4(major * 10 + minor))
    except (AttributeError, RuntimeError) as refused:
        raise Unavailable(f"vLLM cannot say whether it has NVFP4 kernels: {_line(refused)}") from None
    if not supported:
        raise Unsupported(f"vLLM's CUTLASS kernels for NVFP4 are not compiled for compute capability {major}.{minor}")
    generator = torch.Generator().manual_seed(5)
    left = torch.randn(128, 512, generator=generator).bfloat16()
    right = torch.randn(256, 512, generator=generator).bfloat16()
    a_codes, a_scales, a_global, a_means = nvfp4_quantize(torch, left)
    b_codes, b_scales, b_global, b_means = nvfp4_quantize(torch, right)
    alpha = (1.0 / (a_global * b_global)).float().reshape(1).cuda()
    b_cuda, b_swizzled = b_codes.cuda(), swizzle_scales(torch, b_scales).cuda()
    result = ops.cutlass_scaled_fp4_mm(
        a_codes.cuda(), b_cuda, swizzle_scales(torch, a_scales).cuda(), b_swizzled, alpha, torch.bfloat16
    )
    torch.cuda.synchronize()
    error = expect_close(torch, "the product of NVFP4 matrices", result, a_means @ b_means.T, NVFP4_TOLERANCE)
    quantized, scales = ops.scaled_fp4_quant(left.cuda(), a_global.float().reshape(1).cuda())[:2]
    result = ops.cutlass_scaled_fp4_mm(quantized, b_cuda, scales, b_swizzled, alpha, torch.bfloat16)
    torch.cuda.synchronize()
    loss = expect_close(
        torch, "the product of activations quantized on the GPU", result, left.float() @ right.float().T, NVFP4_LOSS
    )
    return {"error": error, "loss": loss}


def check_cuda_graph(_options: dict[str, Any]) -> dict[str, Any]:
    """A chain of products captured once and replayed with new inputs, each against what runs without a graph."""
    torch = _gpu()
    generator = torch.Generator().manual_seed(3)
    weights = [(torch.randn(1024, 1024, generator=generator) / 24).bfloat16().cuda() for _layer in range(16)]

    def chain(states: Any) -> Any:
        # Odd and without a sum: results for two inputs have nothing in common, so a graph that replays stale numbers is seen.
        for weight in weights:
            states = torch.tanh(states @ weight)
        return states

    inputs = [torch.randn(16, 1024, generator=generator).bfloat16().cuda() for _turn in range(20)]
    static = inputs[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _turn in range(3):
            chain(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = chain(static)
    worst = 0.0
    for value in inputs:
        static.copy_(value)
        graph.replay()
        torch.cuda.synchronize()
        eager = chain(value).float().cpu()
        error = expect_close(
            torch, "a replayed graph", captured, eager, TOLERANCE["bfloat16"], "the same without a graph"
        )
        worst = max(worst, error)

    def milliseconds(run: Callable[[], Any]) -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _turn in range(50):
            run()
        torch.cuda.synchronize()
        return round((time.perf_counter() - began) * 20, 4)

    return {
        "error": worst,
        "replays": len(inputs),
        "eager_ms": milliseconds(lambda: chain(static)),
        "graph_ms": milliseconds(graph.replay),
    }


def check_load(options: dict[str, Any]) -> dict[str, Any]:
    """Keep the GPU busy and ask nvidia-smi for its clock in the middle: an idle clock says nothing about throttling."""
    torch = _gpu()
    size = 4096
    left = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    right = torch.randn(size, size, dtype=torch.bfloat16, device="cuda")
    for _warm in range(3):
        left @ right
    torch.cuda.synchronize()
    samples: list[str] = []
    fields = "clocks.sm,clocks.max.sm,clocks_event_reasons.active,power.draw,temperature.gpu"

    def sample() -> None:
        time.sleep(options["load_seconds"] / 2)
        said = _output(["nvidia-smi", "--id=0", f"--query-gpu={fields}", "--format=csv,noheader"])
        said = said or _output(
            ["nvidia-smi", "--id=0", f"--query-gpu={fields.replace('event', 'throttle')}", "--format=csv,noheader"]
        )
        samples.append(said.strip())

    asking = threading.Thread(target=sample)
    began = time.perf_counter()
    asking.start()
    products = 0
    while time.perf_counter() - began < options["load_seconds"] or asking.is_alive():
        for _turn in range(8):
            left @ right
        torch.cuda.synchronize()
        products += 8
    seconds = time.perf_counter() - began
    asking.join()
    return {
        "tflops": round(2 * size**3 * products / seconds / 1e12, 1),
        "seconds_of_load": round(seconds, 2),
        "fields": fields.split(","),
        "sample": [part.strip() for part in samples[0].split(",")] if samples and samples[0] else [],
    }


CHECKS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "versions": check_versions,
    "device": check_device,
    "bf16_matmul": check_bf16_matmul,
    "awq_marlin_moe": check_awq_marlin_moe,
    "nvfp4_gemm": check_nvfp4_gemm,
    "cuda_graph": check_cuda_graph,
    "load": check_load,
}


# --- running them -------------------------------------------------------------------------------------------


def run_one(name: str, options: dict[str, Any], checks: dict[str, Callable[..., dict[str, Any]]]) -> dict[str, Any]:
    """Run one check in this process and return its result.

    Returns:
        ``name``, ``state`` (``passed``, ``wrong`` result, ``failed`` to run, ``unsupported`` here, ``unavailable``), ``reason``, ``seconds``,
        ``details``.
    """
    began = time.perf_counter()
    state, reason, details = "passed", "", {}
    try:
        details = checks[name](options)
    except Unavailable as error:
        state, reason = "unavailable", str(error)
    except Unsupported as error:
        state, reason = "unsupported", str(error)
    except Wrong as error:
        state, reason = "wrong", str(error)
    except (TypeError, AttributeError, ImportError) as error:
        state, reason = "unavailable", f"this check does not fit this image ({type(error).__name__}: {_line(error)})"
    except Exception as error:  # whatever a kernel's library raises is its verdict
        state, reason = "failed", f"{type(error).__name__}: {_line(error)}"
    return {
        "name": name,
        "state": state,
        "reason": reason,
        "seconds": round(time.perf_counter() - began, 2),
        "details": details,
    }


def run_all(
    names: Sequence[str],
    options: dict[str, Any],
    seconds: float,
    checks: dict[str, Callable[..., dict[str, Any]]] | None = None,
) -> list[dict[str, Any]]:
    """Run the checks in children; one that dies or takes more than ``seconds`` costs only itself."""
    table = CHECKS if checks is None else checks
    results: list[dict[str, Any]] = []
    while len(results) < len(names):
        results += _child(names[len(results) :], options, seconds, table)
    return results


def _child(
    names: Sequence[str], options: dict[str, Any], seconds: float, checks: dict[str, Callable[..., dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the results of one child: at least one, up to the first that did not pass."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            os.setsid()
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            code = 0
            try:
                for name in names:
                    result = run_one(name, options, checks)
                    os.write(writing, json.dumps(result).encode() + b"\n")
                    if result["state"] in ("wrong", "failed"):
                        break
            except BaseException:
                code = 1
            os._exit(code)
        os.close(writing)
        results, ended = _collect(reading, pid, names, seconds)
        os.close(reading)
        if len(results) < len(names) and ended is not None:
            last = _last_lines(output)
            results.append({"name": names[len(results)], "details": {"output": last}, **ended})
    return results


def _collect(
    reading: int, pid: int, names: Sequence[str], seconds: float
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the results that came, and how the check after them ended where the child died or was too slow in it."""
    results: list[dict[str, Any]] = []
    buffer = b""
    began = time.monotonic()
    late = False
    while len(results) < len(names):
        left = began + seconds - time.monotonic()
        ready = select.select([reading], [], [], max(0.0, left))[0]
        if not ready:
            late = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            break
        chunk = os.read(reading, 65536)
        if not chunk:
            break
        buffer += chunk
        *lines, buffer = buffer.split(b"\n")
        for line in lines:
            results.append(json.loads(line))
            began = time.monotonic()
    _pid, status = os.waitpid(pid, 0)
    took = round(time.monotonic() - began, 2)
    if late:
        return results, {"state": "timed_out", "reason": f"no result after {seconds:g} s", "seconds": took}
    if results and results[-1]["state"] in ("wrong", "failed"):
        return results, None
    how = (
        f"was killed by {signal.Signals(os.WTERMSIG(status)).name}"
        if os.WIFSIGNALED(status)
        else f"ended with status {os.waitstatus_to_exitcode(status)}"
    )
    return results, {"state": "crashed", "reason": f"its process {how}", "seconds": took}


def _last_lines(output: Any) -> list[str]:
    """Return the last lines that a child wrote."""
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 4096))
    lines = output.read().decode(errors="replace").splitlines()
    return [line.strip()[:300] for line in lines if line.strip()][-5:]


def main(arguments: Sequence[str]) -> int:
    """Run the named checks (all of them where none is named) and write the document.

    Args:
        arguments: ``--seconds=N`` for each check, ``--load-seconds=N``, then names of checks.
    """
    seconds, options = 300.0, {"load_seconds": 3.0}
    names = []
    for argument in arguments:
        if argument.startswith("--seconds="):
            seconds = float(argument.partition("=")[2])
        elif argument.startswith("--load-seconds="):
            options["load_seconds"] = float(argument.partition("=")[2])
        elif argument in CHECKS:
            names.append(argument)
        else:
            sys.stderr.write(f"unknown check {argument!r}: expected {', '.join(CHECKS)}\n")
            return 2
    began = time.monotonic()
    results = run_all(names or list(CHECKS), options, seconds)
    document = {"format": FORMAT, "seconds": round(time.monotonic() - began, 1), "checks": results}
    sys.stdout.write(f"{MARKER}{json.dumps(document)}\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
