# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""A model hub on the local machine that speaks what huggingface_hub needs, and lies when told to. Standard library only."""
