#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# Runs once, as root, in a container of the base image, which is then committed under the name of Open WebUI's image.
# /build/wheels holds the wheels of the lock files, /build/recipe this folder; both are mounted and stay outside.
set -eu
export DEBIAN_FRONTEND=noninteractive
prefix=/opt/chat

apt-get update -q
apt-get install -qy --no-install-recommends python3 ca-certificates

python3 -m venv --without-pip "$prefix"
python="$prefix/bin/python"
"$python" "$(echo /build/wheels/pip-*.whl)/pip" install --no-index --find-links /build/wheels --no-deps --no-compile \
    --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r /build/recipe/requirements.txt

# Compiled in advance: the root is read-only where it runs.
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash "$prefix" >/dev/null || true
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/* /root/.cache /tmp/*

# The image proves itself before it gets a name.
mkdir /tmp/proof
cd /tmp/proof
env FROM_INIT_PY=true DATA_DIR=/tmp/proof/data STATIC_DIR=/tmp/proof/static WEBUI_SECRET_KEY=proof OFFLINE_MODE=true \
    RAG_EMBEDDING_ENGINE=openai "$python" -c 'import open_webui.main'
rm -rf /tmp/proof
