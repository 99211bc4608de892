#!/usr/bin/python
# Copyright (c) 2026, dgx_spark.vllm contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificate of the gateway."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gateway_certificate
short_description: Write the certificate of the gateway with its key
version_added: 1.0.0
description:
  - Checks that the key belongs to the certificate and that the certificate is in force, and writes both into one file for root alone.
  - What is not in order is one sentence, and nothing is changed.
options:
  certificate:
    description: The certificate and its chain, in PEM, its own first.
    type: str
    required: true
  key:
    description: Its key, in PEM, without a passphrase.
    type: str
    required: true
  path:
    description: File that HAProxy reads.
    type: path
    required: true
extends_documentation_fragment:
  - dgx_spark.vllm.attributes
author:
  - dgx_spark.vllm contributors (@dgx-spark)
"""

EXAMPLES = r"""
- name: Write the certificate with its key
  dgx_spark.vllm.gateway_certificate:
    certificate: "{{ lookup('ansible.builtin.file', 'endpoint.crt') }}"
    key: "{{ lookup('ansible.builtin.file', 'endpoint.key') }}"
    path: /etc/dgx-spark/gateway/tls.pem
"""

RETURN = r"""
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.gateway.certificate import MODE, CertificateProblem, judged
from ..module_utils.system.files import Changes
from ..module_utils.system.run import run

ARGUMENTS = {
    "certificate": {"type": "str", "required": True},
    "key": {"type": "str", "required": True, "no_log": True},
    "path": {"type": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    changes = Changes(module.check_mode)
    try:
        # Its difference is not shown: it has the key.
        changed = changes.write(
            Path(module.params["path"]), judged(module.params["certificate"], module.params["key"], run), MODE
        )
    except CertificateProblem as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or module.params['path']}: {error.strerror}; gateway_certificate needs root on the head"
        )
    module.exit_json(changed=changed, msg="; ".join(changes.actions) or "the certificate is as wanted")


if __name__ == "__main__":
    main()
