# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""Completion of ``spark`` in bash, made of the parser itself, so that it knows every word of it and no other."""

from __future__ import annotations

import argparse

_SCRIPT = """# Written by dgx_spark.vllm.node_tools: words of the command spark for bash.
_spark() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} path= index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in -*) ;; *) path+=" ${{COMP_WORDS[index]}}" ;; esac
    done
    case $path in
{cases}
    *) COMPREPLY=() ;;
    esac
}}
complete -o default -F _spark spark
"""


def words(parser: argparse.ArgumentParser, path: str = "") -> dict[str, list[str]]:
    """Return what may follow: by the words so far (``"" ``, `` keys``, `` keys add``), commands and options."""
    found: dict[str, list[str]] = {path: []}
    # argparse has no public list of what was added to it.
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                found[path].append(name)
                found |= words(inner, f"{path} {name}")
        else:
            found[path] += [option for option in action.option_strings if option.startswith("--")]
    return found


def script(parser: argparse.ArgumentParser) -> str:
    """Return the completion for bash."""
    cases = [
        # A longer path first: what follows a value is completed as what follows the command.
        f"""    "{path}"{"*" if path else ""}) COMPREPLY=($(compgen -W "{" ".join(told)}" -- "$word")) ;;"""
        for path, told in sorted(words(parser).items(), key=lambda item: -len(item[0].split()))
    ]
    return _SCRIPT.format(cases="\n".join(cases))
