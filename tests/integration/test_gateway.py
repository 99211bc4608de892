# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The gateway in front of the pair's vLLM: turned on, asked, given keys, and turned off again. (Hostile requests: tests/unit/test_gateway.py.)"""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from endpoint import MODEL, URL, api_key, chat
from testinfra.host import Host

from tests.integration.conftest import Playbook, runner

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
#: With the server's log of requests, which is off by default.
ON = {"gateway_enabled": True, "vllm_serve_extra_arguments": ["--enable-log-requests"]}
KEYS = "playbooks/keys.yml"
EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "security.md"
ROUTES_BEGIN, ROUTES_END = "<!-- routes: begin -->", "<!-- routes: end -->"


@pytest.fixture(scope="module", autouse=True)
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Turn the gateway on, and off again."""
    run = runner(tmp_path_factory.mktemp("gateway"))
    on = run(extra=ON)
    assert on.status == "successful", on.output[-3000:]
    assert run(extra=ON).changed == set()
    yield
    off = run()
    assert off.status == "successful", off.output[-3000:]


def shown(code: int) -> str:
    """What the table calls an answer: a server's own refusal of an empty body means that the request came through."""
    return str(code) if code in (401, 404) else "open"


def by_path(row: tuple[tuple[str, str], list[str]]) -> tuple[bool, str, str]:
    (method, path), found = row
    return "open" not in found, path, method


def openssl(authority: Path, name: str) -> str:
    """Return what openssl says of the endpoint's certificate, for a client that trusts an authority and expects a name."""
    address = URL.removeprefix("http://")
    command = ["openssl", "s_client", "-connect", address, "-CAfile", authority, "-verify_hostname", name]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=20)
    return done.stdout + done.stderr


def status(path: str, key: str = "", method: str = "GET") -> int:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    body = None if method in ("GET", "HEAD") else b"{}"
    request = urllib.request.Request(f"{URL}{path}", body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_clients_go_on_with_the_key_they_have(head: Host) -> None:
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]
    assert head.service("spark-gateway").is_running and head.service("spark-gateway").is_enabled


def test_vllm_itself_is_on_loopback_alone(head: Host) -> None:
    with head.sudo():
        listening = head.check_output("ss --listening --tcp --numeric --no-header --processes").splitlines()
    server = [line.split()[3] for line in listening if line.split()[3].endswith(":8238")]
    assert server == ["127.0.0.1:8238"]
    assert any("haproxy" in line and ":8235" in line for line in listening)


