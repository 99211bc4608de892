# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""`make setup`: asks what an inventory needs, looks at the machines, and writes the inventory. It changes nothing on a node but the SSH key that it offers to copy.

`__main__` is the conversation, `console` asks, `machines` reaches the nodes; `checks`, `proposal` and `inventory` are plain functions.
"""

import sys
from pathlib import Path

# What is proposed follows from the collection's own look at the link, found here without an installed collection.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collections"))
