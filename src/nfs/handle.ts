import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { VmRestoreError } from "../base/errors.ts";
import type { NfsExport } from "./export.ts";

const VERSION = 1;
const TAG_BYTES = 16;
const MAC_BYTES = 16;
const HANDLE_BYTES = 2 + TAG_BYTES + MAC_BYTES;

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

/** A handle that nobody can make up: it carries a MAC under the export's key. The same after every restart. */
export function makeHandle(target: NfsExport, kind: NodeKind): Buffer {
  const head = Buffer.concat([Buffer.of(VERSION, kind), Buffer.from(exportTag(target.path), "hex")]);
  return Buffer.concat([head, mac(target.handleKey, head)]);
}

/** A handle that another server has made, or that was made here before a restart and for an export that is gone. */
export class ForeignHandleError extends VmRestoreError {
  constructor() {
    super("NFS_FOREIGN_HANDLE", "a file handle of an export that this server has never had");
  }
}

/** What the handle stands for, or undefined where it is not one of ours. @throws ForeignHandleError */
export function openHandle(
  handle: Buffer,
  exports: ReadonlyMap<string, NfsExport>,
  retired: ReadonlySet<string>,
): { target: NfsExport; kind: NodeKind } | undefined {
  if (handle.length !== HANDLE_BYTES || handle[0] !== VERSION) return undefined;
  const kind = handle[1];
  if (kind !== NODE.root && kind !== NODE.file) return undefined;
  const tag = handle.toString("hex", 2, 2 + TAG_BYTES);
  const target = exports.get(tag);
  if (target === undefined) {
    if (retired.has(tag)) return undefined;
    throw new ForeignHandleError();
  }
  const head = handle.subarray(0, 2 + TAG_BYTES);
  return timingSafeEqual(handle.subarray(2 + TAG_BYTES), mac(target.handleKey, head)) ? { target, kind } : undefined;
}

function mac(key: Buffer, head: Buffer): Buffer {
  return createHmac("sha256", key).update(head).digest().subarray(0, MAC_BYTES);
}
