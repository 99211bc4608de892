#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Copyright (c) 2026, dgx_spark.vllm contributors
#
# Runs once, while the image of a virtual machine is built.
set -eu
export DEBIAN_FRONTEND=noninteractive

# An image build must not start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 0755 /usr/sbin/policy-rc.d

apt-get purge -qy docker.io containerd runc
rm -f /var/cache/apt/archives/*.deb
apt-get update -q
apt-get install -qy --no-install-recommends \
    "linux-image-cloud-$(dpkg --print-architecture)" udev kmod e2fsprogs busybox-static cpio \
    nfs-kernel-server nfs-common
apt-get clean

# A machine has hardware and a power button: what the container goes without comes back, as far as NFS and a boot need it.
systemctl unmask \
    systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udev-trigger.service \
    systemd-modules-load.service systemd-remount-fs.service systemd-logind.service
# Nobody sits at the console, and what else a machine starts only costs time under emulation.
systemctl mask \
    serial-getty@ttyS0.service serial-getty@ttyAMA0.service systemd-pstore.service systemd-rfkill.socket \
    systemd-binfmt.service modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service modprobe@loop.service
# The seed brings the host key: making one of each kind takes a minute under emulation.
systemctl disable simulation-host-keys.service
systemctl enable simulation-seed.service systemd-networkd.service systemd-networkd-wait-online.service
rm -f /etc/machine-id /etc/fstab
: >/etc/machine-id

# The initrd: busybox and the modules of the disk, in the order in which they are needed.
build=/opt/simulation/build
version=$(basename /lib/modules/*)
mkdir -p "$build/initrd/bin" "$build/initrd/dev" "$build/initrd/root" "$build/initrd/modules"
cp /bin/busybox "$build/initrd/bin/busybox"
cp "$build/init" "$build/initrd/init"
chmod 0755 "$build/initrd/init"
for wanted in virtio_pci virtio_blk ext4; do
    modprobe --set-version "$version" --show-depends "$wanted"
done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r module; do
    cp "$module" "$build/initrd/modules/"
    basename "$module" >>"$build/initrd/modules/order"
done
mkdir -p /boot/simulation
(cd "$build/initrd" && find . | LC_ALL=C sort | cpio --quiet -o -H newc | gzip -1) >/boot/simulation/initrd
cp "/boot/vmlinuz-$version" /boot/simulation/vmlinuz
rm -f /boot/initrd.img-* /boot/System.map-* "/boot/vmlinuz-$version"

rm -f /usr/sbin/policy-rc.d
find /var/log -type f -delete
