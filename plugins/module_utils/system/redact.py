# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Takes out of a text what must not leave the machine: secrets, and what tells whose machine it is.

Three layers, each enough for most of what the others miss: the known values of this machine's secrets in whatever form they
appear, the shapes of well-known keys, and values whose name says that they are secret. Names of settings, versions, private
addresses and sizes stay: a text without them helps nobody.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

#: A shorter known value is no secret worth the name, and would be found inside ordinary words.
MIN_SECRET = 6

_KEY_BLOCK = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
#: Keys that their issuers made recognisable: Hugging Face, NVIDIA NGC, OpenAI's form (sk-, which users copy), GitHub, GitLab, AWS,
#: Slack, Google, JSON Web Tokens.
_SHAPES = (
    ("huggingface-token", re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}\b")),
    ("ngc-key", re.compile(r"\bnvapi-[A-Za-z0-9_-]{16,}")),
    ("api-key", re.compile(r"\bsk-[A-Za-z0-9_-]{8,}")),
    ("github-token", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("gitlab-token", re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}")),
    ("aws-key", re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("slack-token", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}")),
    ("google-key", re.compile(r"\bAIza[A-Za-z0-9_-]{35}")),
    ("json-web-token", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}")),
    ("password-hash", re.compile(r"\$(?:1|2[aby]?|5|6|7|y|gy|argon2id?)\$[^\s:'\"]{8,}")),
)
_AUTHORIZATION = re.compile(r"(?i)\b(bearer|basic|digest|negotiate)(\s+)([A-Za-z0-9._~+/=-]{6,})")
_USERINFO = re.compile(r"(?<=://)[^\s/@:'\"]*:[^\s/@'\"]+(?=@)")
_COOKIE = re.compile(r"(?im)\b((?:set-)?cookie\s*:\s*)\S.*$")
# `token` counts as a word of its own or at the end of a name; `tokens`, `eos_token` and `max_tokens` are no secrets.
_NAME = (
    r"(?:[A-Za-z0-9]+[_.-])*?"
    r"(?:pass(?:word|wd|phrase)?|pwd|secret|secret[_-]?key|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key|"
    r"psk|pre[_-]?shared[_-]?key|wep[_-]?key\d?|credentials?|auth|license[_-]?key)"
)
_NAMED = re.compile(
    rf"(?i)(?P<lead>(?<![A-Za-z0-9_.-])(?P<flag>--?)?(?P<quote>[\"']?)(?P<name>{_NAME})(?P=quote)"
    r"(?P<between>[^\S\n]{0,40}(?:=>|[=:])[^\S\n]{0,40}|[^\S\n]{1,40}(?=\S)))"
    r"(?P<value>\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|[^\s,;}\])\"']+)"
)
#: The same with its value as a block of YAML on the lines below.
_BLOCK = re.compile(
    rf"(?im)^(?P<indent>[ \t]{{0,80}})(?P<key>[\"']?{_NAME}[\"']?:[ \t]*[|>][+-]?\d?)[ \t]*\n(?:(?P=indent)[ \t]+\S.*(?:\n|\Z))+"
)
_HARMLESS_NAME = re.compile(
    r"(?i)(?:^|[_.-])(?:eos|bos|pad|unk|sep|cls|mask|special|image|video|stop|start|end|next|per|first|last|added)[_-]token$"
    r"|^(?:auth|pass)$"
)
_HARMLESS_VALUE = re.compile(
    r"(?i)^(?:|[|>][+-]?\d?|null|none|nil|true|false|yes|no|on|off|unset|set|\[\]|\{\}|\*+|n/a|omit|required|<redacted.*)$"
)
_PATH = re.compile(r"^/[A-Za-z0-9._/-]+$")
_SERIAL = re.compile(
    r"(?im)^(?P<lead>[^\S\n]*[\"']?(?:[A-Za-z_ ]{0,60}serial[ _]?(?:number|num|no)?|[A-Za-z_ ]{0,60}uuid|board[ _]part[ _]number|asset[ _]tag|"
    r"machine[ _-]?id|chassis[ _]tag|service[ _]tag)[\"']?[^\S\n]*[:=][^\S\n]*[\"']?)(?P<value>[^\n,\"']+)"
)
_GPU_UUID = re.compile(r"\b(GPU|MIG)-[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_MAC = re.compile(
    r"(?i)(?<![0-9a-f:])([0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}):[0-9a-f]{2}:[0-9a-f]{2}:[0-9a-f]{2}(?![0-9a-f:])"
)
#: The end of an IPv6 address that was made from a MAC address (EUI-64).
_FROM_MAC = re.compile(r"(?i)\b([0-9a-f]{0,4}:[0-9a-f]{0,2}ff:fe)[0-9a-f]{2}:[0-9a-f]{4}\b")
_NODE_GUID = re.compile(r"(?i)(guid[\"']?\s*[:=]?\s*)(?:0x)?[0-9a-f]{4}[:0-9a-f]{12,15}")
_EMAIL = re.compile(r"\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b")
_HOME = re.compile(r"(/home/)(?!USER\b)[^/\s:'\",]+")
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IPV6 = re.compile(r"(?i)(?<![0-9a-f:.])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![0-9a-f:.])")
#: Of a template unit: something@something.service is no address of a person.
_UNIT_SUFFIX = (".service", ".timer", ".socket", ".mount", ".slice", ".scope", ".target")


@dataclass
class Redactor:
    """Redacts texts of one machine; what is replaced by a number keeps its number in all of them.

    Attributes:
        secrets: known secret values by the name that shall stand in their place.
        aliases: names (of the machine, of users) by what shall stand in their place.
    """

    secrets: Mapping[str, str] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        forms: dict[str, str] = {}
        for name, value in self.secrets.items():
            for form in secret_forms(value):
                forms.setdefault(form, name)
        # The longest first: a short secret may be part of a long one.
        self._forms = sorted(forms.items(), key=lambda pair: -len(pair[0]))

    def text(self, text: str) -> str:
        """Return the text without secrets and without what tells whose machine it is."""
        for form, name in self._forms:
            text = text.replace(form, f"<redacted {name}>")
        text = _KEY_BLOCK.sub("<redacted private-key>", text)
        for kind, pattern in _SHAPES:
            text = pattern.sub(f"<redacted {kind}>", text)
        text = _AUTHORIZATION.sub(_authorization, text)
        text = _COOKIE.sub(r"\1<redacted cookie>", text)
        text = _USERINFO.sub("<redacted user-and-password>", text)
        text = _BLOCK.sub(r"\g<indent>\g<key>\n\g<indent>  <redacted block>\n", text)
        text = _NAMED.sub(_named, text)
        return self._identity(text)

    def _identity(self, text: str) -> str:
        text = _SERIAL.sub(lambda found: found["lead"] + self._numbered("serial", found["value"]), text)
        text = _GPU_UUID.sub(lambda found: self._numbered(f"{found[1]}-uuid", found[0]), text)
        text = _NODE_GUID.sub(r"\1<guid>", text)
        text = _MAC.sub(lambda found: found[0] if _special_mac(found[0]) else f"{found[1]}:xx:xx:xx", text)
        text = _EMAIL.sub(lambda found: found[0] if found[0].endswith(_UNIT_SUFFIX) else "<email>", text)
        text = _HOME.sub(r"\1USER", text)
        for name, alias in sorted(self.aliases.items(), key=lambda pair: -len(pair[0])):
            if len(name) > 1 and name != alias:
                # Split and joined, because in a replacement pattern a backslash of the alias would mean something.
                text = alias.join(re.split(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])", text))
        text = _IPV4.sub(self._address, text)
        text = _IPV6.sub(self._address, text)
        return _FROM_MAC.sub(r"\1xx:xxxx", text)

    def _address(self, found: re.Match[str]) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        return (
            self._numbered("public-address", found[0]) if address.is_global and not address.is_multicast else found[0]
        )

    def _numbered(self, kind: str, value: str) -> str:
        if not value or value.upper() in {"N/A", "[N/A]", "0", "NONE"} or value.startswith(("<", '""')):
            return value
        key = f"{kind}:{value}"
        if key not in self._seen:
            self._seen[key] = f"<{kind} {1 + sum(name.startswith(f'{kind}:') for name in self._seen)}>"
        return self._seen[key]


def secret_forms(value: str) -> list[str]:
    """Return the forms in which a secret may stand in a text: plain, in JSON, in a URL, in base64 at each of the three offsets."""
    value = value.strip()
    if len(value) < MIN_SECRET:
        return []
    raw = value.encode()
    forms = {
        value,
        json.dumps(value)[1:-1],
        urllib.parse.quote(value, safe=""),
        urllib.parse.quote_plus(value),
        raw.hex(),
    }
    if len(raw) >= 9:
        for offset in range(3):
            # Only the characters that depend on nothing but the secret: the edges mix with the neighbours.
            encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
            core = encoded[(0, 2, 3)[offset] :]
            core = core if (offset + len(raw)) % 3 == 0 else core[:-1]
            forms |= {core, core.replace("+", "-").replace("/", "_")}
    return sorted(forms)


def looks_secret(text: str) -> bool:
    """Say whether a text holds a key that its issuer made recognisable."""
    return any(pattern.search(text) for _kind, pattern in _SHAPES)


def leaks(text: str, secrets: Iterable[str]) -> bool:
    """Say whether one of the secrets stands in the text in any form; the last look before a file is written."""
    return any(form in text for value in secrets for form in secret_forms(value))


def _authorization(found: re.Match[str]) -> str:
    """Replace what follows `Bearer` and its like, unless it is a word of a sentence (`basic settings`)."""
    header = "authorization" in found.string[max(0, found.start() - 24) : found.start()].lower()
    word = found[3].isalpha() and found[3].islower()
    return found[0] if word and not header else f"{found[1]}{found[2]}<redacted authorization>"


def _named(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    bare = value[1:-1] if value[:1] in "\"'" and len(value) > 1 else value
    # With nothing but a blank between, only the flag of a command line is a name with a value; else it is a sentence.
    if not found["between"].strip() and not found["flag"]:
        return found[0]
    if _HARMLESS_NAME.search(name) or _HARMLESS_VALUE.match(bare) or _PATH.match(bare) or bare.startswith(("{{", "<")):
        return found[0]
    quote = value[0] if value[:1] in "\"'" else ""
    return f"{found['lead']}{quote}<redacted {name.lower()}>{quote}"


def _special_mac(mac: str) -> bool:
    """Say whether a MAC address is nobody's: all zero, all one, or of a container's bridge (Docker's 02:42)."""
    return mac.lower() in {"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"} or mac.lower().startswith("02:42")
