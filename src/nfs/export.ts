/**
 * What the NFS server needs of something that it exports: one directory that holds one regular file. It knows nothing of
 * disks or backups.
 *
 * By the `code` of what a method rejects with, the client is told: `WRITER_FENCED` → NFS3ERR_ACCES, `DISK_SEALED` → NFS3ERR_ROFS,
 * `OVERLAY_FULL` → NFS3ERR_NOSPC, `TRY_LATER` → NFS3ERR_JUKEBOX, anything else → NFS3ERR_IO.
 */
export interface NfsExport {
  /** The path a client mounts, unguessable, e.g. `/9f2c…`. Whoever knows it may mount. */
  readonly path: string;
  /** Makes file handles that cannot be made up (HMAC key, 32 bytes). Survives restarts, changes with `path`. */
  readonly handleKey: Buffer;
  /** Constant and unique among exports; also the file's fsid. */
  readonly fsid: bigint;
  /** The regular file's name in the export's root directory, e.g. `disk.img`. */
  readonly fileName: string;
  /** Bytes; constant. Also reported as `used`. */
  readonly size: number;
  /** Owner that the attributes report. */
  readonly uid: number;
  readonly gid: number;

  /**
   * A client mounts: gives the number that tells this mount from all others, 1 to 2^32 - 1. All its handles bear it, for as long as they are
   * used. 0 is for handles that were made before mounts were numbered.
   *
   * @param machine the client's name, as it says itself
   */
  mount(machine: string): Promise<number>;
  /**
   * Exactly `length` bytes; the server never asks beyond `size`.
   *
   * @param into where they may be put, at least `length` long: what is given back is its beginning, or a buffer of its own. Where
   *   this rejects, something may still write into it
   */
  read(offset: number, length: number, into?: Buffer): Promise<Buffer>;
  /**
   * Resolves when the data is readable, and durable where `stable` is set. Takes ownership of `data` until it settles.
   *
   * @param mount through which it comes
   */
  write(offset: number, data: Buffer, stable: boolean, mount: number): Promise<void>;
  /** Resolves when every write that resolved before is durable. */
  commit(): Promise<void>;
}
