# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Nothing secret leaves a machine, and what helps stays. Every key here is invented."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse

import pytest
from ansible_collections.dgx_spark.vllm.plugins.module_utils.system.redact import Redactor, leaks, secret_forms

KEY = "dgx-k3y/with+odd=chars&more"
TOKEN = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SECRETS = {"api_key": KEY, "cluster_token": TOKEN}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: value,
        lambda value: f"prefix{value}suffix",
        lambda value: json.dumps({"x": value}),
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: base64.b64encode(value.encode()).decode(),
        lambda value: base64.b64encode(b"a" + value.encode() + b"z").decode(),
        lambda value: base64.b64encode(b"ab" + value.encode() + b"yz").decode(),
        lambda value: base64.urlsafe_b64encode(b"u:" + value.encode()).decode(),
        lambda value: value.encode().hex(),
    ],
    ids=["plain", "inside", "json", "url", "base64-0", "base64-1", "base64-2", "base64-url", "hex"],
)
@pytest.mark.parametrize("name", sorted(SECRETS))
def test_known_values_go_in_every_form(wrap: object, name: str) -> None:
    text = wrap(SECRETS[name])  # type: ignore[operator]
    assert leaks(text, SECRETS.values())
    clean = Redactor(SECRETS).text(text)
    assert not leaks(clean, SECRETS.values())
    assert f"<redacted {name}>" in clean


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("token hf_abcdefghijklmnopqrstuvwx was used", "hf_abcdefghijklmnopqrstuvwx"),
        ("NGC: nvapi-AbCdEf0123456789_-xyz", "nvapi-AbCdEf0123456789_-xyz"),
        ("curl -H 'Authorization: Bearer abc.def-123456'", "abc.def-123456"),
        ("Authorization: Bearer letmeinplease", "letmeinplease"),
        ("proxy-authorization: basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ("http_proxy=http://anna:geheim@proxy.example:3128/", "geheim"),
        ("https://user:p%40ss@host/x", "p%40ss"),
        ("      password: Tr0ub4dor", "Tr0ub4dor"),
        ('access-points: {"home": {"password": "my wifi, yes"}}', "my wifi, yes"),
        ("wifi:\n  password: |-\n    two words\n    more words\n  ssid: home", "more words"),
        ("psk=MyWifiKey", "MyWifiKey"),
        ("HF_TOKEN=plain-looking-value", "plain-looking-value"),
        ("vllm serve --api-key letmein123 --port 8235", "letmein123"),
        ("--hf-token=opensesame --x", "opensesame"),
        ("api_key='quoted \\' value' rest", "quoted"),
        ('"client_secret": "with \\" quote"', "with"),
        ("RAY_AUTH_TOKEN: 0011223344", "0011223344"),
        ("ansible_become_password: s3cret", "s3cret"),
        ("Cookie: session=abc; theme=dark", "session=abc"),
        ("root:$6$salt$abcdefghijklmnop:19000", "abcdefghijklmnop"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "eyJzdWIiOiIxMjM0In0"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz\n-----END OPENSSH PRIVATE KEY-----\nafter", "b3BlbnNz"),
        ("-----BEGIN RSA PRIVATE KEY-----\ncut off", "cut off"),
        ("ghp_0123456789abcdefghijABCD", "ghp_0123456789abcdefghijABCD"),
    ],
)
def test_shapes_and_names_go(text: str, secret: str) -> None:
    clean = Redactor().text(text)
    assert secret not in clean
    assert "<redacted" in clean
    assert Redactor().text(clean) == clean, "a second pass changes nothing"


