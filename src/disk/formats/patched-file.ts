import type { AllocatedExtent } from "../block-device.ts";
import type { ImageFile, ReadRequest } from "./image-file.ts";

/** A file with some of its pages replaced; it may be longer than what it lies over. */
export class PatchedFile implements ImageFile {
  readonly path: string;
  readonly size: number;
  readonly #file: ImageFile;
  readonly #pageBytes: number;
  /** By their number. */
  readonly #pages: ReadonlyMap<number, Buffer>;

  /** @param size at least as large as every page that is wholly or partly read */
  constructor(file: ImageFile, size: number, pageBytes: number, pages: ReadonlyMap<number, Buffer>) {
    this.path = file.path;
    this.size = size;
    this.#file = file;
    this.#pageBytes = pageBytes;
    this.#pages = pages;
  }

  async read(offset: number, length: number, request: ReadRequest): Promise<Buffer> {
    const there = Math.max(0, Math.min(length, this.#file.size - offset));
    const content = Buffer.alloc(length);
    if (there > 0) (await this.#file.read(offset, there, request)).copy(content);
    for (const [page, start, end] of this.#patches(offset, length)) {
      const from = Math.max(offset, start);
      page.copy(content, from - offset, from - start, Math.min(offset + length, end) - start);
    }
    return content;
  }

  extents(offset: number, length: number): AllocatedExtent[] {
    const isAsBefore = offset + length <= this.#file.size && this.#patches(offset, length).next().done === true;
    return isAsBefore ? this.#file.extents(offset, length) : [{ offset, length, zero: false }];
  }

  *#patches(offset: number, length: number): Generator<readonly [Buffer, number, number]> {
    const bytes = this.#pageBytes;
    for (let page = Math.floor(offset / bytes); page * bytes < offset + length; page++) {
      const found = this.#pages.get(page);
      if (found !== undefined) yield [found, page * bytes, (page + 1) * bytes];
    }
  }
}
