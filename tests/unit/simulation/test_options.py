# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
"""How nodes and the hub are run, and what is written about them elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from simulation import settings
from simulation.nodes import far_end
from simulation.options import CAPABILITIES, Form, hub_container, node_container
from simulation.settings import HEAD, NETWORKS, NODES, SimulationError

IMAGE = "sha256:" + "0" * 64


def test_privileged_on_unified_control_groups() -> None:
    host = node_container(HEAD, IMAGE, Form.PRIVILEGED, 2).host
    assert host["Privileged"] is True
    assert host["CgroupnsMode"] == "private"
    assert not any("/sys/fs/cgroup" in bind for bind in host["Binds"])
    assert "CapAdd" not in host


@pytest.mark.parametrize("version", [1, 2])
def test_capabilities(version: int) -> None:
    host = node_container(HEAD, IMAGE, Form.CAPABILITIES, version).host
    assert "Privileged" not in host
    assert host["CapAdd"] == list(CAPABILITIES)
    assert "SYS_RESOURCE" not in CAPABILITIES
    assert host["MaskedPaths"] == host["ReadonlyPaths"] == []
    assert "/sys/fs/cgroup:/sys/fs/cgroup:rw" in host["Binds"]
    assert host["CgroupnsMode"] == "host"


def test_node_has_disks_and_no_restart_policy() -> None:
    specification = node_container(NODES[1], IMAGE, Form.PRIVILEGED, 1, {"/opt/x": Path("/cache/x")})
    assert "spark-2-docker:/var/lib/docker:rw" in specification.host["Binds"]
    assert "/cache/x:/opt/x:ro" in specification.host["Binds"]
    assert specification.host["RestartPolicy"] == {"Name": "no"}
    assert specification.hostname == "spark-2"


def test_only_the_head_is_published_and_on_loopback_alone() -> None:
    ports = node_container(HEAD, IMAGE, Form.PRIVILEGED, 1).host["PortBindings"]
    assert ports == {"8235/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8235"}]}
    assert "PortBindings" not in node_container(NODES[1], IMAGE, Form.PRIVILEGED, 1).host


def test_digest_follows_every_option() -> None:
    def digest(**changed: object) -> str:
        given: dict[str, object] = {"image": IMAGE, "form": Form.PRIVILEGED, "cgroup_version": 1, **changed}
        return node_container(HEAD, **given).digest()  # type: ignore[arg-type]

    assert digest() == digest()
    others = {
        digest(image="sha256:1"),
        digest(form=Form.CAPABILITIES),
        digest(cgroup_version=2),
        digest(folders={"/a": Path("/b")}),
    }
    assert len(others | {digest()}) == 5


def test_hub_runs_as_the_user_without_rights() -> None:
    specification = hub_container(IMAGE, Path("/cache/model"), "1000:1000")
    assert specification.user == "1000:1000"
    assert specification.host["CapDrop"] == ["ALL"]
    assert all(bind.endswith(":ro") for bind in specification.host["Binds"])
    assert settings.HUB_CDN_NAME in specification.aliases


def test_names_of_nodes() -> None:
    assert settings.node("spark-2") is NODES[1]
    third = settings.node("spark-3")
    assert (third.management_address, third.fabric_address) == ("172.31.235.13", "192.168.100.12")
    for wrong in ("spark-0", "spark-01", "spark-101", "spark-", "spark-x", "other"):
        with pytest.raises(SimulationError, match=re.escape(f"'{wrong}'")):
            settings.node(wrong)


def test_bridges_have_names_that_the_kernel_takes() -> None:
    assert all(len(network.bridge) <= 15 for network in NETWORKS)


def test_inventory_has_the_same_addresses() -> None:
    inventory = settings.REPOSITORY / "inventory" / "simulation"
    groups = yaml.safe_load((inventory / "hosts.yml").read_text())["sparks"]["children"]
    hosts = {**groups["head"]["hosts"], **groups["workers"]["hosts"]}
    written = {name: (values["ansible_host"], values["spark_fabric_address"]) for name, values in hosts.items()}
    assert written == {node.name: (node.management_address, node.fabric_address) for node in NODES}
    assert list(groups["head"]["hosts"]) == [HEAD.name]
    values = yaml.safe_load((inventory / "group_vars" / "all.yml").read_text())
    assert values["model_download_endpoint"] == f"http://{settings.HUB_ADDRESS}:{settings.HUB_PORT}"
    assert values["ansible_user"] == settings.USER


def test_far_end() -> None:
    text = (
        '[{"ifindex":1,"ifname":"lo","addr_info":[{"local":"127.0.0.1"}]},'
        '{"ifindex":58,"link_index":59,"ifname":"eth1","addr_info":[{"local":"192.168.100.10","prefixlen":24}]}]'
    )
    assert far_end(text, "192.168.100.10") == 59
    with pytest.raises(SimulationError, match=r"192\.168\.100\.11"):
        far_end(text, "192.168.100.11")
