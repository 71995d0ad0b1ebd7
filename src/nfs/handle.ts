import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { VmRestoreError } from "../base/errors.ts";
import type { NfsExport } from "./export.ts";

const VERSION = 1;
const KIND_AT = 1;
const SERVER_AT = 2;
const SERVER_BYTES = 8;
const TAG_AT = SERVER_AT + SERVER_BYTES;
const TAG_BYTES = 16;
const MAC_AT = TAG_AT + TAG_BYTES;
const MAC_BYTES = 16;
const HANDLE_BYTES = MAC_AT + MAC_BYTES;

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

/** A handle that nobody can make up: it carries a MAC under the export's key. The same after every restart. */
export function makeHandle(server: Buffer, target: NfsExport, kind: NodeKind): Buffer {
  const head = Buffer.concat([Buffer.of(VERSION, kind), server, Buffer.from(exportTag(target.path), "hex")]);
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
): { target: NfsExport; kind: NodeKind } | undefined {
  if (handle.length !== HANDLE_BYTES || handle[0] !== VERSION) return undefined;
  const kind = handle[KIND_AT];
  if (kind !== NODE.root && kind !== NODE.file) return undefined;
  if (!handle.subarray(SERVER_AT, TAG_AT).equals(server)) throw new ForeignHandleError();
  const target = exports.get(handle.toString("hex", TAG_AT, MAC_AT));
  if (target === undefined) return undefined;
  const head = handle.subarray(0, MAC_AT);
  return timingSafeEqual(handle.subarray(MAC_AT), mac(target.handleKey, head)) ? { target, kind } : undefined;
}

function mac(key: Buffer, head: Buffer): Buffer {
  return createHmac("sha256", key).update(head).digest().subarray(0, MAC_BYTES);
}
