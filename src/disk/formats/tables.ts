import { corrupt, type ImageFile, type ReadRequest } from "./image-file.ts";
import { LoadCache } from "./load-cache.ts";

/** Tables are read in pieces of so many bytes, aligned in the file. */
const PAGE = 64 * 1024;
/** Enough for the tables of 32 GiB of a qcow2 disk with usual clusters. */
const CACHE_BYTES = 4 * 1024 * 1024;

/** The tables of a disk and its parents, read as they are needed. */
export class Tables {
  readonly #cache = new LoadCache(CACHE_BYTES);

  /** Tables of which nothing was read yet. */
  fresh(): Tables {
    return new Tables();
  }

  /**
   * `length` bytes from `offset`: shared, so read them only. Nothing is allocated for what the file does not hold.
   *
   * @param what for the error message
   * @throws DiskError IMAGE_CORRUPT where the file ends before
   */
  async bytes(file: ImageFile, offset: number, length: number, what: string, request: ReadRequest): Promise<Buffer> {
    if (!(offset >= 0 && length >= 0 && offset + length <= file.size)) {
      throw corrupt(file, `${what} is said to lie at ${offset}, ${length} bytes long; the file has ${file.size}`);
    }
    const first = Math.floor(offset / PAGE);
    const last = Math.floor((offset + Math.max(1, length) - 1) / PAGE);
    const from = offset - first * PAGE;
    if (first === last) return (await this.#page(file, first, request)).subarray(from, from + length);
    const pages: Buffer[] = [];
    for (let page = first; page <= last; page++) pages.push(await this.#page(file, page, request));
    return Buffer.concat(pages).subarray(from, from + length);
  }

  #page(file: ImageFile, page: number, request: ReadRequest): Promise<Buffer> {
    const offset = page * PAGE;
    return this.#cache.get(`${page} ${file.path}`, request, (own) =>
      file.read(offset, Math.min(PAGE, file.size - offset), own),
    );
  }
}

/** A 64-bit number of which only so much is looked at as a number can hold: beyond 2^53 it is beyond every file's end. */
export function u64le(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}

/** As {@link u64le}. */
export function u64be(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 2 ** 32 + bytes.readUInt32BE(at + 4);
}
