/** Bytes of a blob's id, a SHA-256 hash. */
export const ID_BYTES = 32;

const HEX_ID = /^[0-9a-f]{64}$/;

/** Whether this is an id as restic writes it in names and JSON. */
export function isHexId(text: string): boolean {
  return HEX_ID.test(text);
}

/** Where a hash table looks for the id at `at` first: a signed 32-bit integer, evenly spread as the id itself is a hash. */
export function hashOf(ids: Uint8Array, at: number): number {
  return (ids[at] ?? 0) | ((ids[at + 1] ?? 0) << 8) | ((ids[at + 2] ?? 0) << 16) | ((ids[at + 3] ?? 0) << 24);
}

/** Whether two ids, each in a list of ids, are the same. */
export function sameId(a: Uint8Array, atA: number, b: Uint8Array, atB: number): boolean {
  for (let index = 0; index < ID_BYTES; index++) {
    if (a[atA + index] !== b[atB + index]) return false;
  }
  return true;
}
