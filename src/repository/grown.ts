import { Pause } from "./pause.ts";
import { release, roomFor } from "./release.ts";

/** Bytes copied between two looks at the clock, about 50 µs. */
const PIECE = 256 * 1024;

/** Copies all of `from` to the beginning of `to`, in pieces between which everything else goes on. */
export async function copied(from: Uint8Array, to: Uint8Array): Promise<void> {
  const pause = new Pause(1);
  for (let at = 0; at < from.length; at += PIECE) {
    to.set(from.subarray(at, at + PIECE), at);
    if (pause.due()) await pause.take();
  }
}

/**
 * An array with room for `wanted` words at least that begins like this one, which is given up where it was too small.
 *
 * @param likely words that will be wanted in the end, as far as is known
 */
export async function grown(
  words: Uint32Array<ArrayBuffer>,
  wanted: number,
  likely = 0,
): Promise<Uint32Array<ArrayBuffer>> {
  if (wanted <= words.length) return words;
  const larger = words32(Math.max(wanted, likely, Math.ceil(words.length * 1.5)));
  await copied(bytesOf(words), bytesOf(larger));
  release(words);
  return larger;
}

/** An array of that many zeros; see {@link roomFor}. */
export function words32(length: number): Uint32Array<ArrayBuffer> {
  return new Uint32Array(new ArrayBuffer(roomFor(4 * length)), 0, length);
}

/** In the machine's order. */
export function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}
