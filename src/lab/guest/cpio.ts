import { GuestImageError } from "./disk-layout.ts";

/** One member of an initramfs. Paths are relative, without a leading slash. */
export type CpioMember =
  | { readonly path: string; readonly type: "directory" }
  | { readonly path: string; readonly type: "file"; readonly data: Uint8Array; readonly executable: boolean }
  | { readonly path: string; readonly type: "link"; readonly target: string };

const MODE = { directory: 0o040755, file: 0o100644, executable: 0o100755, link: 0o120777 } as const;

/**
 * A cpio archive in the "newc" form that the kernel unpacks as initramfs (Documentation/driver-api/early-userspace/
 * buffer-format.rst). Everything belongs to root and bears time 0, so the same members always give the same bytes.
 */
export function cpioArchive(members: readonly CpioMember[]): Buffer {
  const pieces: Buffer[] = [];
  let inode = 1;
  for (const member of members) {
    if (member.path.startsWith("/") || member.path.includes("\0")) {
      throw new GuestImageError(`not a relative path: ${member.path}`);
    }
    pieces.push(...entry(inode, member.path, modeOf(member), contentOf(member)));
    inode += 1;
  }
  pieces.push(...entry(0, "TRAILER!!!", 0, Buffer.alloc(0)));
  return Buffer.concat(pieces);
}

function modeOf(member: CpioMember): number {
  return member.type === "file" && member.executable ? MODE.executable : MODE[member.type];
}

function contentOf(member: CpioMember): Buffer {
  if (member.type === "file") return Buffer.from(member.data);
  return member.type === "link" ? Buffer.from(member.target) : Buffer.alloc(0);
}

function entry(inode: number, path: string, mode: number, content: Buffer): Buffer[] {
  const name = Buffer.from(`${path}\0`);
  const fields = [inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
  const header = Buffer.from(`070701${fields.map((value) => value.toString(16).padStart(8, "0")).join("")}`);
  return [pad(Buffer.concat([header, name])), pad(content)];
}

/** Headers and contents are both padded to 4 bytes. */
function pad(piece: Buffer): Buffer {
  const rest = piece.length % 4;
  return rest === 0 ? piece : Buffer.concat([piece, Buffer.alloc(4 - rest)]);
}
