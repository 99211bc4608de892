# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that ask a model hub; their argument specs share module_utils/hf_hub.HUB_ARGUMENTS."""

from __future__ import annotations


class ModuleDocFragment:
    """Which repository, at which hub, with which token."""

    DOCUMENTATION = r"""
options:
  repo_id:
    description: Repository on the hub, as C(organisation/name).
    type: str
    required: true
  revision:
    description: Branch, tag or commit of 40 hexadecimal digits.
    type: str
    default: main
  endpoint:
    description: Address of the hub.
    type: str
    default: https://huggingface.co
  token:
    description: Token for gated or private repositories. Never shown and never sent to another host. Wins over O(token_file).
    type: str
  token_file:
    description: File on the node with the token; one that does not exist means that no token is sent.
    type: path
  ca_bundle:
    description: File on the node with certificate authorities (PEM) that are trusted beside the system's own.
    type: path
  allow_patterns:
    description: Only files that match one of these patterns; empty for all. A pattern C(dir/) means all below that folder.
    type: list
    elements: str
    default: []
  ignore_patterns:
    description: No files that match one of these patterns.
    type: list
    elements: str
    default: []
"""
