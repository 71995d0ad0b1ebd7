/** The kinds of files in a restic repository (doc/design.rst, "Repository Layout"). */
export type FileType = "config" | "data" | "index" | "keys" | "locks" | "snapshots";

/** A file's place: `config` has no name of its own, all others are named by 64 hex digits. */
export interface FileName {
  readonly type: FileType;
  readonly name: string;
}

/**
 * Where a repository's files lie. Every method rejects with a `RepositoryError`: REPOSITORY_OBJECT_MISSING where the file
 * does not exist, REPOSITORY_FORBIDDEN where it may not be read, REPOSITORY_READ_ONLY where it may not be written,
 * REPOSITORY_UNREACHABLE for everything that may pass.
 */
export interface Backend {
  /** For people: where it is, without credentials. */
  readonly location: string;

  /** Bytes that are read in about the time that one request more takes: gaps up to it are rather read along. 0: no gap is. */
  readonly requestCost: number;

  /** Names of all files of a type; unordered. */
  list(type: FileType): Promise<string[]>;

  /** The whole file, which may be at most `limit` bytes long. */
  readAll(file: FileName, limit: number): Promise<Buffer>;

  /** Exactly `length` bytes from `offset`; a shorter file is REPOSITORY_OBJECT_DAMAGED. */
  readRange(file: FileName, offset: number, length: number): Promise<Buffer>;

  /** Whether the file is there now. */
  exists(file: FileName): Promise<boolean>;

  /** Writes a new file: complete and durable when it resolves, or not there at all. */
  save(file: FileName, content: Buffer): Promise<void>;

  /** Removes a file; one that is gone already is no error. */
  remove(file: FileName): Promise<void>;

  /** Lets go of what is held open. */
  close(): Promise<void>;
}

/**
 * What a request to a server costs in bytes. Requests run beside one another, so it is not all that the link carries in one round
 * trip (300 kB at 10 ms and 30 MB/s), but part of it.
 */
export const REMOTE_REQUEST_COST = 128 * 1024;

/** How a file is called in errors. */
export function describeFile(file: FileName): string {
  return file.type === "config" ? "config" : `${file.type}/${file.name}`;
}
