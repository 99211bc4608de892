# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Stands where ansible-test caches the pip bootstrap that it downloads: pip comes from the standard library instead.

So the sanity tests need no address beyond the package index. `tests/run` puts it there when nothing is there yet.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys

ensurepip.bootstrap(default_pip=True)
# ensurepip hides the machine's pip settings from itself, and thereby from what runs after it.
os.environ.pop("PIP_CONFIG_FILE", None)
# This pip knows no such option; it installs neither unless asked.
wanted = [argument for argument in sys.argv[1:] if argument not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))
