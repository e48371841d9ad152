#!/bin/busybox sh
# The guest's first process: mounts, runs the programs of /plan and switches off.
# Lines that begin with @@@ are for `report.rs`.
b=/bin/busybox

$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev
$b mount -t tmpfs tmpfs /run
$b mount -t bpf bpf /sys/fs/bpf
$b mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec </dev/null >/dev/ttyS1 2>&1
echo "@@@ awake"

# Should nobody be left to end a guest that hangs.
($b sleep 1800; $b poweroff -f) &

export PATH=/usr/bin LD_LIBRARY_PATH=/lib
export OBSERVER_BIN=/tests/observer OBSERVER_OBJECT=/tests/observer.bpf.o
# The loaded programs are compared with the parser on fewer packets than where a real processor runs them.
export OBSERVER_FUZZ_INPUTS=20000
$b hostname guest
ip link set lo up || echo "@@@ trouble: lo is not up"

# Of scenarios that ask for it at once, the second would not wait until it is there.
$b modprobe veth || echo "@@@ trouble: no veth"

# The kernel rewrites its own code when the first hook of a kind comes and the last one goes, and an emulated processor
# that is just there may trap on the old instruction for ever. So one of each stays.
/usr/bin/tc qdisc add dev lo clsact || echo "@@@ trouble: no clsact"
for hook in prerouting input forward output postrouting; do
    echo "add table inet stays; add chain inet stays $hook { type filter hook $hook priority 0; }"
done | nft -f - || echo "@@@ trouble: no netfilter"

set -f
while read -r name args <&3; do
    echo "@@@ begin $name"
    # shellcheck disable=SC2086
    "/tests/$name" $args 3<&-
    status=$?
    echo "@@@ end $name $status"
    # What the kernel refuses to load fails every scenario, each after a long wait.
    [ "$name $status" = "programs 101" ] && break
done 3</plan
echo "@@@ done"
$b poweroff -f
