/**
 * The whole userspace of the tiny guest: a shell script for busybox. It mounts the root partition, counts the boot, serves a page
 * with hostname and counter, answers the few guest-agent commands that a hypervisor needs, and powers off when told to.
 *
 * With `vmrestore.records` on the kernel's command line it writes numbered records of 512 bytes to `/data/records`, fsyncs each, and
 * only then says `ACK <number>` on the serial console and shows the number under `/acked`.
 */
export const TINY_INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
exec </dev/console >/dev/console 2>&1
hostname tiny

tries=0
until root=$(ls /dev/vda2 /dev/sda2 2>/dev/null | head -n 1) && [ -n "$root" ]; do
  tries=$((tries + 1))
  [ $tries -gt 300 ] && { echo "TINY NO DISK"; poweroff -f; }
  usleep 100000
done
if ! mount -t ext4 "$root" /data; then echo "TINY MOUNT FAILED"; poweroff -f; fi
boots=$(($(cat /data/boots 2>/dev/null || echo 0) + 1))
echo $boots | dd of=/data/boots conv=fsync 2>/dev/null

cat >/bin/power-off <<'END'
#!/bin/sh
kill -9 $(cat /run/writer) 2>/dev/null
echo "TINY POWER OFF" >/dev/console
umount /data || mount -o remount,ro /data
poweroff -f
END
chmod +x /bin/power-off
power_button() {
  for input in /sys/class/input/event*; do
    [ "$(cat "$input/device/name")" = "Power Button" ] && device=/dev/input/\${input##*/}
  done
  dd if="$device" of=/dev/null bs=24 count=1 2>/dev/null && power-off
}

mkdir -p /www
echo "hostname=tiny boots=$boots" >/www/index.html
cat >/bin/configure-interface <<'END'
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ifconfig "$interface" "$ip" netmask "$subnet" up
for gateway in $router; do route add default gw "$gateway" dev "$interface"; done
END
chmod +x /bin/configure-interface
ifconfig lo 127.0.0.1 up
httpd -h /www
if ifconfig eth0 up 2>/dev/null; then
  udhcpc -i eth0 -f -t 20 -T 1 -s /bin/configure-interface >/dev/null 2>&1 &
fi

agent() {
  for port in /sys/class/virtio-ports/*; do
    [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] && device=/dev/\${port##*/}
  done
  [ -n "$device" ] || return
  while :; do
    while read -r line; do
      case $line in
        *guest-sync*) id=\${line##*\\"id\\":}; id=\${id##* }; id=\${id%%[!0-9]*}; echo "{\\"return\\": $id}" ;;
        *guest-ping*) echo '{"return": {}}' ;;
        *guest-info*) echo '{"return": {"version": "tiny", "supported_commands": []}}' ;;
        *guest-get-osinfo*) echo '{"return": {"id": "tiny", "name": "tiny", "pretty-name": "tiny test guest"}}' ;;
        *guest-shutdown*) power-off ;;
        *) echo '{"error": {"class": "CommandNotFound", "desc": "unknown command"}}' ;;
      esac
    done <>"$device" >&0
    sleep 1
  done
}
power_button &
agent </dev/null 2>/dev/null &

writer() {
  number=$(($(stat -c %s /data/records 2>/dev/null || echo 0) / 512))
  while :; do
    number=$((number + 1))
    printf '%-511s\\n' "record $number boot $boots" |
      dd of=/data/records bs=512 seek=$((number - 1)) conv=notrunc,fsync 2>/dev/null ||
      { echo "RECORD FAILED $number"; return; }
    echo $number >/www/acked.new
    mv /www/acked.new /www/acked
    echo "ACK $number"
  done
}
if grep -q vmrestore.records /proc/cmdline; then
  writer &
  echo $! >/run/writer
fi
echo "TINY READY boots=$boots"
while :; do sleep 3600; done
`;
