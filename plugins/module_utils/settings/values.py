# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""One setting's value at a time, as it was given: roles use that, not what a module would make of it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ..system.networks import is_everybody
from ..system.redact import Redactor, looks_secret
from .ranges import RANGES, number_problems

#: What a value of each type is called, alone and in a list.
_KINDS: dict[str, tuple[str, str]] = {
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "bool": ("true or false", "true or false"),
    "str": ("a text", "texts"),
    "path": ("a path", "paths"),
    "dict": ("a mapping", "mappings"),
    "list": ("a list", "lists"),
}
#: Context length that is left to vLLM.
AUTO_LENGTH = "auto"
#: Paths on the nodes; paths on the controller may be relative.
_NODE_PATHS = ("spark_store_path", "spark_ca_bundle")
#: Settings that hold addresses, and an example.
_ADDRESSES = {
    "chat_ui_address": "192.168.1.20, or 0.0.0.0 for every IPv4 address",
    "gateway_addresses": "192.168.1.20, or * for every IPv4 address",
    "vllm_serve_host": "0.0.0.0 or 192.168.100.10",
}
#: Settings that cannot be empty, and what they hold.
_NOT_EMPTY = {
    "chat_ui_endpoint_host": "a name or an address of the head, such as 127.0.0.1",
    "chat_ui_image": "an image such as ghcr.io/open-webui/open-webui:v0.12.4",
    "model_download_repo_id": "a repository such as QuantTrio/Qwen3-235B-A22B-Instruct-2507-AWQ",
    "model_download_revision": "a commit, branch or tag",
}
#: Names of keys at the gateway, as gateway/keys.py takes them.
_KEY_NAME, _KEY_NAMED = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}"), "chat_ui_key_name"
#: Settings whose range is looked at.
RANGED = (
    *RANGES,
    *_NODE_PATHS,
    *_ADDRESSES,
    *_NOT_EMPTY,
    _KEY_NAMED,
    "model_download_endpoint",
    "vllm_serve_kv_cache_dtype",
)
#: Shortest key that node_secrets takes.
_KEY_CHARACTERS = 8
_WORD = re.compile(r"[A-Za-z0-9_]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_VARIABLE = re.compile(
    r"(?:.*_)?(?:TOKEN|PASSWORD|PASSWD|PASSPHRASE|SECRET|API_?KEY|ACCESS_KEY(?:_ID)?|SECRET_KEY|PRIVATE_KEY|CREDENTIALS?)",
    re.IGNORECASE,
)
#: A password in an address, as proxies have it.
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_CLASS = re.compile(r"<class '(?:[\w.]*\.)?_?(?:AnsibleTagged|AnsibleLazyTemplate)?(\w+)'>")


def raw_problem(name: str, option: Mapping[str, Any], value: Any) -> str:
    """Return what a value is that Ansible would silently turn into another type, to stand behind the setting's name; empty for none.

    A number or a boolean may be given as text: that is all that ``-e name=value`` can give, and roles say ``| int`` and ``| bool``.

    Args:
        name: of the setting, for the example.
        option: the setting's argument spec; a secret's value is not shown.
        value: as it was given, worked out.
    """
    kind = str(option.get("type") or "str")
    if kind in {"int", "float"} and isinstance(value, bool):
        return kind_problem(option, value)
    if kind == "list" and not _is_list(value):
        return f"{kind_problem(option, value)} ({_on_the_command_line(name, '[...]')})"
    if kind == "dict" and not isinstance(value, Mapping):
        return f"{kind_problem(option, value)} ({_on_the_command_line(name, '{...}')})"
    if kind == "list" and option.get("elements") in {"str", "path"}:
        odd = next((entry for entry in value if not isinstance(entry, str)), None)
        if odd is not None:
            return f"holds {shown(option, odd)}, expected texts alone: {_quoted(odd)}"
    if kind in {"str", "path"} and not isinstance(value, str):
        # YAML reads a bare on or off as a boolean, and roles whose choices have these words know it.
        if isinstance(value, bool) and {"on", "off"} <= set(option.get("choices") or ()):
            return ""
        wanted = _KINDS[kind][0]
        return f"is {shown(option, value)}, expected {wanted}: {_quoted(value)}"
    return ""


