/** A text as it arrives: in pieces of so many bytes, the memory of each of which is used for the next one. */
export function* inPieces(text: Uint8Array, length: number): Generator<Uint8Array> {
  const memory = new Uint8Array(length);
  for (let at = 0; at < text.length; at += length) {
    const piece = text.subarray(at, at + length);
    memory.fill(0x78);
    memory.set(piece);
    yield memory.subarray(0, piece.length);
  }
}
