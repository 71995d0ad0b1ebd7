import { createHash } from "node:crypto";
import type { Backend } from "../backends/backend.ts";
import type { CryptoKey } from "../crypto.ts";
import { saveUnpackedJson } from "../unpacked.ts";

/** restic begins a new index file at about this many blobs. */
const BLOBS_PER_FILE = 50_000;
const BLOBS_PER_PACK = 500;

/** The id of the n-th blob of a made-up index. */
export function bigIndexId(number: number): Buffer {
  return createHash("sha256").update(`blob ${number}`).digest();
}

/** Adds index files that list `count` made-up data blobs of a million bytes each; their packs do not exist. */
export async function writeBigIndex(backend: Backend, key: CryptoKey, version: number, count: number): Promise<void> {
  for (let first = 0; first < count; first += BLOBS_PER_FILE) {
    const packs: unknown[] = [];
    for (let at = first; at < Math.min(first + BLOBS_PER_FILE, count); at += BLOBS_PER_PACK) {
      const blobs = Array.from({ length: BLOBS_PER_PACK }, (_, index) => ({
        id: bigIndexId(at + index).toString("hex"),
        type: "data",
        offset: index * 1_000_032,
        length: 1_000_032,
      }));
      packs.push({ id: createHash("sha256").update(`pack ${at}`).digest("hex"), blobs });
    }
    await saveUnpackedJson(backend, key, version, "index", { packs });
  }
}
