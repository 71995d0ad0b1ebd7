/**
 * Who waits for a read. `guest` and `relocation` are demand reads; `staging` is the media agent reading ahead for
 * one of its data sets and is waited for by nobody.
 */
export type ReadClass = "guest" | "relocation" | "staging";

/** A run of bytes `[offset, offset + length)` of a disk. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

/** An extent that says whether its bytes are known, without reading them, to be zero. */
export interface AllocatedExtent extends Extent {
  readonly zero: boolean;
}

/** A virtual disk that can be read at any offset: a disk image of a snapshot, a cache over one, an overlay. */
export interface BlockSource {
  /** Bytes; never changes while open. */
  readonly size: number;

  /**
   * Exactly `length` bytes from `offset`. Rejects with a `DiskError` (OUT_OF_RANGE) beyond the end, or with the error of
   * the layer below. Never resolves with bytes that failed verification.
   *
   * @param into where the bytes may be put, so that no buffer need be made: at least `length` long. What is given back is its
   *   beginning or a buffer of its own. Where it rejects, something may still write into it
   */
  read(offset: number, length: number, readClass: ReadClass, into?: Buffer): Promise<Buffer>;

  /**
   * The extents that cover `[offset, offset + length)`, in order, without gaps, neighbours of one state merged. Only what
   * is known without I/O: an extent that is not `zero` may still hold zeros.
   */
  extents(offset: number, length: number): AllocatedExtent[];
}

/** A virtual disk that can be written. */
export interface BlockDevice extends BlockSource {
  /**
   * Resolves when the data is readable by everybody, and on stable storage too where `durable` is set. Once the signal is aborted,
   * nothing more of it takes effect: whoever gave it up is not surprised later.
   */
  write(
    offset: number,
    data: Uint8Array,
    options: { readonly durable: boolean; readonly signal?: AbortSignal },
  ): Promise<void>;

  /** As {@link write} with zeros, without storing them. */
  writeZeroes(offset: number, length: number, options: { readonly durable: boolean }): Promise<void>;

  /** Resolves when every write that resolved before this call is on stable storage. Reports its failure each time. */
  flush(): Promise<void>;
}
