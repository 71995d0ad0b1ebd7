/** One extent of a block-status reply; `flags` mean what the context defines (base:allocation: 1 hole, 2 zero). */
export interface NbdExtent {
  readonly length: number;
  readonly flags: number;
}

/** What the NBD server needs of something that it exports. It knows nothing of disks or backups. */
export interface NbdExport {
  readonly name: string;
  readonly description: string;
  /** Bytes; constant. */
  readonly size: number;
  readonly readOnly: boolean;

  /**
   * Exactly `length` bytes; the server has checked the range.
   *
   * @param into where they may be put, at least `length` long: what is given back is its beginning, or a buffer of its own. Where
   *   this rejects, something may still write into it
   */
  read(offset: number, length: number, into?: Buffer): Promise<Buffer>;
  write(offset: number, data: Buffer, options: { readonly fua: boolean }): Promise<void>;
  writeZeroes(
    offset: number,
    length: number,
    options: { readonly fua: boolean; readonly mayTrim: boolean },
  ): Promise<void>;
  /** A hint; afterwards the range may read as anything it was or as zeros. */
  trim(offset: number, length: number, options: { readonly fua: boolean }): Promise<void>;
  /** Covers every write that was acknowledged before on any connection (MULTI_CONN). */
  flush(): Promise<void>;

  /** Names beside `base:allocation`, e.g. `qemu:dirty-bitmap:relocation`. Asked at each negotiation. */
  metaContexts(): string[];
  /** Extents from `offset`, in order, covering at most `length` bytes and at least one. `context` is one offered. */
  blockStatus(context: string, offset: number, length: number): NbdExtent[];
}
