#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# Runs once, while the node image is built.
set -eu
export DEBIAN_FRONTEND=noninteractive

# An image build must not start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

apt-get update -q
# Docker comes first and leaves its packages behind: a test that purges Docker can install it again without a network.
apt-get install -qy --no-install-recommends --download-only docker.io
mkdir /tmp/archives
cp /var/cache/apt/archives/*.deb /tmp/archives/
apt-get install -qy --no-install-recommends docker.io \
    systemd systemd-sysv dbus openssh-server sudo \
    iproute2 iputils-ping iptables procps kmod curl ca-certificates less \
    python3 python3-venv
apt-get clean
mv /tmp/archives/*.deb /var/cache/apt/archives/
rmdir /tmp/archives
# iptables is asked for by name as well, so that purging Docker does not take it away.
apt-mark manual iptables >/dev/null

useradd --create-home --shell /bin/bash --comment 'simulated DGX Spark user' spark
usermod --lock spark
install -d -m 0700 -o spark -g spark /home/spark/.ssh
chmod 0440 /etc/sudoers.d/spark
visudo -cq

# What only a machine with hardware, consoles or a clock of its own needs.
systemctl mask \
    systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
    systemd-udev-trigger.service systemd-udev-settle.service \
    getty.target getty@tty1.service console-getty.service systemd-logind.service \
    systemd-modules-load.service systemd-remount-fs.service systemd-firstboot.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
    dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer
systemctl set-default multi-user.target
systemctl enable docker.service ssh.service simulation-host-keys.service

# Every container makes its own identity at its first start.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: >/etc/machine-id
# The journal outlives a simulated reboot, as on a machine.
install -d -m 2755 -g systemd-journal /var/log/journal

rm -f /usr/sbin/policy-rc.d
find /var/log -type f -delete
