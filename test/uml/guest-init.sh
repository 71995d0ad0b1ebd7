#!/bin/sh
# Process 1 of the user-mode Linux: a real kernel NFS client on the host's programs (root over hostfs, read-only).
# Mounts the export, runs the script named on the kernel's command line, says how it ended, and powers off.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
for word in $(cat /proc/cmdline); do
  case "$word" in
    uml_dir=*) directory=${word#uml_dir=} ;;
    uml_export=*) export=${word#uml_export=} ;;
    uml_options=*) options=,${word#uml_options=} ;;
  esac
done
modules=$(ls -d /usr/lib/uml/modules/*/kernel | head -n 1)
for module in fs/netfs/netfs fs/fscache/fscache net/sunrpc/sunrpc fs/nfs_common/grace fs/lockd/lockd fs/nfs/nfs fs/nfs_common/nfs_acl fs/nfs/nfsv3; do
  insmod "$modules/$module.ko"
done
ip link set lo up
ip address add 10.77.0.2/24 dev vec0
ip link set vec0 up
mkdir /run/mnt
end() {
  echo "UML-RESULT: $1"
  sync
  echo o > /proc/sysrq-trigger
  sleep 30
}
mount -t nfs -o "nfsvers=3,tcp,nolock,port=2049,mountport=2049,mountproto=tcp,hard$options" "10.77.0.1:$export" /run/mnt || end "mount failed"
export UML_DIR="$directory"
sh -e "$directory/script.sh" && umount /run/mnt && end ok
end "script failed"
