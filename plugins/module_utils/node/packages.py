# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Packages of driver and kernel, and packages whose installation was not finished, by dpkg's own words."""

from __future__ import annotations

import re

from ..system.run import Runner

#: The whole list with dpkg's abbreviated state: what is wanted, what is, and R where it must be reinstalled (dpkg-query(1)).
QUERY = ("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev} ${Package}\n")
#: Packages whose update under a running machine parts the driver's libraries from its kernel module, or the network card from its driver.
#: Names as on DGX OS 7.5 and 7.6; the container toolkit's libraries are none of them.
_DRIVER_PACKAGE = re.compile(
    r"nvidia-(?:driver|dkms|kernel|headless|compute|open|modprobe|firmware|persistenced|utils|fabricmanager|imex|spark-grub)\b"
    r"|libnvidia-(?!container)"
    r"|xserver-xorg-video-nvidia"
    r"|linux-(?:image|modules|headers|objects|signatures)(?:-.*)?-nvidia"
    r"|linux-nvidia\b"
    r"|dgx-spark-mlnx-hotplug"
)
#: States in which an installation stopped: unpacked, half-configured, half-installed, triggers awaited or pending.
_HALF = frozenset("UFHWt")


def is_driver_package(name: str) -> bool:
    """Say whether a package is of the driver, the kernel or the ConnectX's hot-plug."""
    return bool(_DRIVER_PACKAGE.match(name))


def _states(listed: str) -> list[tuple[str, str]]:
    """Return state and name of each line of QUERY."""
    lines = (line.rpartition(" ") for line in listed.splitlines())
    return [(state.strip(), name.strip()) for state, _blank, name in lines if state.strip() and name.strip()]


def parse_installed(listed: str) -> set[str]:
    """Return the packages that are installed and whole."""
    return {name for state, name in _states(listed) if state in {"ii", "hi"}}


def parse_unfinished(listed: str) -> tuple[str, ...]:
    """Return the packages whose installation stopped half-way, those of the driver first."""
    found = {name for state, name in _states(listed) if state[1:2] in _HALF or state[2:3] == "R"}
    return tuple(sorted(found, key=lambda name: (not is_driver_package(name), name)))


def unfinished(run: Runner) -> tuple[str, ...]:
    """Return the packages of this machine whose installation stopped half-way; none where dpkg is not there."""
    status, listed, _err = run(QUERY, 30)
    return parse_unfinished(listed) if status == 0 else ()
