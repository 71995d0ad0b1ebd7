#!/bin/sh
# Serves a directory with NFS-Ganesha: ganesha.sh SCRATCH CONFIGURATION. It cannot start without a portmapper, so it gets one of its
# own; /run is private to both. Needs a network namespace (port 111) and a mount namespace of its own, and root.
set -e
mount -t tmpfs tmpfs /run
ip link set lo up
rpcbind -f &
sleep 0.3
exec ganesha.nfsd -F -N NIV_WARN -f "$2" -p "$1/ganesha.pid" -L "$1/ganesha.log"
