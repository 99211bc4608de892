# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Docker works on a node that had none, also after the plug was pulled."""

from __future__ import annotations

import json

from testinfra.host import Host


def test_the_daemon_runs_now_and_at_boot(host: Host) -> None:
    service = host.service("docker")
    assert service.is_running, host.run("journalctl --unit docker --lines 30 --no-pager").stdout
    assert service.is_enabled


def test_the_daemon_took_its_settings(host: Host) -> None:
    with host.sudo():
        assert json.loads(host.file("/etc/docker/daemon.json").content_string) == {"log-level": "warn"}
        assert host.file("/etc/docker/daemon.json").mode == 0o644


def test_docker_answers_with_a_copy_on_write_driver(host: Host) -> None:
    with host.sudo():
        driver = host.check_output("docker info --format '{{.Driver}}'")
    assert driver in {"overlay2", "overlayfs"}
