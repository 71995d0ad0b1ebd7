const SECTOR = 512;

/** A file's content as readers see it and as a power loss would leave it, sector by sector. */
export class SimulatedFile {
  #durable: Buffer = Buffer.alloc(0);
  #volatile: Buffer = Buffer.alloc(0);
  /** Sectors that the next sync writes. */
  readonly #dirty = new Set<number>();
  /** Sectors that take space. */
  readonly #allocated = new Set<number>();
  #isResized = false;

  get size(): number {
    return this.#volatile.length;
  }

  /** Bytes of space that it takes. */
  get allocated(): number {
    return this.#allocated.size * SECTOR;
  }

  /** Changes a byte behind everybody's back, on the disk too. */
  flip(offset: number): void {
    for (const content of [this.#durable, this.#volatile]) {
      if (offset < content.length) content[offset] = (content[offset] ?? 0) ^ 0x10;
    }
  }

  read(into: Uint8Array, offset: number): void {
    into.fill(0);
    this.#volatile.copy(into, 0, offset, offset + into.length);
  }

  /** How many of the bytes find space, `room` bytes being left. */
  fitting(offset: number, length: number, room: number | undefined): number {
    if (room === undefined) return length;
    let left = room;
    for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < offset + length; sector++) {
      if (this.#allocated.has(sector)) continue;
      if (left < SECTOR) return Math.max(0, sector * SECTOR - offset);
      left -= SECTOR;
    }
    return length;
  }

  /** @param pick whether a sector that is overwritten before it was synced had been written to the disk already */
  write(bytes: Uint8Array, offset: number, pick: () => boolean): void {
    if (bytes.length === 0) return;
    if (this.#volatile.length < offset + bytes.length) this.#resize(offset + bytes.length);
    for (let sector = Math.floor(offset / SECTOR); sector * SECTOR < offset + bytes.length; sector++) {
      if (this.#dirty.has(sector) && pick()) this.#persist(sector);
      this.#dirty.add(sector);
      this.#allocated.add(sector);
    }
    this.#volatile.set(bytes, offset);
  }

  truncate(size: number): void {
    this.#resize(size);
    for (const sector of this.#allocated) if (sector * SECTOR >= size) this.#allocated.delete(sector);
  }

  sync(): void {
    this.#resizeDurable();
    for (const sector of this.#dirty) this.#persist(sector);
    this.#dirty.clear();
  }

  /** Any of the sectors are on the disk; the others are lost, for readers too. No later sync writes them. */
  failSync(pick: () => boolean): void {
    this.powerLoss(pick);
  }

  powerLoss(pick: () => boolean): void {
    if (this.#isResized && pick()) this.#resizeDurable();
    for (const sector of this.#dirty) if (pick()) this.#persist(sector);
    this.#dirty.clear();
    this.#isResized = false;
    this.#volatile = Buffer.from(this.#durable);
  }

  #persist(sector: number): void {
    const from = sector * SECTOR;
    const end = Math.min(from + SECTOR, this.#volatile.length, this.#durable.length);
    if (from < end) this.#volatile.copy(this.#durable, from, from, end);
  }

  #resize(size: number): void {
    if (size === this.#volatile.length) return;
    this.#volatile = resized(this.#volatile, size);
    this.#isResized = true;
  }

  #resizeDurable(): void {
    this.#durable = resized(this.#durable, this.#volatile.length);
    this.#isResized = false;
  }
}

function resized(content: Buffer, size: number): Buffer {
  const next = Buffer.alloc(size);
  content.copy(next);
  return next;
}
