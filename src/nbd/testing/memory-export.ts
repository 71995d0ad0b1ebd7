import type { NbdExport, NbdExtent } from "../export.ts";
import { BASE_ALLOCATION } from "../protocol.ts";

const PAGE = 4096;
const ZERO = Buffer.alloc(PAGE);

/** A disk in memory that knows its zeros and, as `qemu:dirty-bitmap:test`, which pages were changed. */
export class MemoryExport implements NbdExport {
  readonly name: string;
  readonly description = "a disk in memory";
  readonly content: Buffer;
  readonly readOnly: boolean;
  readonly dirty = new Set<number>();
  flushes = 0;
  durableWrites = 0;

  constructor(name: string, content: Buffer, readOnly = false) {
    this.name = name;
    this.content = content;
    this.readOnly = readOnly;
  }

  get size(): number {
    return this.content.length;
  }

  async read(offset: number, length: number, into = Buffer.allocUnsafe(length)): Promise<Buffer> {
    this.content.copy(into, 0, offset, offset + length);
    return into.subarray(0, length);
  }

  async write(offset: number, data: Buffer, { fua }: { fua: boolean }): Promise<void> {
    data.copy(this.content, offset);
    if (fua) this.durableWrites++;
    this.#mark(offset, data.length);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.content.fill(0, offset, offset + length);
    this.#mark(offset, length);
  }

  async trim(offset: number, length: number): Promise<void> {
    await this.writeZeroes(offset, length);
  }

  async flush(): Promise<void> {
    this.flushes++;
  }

  metaContexts(): string[] {
    return ["qemu:dirty-bitmap:test"];
  }

  blockStatus(context: string, offset: number, length: number): NbdExtent[] {
    const extents: { length: number; flags: number }[] = [];
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / PAGE);
      const end = Math.min((page + 1) * PAGE, offset + length);
      const zero = this.content.subarray(page * PAGE, (page + 1) * PAGE).equals(ZERO) ? 3 : 0;
      const flags = context === BASE_ALLOCATION ? zero : Number(this.dirty.has(page));
      const last = extents.at(-1);
      if (last?.flags === flags) last.length += end - at;
      else extents.push({ length: end - at, flags });
      at = end;
    }
    return extents;
  }

  #mark(offset: number, length: number): void {
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) this.dirty.add(page);
  }
}
