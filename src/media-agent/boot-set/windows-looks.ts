import type { Look } from "./file-tree.ts";

const MIB = 1024 * 1024;

const SYSTEM =
  /^(ntoskrnl|winload|winresume|hal|ci|kd|kdcom|kd_.*|bootvid|pshed|clfs|ntdll|smss|autochk|csrss|csrsrv|basesrv|winsrv.*|sxssrv|wininit|winlogon|services|lsass|lsasrv|samsrv|svchost|kernel32|kernelbase|user32|gdi32.*|win32.*|ucrtbase|msvcrt|msvcp_win|rpcrt4|sechost|advapi32|sspicli|bcrypt.*|cryptbase|crypt32|combase|shcore|shlwapi|ws2_32|mswsock|nsi|apisetschema|cmd|conhost|fontdrvhost|dwm|logonui|umpnpmgr|rpcepmap|rpcss|dhcpcore|profsvc|gpsvc|eventlog|wevtsvc)\.(exe|dll|sys|efi)$|\.nls$/;

/** In the order in which a boot needs them: boot manager, loader and kernel, registry, boot drivers, then the first processes. */
export const WINDOWS_LOOKS: readonly Look[] = [
  { path: "/", files: /^(bootmgr|bootnxt|ntldr|ntdetect\.com|boot\.ini)$/ },
  ...["/boot", "/efi"].map((path) => ({ path, files: /./, depth: 3, fileBytes: 4 * MIB })),
  { path: "/windows/boot", files: /./, depth: 2, fileBytes: 4 * MIB },
  { path: "/windows/system32/config", files: /^(system|software|sam|security|default|elam|drivers)(\.log[12]?)?$/ },
  { path: "/windows/system32", files: SYSTEM, fileBytes: 16 * MIB },
  { path: "/windows/system32/drivers", files: /\.sys$/, fileBytes: 4 * MIB },
  { path: "/windows/apppatch", files: /^drvmain\.sdb$/ },
];
