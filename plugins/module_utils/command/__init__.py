# Copyright (c) 2026, dgx_spark.vllm contributors
# SPDX-License-Identifier: Apache-2.0
"""The command `spark` of people on a node, and the looks at a node that it shares with the playbooks.

Imports: system, report, nfs, ray, docker, fabric, hub, node, gpu, peer, vllm, benchmark, gateway, service.
May be imported by: modules, programs on the node.
"""
