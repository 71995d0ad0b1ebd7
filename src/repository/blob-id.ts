import { randomInt } from "node:crypto";

/** Bytes of a blob's id, a SHA-256 hash. */
export const ID_BYTES = 32;

const HEX_ID = /^[0-9a-f]{64}$/;

/** Whether this is an id as restic writes it in names and JSON. */
export function isHexId(text: string): boolean {
  return HEX_ID.test(text);
}

/** A prime, 2^31 - 1. */
const PRIME = 0x7fffffff;
const HALF_WORDS = ID_BYTES / 2;

/** Numbers that nobody outside of this process knows, for {@link hashOf}. */
export function randomSeed(): Uint32Array {
  return Uint32Array.from({ length: HALF_WORDS }, () => randomInt(PRIME));
}

/**
 * Where a hash table looks for the id at `at` first: 0 ≤ hash < 2^31. Ids come from index files and need not be hashes of
 * anything: whoever may write backups could make them collide. So this is a universal hash (Carter and Wegman): for ids that
 * were chosen without the seed, it collides no more often than chance has it.
 */
export function hashOf(ids: Uint8Array, at: number, seed: Uint32Array): number {
  let sum = 0; // below 2^51: exact
  for (let index = 0; index < HALF_WORDS; index++) {
    sum += ((ids[at + 2 * index] ?? 0) | ((ids[at + 2 * index + 1] ?? 0) << 8)) * (seed[index] ?? 0);
  }
  // 2^31 is 1 modulo the prime.
  const high = Math.floor(sum / 0x80000000);
  const folded = high + (sum - high * 0x80000000);
  return folded >= PRIME ? folded - PRIME : folded;
}

/** Whether two ids, each in a list of ids, are the same. */
export function sameId(a: Uint8Array, atA: number, b: Uint8Array, atB: number): boolean {
  for (let index = 0; index < ID_BYTES; index++) {
    if (a[atA + index] !== b[atB + index]) return false;
  }
  return true;
}
