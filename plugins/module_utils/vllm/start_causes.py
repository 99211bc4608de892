# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Why a start failed: the first error of a rank or of the engine in the journal, with its cause and what sets it right.

vLLM ends with "Engine core initialization failed. See root cause above", and so do Ray and the launcher with sentences of their
own: they are consequences and never the answer. The table is generated into docs/start-failures.md. The words are those of vLLM
0.20 to 0.33, torch, Triton, NCCL, Gloo, Ray, Docker and the kernel; where a text is quoted in public reports only, the test says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..system.run import COLOUR


@dataclass(frozen=True)
class Known:
    """A line that is known, by an example and a pattern, its cause and its remedy; ``{1}`` in the remedy is the pattern's first group."""

    code: str
    said: str
    pattern: re.Pattern[str]
    cause: str
    remedy: str


@dataclass(frozen=True)
class Cause:
    """Why a start failed: the line that says it, and for a known line what is behind it and what to do; else both are empty."""

    line: str
    code: str = ""
    cause: str = ""
    remedy: str = ""

    def sentence(self) -> str:
        """Return it as one sentence."""
        said = self.line if len(self.line) <= _LINE else f"{self.line[: _LINE - 3]}..."
        return f"{self.cause} ({said}): {self.remedy}" if self.cause else said

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, with its sentence."""
        return {**asdict(self), "sentence": self.sentence()}


#: Characters of a line that are shown.
_LINE = 300


def _known(code: str, said: str, pattern: str, cause: str, remedy: str) -> Known:
    return Known(code, said, re.compile(pattern), cause, remedy)


_UTILIZATION = "vllm_serve_gpu_memory_utilization"
#: One line, one cause. The order counts where two of them fit one line.
KNOWN: tuple[Known, ...] = (
    # --- memory
    _known(
        "no_cache_blocks",
        "No available memory for the cache blocks",
        r"No available memory for the cache blocks",
        "the weights leave no memory for the KV cache",
        f"raise {_UTILIZATION} as far as playbooks/plan.yml allows, or choose a smaller model or more nodes",
    ),
    _known(
        "context_too_long",
        "larger than the available KV cache memory",
        r"larger than the available KV cache memory(?:.*?estimated maximum model length is (\d+))?",
        "one request of the full context does not fit into the KV cache",
        "lower vllm_serve_max_model_len to what the line says or set it to auto, or set vllm_serve_kv_cache_dtype to fp8; playbooks/plan.yml says what fits",
    ),
    _known(
        "memory_taken",
        "Free memory on device cuda:0 ... is less than desired GPU memory utilization",
        r"Free memory on device.*is less than desired GPU memory utilization",
        "something else holds memory that vLLM was to have",
        f"free it (playbooks/preflight.yml names who holds it; the page cache counts with vLLM before 0.12), or lower {_UTILIZATION}",
    ),
    _known(
        "memory_moved",
        "Error in memory profiling",
        r"Error in memory profiling",
        "another process took or gave back memory while vLLM measured it",
        "stop what else runs on the node and start again",
    ),
    _known(
        "mamba_blocks",
        "max_num_seqs (1024) exceeds available Mamba cache blocks (310)",
        r"max_num_seqs \((\d+)\) exceeds available Mamba cache\s+blocks \((\d+)\)",
        "more requests at a time than the cache of a hybrid model has blocks",
        "set vllm_serve_max_num_seqs to {2} or less",
    ),
    _known(
        "no_memory_nvrm",
        "NV_ERR_NO_MEMORY",
        r"NV_ERR_NO_MEMORY|NVRM.*Out of memory",
        "the GPU's driver got no memory from the kernel: on unified memory the machine itself is full",
        f"lower {_UTILIZATION}, stop what else runs there, and reboot the node if that does not help",
    ),
    _known(
        "killed_for_memory",
        "Out of memory: Killed process",
        r"oom-kill|Out of memory: Killed process|killed as a result of limit",
        "the kernel killed a process because the machine's memory was full",
        f"lower {_UTILIZATION}, stop what else runs there; playbooks/plan.yml says what must stay free",
    ),
    _known(
        "killed_by_ray",
        "node running low on memory",
        r"node running low on memory|killed due to memory pressure",
        "Ray's memory monitor killed a rank: on unified memory it takes the weights for a leak",
        "set RAY_memory_monitor_refresh_ms=0 in the Ray containers (roles ray_head and ray_worker set it) and run site.yml again",
    ),
    _known(
        "cuda_out_of_memory",
        "CUDA out of memory",
        r"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED",
        "the GPU has no memory left for what vLLM wanted to take",
        f"lower {_UTILIZATION} or vllm_serve_max_num_batched_tokens, or turn graphs off (vllm_serve_cuda_graphs: 'off')",
    ),
    _known(
        "memory_lock",
        "ibv_reg_mr ... Cannot allocate memory",
        r"ibv_reg_mr.*Cannot allocate memory|Call to ibv_reg_mr.*failed|ibv_create_cq.*Cannot allocate memory",
        "RDMA cannot lock the memory that it registers",
        "set memlock to unlimited in vllm_serve_ulimits and in those of the Ray roles, as their defaults do",
    ),
    _known(
        "shared_memory",
        "/dev/shm ... No space left",
        r"/dev/shm.*(?:No space left|Bus error)|unable to write to file </torch_|No space left on device.*/dev/shm|insufficient shared memory",
        "the container's /dev/shm is full",
        "leave the container's ipc at host, as the roles do, and remove old files from /dev/shm",
    ),
    _known(
        "disk_full",
        "No space left on device",
        r"No space left on device",
        "a disk is full",
        "make room on the node: `df -h` there says where",
    ),
    _known(
        "open_files",
        "Too many open files",
        # vLLM warns of a low limit at each start, and quotes the error that may come of it.
        r"(?<!like `OSError: \[Errno 24\] )Too many open files",
        "the limit of open files is too low",
        "set nofile in vllm_serve_ulimits to 1048576",
    ),
    # --- the toolchain in the image
    _known(
        "ptxas_old",
        "Value 'sm_121a' is not defined for option 'gpu-name'",
        r"ptxas fatal.*sm_1\d\d|Value 'sm_1\d\da?' is not defined for option 'gpu-name'|PTXASError",
        "Triton's own ptxas is older than this GPU",
        "set TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas in vllm_serve_environment and in the Ray roles' (spark_environment reaches both), "
        "or take an image with a newer Triton",
    ),
    _known(
        "no_ninja",
        "Ninja is required to load C++ extensions",
        r"Ninja is required to load C\+\+ extensions|No such file or directory: '(?:\S*/)?ninja'|ninja: (?:command )?not found",
        "the image has no ninja, and a kernel is to be built at the start",
        "take a serving image with the build tools (NVIDIA's has them), or add ninja to it",
    ),
    _known(
        "no_nvcc",
        "Could not find nvcc",
        r"nvcc(?:'|:)? ?(?:command )?not found|Could not find nvcc|No such file or directory: '\S*nvcc'|"
        r"CUDA_HOME environment variable is not set|cuda_runtime\.h: No such file",
        "the image has no CUDA compiler, and a kernel is to be built at the start",
        "take a serving image with the CUDA toolkit (NVIDIA's has it)",
    ),
    _known(
        "no_compiler",
        "Failed to find C compiler",
        r"Failed to find C compiler|Python\.h: No such file|No such file or directory: '(?:\S*/)?(?:gcc|g\+\+|cc|c\+\+)'",
        "the image has no C compiler or no Python headers, which Triton needs at the start",
        "take a serving image with gcc and python3-dev, or turn compilation off (vllm_serve_enforce_eager: true)",
    ),
    _known(
        "no_kernel_image",
        "no kernel image is available for execution",
        r"no kernel image is available for execution|cutlass.*(?:not (?:been )?compiled|Error Internal)|"
        r"CUDA error: device kernel image is invalid",
        "the image holds no code for this GPU (sm_121)",
        "take an image that is built for it: playbooks/preflight.yml shows what role runtime_check found",
    ),
    _known(
        "no_backend",
        "No NvFp4 MoE backend supports the deployment configuration",
        r"No \S+(?: Int8)? MoE backend supports|No valid attention backend found",
        "the image has no kernel for this kind of weights or KV cache on this GPU",
        "set vllm_serve_kv_cache_dtype to auto, take --moe-backend and --attention-backend out of vllm_serve_extra_arguments, or choose other weights or "
        "another image: playbooks/preflight.yml says which kernels run here",
    ),
    _known(
        "kernel_not_built",
        "Ninja build failed",
        r"Ninja build failed|ninja: build stopped|Error building extension|Error compiling objects for extension",
        "a kernel that is built at the start did not compile",
        "the compiler's lines below it say why: nvcc or a header that is missing wants an image with the CUDA toolkit; a compiler that was killed wants memory "
        "(MAX_JOBS=4 in vllm_serve_environment)",
    ),
    _known(
        "parts_differ",
        "ImportError: vllm/_C.abi3.so: undefined symbol",
        r"ImportError: .*(?:undefined symbol|lib(?:cudart|cublas|cudnn|nccl|nvrtc|torch)\S* cannot open shared object file)",
        "parts of the image do not belong together: vLLM, or a kernel library, was built for another torch or CUDA",
        "take an image as its maker built it, with nothing installed over it",
    ),
    _known(
        "driver_old",
        "driver version is insufficient",
        r"driver version is insufficient|NVIDIA driver on your system is too old|unsupported display driver|compiled with an unsupported toolchain|"
        r"forward compatibility was attempted on non supported HW",
        "the driver is older than the image's CUDA",
        "update the driver with the system (DGX OS holds both together), or take an image with an older CUDA",
    ),
    _known(
        "no_gpu",
        "Failed to infer device type",
        r"Failed to infer device type|No CUDA GPUs are available|CUDA unknown error|no CUDA-capable device|"
        r"Found no NVIDIA driver on your system|CUDA driver initialization failed|"
        r"libcuda\.so\.1: cannot open",
        "the container sees no GPU",
        "run role container_runtime (playbooks/preflight.yml says what is missing: the toolkit, CDI, or the driver)",
    ),
    _known(
        "device_missing",
        "unresolvable CDI devices nvidia.com/gpu=all",
        r"unresolvable CDI devices (\S+)|could not select device driver|error gathering device information while adding custom device "
        r"\"(\S+)\"",
        "Docker does not know a device that the container was to have",
        "run site.yml again, whose role container_runtime regenerates the CDI specification; spark_devices says which devices are wanted",
    ),
    _known(
        "image_missing",
        "Error response from daemon: No such image: dgx-spark/serving:current",
        r"Error response from daemon: No such image",
        "the node has not the image that its unit starts",
        "run site.yml again, which brings it to every node",
    ),
    # --- the nodes among themselves
    _known(
        "gloo_no_address",
        "Unable to find address for: enp1s0f1np1",
        r"Unable to find address for: *(\S+)|makeDeviceForHostname\(\): unsupported gloo device|Unable to resolve hostname to a \(local\) address",
        "Gloo finds no address on the interface that it was given",
        "set spark_fabric_address to an address of the node and run site.yml again: it finds the interface and sets GLOO_SOCKET_IFNAME",
    ),
    _known(
        "gloo_no_mesh",
        "Gloo connectFullMesh failed",
        r"Gloo connectFullMesh failed|gloo.*(?:Connection refused|timed out|Connection closed by peer)",
        "the nodes do not reach each other over Gloo",
        "run playbooks/fabric.yml, and open the nodes to each other in the firewall of each",
    ),
    _known(
        "nccl_timeout",
        "Watchdog caught collective operation timeout",
        r"Watchdog caught collective operation timeout|RPC call to \w+ timed out|ncclRemoteError|NCCL.*[Tt]imeout|"
        r"No available shared memory broadcast block",
        "a rank timed out waiting for another: a hung collective, or a dead node",
        "run playbooks/fabric.yml; with CUDA graphs NCCL below 2.30.4 is known for it (vllm_serve_cuda_graphs: 'off' or a newer image)",
    ),
    _known(
        "nccl_error",
        "ncclSystemError",
        r"ncclSystemError|ncclInternalError|ncclInvalidUsage|ncclUnhandledCudaError|NCCL error",
        "NCCL failed between the ranks",
        "the lines around it name the device: run playbooks/fabric.yml; the image must be the same on every node (site.yml sees to it)",
    ),
    _known(
        "rank_gone",
        "KeyError: 'cmpl-84aebc65addaea0f-0-b58c89b6'",
        # The engine misses the request in what the ranks gave back (vLLM 0.26 on two GPUs, kill -9 of a rank).
        r"KeyError: '(?:chat)?cmpl-",
        "a rank ended while it worked: it was killed, or it crashed",
        "see why on each node: `dmesg | tail -50`, and `journalctl -u spark-ray-worker` on the further ones",
    ),
    _known(
        "placement_pending",
        "Cannot provide a placement group",
        r"Cannot provide a placement group|No available node types can fulfill|"
        r"Waiting for creating a placement group of specs|Current node has no GPU available",
        "Ray has fewer GPUs than the server wants, or not under the address that it asks for",
        "look at the other nodes (playbooks/status.yml): spark-ray-worker must be active on each, with its GPU",
    ),
    _known(
        "world_size",
        "World size (2) is larger than the number of available GPUs",
        r"World size \((\d+)\) is larger than the number of available GPUs",
        "more ranks than this machine has GPUs, and no executor that reaches others",
        "leave --distributed-executor-backend out of vllm_serve_extra_arguments",
    ),
    _known(
        "same_address",
        "Every node should have a unique IP address",
        r"Every node should have a unique IP address",
        "two nodes gave Ray the same address",
        "give each node its own spark_fabric_address, and run site.yml again",
    ),
    _known(
        "no_ray",
        "Could not find any running Ray instance",
        r"Could not find any running Ray instance|Failed to connect to GCS|GCS.*(?:unavailable|not reachable)|"
        r"Ray cluster.*(?:not found|is not reachable)",
        "the Ray cluster is not there",
        "playbooks/start.yml starts it in order; `journalctl -u spark-ray-head` says why it is not there",
    ),
    _known(
        "ray_version",
        "The cluster was started with",
        r"[Vv]ersion mismatch.*(?:Ray|cluster was started)|The cluster was started with",
        "the server's Ray has another version than the cluster's",
        "run site.yml, which brings one image to all nodes",
    ),
    _known(
        "ray_token",
        "AuthenticationError",
        r"AuthenticationError|InvalidAuthToken|authentication token.*(?:mismatch|missing|invalid)",
        "the server has not the Ray cluster's token",
        "run site.yml, whose role cluster_secrets gives all nodes the same",
    ),
    _known(
        "rendezvous",
        "client socket has timed out",
        r"client socket has (?:timed out|failed to connect)|DistStoreError|TCPStore.*(?:timed out|failed)",
        "a rank does not reach the head's port for the start",
        "open vllm_serve_master_port between the nodes and let all of them start: playbooks/status.yml",
    ),
    _known(
        "port_taken",
        "Address already in use",
        r"[Aa]ddress already in use|EADDRINUSE",
        "a port of the server is in use",
        "`ss -ltnp` on the node says by whom: stop it, or change spark_api_port",
    ),
    # --- arguments
    _known(
        "unrecognized_argument",
        "error: unrecognized arguments: --swap-space",
        r"error: unrecognized arguments: (.+)",
        "this vLLM does not know an argument",
        "take {1} out of vllm_serve_extra_arguments",
    ),
    _known(
        "bad_argument",
        "vllm serve: error: argument --kv-cache-dtype: invalid choice",
        r"vllm serve: error: (argument .+)|api_server\.py: error: (argument .+)",
        "this vLLM does not take the value of an argument",
        "correct it in vllm_serve_extra_arguments or in the setting of that name",
    ),
    _known(
        "tool_parser",
        "invalid tool call parser:",
        r"invalid tool call parser: *(\S*)|Tool parser '(\S*)' not found",
        "this image has no tool call parser of that name",
        "set vllm_serve_tool_call_parser to one that the line names",
    ),
    _known(
        "reasoning_parser",
        "invalid reasoning parser:",
        r"invalid reasoning parser: *(\S*)|Reasoning parser '(\S*)' not found",
        "this image has no reasoning parser of that name",
        "set vllm_serve_reasoning_parser to one that the line names, or load its file with --reasoning-parser-plugin",
    ),
    _known(
        "chat_template",
        "looks like a file path, but it failed to be opened",
        r"supplied chat template.*failed to be opened|looks like a file path, but it failed to be opened",
        "the chat template is not in the container",
        "put it below spark_store_path, which is mounted there at the same path",
    ),
    _known(
        "context_of_model",
        "max_model_len (262144) is greater than the derived max_model_len",
        r"max_model_len \((\d+)\) is greater than the derived max_model_len",
        "the context is longer than the model was made for",
        "lower vllm_serve_max_model_len to what the line says",
    ),
    _known(
        "heads",
        "attention heads (40) must be divisible by tensor parallel size",
        r"attention heads \((\d+)\) must be divisible by tensor parallel size",
        "the model's heads do not divide among the ranks",
        "set vllm_serve_tensor_parallel_size and vllm_serve_pipeline_parallel_size as module vllm_flags says (vllm_serve_inspect_model: true)",
    ),
    _known(
        "architecture",
        "Model architectures ['X'] are not supported for now",
        r"Model architectures \[?(.*?)\]? are not supported for now|does not recognize this architecture",
        "this vLLM, or its transformers, does not know the model's architecture",
        "take a newer serving image; models/*.yml name the oldest one in min_vllm",
    ),
    _known(
        "remote_code",
        "trust_remote_code=True",
        r"trust_remote_code=True|trust-remote-code",
        "the model brings code of its own, which is not trusted",
        "read that code, then set vllm_serve_trust_remote_code: true",
    ),
    _known(
        "quantization",
        "does not match the quantization",
        r"does not match the quantization|Unknown quantization method|quantization method \S+ is not supported for the current GPU",
        "the model's quantization is not the one that was set, or this image does not support it on this GPU",
        "leave --quantization out; playbooks/preflight.yml says what runs here",
    ),
    # --- files
    _known(
        "weights_broken",
        "SafetensorError",
        r"SafetensorError|Error while deserializing header|MetadataIncompleteBuffer|InvalidHeader|HeaderTooLarge|PytorchStreamReader failed",
        "a file of the weights is damaged or cut",
        "run playbooks/weights.yml, which verifies the content and fetches what is wrong",
    ),
    _known(
        "weights_missing",
        "Cannot find any model weights",
        r"Cannot find any model weights|No such file or directory: '\S+\.(?:safetensors|bin)'|There is no module or parameter named|"
        r"weights were not initialized from checkpoint",
        "weights are missing, or do not belong to this config.json",
        "run playbooks/weights.yml; where model_download_patterns leave something out, take it back",
    ),
    _known(
        "model_files_missing",
        "Can't load tokenizer for '/srv/models/m'",
        r"Can't load (?:the )?(?:tokenizer|configuration|image processor|feature extractor|processor) (?:for|of)",
        "files beside the weights are missing, such as the tokenizer's",
        "run playbooks/weights.yml; where model_download_patterns leave something out, take it back",
    ),
    _known(
        "stale_share",
        "Stale file handle",
        r"Stale file handle|Errno 116|ESTALE",
        "the share with the weights was remounted under the container",
        "stop and start again (playbooks/stop.yml, then playbooks/start.yml); see docs/operations.md if it comes back",
    ),
    _known(
        "not_offline",
        "openai_harmony.HarmonyError",
        r"openai_harmony.*(?:vocab|download)|HarmonyError|tiktoken.*(?:download|resolve|Max retries)",
        "gpt-oss downloads its vocabulary from the Internet at the start",
        "put the tiktoken files below spark_store_path and name the folder in TIKTOKEN_ENCODINGS_BASE (vllm_serve_environment)",
    ),
    _known(
        "no_model",
        "OfflineModeIsEnabled",
        r"OfflineModeIsEnabled|HFValidationError|Repo id must|LocalEntryNotFoundError|is not a local folder|"
        r"Invalid repository ID or local directory specified",
        "the model's folder is not in the container, so that its name is looked up in the hub",
        "run role model_download and look at vllm_serve_model_path",
    ),
    # --- the GPU at work
    _known(
        "illegal_access",
        "illegal memory access",
        r"illegal memory access|CUDA error: (?:unspecified launch failure|misaligned address|an illegal instruction)|\bXid\b",
        "a kernel accessed memory that is not its own, or failed, on the GPU",
        "start with vllm_serve_cuda_graphs: 'off'; where that fails too, with a newer image, and look at `journalctl -k` for Xid",
    ),
    _known(
        "engine_slow",
        "Timed out waiting for engine core processes to start",
        r"Timed out waiting for engine core processes to start",
        "the engine was not ready in the time that vLLM gives it",
        "raise VLLM_ENGINE_READY_TIMEOUT_S in vllm_serve_environment; docs/loading.md says how to load faster",
    ),
)

#: What each process puts before its lines, as often as they are nested.
_PREFIX = re.compile(r"^(?:\s*\((?:[A-Za-z_]\w*)?[^()]*\))+\s*")
_LOGGED = re.compile(r"^(ERROR|CRITICAL|WARNING|INFO|DEBUG)\s+\d\d-\d\d [\d:.]+ \[[^\]]*\]\s*")
_RANK = re.compile(r"\((?:EngineCore|RayWorker|Worker|RayTrainWorker|WorkerProc|Ray)", re.IGNORECASE)
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Failure|Fatal|Interrupt)\b(?:: ?.*)?$")
_DOCKER = re.compile(r"^docker: |Error response from daemon")
#: Consequences: others failed before them.
_CONSEQUENCE = re.compile(
    r"See (?:the )?root cause above|Engine core initialization failed|EngineCore failed to start|Failed core proc|EngineDeadError|"
    r"initialization failed due to an exception in a background process|RayTaskError|ActorDiedError|actor died unexpectedly|"
    r"The actor is dead|CancelledError|KeyboardInterrupt|BrokenPipeError|ConnectionResetError|ended prematurely|SystemExit|"
    r"See stack trace for root cause|died unexpectedly|During handling of the above exception|shutting down"
)
#: A start begins with one of these; what stands before belongs to an older one.
_BEGIN = re.compile(r"vLLM API server version|Initializing an? (?:V1 )?LLM engine")
_BANNER = re.compile(r"vLLM API server version")
#: Known lines that also come from a start that goes well after a while: they count as errors only, or where nothing else is found.
_WAITS = frozenset(
    {"placement_pending", "port_taken", "no_ninja", "no_nvcc", "kernel_not_built", "remote_code", "ray_token"}
)
#: What the other ranks say when one has failed: an error of a rank that stands before them is the cause.
_OF_OTHERS = frozenset({"nccl_timeout", "nccl_error", "gloo_no_mesh", "rendezvous", "no_ray", "rank_gone"})
#: The sentence of pydantic stands in the line after its exception.
_VALIDATION = re.compile(r"ValidationError: \d+ validation errors? for")


@dataclass(frozen=True)
class _Line:
    text: str
    level: str
    rank: bool

    @property
    def fault(self) -> bool:
        """Say whether it is an error and not the consequence of one."""
        wrong = self.level in ("ERROR", "CRITICAL") or bool(_EXCEPTION.match(self.text) or _DOCKER.search(self.text))
        return wrong and not _CONSEQUENCE.search(self.text)


def _lines(text: str) -> list[_Line]:
    """Return the lines of the last start, without colours and prefixes."""
    found = COLOUR.sub("", text).splitlines()
    begin = next((n for n in range(len(found) - 1, -1, -1) if _BANNER.search(found[n])), None)
    # A start that fails before its banner stands after the end of the one before it.
    rest = found[begin or 0 :]
    lines: list[_Line] = []
    for raw in rest:
        bare = _PREFIX.sub("", raw).strip()
        logged = _LOGGED.match(bare)
        if logged:
            bare = bare[logged.end() :].strip()
            # Ray hands on lines that have their prefix behind the stamp.
            bare = _PREFIX.sub("", bare).strip()
        if bare and lines and _VALIDATION.search(lines[-1].text) and not bare.startswith("Traceback"):
            before = lines[-1]
            lines[-1] = _Line(f"{before.text}: {bare}", before.level, before.rank)
            # A field's name stands in a line of its own before its sentence.
            if bare.startswith(("Value error", "Assertion failed", "Input should")):
                lines[-1] = _Line(bare, before.level or "ERROR", before.rank)
        elif bare:
            lines.append(_Line(bare, logged.group(1) if logged else "", bool(_RANK.search(raw))))
    return lines


def first_cause(text: str, kernel: str = "") -> Cause | None:
    """Return why the last start in a journal failed; None where the journal says nothing of it.

    The first known error counts, unless it is what the other ranks say and an unknown error of a rank stands before it; then a
    known line that is logged as none (of a compiler, of NCCL); then the first unknown error, a rank's or the engine's before
    others. What the kernel said counts where the journal speaks of memory, or of nothing that is known.

    Args:
        text: the journal of the unit, as ``journalctl --output cat`` prints it, with what Ray hands on from the ranks.
        kernel: lines of the kernel's log since the start began.
    """
    lines = _lines(text)
    faults = [line for line in lines if line.fault]
    spoken = [line for line in faults if _EXCEPTION.match(line.text) or _DOCKER.search(line.text)]
    told = [line for line in lines if line.level not in ("INFO", "DEBUG") and " NCCL INFO " not in line.text]
    found = (
        _first_known(spoken, _OF_OTHERS) or _first_known(faults, _OF_OTHERS) or _first_known(told, _OF_OTHERS | _WAITS)
    )
    if kernel and (found is None or found.code in ("cuda_out_of_memory", "memory_moved")):
        found = _first_known(_lines(kernel)) or found
    if found:
        return found
    unknown = next((line for line in spoken if line.rank), None)
    others = _first_known(told, _WAITS)
    if others and unknown and _place(lines, unknown.text) >= _place(lines, others.line):
        unknown = None
    if unknown is None and others:
        return others
    unknown = unknown or next(iter(spoken), None)
    if unknown is None:
        waits = [line for line in lines if line.level in ("", "INFO", "WARNING")]
        return _first_known(reversed(waits), frozenset(_codes() - {"placement_pending", "port_taken"})) or (
            Cause(faults[0].text) if faults else None
        )
    return Cause(unknown.text)


def _codes() -> set[str]:
    return {known.code for known in KNOWN}


def _place(lines: list[_Line], text: str) -> int:
    return next(number for number, line in enumerate(lines) if line.text == text)


def _first_known(lines: Iterable[_Line], without: frozenset[str] = frozenset()) -> Cause | None:
    for line in lines:
        for known in KNOWN:
            match = known.pattern.search(line.text)
            if match and known.code not in without:
                groups = [match.group(0), *(group or "" for group in match.groups())]
                return Cause(line.text, known.code, known.cause, known.remedy.format(*groups))
    return None


@dataclass(frozen=True)
class Start:
    """What a unit wrote in one of its starts, and when it began (seconds since the epoch)."""

    text: str
    begun: float


def starts_command(unit: str, lines: int = 5000) -> list[str]:
    """Return the command whose output :func:`starts` reads: what the unit's own processes wrote, each line with its start."""
    fields = "MESSAGE,_SYSTEMD_INVOCATION_ID"
    return [
        *("journalctl", f"_SYSTEMD_UNIT={unit}.service", "--lines", str(lines), "--no-pager"),
        *("--output", "json", "--output-fields", fields),
    ]


