# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Packages of the driver, and those whose installation stopped half-way."""

from __future__ import annotations

from ansible_collections.dgx_spark.vllm.plugins.module_utils.node.packages import (
    is_driver_package,
    parse_installed,
    parse_unfinished,
    unfinished,
)

LISTED = """ii  bash
hi  nvidia-driver-580-open
iU  zlib1g
iF  nvidia-dkms-580-open
iHR linux-image-6.17.0-1014-nvidia
rc  old
ii  libnvidia-container1
"""


def test_what_is_installed_and_what_stopped() -> None:
    assert parse_installed(LISTED) == {"bash", "nvidia-driver-580-open", "libnvidia-container1"}
    assert parse_unfinished(LISTED) == ("linux-image-6.17.0-1014-nvidia", "nvidia-dkms-580-open", "zlib1g")


def test_the_container_toolkit_is_not_the_driver() -> None:
    assert all(map(is_driver_package, ("libnvidia-compute-580", "linux-nvidia-hwe-24.04", "dgx-spark-mlnx-hotplug")))
    assert not any(map(is_driver_package, ("libnvidia-container1", "nvidia-container-toolkit", "linux-image-generic")))


def test_a_machine_without_dpkg_has_none() -> None:
    assert unfinished(lambda *_arguments, **_more: (127, "", "dpkg-query is not installed")) == ()
    assert unfinished(lambda *_arguments, **_more: (0, "iU  zlib1g\n", "")) == ("zlib1g",)
