import type { IdTable } from "./id-table.ts";
import { Pause } from "./pause.ts";

/** How many different lengths of zeros are hashed for one file. */
const LENGTHS = 16;
/** restic's chunker never finds a boundary in zeros, so it cuts them at its maximum. */
const CHUNKER_MAXIMUM = 8 * 1024 * 1024;

/**
 * Marks the blobs of a file that hold nothing but zeros, from their ids alone: an id is the hash of the content, so it is enough
 * to hash zeros of the lengths that can be meant. Those are the chunker's maximum, the last blob's (a rest), and for chunkers
 * with other lengths the first blob's and those of two equal blobs side by side.
 *
 * @param numbers of the file's blobs in the table `ids`
 * @param offsets where each begins, and the file's size
 * @param zeroId gives the id of a blob of `length` zeros
 * @returns 1 for each blob of zeros
 */
export async function findZeroBlobs(
  ids: Pick<IdTable, "find">,
  numbers: Uint32Array,
  offsets: Float64Array,
  zeroId: (length: number) => Promise<string>,
): Promise<Uint8Array> {
  const count = numbers.length;
  const length = (index: number): number => (offsets[index + 1] ?? 0) - (offsets[index] ?? 0);
  const zero = new Uint8Array(count);
  const pause = new Pause();

  const candidates = new Set<number>();
  for (let index = 0; index < count && candidates.size < LENGTHS; index++) {
    const edge = index === 0 || index === count - 1 || length(index) === CHUNKER_MAXIMUM;
    if (edge || numbers[index] === numbers[index - 1]) candidates.add(length(index));
    if (pause.due()) await pause.take();
  }
  if (count > 0) candidates.add(length(count - 1));
  const zeroNumbers = new Map<number, number>();
  for (const bytes of candidates) {
    if (bytes > 0) zeroNumbers.set(bytes, ids.find(Buffer.from(await zeroId(bytes), "hex")));
  }
  for (let index = 0; index < count; index++) {
    if (zeroNumbers.get(length(index)) === numbers[index]) zero[index] = 1;
    if (pause.due()) await pause.take();
  }
  return zero;
}
