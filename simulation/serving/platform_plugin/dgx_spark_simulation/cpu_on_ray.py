# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""vLLM's CPU platform under Ray's name for a GPU."""

from vllm.platforms.cpu import CpuPlatform


class CpuOnRayPlatform(CpuPlatform):
    """The CPU platform, placed by Ray on the `GPU` resource that `ray start --num-gpus 1` claims on each node."""

    # Empty in CpuPlatform, and vLLM refuses Ray on a platform without such a key.
    ray_device_key = "GPU"

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        """Qualified name of the class that moves tensors between ranks."""
        return "dgx_spark_simulation.communicator.NetworkCommunicator"