def kind_problem(option: Mapping[str, Any], value: Any, *, elements: bool = False) -> str:
    """Return what a value of the wrong type is and should be, to stand behind the setting's name.

    Args:
        option: the setting's argument spec; a secret's value is not shown.
        value: as it was given.
        elements: whether it is a list, but one of the wrong things.
    """
    alone, many = _KINDS.get(str(option.get("type") or "str"), ("another value", "others"))
    if elements:
        many = _KINDS.get(str(option.get("elements") or "str"), ("", "other values"))[1]
    wanted = f"a list of {many}" if elements else alone
    return f"is {shown(option, value)}, expected {wanted}: correct it where you set it"


def choice_problem(option: Mapping[str, Any], value: Any) -> str:
    """Return what a value that is none of the choices is, to stand behind the setting's name."""
    choices = [str(choice) for choice in option.get("choices") or []]
    return f"is {shown(option, value)}, expected one of {', '.join(choices)}: correct it where you set it"


def plain_words(text: str) -> str:
    """Return a sentence of ansible-core without the names of Python's classes."""
    return _CLASS.sub(lambda found: _KINDS.get(found[1].lower(), (found[1].lower(), ""))[0], text)


def shown(option: Mapping[str, Any], value: Any) -> str:
    """Return a value for a sentence; one of a secret setting, or one that looks like a secret, is left out."""
    if option.get("no_log"):
        return "a value that is not shown"
    return Redactor().text(repr(_plain(value)))


