# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Runs inside the new serving image at the end of its build, and fails when it is not what it should be."""

import importlib.metadata
import re
import subprocess
import sys

import ray
import torch
import transformers
import vllm
from vllm.platforms import current_platform

CUDA = re.compile(r"^(nvidia|cuda|cupy|triton|flashinfer)", re.I)


def main() -> int:
    """Print what is in the image. Returns the exit status."""
    installed = sorted(str(item.metadata["Name"]) for item in importlib.metadata.distributions())
    wrong = [name for name in installed if CUDA.match(name)]
    if wrong or torch.version.cuda:
        print(f"The serving image for CPUs has CUDA in it: {', '.join(wrong) or torch.__version__}")
        return 1
    if current_platform.ray_device_key != "GPU" or current_platform.device_type != "cpu":
        print(f"The platform plugin is not in force: vLLM uses {type(current_platform).__name__}")
        return 1
    for tool in ("vllm", "ray"):
        subprocess.run([tool, "--version"], check=True, stdout=subprocess.DEVNULL)
    print(
        f"vllm {vllm.__version__}, torch {torch.__version__}, ray {ray.__version__}, "
        f"transformers {transformers.__version__}, {len(installed)} packages"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
