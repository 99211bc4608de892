# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The alert rules and dashboards of role monitoring: promtool runs each alert twice, once so that it fires; the figures they ask for exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.dgx_spark.vllm.plugins.module_utils.fabric import link
from ansible_collections.dgx_spark.vllm.plugins.module_utils.ray.start import NODE_PORTS
from ansible_collections.dgx_spark.vllm.plugins.module_utils.service import metrics

ROOT = Path(__file__).parents[3]
FILES = ROOT / "roles" / "monitoring" / "files"
CASES = Path(__file__).parent / "rules_test.yml"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool: install the package prometheus")


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FILES / "rules.yml").read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


def panels(path: Path) -> list[dict[str, Any]]:
    return list(json.loads(path.read_text(encoding="utf-8"))["panels"])


@needs_promtool
def test_each_alert_fires_and_keeps_quiet_where_it_should(tmp_path: Path) -> None:
    file = tmp_path / "rules_test.yml"
    file.write_text(CASES.read_text(encoding="utf-8").replace("RULES", str(FILES / "rules.yml")), encoding="utf-8")
    said = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_each_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    found: dict[str, list[bool]] = {}
    for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))["tests"]:
        (asked,) = case["alert_rule_test"]
        found.setdefault(asked["alertname"], []).append(bool(asked["exp_alerts"]))
    assert found == {rule["alert"]: [True, False] for rule in rules()}


def test_each_figure_of_ours_that_is_asked_for_is_written() -> None:
    asked = [rule["expr"] for rule in rules()]
    asked += [target["expr"] for path in DASHBOARDS for panel in panels(path) for target in panel["targets"]]
    names = {name for text in asked for name in re.findall(r"\bdgx_spark_\w+", text)}
    assert names <= set(metrics.FIGURES)


def test_each_alert_is_explained() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert [rule["alert"] for rule in rules() if f"`{rule['alert']}`" not in page] == []


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_takes_whatever_prometheus_there_is(path: Path) -> None:
    for number, panel in enumerate(panels(path), 1):
        assert panel["id"] == number
        assert panel["datasource"]["uid"] == "${source}"
        assert panel["title"]
        assert panel["targets"]


def test_what_is_said_twice_is_the_same() -> None:
    said = yaml.safe_load((ROOT / "roles" / "monitoring" / "vars" / "main.yml").read_text(encoding="utf-8"))
    assert said["__monitoring_ray_port"] == NODE_PORTS["metrics-export-port"]
    assert metrics.TROUBLE_COUNTERS == link.TROUBLE_COUNTERS


def rendered(**values: Any) -> str:
    """Return the configuration of Prometheus as the role writes it for two nodes."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FILES.parent / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(to_json=json.dumps, bool=bool)
    given = {
        "ansible_managed": "test",
        **yaml.safe_load((FILES.parent / "defaults" / "main.yml").read_text(encoding="utf-8")),
        "monitoring_address": "192.168.100.10",
        "groups": {"sparks": ["spark-1", "spark-2"]},
        "hostvars": {
            "spark-1": {"spark_fabric_address": "192.168.100.10"},
            "spark-2": {"spark_fabric_address": "192.168.100.11", "monitoring_address": "10.0.0.2"},
        },
        "spark_head_name": "spark-1",
        "spark_api_port": 8235,
        "spark_endpoint_scheme": "https",
        "__monitoring_folder": "/etc/dgx-spark/monitoring",
        "__monitoring_gateway": False,
        "__monitoring_vllm_port": 8235,
        "__monitoring_ray": True,
        "__monitoring_ray_port": 6382,
        **values,
    }
    return environment.get_template("prometheus.yml.j2").render(given)


@pytest.mark.parametrize("gateway", [False, True])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"__monitoring_ray": False, "monitoring_alertmanagers": ["10.0.0.9:9093"]},
        {"monitoring_on": "elsewhere"},
    ],
)
def test_prometheus_takes_the_configuration(tmp_path: Path, values: dict[str, Any], gateway: bool) -> None:
    text = rendered(**values, __monitoring_gateway=gateway)
    jobs = {job["job_name"]: job for job in yaml.safe_load(text)["scrape_configs"]}
    here = values.get("monitoring_on") != "elsewhere"
    wanted = {
        *("node", "vllm"),
        *(["ray"] if values.get("__monitoring_ray", True) else []),
        *(["gateway"] if gateway else []),
        *(["prometheus"] if here else []),
    }
    assert set(jobs) == wanted
    assert [config["targets"] for config in jobs["node"]["static_configs"]] == [
        ["192.168.100.10:8239"],
        ["10.0.0.2:8239"],
    ]
    assert jobs["node"]["static_configs"][1]["labels"] == {"node": "spark-2"}
    # Behind the gateway vLLM asks for nothing, and listens on loopback: from elsewhere it is asked through the gateway, with a key.
    assert ("authorization" in jobs["vllm"]) == (gateway and not here)
    if shutil.which("promtool"):
        file = tmp_path / "prometheus.yml"
        file.write_text(text, encoding="utf-8")
        said = subprocess.run(
            ["promtool", "check", "config", "--syntax-only", str(file)], capture_output=True, text=True, check=False
        )
        assert said.returncode == 0, said.stdout + said.stderr