def range_problems(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and sentence of each setting of a host whose value cannot be, whatever the image.

    Which types of KV cache there are is the image's to say; here a type is a word.

    Args:
        values: of one host, each of its type already; those looked at are :data:`RANGED`.
    """
    problems = number_problems(values)
    name = "vllm_serve_kv_cache_dtype"
    if values.get(name) is not None and not _WORD.fullmatch(str(values[name])):
        problems.append((name, f"is {str(values[name])!r}, expected one word such as auto or fp8"))
    if values.get(_KEY_NAMED) is not None and not _KEY_NAME.fullmatch(str(values[_KEY_NAMED])):
        wanted = "up to 32 of a-z, 0-9, - and _, beginning with a letter or digit"
        problems.append((_KEY_NAMED, f"is {str(values[_KEY_NAMED])!r}, expected {wanted}"))
    problems += [(name, said) for name in _NODE_PATHS if (said := _path_problem(name, values.get(name)))]
    for name, example in _ADDRESSES.items():
        given = values.get(name)
        for entry in given if isinstance(given, (list, tuple)) else [given]:
            if entry not in (None, "") and not _is_address(str(entry)):
                problems.append((name, f"has {str(entry)!r}, which is no address: write {example}"))
    problems += [
        (name, f"is empty, expected {what}: leave the setting out to keep its default")
        for name, what in _NOT_EMPTY.items()
        if values.get(name) is not None and not str(values[name]).strip()
    ]
    name = "model_download_endpoint"
    if values.get(name) and not re.fullmatch(r"https?://[^\s/]+(/\S*)?", str(values[name])):
        problems.append((name, f"is {str(values[name])!r}, expected an address that begins with https:// or http://"))
    return problems


def key_problem(value: str) -> str:
    """Return why a text can be no API key or token, to stand behind the setting's name; never the text.

    Blanks around it do no harm: what writes the file takes them away.
    """
    value = value.strip()
    if not value:
        return ""
    if len(value) < _KEY_CHARACTERS:
        return f"has {len(value)} characters, expected at least {_KEY_CHARACTERS}: choose a longer one"
    if not re.fullmatch(r"[!-~]+", value):
        return (
            "has a blank, a line break or another character in it that an HTTP header cannot carry, expected visible ASCII characters alone: "
            "choose another one"
        )
    return ""


def environment_problems(environment: Mapping[Any, Any]) -> list[str]:
    """Return what is wrong with an environment of containers, to stand behind the setting's name; a value that may be secret is not shown."""
    problems = []
    for key, value in environment.items():
        name = str(key)
        if not _VARIABLE.fullmatch(name):
            problems.append(f"has the variable {name!r}, expected a name of letters, digits and '_'")
        elif _SECRET_VARIABLE.fullmatch(name) or (isinstance(value, str) and looks_secret(value)):
            problems.append(
                f"has {name}, which looks like a secret and would be in a unit file that every user of the node can read: {_remedy(name, value)}"
            )
        elif isinstance(value, str) and _URL_PASSWORD.search(value):
            problems.append(
                f"has {name} with a password in its address, which would be in a unit file that every user of the node can read: give an address without one"
            )
        elif value is None:
            problems.append(f'has {name} without a value: write "" for an empty one, or delete it')
        elif isinstance(value, bool):
            problems.append(
                f'has {name}: {str(value).lower()}, expected a text or a number: write "1" or "0", or the word in quotes'
            )
        elif not isinstance(value, (str, int, float)):
            problems.append(
                f"has {name} with {_what(value)}, expected a text or a number: write it as one text in quotes"
            )
        elif isinstance(value, str) and re.search(r"[\0\r\n]", value):
            problems.append(f"has {name} with a line break in it, expected one line")
    return problems


def source_problems(sources: Sequence[str]) -> list[str]:
    """Return what is wrong with addresses and networks of those who may reach the cluster, to stand behind the setting's name."""
    problems = []
    for source in sources:
        try:
            found = ipaddress.ip_network(source)
        except ValueError as error:
            problems.append(
                f"has {source!r}, which is no address and no network ({error}): write 192.168.1.20 or 192.168.1.0/24"
            )
            continue
        if is_everybody(found):
            problems.append(
                f"has {source}, which is nearly everybody: set packet_filter_enabled to false where that is meant"
            )
    return problems


def served_name_problem(value: Any) -> str:
    """Return what is wrong with the name, or the names, under which the endpoint offers the model; empty for nothing."""
    if _is_list(value):
        if not value:
            return "is an empty list, expected a name or several: name one, or delete the setting for the name of the model's file"
    elif not isinstance(value, str):
        return f"is {shown({}, value)}, expected a name or a list of names: {_quoted(value)}"
    for name in [value] if isinstance(value, str) else value:
        if not isinstance(name, str):
            return f"holds {shown({}, name)}, expected names alone: {_quoted(name)}"
        if not re.fullmatch(r"[!-~]+", name) or name.startswith("-"):
            return f"holds {name!r}, expected a name without blanks that does not begin with '-': correct it where you set it"
    return ""


def length_problem(value: Any) -> str:
    """Return what is wrong with a context length, to stand behind the setting's name; empty for a whole number from 1 on and for auto."""
    text = str(value)
    if value == AUTO_LENGTH or (not isinstance(value, bool | float) and re.fullmatch(r"0*[1-9]\d*", text)):
        return ""
    if text in {"-1", "None"} or text.lower() == AUTO_LENGTH:
        return f"is {shown({}, value)}: write {AUTO_LENGTH} for the longest that the memory holds"
    return f"is {shown({}, value)}, expected a whole number of tokens from 1 on, or {AUTO_LENGTH}: correct it where you set it"


def speculative_problem(value: Any) -> str:
    """Return what is wrong with the settings of speculative decoding, to stand behind the setting's name; of those that the plan counts with."""
    if not isinstance(value, Mapping) or not value:
        return ""
    tokens = value.get("num_speculative_tokens")
    if tokens is not None and (isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1):
        return f"has num_speculative_tokens: {shown({}, tokens)}, expected a whole number from 1 on: correct it where you set it"
    method = value.get("method")
    if method is not None and not isinstance(method, str):
        return f"has method: {shown({}, method)}, expected a text such as mtp: correct it where you set it"
    return ""


def served_names(value: Any) -> list[str]:
    """Return the names as a list; the first is the one that is shown and asked for."""
    return [value] if isinstance(value, str) else [str(name) for name in value]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return text == "*"
    return True


def _path_problem(name: str, value: Any) -> str:
    example = "/srv/models" if name == "spark_store_path" else "/etc/ssl/certs/ca-certificates.crt"
    if value is None or (not value and name != "spark_store_path"):
        return ""
    text = str(value)
    if not re.fullmatch(r"/[^\s:]*[^\s:/]", text) or ".." in text.split("/") or "//" in text:
        return f"is {text!r}, expected an absolute path on the nodes without blanks, ':' and '~', such as {example}"
    return ""


def _remedy(name: str, value: Any) -> str:
    if "HF" in name.upper() or "HUGGING" in name.upper() or str(value).startswith("hf_"):
        return "delete it and use cluster_secrets_hf_token"
    if "API" in name.upper():
        return "delete it and use spark_api_key"
    return "delete it; the serving containers get their keys as mounted files"


def _what(value: Any) -> str:
    return "a mapping" if isinstance(value, Mapping) else "a list" if _is_list(value) else f"a {type(value).__name__}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _on_the_command_line(name: str, form: str) -> str:
    return f"""on the command line: -e '{{"{name}": {form}}}'"""


def _quoted(value: Any) -> str:
    if isinstance(value, Mapping) or _is_list(value):
        return "correct it where you set it"
    return "put it in quotes"


def _plain(value: Any) -> Any:
    """Return a value without Ansible's classes, whose names are no words for a user."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if _is_list(value):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, str) else value
