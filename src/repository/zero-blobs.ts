import { ID_BYTES } from "./blob-table.ts";

/** How many different lengths of zeros are hashed for one file: the most frequent ones. */
const LENGTHS = 16;
/** restic's chunker never finds a boundary in zeros, so it cuts them at its maximum. */
const CHUNKER_MAXIMUM = 8 * 1024 * 1024;

/**
 * Marks the blobs of a file that hold nothing but zeros, from their ids alone: an id is the hash of the content, so it is enough
 * to hash zeros of the lengths that can be meant (those that occur more than once with the same id, the chunker's maximum,
 * and the last blob's).
 *
 * @param ids of the file's blobs, one behind the other
 * @param offsets where each begins, and the file's size
 * @param zeroId gives the id of a blob of `length` zeros
 * @returns 1 for each blob of zeros
 */
export async function findZeroBlobs(
  ids: Buffer,
  offsets: Float64Array,
  zeroId: (length: number) => Promise<string>,
): Promise<Uint8Array> {
  const count = ids.length / ID_BYTES;
  const length = (index: number): number => (offsets[index + 1] ?? 0) - (offsets[index] ?? 0);
  const zero = new Uint8Array(count);

  const seen = new Set<string>();
  const repeats = new Map<number, number>();
  for (let index = 0; index < count; index++) {
    const id = ids.toString("latin1", index * ID_BYTES, (index + 1) * ID_BYTES);
    if (seen.has(id) || length(index) === CHUNKER_MAXIMUM || index === count - 1) {
      repeats.set(length(index), (repeats.get(length(index)) ?? 0) + 1);
    }
    seen.add(id);
  }
  const lengths = [...repeats].sort((a, b) => b[1] - a[1]).slice(0, LENGTHS);
  const zeroIds = new Map<number, Buffer>();
  for (const [bytes] of lengths) {
    if (bytes > 0) zeroIds.set(bytes, Buffer.from(await zeroId(bytes), "hex"));
  }
  for (let index = 0; index < count; index++) {
    const expected = zeroIds.get(length(index));
    if (expected !== undefined && ids.compare(expected, 0, ID_BYTES, index * ID_BYTES, (index + 1) * ID_BYTES) === 0)
      zero[index] = 1;
  }
  return zero;
}
