import { createHash, randomUUID } from "node:crypto";
import { ByteReader, ByteWriter } from "../base/bytes.ts";

/**
 * The marker says which relocation a target belongs to. It lies in the last page of the disk's range on the target, whose
 * real content is written last of all, after everything else is durable (docs/relocation.md).
 */

/** Bytes that a marker takes. */
export const MARKER_BYTES = 512;
const MAGIC = Buffer.from("VMRestore target");
const PAGE = 4096;
/** Below it a disk gets no marker: it is copied whole in no time. */
const SMALLEST = 64 * 1024;

export interface Marker {
  /** The relocation's own name for this target. */
  readonly target: string;
  /** Bytes of the disk. */
  readonly size: number;
}

/**
 * Where the page begins whose content is held back until the end; `size` where nothing is. Where the disk ends so soon after the
 * beginning of its last page that a marker would reach beyond it, the page before is held back too.
 */
export function heldBackFrom(size: number): number {
  return size < SMALLEST ? size : Math.floor((size - MARKER_BYTES) / PAGE) * PAGE;
}

export function newTargetId(): string {
  return randomUUID();
}

export function encodeMarker({ target, size }: Marker): Buffer {
  const name = Buffer.from(target);
  const head = new ByteWriter(MARKER_BYTES).bytes(MAGIC).u64be(BigInt(size)).u16be(name.length).bytes(name).finish();
  const digest = createHash("sha256").update(head).digest();
  return new ByteWriter(MARKER_BYTES)
    .bytes(head)
    .bytes(digest)
    .zeros(MARKER_BYTES - head.length - digest.length)
    .finish();
}

/** Undefined where the bytes are anything but a whole marker. */
export function parseMarker(bytes: Buffer): Marker | undefined {
  if (bytes.length < MARKER_BYTES) return undefined;
  const reader = new ByteReader(bytes);
  if (!reader.bytes(MAGIC.length).equals(MAGIC)) return undefined;
  const size = Number(reader.u64be());
  const length = reader.u16be();
  if (length > 64) return undefined;
  const target = reader.bytes(length).toString();
  const head = bytes.subarray(0, reader.offset);
  const isWhole = reader.bytes(32).equals(createHash("sha256").update(head).digest());
  return isWhole ? { target, size } : undefined;
}
