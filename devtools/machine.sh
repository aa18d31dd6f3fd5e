#!/usr/bin/env bash
# Boots the installed systemd as process 1 of namespaces of its own: `machine.sh NAME SCRATCH UNIT...`.
# It sees this machine's files, but what it writes is in memory and ends with it. Only the given
# units start. SCRATCH is an empty directory.
set -euo pipefail
name=$1 scratch=$2
root=$scratch/root

# Prints where each hierarchy of cgroups is, its kind, and its controllers or its name.
cgroups() {
    awk '$3 ~ /^cgroup2?$/ && $2 !~ /cpuset/ {
        gsub(/(^|,)(rw|ro|nosuid|nodev|noexec|relatime|xattr|nsdelegate|memory_[a-z]+)/, "", $4)
        sub(/^,/, "", $4)
        if ($4 ~ /^name=/) $4 = "none," $4
        print $2, $3, $4
    }' /proc/mounts
}

if [ -z "${MACHINE_INSIDE:-}" ]; then
    # A cgroup of its own in each hierarchy; as a cgroup namespace, it is all that systemd sees.
    cgroups | while read -r path _; do
        mkdir -p "$path/$name"
        echo $$ >"$path/$name/cgroup.procs"
    done
    MACHINE_INSIDE=yes exec unshare --fork --kill-child --pid --mount --ipc --uts --cgroup \
        --propagation private "$0" "$@"
fi
shift 2

mount -t tmpfs -o mode=755 tmpfs "$scratch"
mkdir "$scratch"/{changed,work,root}
mount -t overlay -o "lowerdir=/,upperdir=$scratch/changed,workdir=$scratch/work" overlay "$root"

mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
cgroups | while read -r path kind hierarchy; do
    mkdir -p "$root$path"
    mount -t "$kind" ${hierarchy:+-o "$hierarchy"} cgroup "$root$path"
done

mount -t tmpfs -o mode=755 tmpfs "$root/dev"
mkdir "$root"/dev/{pts,shm}
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/old"

# Nothing starts but what is asked for, not even what services wait for as a rule.
rm -rf "$root/etc/systemd/system" "$root"/usr/lib/systemd/system/*.wants
mkdir -p "$root/etc/systemd/system"
printf '[Unit]\nDefaultDependencies=no\nRequires=%s\nAfter=%s\n' "$*" "$*" \
    >"$root/etc/systemd/system/machine.target"
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"

cd "$root"
pivot_root . run/old
umount --lazy /run/old
exec env -i container="$name" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/lib/systemd/systemd --unit=machine.target --show-status=no