def kernel_command(begun: float) -> list[str]:
    """Return the command that prints the kernel's log since a start began."""
    return ["journalctl", "--dmesg", "--since", f"@{int(begun)}", "--lines", "2000", "--no-pager", "--output", "cat"]


def starts(output: str) -> list[Start]:
    """Return the starts of a unit, the oldest first, from what :func:`starts_command` printed; never raises."""
    texts: dict[str, list[str]] = {}
    begun: dict[str, float] = {}
    for row in output.splitlines():
        try:
            entry = json.loads(row)
            invocation = str(entry.get("_SYSTEMD_INVOCATION_ID") or "")
            message = entry.get("MESSAGE")
            # What is not plain text, such as a line in colours, comes as a list of bytes.
            text = bytes(message).decode("utf-8", "replace") if isinstance(message, list) else str(message or "")
            moment = int(entry.get("__REALTIME_TIMESTAMP") or 0) / 1e6
        except (ValueError, TypeError, AttributeError):
            continue
        texts.setdefault(invocation, []).append(text)
        begun.setdefault(invocation, moment)
    return [Start("\n".join(lines), begun[invocation]) for invocation, lines in texts.items()]


def table() -> Iterator[tuple[str, str, str]]:
    """Return for each known line how it is recognised, its cause and its remedy, for the documentation."""
    for known in KNOWN:
        yield known.said, known.cause, re.sub(r"\{\d\}", "what it names", known.remedy)
