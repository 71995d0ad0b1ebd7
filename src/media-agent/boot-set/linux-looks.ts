import type { Look } from "./file-tree.ts";

const MIB = 1024 * 1024;

const LIBRARIES =
  /^(ld-|lib(c|m|dl|pthread|rt|gcc_s|resolv|systemd|udev|mount|blkid|uuid|selinux|pam|cap|audit|seccomp|crypto|crypt|gcrypt|gpg-error|ssl|lz4|zstd|lzma|z|kmod|acl|attr|pcre|nss|tinfo|tirpc|ip4tc|apparmor|fdisk|dbus|expat)[-._0-9])/;

/** In the order in which a boot needs them: kernel and its first file system, init, then what init reads. */
export const LINUX_LOOKS: readonly Look[] = [
  { path: "/", files: /^(vmlinuz|initrd|ldlinux|extlinux|grub)/ },
  { path: "/boot", files: /^(vmlinu|initr|bzImage|kernel|ldlinux|.*\.(cfg|conf|img|c32|sys)$)/ },
  ...["grub", "grub2", "extlinux", "syslinux", "loader", "EFI"].map((name) => ({
    path: `/boot/${name}`,
    files: /./,
    depth: 2,
    fileBytes: 8 * MIB,
  })),
  ...["/usr/lib/systemd", "/lib/systemd"].map((path) => ({ path, files: /^(systemd|libsystemd)/ })),
  ...["/usr/sbin", "/sbin"].map((path) => ({ path, files: /^(init|agetty|udevd|modprobe|mount|fsck|sulogin)/ })),
  ...["/usr/bin", "/bin"].map((path) => ({ path, files: /^(sh|dash|bash|mount|udevadm|systemctl|kmod|login|dbus-)/ })),
  ...["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/lib"].map((path) => ({
    path,
    files: LIBRARIES,
    fileBytes: 8 * MIB,
  })),
  { path: "/usr/lib/x86_64-linux-gnu/systemd", files: /./ },
  { path: "/etc", files: /./, depth: 2, fileBytes: 256 * 1024 },
  ...["/usr/lib/systemd/system", "/lib/systemd/system"].map((path) => ({
    path,
    files: /./,
    depth: 1,
    fileBytes: 64 * 1024,
  })),
  ...[
    "/usr/lib/udev",
    "/usr/lib/tmpfiles.d",
    "/usr/lib/modules-load.d",
    "/usr/lib/sysctl.d",
    "/usr/lib/sysusers.d",
  ].map((path) => ({ path, files: /./, depth: 1, fileBytes: MIB })),
  ...["/usr/lib/modules", "/lib/modules"].map((path) => ({ path, files: /^modules\./, depth: 1, fileBytes: 8 * MIB })),
  { path: "/var/lib/dbus", files: /./ },
];
