/** What the cache and the overlays of many disks keep busy at once. */
const OWN_THREADS = 24;
/** What reads beside the slots: the index, the pin, a manifest. */
const BESIDE_SLOTS = 8;

/**
 * Node reads and writes files on a fixed number of threads, four if nothing is said. A repository on a file system that hangs holds
 * one for each of its requests, for good: the claims have others, so that the guest's writes go on. Works only before any file has
 * been read asynchronously.
 */
export function reserveIoThreads(repositorySlots: number): void {
  process.env.UV_THREADPOOL_SIZE ??= String(repositorySlots + BESIDE_SLOTS + OWN_THREADS);
}
