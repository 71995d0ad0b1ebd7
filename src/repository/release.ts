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

/** No data blob is that large: index files and the trees of large disks are. */
const SELDOM = 8 * 1024 * 1024 + 1;
/** Above it, glibc's malloc takes each piece from the kernel and gives it back, whatever was allocated before (mallopt(3), M_MMAP_THRESHOLD). */
const ALWAYS_MAPPED = 33 * 1024 * 1024;

/**
 * How many bytes to allocate where `length` may be needed, so that none of them stay with malloc once they are released: it keeps twice
 * as much as the largest piece that it ever got back, for each heap. What is not used was never touched, and takes no memory.
 */
export function roomFor(length: number): number {
  return length > SELDOM ? Math.max(length, ALWAYS_MAPPED) : length;
}