def test_the_clients_own_id_is_in_both_logs_and_the_prompt_in_none(head: Host) -> None:
    headers = {
        "Authorization": f"Bearer {api_key(head)}",
        "Content-Type": "application/json",
        "X-Request-ID": "mine-4711",
    }
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 40,
    }
    request = urllib.request.Request(f"{URL}/v1/chat/completions", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["x-request-id"] == "mine-4711"
        assert json.load(answer)["id"] == "chatcmpl-mine-4711"
    for unit in ("spark-gateway", "spark-vllm"):
        with head.sudo():
            lines = head.check_output(f"journalctl --unit {unit} --since -2min --output cat --no-pager").splitlines()
        assert [line for line in lines if "mine-4711" in line], unit
        assert not [line for line in lines if "capital of France" in line], unit


def test_every_route_of_this_vllm_is_as_the_table_says(head: Host, playbook: Playbook) -> None:
    made = playbook(KEYS, extra={**ON, "keys_state": "present", "keys_name": "chief", "keys_role": "operator"})
    assert made.status == "successful", made.output[-2000:]
    (chief,) = set(re.findall(r"sk-[\w-]{40,}", made.output))
    key = api_key(head)
    with head.sudo():
        page = head.check_output("curl -s http://127.0.0.1:8238/openapi.json")
    routes = {
        (method.upper(), re.sub(r"{[^}]*}", "x", path))
        for path, methods in json.loads(page)["paths"].items()
        for method in methods
    }
    listed = yaml.safe_load((ROOT / "roles/gateway/vars/main.yml").read_text())["gateway_routes"]
    # It is the list of a vLLM, and ours names what it has.
    assert ("POST", "/invocations") in routes and ("POST", "/v1/chat/completions") in routes
    asked = {(method, path): [shown(status(path, who, method)) for who in ("", key, chief)] for method, path in routes}
    users = {(method, path) for method, paths in listed["user"].items() for path in paths} | {("GET", listed["health"])}
    operators = {(method, path) for method, paths in listed["operator"].items() for path in paths}
    assert {route for route, (_none, user, _chief) in asked.items() if user == "open"} <= users
    assert {route for route, (_none, _user, chief) in asked.items() if chief == "open"} <= users | operators
    assert {route for route, (none, _user, _chief) in asked.items() if none == "open"} <= {("GET", listed["health"])}
    rows = [
        f"| `{method} {path}` | {' | '.join(found)} |" for (method, path), found in sorted(asked.items(), key=by_path)
    ]
    head_row = "| route of this vLLM | without a key | a user's key | an operator's key |\n|---|---|---|---|"
    text = f"{ROUTES_BEGIN}\n\n{head_row}\n" + "\n".join(rows) + f"\n\n{ROUTES_END}"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(ROUTES_BEGIN)
    if os.environ.get("WRITE_ROUTES"):
        PAGE.write_text(f"{before}{text}{rest.split(ROUTES_END)[1]}", encoding="utf-8")
    else:
        assert text in page, "another vLLM, other routes: look at the table that WRITE_ROUTES=1 makes of them"


def test_a_key_is_made_limited_and_withdrawn(playbook: Playbook) -> None:
    made = playbook(KEYS, extra={**ON, "keys_state": "present", "keys_name": "alice", "keys_at_once": 2})
    assert made.status == "successful", made.output[-2000:]
    (key,) = set(re.findall(r"sk-[\w-]{40,}", made.output))
    assert status("/v1/models", key) == 200
    listed = playbook(KEYS, extra=ON)
    assert listed.changed == set()
    assert "alice" in listed.output and key not in listed.output
    gone = playbook(KEYS, extra={**ON, "keys_state": "absent", "keys_name": "alice"})
    # What the task returned is hidden, and with it that it changed something; the recap counts it.
    assert gone.status == "successful" and "changed=1" in gone.output
    assert status("/v1/models", key) == 401


def test_the_verification_and_status_reach_vllm_behind_it(playbook: Playbook) -> None:
    for name in ("playbooks/verify.yml", "playbooks/status.yml"):
        run = playbook(name, extra=ON)
        assert run.status == "successful", run.output[-2000:]


def test_a_certificate_that_is_none_changes_nothing(playbook: Playbook, head: Host, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_text("-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n", encoding="utf-8")
    key.touch(mode=0o600)
    key.write_text("none\n", encoding="utf-8")
    files = {"gateway_tls": "files", "gateway_tls_certificate": str(certificate), "gateway_tls_key": str(key)}
    run = playbook(extra={**ON, **files})
    assert run.status == "failed"
    assert run.changed == set()
    assert "certificate" in run.failures[-1]
    assert "Paris" in chat("What is the capital of France?", api_key(head))["content"]


def test_with_its_own_authority_a_client_needs_one_file(
    playbook: Playbook, head: Host, clients: Path, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.pem"
    own = {
        **ON,
        "gateway_tls": "own",
        "gateway_tls_authority": str(authority),
        "gateway_tls_names": ["spark-1", "127.0.0.1"],
    }
    made = playbook(extra=own)
    assert made.status == "successful", made.output[-3000:]
    assert "PRIVATE KEY" not in made.output
    secure = URL.replace("http://", "https://")
    with urllib.request.urlopen(
        f"{secure}/health", timeout=20, context=ssl.create_default_context(cafile=str(authority))
    ) as answer:
        assert answer.status == 200
    with pytest.raises(urllib.error.URLError, match="verify failed"):
        urllib.request.urlopen(f"{secure}/health", timeout=20, context=ssl.create_default_context())
    seen = openssl(authority, "spark-1")
    assert "Verify return code: 0 (ok)" in seen and "TLSv1.3" in seen
    assert "Verification error: hostname mismatch" in openssl(authority, "spark-9")
    # The openai package with nothing but OpenSSL's own variable, and without it.
    environment = {**os.environ, "OPENAI_BASE_URL": f"{secure}/v1", "OPENAI_API_KEY": api_key(head)}
    trusting = {**environment, "SSL_CERT_FILE": str(authority)}
    answered = subprocess.run(
        [clients, "openai_chat.py"], cwd=EXAMPLES, env=trusting, capture_output=True, text=True, check=False
    )
    assert "Paris" in answered.stdout, answered.stderr
    refused = subprocess.run(
        [clients, "openai_chat.py"], cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=False
    )
    assert refused.returncode != 0 and "CERTIFICATE_VERIFY_FAILED" in refused.stderr
    assert playbook(extra=own).changed == set()
    back = playbook(extra=ON)
    assert back.status == "successful", back.output[-3000:]
    assert status("/health") == 200
