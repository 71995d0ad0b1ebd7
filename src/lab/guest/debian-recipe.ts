/** What goes into the Debian guest, as data: everything here is part of the recipe's hash. */

export const PACKAGES = [
  ...["systemd", "systemd-sysv", "udev", "dbus", "kmod", "zstd", "iproute2"],
  ...["linux-image-cloud-amd64", "initramfs-tools", "nginx-light", "qemu-guest-agent"],
];

/** Files that would only make the disk larger. */
export const PATH_EXCLUDES = ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*"];

export const ROOT_UUID = "7d0d5f0e-2c4b-4f35-9d0e-9a0b6a1c5e21";

export const KERNEL_ARGUMENTS = `root=UUID=${ROOT_UUID} rw console=ttyS0 quiet mitigations=off random.trust_cpu=on`;

const COUNT_BOOT = `#!/bin/sh
set -e
boots=$(($(cat /var/lib/boot-counter 2>/dev/null || echo 0) + 1))
echo $boots >/var/lib/boot-counter.new
mv /var/lib/boot-counter.new /var/lib/boot-counter
printf '<!doctype html>\\n<title>%s</title>\\n<p>hostname=%s boots=%s\\n' "$(hostname)" "$(hostname)" "$boots" \\
  >/var/www/html/index.html
echo "GUEST READY boots=$boots" >/dev/ttyS0
`;

/**
 * With `vmrestore.records` on the kernel's command line: numbered records of 512 bytes in /var/lib/records, each fsynced before its
 * number is acknowledged, on the serial console (`ACK <number>`) and as the page /acked.
 */
const WRITE_RECORDS = `#!/bin/sh
boots=$(cat /var/lib/boot-counter)
number=$(($(stat -c %s /var/lib/records 2>/dev/null || echo 0) / 512))
while :; do
  number=$((number + 1))
  printf '%-511s\\n' "record $number boot $boots" |
    dd of=/var/lib/records bs=512 seek=$((number - 1)) conv=notrunc,fsync status=none ||
    { echo "RECORD FAILED $number" >/dev/ttyS0; exit 1; }
  echo $number >/run/acked.new
  mv /run/acked.new /run/acked
  echo "ACK $number" >/dev/ttyS0
done
`;

interface GuestFile {
  readonly path: string;
  readonly text: string;
  readonly executable?: boolean;
}

/** Files that are in place before the packages are installed. */
export const EARLY_FILES: readonly GuestFile[] = [
  { path: "/etc/initramfs-tools/conf.d/virtual-machine", text: "MODULES=list\n" },
  {
    path: "/usr/share/initramfs-tools/modules.d/virtual-machine",
    text: "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\n",
  },
];

/** Files that are put over the installed system. */
export const LATE_FILES: readonly GuestFile[] = [
  { path: "/etc/hostname", text: "orders-db\n" },
  { path: "/etc/hosts", text: "127.0.0.1 localhost orders-db\n" },
  { path: "/etc/fstab", text: `UUID=${ROOT_UUID} / ext4 errors=remount-ro 0 0\n` },
  { path: "/etc/systemd/network/10-all.network", text: "[Match]\nType=ether\n[Network]\nDHCP=ipv4\n" },
  { path: "/usr/local/sbin/count-boot", text: COUNT_BOOT, executable: true },
  { path: "/usr/local/sbin/write-records", text: WRITE_RECORDS, executable: true },
  {
    path: "/etc/systemd/system/count-boot.service",
    text: `[Unit]
Description=Count the boot and write the page that shows it
Before=nginx.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/count-boot
[Install]
WantedBy=multi-user.target
`,
  },
  {
    path: "/etc/systemd/system/write-records.service",
    text: `[Unit]
Description=Write numbered, fsynced records
ConditionKernelCommandLine=vmrestore.records
After=count-boot.service
[Service]
ExecStart=/usr/local/sbin/write-records
[Install]
WantedBy=multi-user.target
`,
  },
];

export const ENABLED_UNITS = ["systemd-networkd.service", "count-boot.service", "write-records.service"];

/** Timers and waits that a machine in a lab has no use for: they would only make its boot longer and noisier. */
export const MASKED_UNITS = [
  ...["apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"],
  ...[
    "e2scrub_reap.service",
    "systemd-networkd-wait-online.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
  ],
  ...["systemd-pstore.service", "modprobe@drm.service"],
];
