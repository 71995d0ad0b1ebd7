import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { VmRestoreError } from "../base/errors.ts";
import type { NfsExport } from "./export.ts";

const VERSION = 2;
/** As handles were made before mounts were numbered: the same without the mount. */
const UNNUMBERED_VERSION = 1;
const KIND_AT = 1;
const SERVER_AT = 2;
const SERVER_BYTES = 8;
const TAG_AT = SERVER_AT + SERVER_BYTES;
const TAG_BYTES = 16;
const MOUNT_AT = TAG_AT + TAG_BYTES;
const MOUNT_BYTES = 4;
const MAC_BYTES = 16;
const HANDLE_BYTES = MOUNT_AT + MOUNT_BYTES + MAC_BYTES;
const UNNUMBERED_BYTES = MOUNT_AT + MAC_BYTES;

/** The mount of handles that bear no number. */
const UNNUMBERED = 0;

/** What a handle stands for: the export's directory or the file in it. Their numbers are the file ids as well. */
export const NODE = { root: 1, file: 2 } as const;
export type NodeKind = (typeof NODE)[keyof typeof NODE];

/** Says which export a handle means, without giving its path away. */
export function exportTag(path: string): string {
  return createHash("sha256")
    .update(path)
    .digest("hex")
    .slice(0, TAG_BYTES * 2);
}

/** Says which server a handle is of: the same after every restart. */
export function serverTag(identity: string): Buffer {
  return createHash("sha256").update(`server ${identity}`).digest().subarray(0, SERVER_BYTES);
}

/**
 * A handle that nobody can make up: it carries a MAC under the export's key. The same after every restart.
 *
 * @param mount 32 bits
 */
export function makeHandle(server: Buffer, target: NfsExport, kind: NodeKind, mount: number): Buffer {
  const tag = Buffer.from(exportTag(target.path), "hex");
  const number = Buffer.alloc(mount === UNNUMBERED ? 0 : MOUNT_BYTES);
  if (mount !== UNNUMBERED) number.writeUInt32BE(mount);
  // Who has mounted before there were numbers finds the handles that it knows.
  const version = mount === UNNUMBERED ? UNNUMBERED_VERSION : VERSION;
  const head = Buffer.concat([Buffer.of(version, kind), server, tag, number]);
  return Buffer.concat([head, mac(target.handleKey, head)]);
}

/** A handle that another server has made. */
export class ForeignHandleError extends VmRestoreError {
  constructor() {
    super("NFS_FOREIGN_HANDLE", "a file handle of another server");
  }
}

/**
 * What the handle stands for, or undefined where it is not one of ours, or its export is not (or no longer) here.
 *
 * @throws ForeignHandleError
 */
export function openHandle(
  handle: Buffer,
  server: Buffer,
  exports: ReadonlyMap<string, NfsExport>,
): { target: NfsExport; kind: NodeKind; mount: number } | undefined {
  const isNumbered = handle[0] === VERSION && handle.length === HANDLE_BYTES;
  if (!isNumbered && (handle[0] !== UNNUMBERED_VERSION || handle.length !== UNNUMBERED_BYTES)) return undefined;
  const kind = handle[KIND_AT];
  if (kind !== NODE.root && kind !== NODE.file) return undefined;
  if (!handle.subarray(SERVER_AT, TAG_AT).equals(server)) throw new ForeignHandleError();
  const target = exports.get(handle.toString("hex", TAG_AT, MOUNT_AT));
  if (target === undefined) return undefined;
  const macAt = handle.length - MAC_BYTES;
  if (!timingSafeEqual(handle.subarray(macAt), mac(target.handleKey, handle.subarray(0, macAt)))) return undefined;
  return { target, kind, mount: isNumbered ? handle.readUInt32BE(MOUNT_AT) : UNNUMBERED };
}

function mac(key: Buffer, head: Buffer): Buffer {
  return createHmac("sha256", key).update(head).digest().subarray(0, MAC_BYTES);
}