@pytest.mark.parametrize(
    "text",
    [
        "Avg prompt throughput: 12.3 tokens/s, Avg generation throughput: 20.1 tokens/s",
        "max_num_batched_tokens=8192, max_tokens: 500",
        '"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "eos_token_id": 151645',
        "api_key_file: /etc/dgx-spark/secrets/api_key",
        "VLLM_API_KEY=/run/secrets/api_key",
        "the token of the cluster is read from its file",
        "no API key was given; password authentication is off",
        "PasswordAuthentication no",
        "api_key: null",
        "NCCL INFO NET/IB : Using [0]rocep1s0f1:1/RoCE [1]roceP2p1s0f1:1/RoCE",
        "inet 192.168.100.10/24 and 10.0.0.7 and 127.0.0.1 and fe80::1 and ::1 and 224.0.0.251",
        "driver 580.159.03, kernel 6.17.0-1014-nvidia, vLLM 0.33.0, CUDA 13.0",
        "start of user@1000.service and getty@tty1.service",
        "12:34:56 took 0:01:02",
        "torch.cuda.get_device_capability() == (12, 1)",
        "link/ether 02:42:c0:a8:64:0a brd ff:ff:ff:ff:ff:ff",
        "Serial Number : N/A",
        "ExecStart=systemd-firstboot --prompt-root-password\nStandardOutput=tty",
        "a unit with basic credentials passed to it, and digest settings",
    ],
)
def test_what_helps_stays(text: str) -> None:
    assert Redactor().text(text) == text


def test_what_tells_whose_machine_it_is_goes() -> None:
    redactor = Redactor(aliases={"annas-box": "spark-1", "anna": "USER"})
    text = (
        "    Serial Number                         : 1650125001234\n"
        "    GPU UUID                              : GPU-5c1f0c1e-0d0c-4a51-8f6e-0123456789ab\n"
        'DGX_SERIAL_NUMBER="1983925001234"\n'
        "annas-box: link/ether 4c:bb:47:2c:11:9d, gw 93.184.216.34, 2606:2800:220:1::34\n"
        "/home/anna/.cache, mail anna@example.org, again 93.184.216.34\n"
        "Node GUID: 4cbb:4703:002c:119d\n"
        "CA 'rocep1s0f1' port GUID 0x4cbb4703002c119d, GID fe80:0000:0000:0000:4ebb:47ff:fe2c:119d and fe80::4ebb:47ff:fe2c:119d\n"
    )
    clean = redactor.text(text)
    for private in (
        "1650125001234",
        "5c1f0c1e",
        "1983925001234",
        "annas-box",
        "11:9d",
        "93.184",
        "2606:",
        "anna",
        "119d",
    ):
        assert private not in clean, private
    assert "4c:bb:47:xx:xx:xx" in clean, "the maker's part of a MAC address stays"
    assert clean.count("<public-address 1>") == 2, "the same value keeps its number"
    assert "spark-1: link/ether" in clean
    assert redactor.text("uuid: 12\nuuid: 13") != redactor.text("uuid: 12\nuuid: 12")


def test_json_stays_json() -> None:
    document = {
        "serial": "1983925001234",
        "uuid": "x-1",
        "api_key": "a b",
        "n": None,
        "list": [{"token": "12345678"}],
        "ok": "fine",
    }
    clean = json.loads(Redactor().text(json.dumps(document, indent=1)))
    assert clean["serial"] == "<serial 1>"
    assert clean["api_key"] == "<redacted api_key>"
    assert clean["list"] == [{"token": "<redacted token>"}]
    assert (clean["n"], clean["ok"]) == (None, "fine")


def test_short_values_are_no_secrets() -> None:
    assert secret_forms("12345") == []
    assert not leaks("12345", ["12345", "", "  "])
    assert Redactor({"api_key": "up"}).text("link is up") == "link is up"


def test_the_longest_secret_wins() -> None:
    clean = Redactor({"short": "abcdef", "long": "abcdefghijkl"}).text("abcdefghijkl")
    assert clean == "<redacted long>"


@pytest.mark.parametrize(
    "piece",
    [
        "x-",
        "a_",
        "1:",
        " ",
        "a.",
        "token ",
        "--",
        "=",
        "eyJ",
        "serial ",
        "://",
        "/home/",
        "a@",
        '"',
        "hf_",
        "\\",
        "-----BEGIN ",
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """A log may hold anything; each of these took minutes with a pattern that backtracks."""
    start = time.monotonic()
    Redactor(SECRETS).text(piece * (200_000 // len(piece)))
    assert time.monotonic() - start < 10
