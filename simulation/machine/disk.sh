#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# Turns the file system that comes as a tar stream into a disk, its kernel and its initrd in /out. Runs in a container of the machine's image,
# where it is root: no right of the machine outside is needed. Arguments: size of the disk in MiB, owner of the results (uid:gid).
set -eu
mkdir /tmp/root
tar --extract --directory=/tmp/root --numeric-owner
# Docker puts its own files there.
rm -f /tmp/root/.dockerenv /tmp/root/etc/hostname
: >/tmp/root/etc/resolv.conf
printf '127.0.0.1 localhost\n' >/tmp/root/etc/hosts
mv /tmp/root/boot/simulation/vmlinuz /tmp/root/boot/simulation/initrd /out/
rmdir /tmp/root/boot/simulation
# Laid out in the build, where it is quick: nothing is left to be initialised while the machine runs.
mke2fs -q -t ext4 -L simulation -E lazy_itable_init=0,lazy_journal_init=0 -d /tmp/root /out/disk.raw "$1M"
chown "$2" /out/*
