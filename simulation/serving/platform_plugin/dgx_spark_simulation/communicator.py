# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""Moves tensors between ranks on different machines. Apart from the platform, because it needs the platform resolved."""

from vllm.distributed.device_communicators.cpu_communicator import CpuCommunicator


class NetworkCommunicator(CpuCommunicator):
    """vLLM's communicator for CPUs without shared memory between ranks."""

    def _all_group_ranks_share_shm_group_name(self) -> bool:
        # On CPUs with AVX-512, CpuCommunicator takes ranks whose group has one name for ranks of one machine. Under Ray
        # the name is the same everywhere, and the start fails with "open shm in SHMManager failed".
        return False
