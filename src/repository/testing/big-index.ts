import { createHash } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import type { Backend } from "../backends/backend.ts";
import { type CryptoKey, encrypt } from "../crypto.ts";
import { saveUnpackedJson } from "../unpacked.ts";

/** restic begins a new index file at about this many blobs. */
const BLOBS_PER_FILE = 50_000;
/** Of restic's packs of 16 MiB, with blobs of 1 MiB that shrink a little. */
const BLOBS_PER_PACK = 20;
const BLOB_BYTES = 1_000_000;
const SEALED_BYTES = 800_032;
/** A disk's blobs lie one behind the other where one backup wrote them, and elsewhere where the next one did. */
const RUN = 200;

/** The id of the n-th blob of a made-up index. */
export function bigIndexId(number: number): Buffer {
  return createHash("sha256").update(`blob ${number}`).digest();
}

/** Adds index files that list `count` made-up data blobs of a million bytes each; their packs do not exist. */
export async function writeBigIndex(backend: Backend, key: CryptoKey, version: number, count: number): Promise<void> {
  for (let first = 0; first < count; first += BLOBS_PER_FILE) {
    const packs: unknown[] = [];
    const end = Math.min(first + BLOBS_PER_FILE, count);
    for (let at = first; at < end; at += BLOBS_PER_PACK) {
      const blobs = Array.from({ length: Math.min(BLOBS_PER_PACK, end - at) }, (_, index) => ({
        id: bigIndexId(at + index).toString("hex"),
        type: "data",
        offset: index * SEALED_BYTES,
        length: SEALED_BYTES,
        uncompressed_length: BLOB_BYTES,
      }));
      packs.push({ id: createHash("sha256").update(`pack ${at}`).digest("hex"), blobs });
    }
    await saveUnpackedJson(backend, key, version, "index", { packs });
  }
}

/**
 * Adds a snapshot with one file, `/disk`, that is made of `needed` of the `count` blobs of {@link writeBigIndex}.
 *
 * @returns the snapshot's id
 */
export async function writeBigSnapshot(
  backend: Backend,
  key: CryptoKey,
  count: number,
  needed: number,
): Promise<string> {
  const stride = Math.max(RUN, Math.floor(count / Math.ceil(needed / RUN)));
  const content = Array.from({ length: needed }, (_, index) =>
    bigIndexId(Math.floor(index / RUN) * stride + (index % RUN)).toString("hex"),
  );
  const tree = Buffer.from(
    `${JSON.stringify({ nodes: [{ name: "disk", type: "file", size: needed * BLOB_BYTES, content }] })}\n`,
  );
  const id = createHash("sha256").update(tree).digest("hex");
  const sealed = encrypt(key, zstdCompressSync(tree));
  const pack = createHash("sha256").update(sealed).digest("hex");
  await backend.save({ type: "data", name: pack }, sealed);
  const blob = { id, type: "tree", offset: 0, length: sealed.length, uncompressed_length: tree.length };
  await saveUnpackedJson(backend, key, 2, "index", { packs: [{ id: pack, blobs: [blob] }] });
  const snapshot = { time: "2026-01-02T03:04:05Z", tree: id, paths: ["/disk"], hostname: "big" };
  return saveUnpackedJson(backend, key, 2, "snapshots", snapshot);
}
