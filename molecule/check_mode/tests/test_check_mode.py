# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""A run in check mode on fresh nodes: to its end, without a change, and with a word on what it could not see."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import testinfra

from simulation import settings

#: What Ansible, apt's lists and the node's own services write; nothing of it is ours.
OTHERS = (
    "/var/tmp/before",
    "/var/log/*",
    "/var/lib/systemd/*",
    "/var/lib/apt/*",
    "/var/cache/apt/*",
    "*/.ansible/*",
    "/var/lib/sudo/*",
)


@pytest.mark.parametrize("name", ["spark-1", "spark-2"])
def test_nothing_was_written(name: str) -> None:
    node = testinfra.get_host(f"ssh://{name}", ssh_config=str(settings.ssh_config_file()))
    with node.sudo():
        passed_over = " ".join(f"-not -path '{path}'" for path in OTHERS)
        found = node.check_output(f"find / -xdev -type f -newer /var/tmp/before {passed_over}").split()
        assert found == []
        for folder in ("/etc/dgx-spark", "/opt/dgx-spark", "/var/lib/dgx-spark", "/srv/models"):
            assert not node.file(folder).exists


def test_it_went_to_its_end_and_says_what_it_could_not_foresee() -> None:
    log = (Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "ansible.log").read_text()
    assert "PLAY [Verify]" in log
    assert re.search(r"spark-1 +: ok=\d+ +changed=[1-9]\d* +unreachable=0 +failed=0", log)
    summary = log.rpartition("NOT FORESEEN")[2]
    assert "Wait until the model is served (spark-1)" in summary
    assert "the running containers were compared with the units now on the nodes" in log
    assert "+++ after" in log
