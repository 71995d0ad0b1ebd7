/** Buffers below this may lie in a pool together with others. */
const POOLED = 64 * 1024;

/**
 * Gives the memory of bytes that nobody needs any more back at once. The garbage collector sees only the small object before
 * a large buffer and takes its time: decoding hundreds of megabytes a second, that time is a lot of memory.
 */
export function release(bytes: Uint8Array | Uint32Array): void {
  const { buffer } = bytes;
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= POOLED && !buffer.detached) buffer.transfer(0);
}
