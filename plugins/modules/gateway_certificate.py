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
  - With O(certificate) and O(key), checks that the key belongs to the certificate and that the certificate is in force, and writes both into one file for
    root alone.
  - With O(names), makes a certificate for these names, signed by an authority of its own in O(authority), and renews it in the last 90 of its 825 days.
  - What is not in order is one sentence, and nothing is changed.
options:
  certificate:
    description: The certificate and its chain, in PEM, its own first.
    type: str
  key:
    description: Its key, in PEM, without a passphrase.
    type: str
  names:
    description: Names and addresses by which clients reach the endpoint; in place of O(certificate) and O(key).
    type: list
    elements: str
  authority:
    description: Folder of the authority; its key C(ca.key) is for root alone, its certificate C(ca.pem) is what clients need.
    type: path
    default: /etc/dgx-spark/gateway/authority
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

- name: Create a certificate with an authority of its own
  dgx_spark.vllm.gateway_certificate:
    names: [spark-1.local, 192.168.100.10]
    path: /etc/dgx-spark/gateway/tls.pem
  register: made
"""

RETURN = r"""
authority:
  description: Certificate of the authority, in PEM, for clients; empty in check mode where it is still to be made.
  returned: with O(names)
  type: str
msg:
  description: One sentence.
  returned: always
  type: str
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.gateway.authority import Authority
from ..module_utils.gateway.certificate import MODE, CertificateProblem, judged
from ..module_utils.system.files import Changes
from ..module_utils.system.run import run

ARGUMENTS = {
    "certificate": {"type": "str"},
    "key": {"type": "str", "no_log": True},
    "names": {"type": "list", "elements": "str"},
    "authority": {"type": "path", "default": "/etc/dgx-spark/gateway/authority"},
    "path": {"type": "path", "required": True},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        required_together=[("certificate", "key")],
        required_one_of=[("certificate", "names")],
        mutually_exclusive=[("certificate", "names"), ("key", "names")],
        supports_check_mode=True,
    )
    params, answer = module.params, {}
    changes = Changes(module.check_mode)
    path = Path(params["path"])
    try:
        if params["names"] is None:
            # Its difference is not shown: it has the key.
            changed = changes.write(path, judged(params["certificate"], params["key"], run), MODE)
        else:
            authority = Authority(Path(params["authority"]), changes, run)
            changed = authority.issue(path, params["names"])
            answer["authority"] = authority.text()
    except CertificateProblem as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or module.params['path']}: {error.strerror}; gateway_certificate needs root on the head"
        )
    module.exit_json(changed=changed, msg="; ".join(changes.actions) or "the certificate is as wanted", **answer)


if __name__ == "__main__":
    main()
