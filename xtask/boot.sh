# Boots the Debian in a directory, systemd first, inside the namespaces that this runs in: sh boot.sh DIRECTORY
# Nothing of it reaches the host: /dev has no device but the plain ones, /sys/fs/bpf is a BPF file system of its own.
set -eu
root=$1

ip link set lo up
ip link add eth0 type veth peer name peer0
ip link set eth0 up
ip link set peer0 up
ip address add 10.0.0.1/24 dev eth0

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t bpf -o nosuid,nodev,noexec,mode=0700 bpf "$root/sys/fs/bpf"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"

cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=weir NOTIFY_SOCKET=/booted PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=journal --unit=basic.target
