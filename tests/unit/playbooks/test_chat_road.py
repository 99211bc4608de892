# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The unit of the chat page with and without gateway and TLS: the role runs for real, what it would write is recorded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.playbooks.collection import empty_modules
from tests.unit.playbooks.real_arguments import arguments

ROOT = Path(__file__).parents[3]
SERVICE = """#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule(**%r)
with open("%s/unit.json", "w") as file:
    json.dump({name: value for name, value in module.params.items() if value is not None}, file)
module.exit_json(changed=True)
"""
PLAY = """---
- hosts: all
  gather_facts: false
  tasks:
    - import_role: {name: dgx_spark.vllm.chat_ui, tasks_from: configure}
      vars:
        __chat_ui_signed: {changed: false}
        __chat_ui_keyed: {changed: false}
"""


def unit(place: Path, **settings: Any) -> dict[str, Any]:
    """Return what the module is asked for."""
    modules = empty_modules(place)
    # Only has to be there: in check mode nothing is asked of what runs.
    (modules / "container_service_info.py").symlink_to(ROOT / "plugins" / "modules" / "container_service_info.py")
    (modules / "container_service.py").write_text(SERVICE % (arguments("container_service"), place))
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "spark_api_port": 8235}
    inventory = {"all": {"hosts": {"spark-1": {**host, **settings}}}}
    (place / "hosts.yml").write_text(yaml.safe_dump(inventory))
    (place / "play.yml").write_text(PLAY)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "--check", "-i", "hosts.yml", "play.yml"]
    variables = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    variables |= {"ANSIBLE_COLLECTIONS_PATH": str(place / "collections"), "ANSIBLE_HOME": str(place / "home")}
    done = subprocess.run(command, cwd=place, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    found: dict[str, Any] = json.loads((place / "unit.json").read_text())
    return found


@pytest.mark.parametrize(
    ("settings", "url", "key", "authority"),
    [
        ({}, "http://127.0.0.1:8235/v1", "/etc/dgx-spark/secrets/api_key", None),
        ({"gateway_enabled": True}, "http://127.0.0.1:8235/v1", "/etc/dgx-spark/chat/key", None),
        (
            {"gateway_enabled": True, "gateway_tls": "own"},
            "https://127.0.0.1:8235/v1",
            "/etc/dgx-spark/chat/key",
            "/etc/dgx-spark/gateway/authority/ca.pem",
        ),
        (
            {"gateway_enabled": True, "gateway_tls": "files", "chat_ui_endpoint_host": "spark-1.example.org"},
            "https://spark-1.example.org:8235/v1",
            "/etc/dgx-spark/chat/key",
            "/etc/ssl/certs/ca-certificates.crt",
        ),
        # TLS is the gateway's, which is off.
        ({"gateway_tls": "own"}, "http://127.0.0.1:8235/v1", "/etc/dgx-spark/secrets/api_key", None),
    ],
)
def test_the_page_asks_the_endpoint_with_the_key_that_is_its_own(
    tmp_path: Path, settings: dict[str, Any], url: str, key: str, authority: str | None
) -> None:
    asked = unit(tmp_path, **settings)
    assert asked["environment"]["OPENAI_API_BASE_URL"] == asked["command"][asked["command"].index("--url") + 1] == url
    secrets = {secret["name"]: (secret["path"], secret.get("environment")) for secret in asked["secrets"]}
    assert secrets == {
        "endpoint_key": (key, "OPENAI_API_KEY"),
        "secret_key": ("/var/lib/dgx-spark/chat/secret_key", "WEBUI_SECRET_KEY"),
        **({"authority": (authority, None)} if authority else {}),
    }
    trusted = asked["environment"].get("AIOHTTP_CLIENT_SSL_CERT_FILE")
    assert trusted == ("/run/secrets/authority" if authority else None)


def test_the_page_is_bounded_and_talks_to_the_endpoint_alone(tmp_path: Path) -> None:
    asked = unit(tmp_path, chat_ui_port=9000, chat_ui_environment={"ENABLE_TAGS_GENERATION": "true", "WEBUI_NAME": "x"})
    assert (asked["memory_mib"], asked["oom_score"], asked["read_only"], asked["cap_add"]) == (2048, 900, True, [])
    assert [(mount["target"], mount["read_only"]) for mount in asked["mounts"]] == [
        ("/data", False),
        ("/opt/dgx-spark/lib", True),
    ]
    said = asked["environment"]
    assert (said["ENABLE_TAGS_GENERATION"], said["WEBUI_NAME"]) == ("true", "x")
    assert (said["OFFLINE_MODE"], said["HF_HUB_OFFLINE"], said["ENABLE_OLLAMA_API"]) == ("true", "1", "false")
    assert not {"OPENAI_API_KEY", "WEBUI_SECRET_KEY"} & said.keys()
    assert asked["command"][asked["command"].index("--port") + 1] == "9000"
