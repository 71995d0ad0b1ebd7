import * as z from "zod";
import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import { type BackendCounters, CountedBackend } from "./backends/counted.ts";
import { EarlyReads } from "./backends/early-reads.ts";
import { ID_BYTES, isHexId } from "./blob-id.ts";
import { beginIndex, loadIndex } from "./blob-index.ts";
import { type BlobLocation, BlobTable } from "./blob-table.ts";
import type { CryptoKey } from "./crypto.ts";
import { Decoder } from "./decoder.ts";
import { isTransient, RepositoryError } from "./errors.ts";
import { layOut, type NumberedFile } from "./file-layout.ts";
import { GroupedReads } from "./grouped-reads.ts";
import { IdTable } from "./id-table.ts";
import { IndexCache } from "./index-cache.ts";
import { openMasterKey } from "./key-file.ts";
import type { LockOwner } from "./lock.ts";
import { findPins, pinSnapshot } from "./pin.ts";
import { readAgainIfDamaged } from "./read-again.ts";
import { release } from "./release.ts";
import type { RepositoryFile } from "./repository-file.ts";
import type { Snapshot } from "./snapshot.ts";
import { chooseId, toSnapshot } from "./snapshot.ts";
import { SnapshotList } from "./snapshot-list.ts";
import { type FileNode, SnapshotTree } from "./snapshot-tree.ts";
import type { Tree } from "./tree.ts";
import { readUnpackedJson, SMALL_FILE_LIMIT } from "./unpacked.ts";

export type { DirectoryEntry, FileNode, SnapshotTree } from "./snapshot-tree.ts";

const config = z.object({ version: z.int(), id: z.string().max(128) });

/** Up to so many blobs (about 35 MB) the whole index is kept, and read once only. */
const WHOLE_INDEX_LIMIT = 500_000;

/** Copies of one blob that are read, at most; a prune leaves a few, if any. */
const COPIES_TRIED = 8;

/** Counted since the repository was opened. */
export interface RepositoryCounters extends BackendCounters {
  /** Blobs read and decoded. */
  blobsFetched: number;
  /** Blobs, or copies of one, that could not be read or were damaged. */
  failures: number;
}

/** @see Repository.place */
export interface BlobPlace {
  /** 64 hex digits. */
  readonly pack: string;
  /** Bytes. */
  readonly length: number;
}

interface OpenOptions {
  /** Worker threads that decode. */
  readonly threads?: number;
  /** Blobs up to which the whole index is kept in memory, at about 70 bytes each. */
  readonly wholeIndexLimit?: number;
  /** A directory that may be lost at any time, where what was kept of the index is found again by the next process. */
  readonly indexCache?: string | undefined;
  /** The id of a snapshot that is going to be browsed at once: it and the index are read while the key is still being derived. */
  readonly expect?: string | undefined;
  /** Told when the key is being derived, on a thread of its own: until then it waits for the repository, not for a processor. */
  readonly onDeriving?: () => void;
}

const CONFIG = { type: "config", name: "" } as const;

/**
 * A restic repository, format 1 or 2, opened for reading. The index of a small one is held in memory as a whole; of a large one,
 * only what the files that were opened need: about 75 bytes for each of their blobs.
 */
export class Repository {
  readonly id: string;
  /** Format version: 1, or 2 with compression. */
  readonly version: number;
  /** For people: where it is, without credentials. */
  readonly location: string;
  readonly counters: RepositoryCounters;
  readonly #backend: Backend;
  readonly #packs: GroupedReads;
  readonly #key: CryptoKey;
  readonly #decoder: Decoder;
  readonly #snapshots: SnapshotList;
  readonly #wholeIndexLimit: number;
  readonly #kept: { readonly cache: IndexCache; readonly repository: string } | undefined;
  /** All blobs while the repository is small, else the data blobs of the opened files. */
  #table = new BlobTable();
  /** The index files that the table comes from; undefined where it may come from none. */
  #indexFiles: ReadonlySet<string> | undefined;
  /** Whether the table holds all blobs; undefined before the index was read. */
  #whole: boolean | undefined;
  /** Blobs of the opened files. */
  readonly #wanted = IdTable.withRoom(0, true);
  /** Files are taken note of one after the other. */
  #opening: Promise<unknown> = Promise.resolve();
  /** The reading of the index under way or done last, and one that waits for it. */
  #loading: Promise<void> = Promise.resolve();
  #queued: Promise<void> | undefined;

  private constructor(
    backend: Backend,
    counters: RepositoryCounters,
    key: CryptoKey,
    decoder: Decoder,
    { id, version }: z.infer<typeof config>,
    { wholeIndexLimit = WHOLE_INDEX_LIMIT, indexCache }: OpenOptions,
  ) {
    this.id = id;
    this.version = version;
    this.location = backend.location;
    this.counters = counters;
    this.#backend = backend;
    this.#packs = new GroupedReads(backend);
    this.#key = key;
    this.#decoder = decoder;
    this.#snapshots = new SnapshotList(backend, key);
    this.#wholeIndexLimit = wholeIndexLimit;
    this.#kept = indexCache === undefined ? undefined : { cache: new IndexCache(indexCache), repository: id };
  }

  /**
   * @param backend is closed with the repository, or where it cannot be opened
   * @throws RepositoryError REPOSITORY_NOT_FOUND, REPOSITORY_WRONG_PASSWORD, REPOSITORY_UNSUPPORTED, REPOSITORY_FORBIDDEN,
   *   REPOSITORY_OBJECT_DAMAGED, REPOSITORY_UNREACHABLE, REPOSITORY_UNTRUSTED, REPOSITORY_REDIRECTED
   */
  static async open(backend: Backend, password: string, options: OpenOptions = {}): Promise<Repository> {
    const counters: RepositoryCounters = { requests: 0, bytesFetched: 0, blobsFetched: 0, failures: 0 };
    const early = new EarlyReads(new CountedBackend(backend, counters));
    const decoder = new Decoder(options.threads ?? 2);
    const onDeriving = (): void => {
      decoder.start();
      options.onDeriving?.();
    };
    try {
      if (options.expect !== undefined) await beginOpening(early, options.expect, options.indexCache);
      const { key, found } = await unlock(early, password, onDeriving);
      decoder.useKey(key);
      return new Repository(early, counters, key, decoder, found, options);
    } catch (error) {
      await decoder.close();
      await early.close();
      throw error;
    }
  }

  /**
   * Every snapshot, pins of this product included; unordered.
   *
   * @param onDamaged told of each that is damaged, which is left out then
   * @throws RepositoryError where one is damaged and nobody is to be told
   */
  async snapshots(onDamaged?: (error: unknown) => void): Promise<Snapshot[]> {
    return onDamaged === undefined ? this.#snapshots.all() : this.#snapshots.readable(onDamaged);
  }

  /**
   * A snapshot by the beginning of its id; it is read even where others are damaged.
   *
   * @throws RepositoryError SNAPSHOT_NOT_FOUND, SNAPSHOT_AMBIGUOUS, REPOSITORY_OBJECT_DAMAGED
   */
  async snapshotNamed(beginning: string): Promise<Snapshot> {
    return this.snapshot(chooseId(await this.#backend.list("snapshots"), beginning));
  }

  /** A snapshot by its full id; it is read even where others are damaged. */
  async snapshot(id: string): Promise<Snapshot> {
    try {
      if (isHexId(id))
        return toSnapshot(id, await readUnpackedJson(this.#backend, this.#key, { type: "snapshots", name: id }));
    } catch (error) {
      if (errorCode(error) !== "REPOSITORY_OBJECT_MISSING") throw error;
    }
    throw new RepositoryError("SNAPSHOT_NOT_FOUND", `there is no snapshot ${id}`, {
      hint: "`restic snapshots` lists them; it may have been forgotten.",
    });
  }

  /** Looks into a snapshot's tree. Of a large repository, holds the index of all tree blobs until it is let go. */
  async browse(snapshot: Snapshot): Promise<SnapshotTree> {
    let table = await this.#tableOfTrees(snapshot);
    return new SnapshotTree(snapshot, async (id) => {
      try {
        return await this.#fetchTree(table, id);
      } catch (error) {
        if (!isOutdated(error)) throw error;
        if (this.#whole) this.#whole = undefined; // a prune moved it since: what the index says now counts
        table = await this.#tableOfTrees(snapshot);
        return this.#fetchTree(table, id);
      }
    });
  }

  /**
   * Opens files for random access. In a large repository one more pass over the index, in which only their blobs are kept. May
   * be called again for further files. Takes over the memory of the nodes: each is good for one call.
   *
   * @throws RepositoryError REPOSITORY_BLOB_UNKNOWN where the index lacks one of their blobs, REPOSITORY_OBJECT_DAMAGED
   */
  async openFiles(nodes: readonly FileNode[]): Promise<RepositoryFile[]> {
    const files = await this.#note(nodes);
    if (this.#whole !== true) await this.reloadIndex();
    try {
      return await this.#layOut(files);
    } catch (error) {
      if (!isOutdated(error)) throw error;
      await this.reloadIndex();
      return this.#layOut(files);
    }
  }

  /**
   * Reads the index anew: after a prune, blobs lie in other packs. Calls that come while one waits its turn share it; each
   * sees the index as it was after the call.
   */
  async reloadIndex(): Promise<void> {
    if (this.#queued === undefined) {
      const before = this.#loading.catch(() => undefined);
      const queued = before.then(() => {
        this.#queued = undefined;
        return this.#load();
      });
      this.#queued = queued;
      this.#loading = queued;
    }
    await this.#queued;
  }

  /**
   * Reads the index anew where its files are others than those that it was read from: they never change, and reading those of a large
   * repository takes seconds and twice the memory. One look at their names, where nothing is new.
   *
   * @throws RepositoryError where there is no list, or no index, to be had
   */
  async refreshIndex(): Promise<void> {
    await this.#loading.catch(() => undefined);
    const known = this.#indexFiles;
    const files = await this.#backend.list("index");
    const isSame = known !== undefined && files.length === known.size && files.every((name) => known.has(name));
    // Nothing at all is what a volume that is not mounted looks like.
    if (!isSame || files.length === 0) await this.reloadIndex();
  }

  /**
   * The plain bytes of a blob of an opened file, verified: its MAC, then its length, then SHA-256. Where one copy is missing
   * or damaged, the next is tried.
   *
   * @param id 64 hex digits
   * @throws RepositoryError REPOSITORY_PACK_MISSING, REPOSITORY_BLOB_DAMAGED, REPOSITORY_BLOB_UNKNOWN, REPOSITORY_UNREACHABLE
   */
  async readBlob(id: string): Promise<Buffer> {
    return this.#fetch(this.#table, id, (location, sealed) => this.#decoder.blob(id, location, sealed));
  }

  /** Whether the index, as far as it is held, lists the blob. @param id 64 hex digits */
  knows(id: string): boolean {
    return this.#table.has(Buffer.from(id, "hex"));
  }

  /**
   * A pack in which a blob of the opened files lies, and how long the blob is when it is decoded; undefined for any other blob. Of several
   * packs the one with the least name, so that all who read the same index come to the same.
   *
   * @param id 64 hex digits
   */
  place(id: string): BlobPlace | undefined {
    const bytes = Buffer.from(id, "hex");
    if (this.#wanted.find(bytes) < 0) return undefined;
    const length = this.#table.plainLength(bytes, 0);
    const [pack] = this.#table
      .locations(bytes)
      .map((location) => location.pack)
      .sort();
    return pack === undefined || length <= 0 ? undefined : { pack, length };
  }

  /** Whole file in memory, for manifests and the like. */
  async readFile(node: FileNode, limit: number): Promise<Buffer> {
    if (node.size > limit) {
      throw new RepositoryError("PATH_NOT_A_FILE", `${node.path} is ${node.size} bytes long, over ${limit}`);
    }
    const [file] = await this.openFiles([node]);
    const pieces: Buffer[] = [];
    for (const blob of file?.blobsIn(0, file.size) ?? []) pieces.push(await this.readBlob(blob.id));
    return Buffer.concat(pieces);
  }

  /** See `pinSnapshot`. @param now milliseconds since the epoch */
  pin(snapshotId: string, uid: string, owner: LockOwner, now: () => number): Promise<string> {
    const writer = { backend: this.#backend, key: this.#key, version: this.version, owner, now };
    return pinSnapshot(writer, this.#snapshots, snapshotId, uid);
  }

  /** A pin of this restore; undefined where there is none. It is found even where other snapshots are damaged. */
  async pinOf(uid: string): Promise<Snapshot | undefined> {
    const [pin] = await findPins(this.#snapshots, uid);
    return pin;
  }

  /** Whether a pin of this restore is there. */
  async isPinned(uid: string): Promise<boolean> {
    return (await this.pinOf(uid)) !== undefined;
  }

  /** Removes the pins of a restore; none is no error. */
  async unpin(uid: string): Promise<void> {
    for (const pin of await findPins(this.#snapshots, uid)) {
      await this.#backend.remove({ type: "snapshots", name: pin.id });
    }
  }

  async close(): Promise<void> {
    await this.#kept?.cache.settled();
    await this.#decoder.close();
    await this.#backend.close();
  }

  /** Files as lists of numbers in the table of what is wanted. */
  #note(nodes: readonly FileNode[]): Promise<NumberedFile[]> {
    const noted = this.#opening.then(async () => {
      await this.#wanted.reserve(nodes.reduce((sum, { content }) => sum + content.length / ID_BYTES, 0));
      const files: NumberedFile[] = [];
      for (const { path, size, content } of nodes) {
        files.push({ path, size, ids: this.#wanted, numbers: await this.#wanted.addAll(content) });
        release(content);
      }
      return files;
    });
    this.#opening = noted.catch(() => undefined);
    return noted;
  }

  async #layOut(nodes: readonly NumberedFile[]): Promise<RepositoryFile[]> {
    const files: RepositoryFile[] = [];
    for (const node of nodes) {
      files.push(await layOut(node, this.#table, (length) => this.#decoder.zeroId(length)));
    }
    return files;
  }

  /** A table in which the snapshot's trees are. */
  async #tableOfTrees(snapshot: Snapshot): Promise<BlobTable> {
    const isKnown = (): boolean => this.#table.has(Buffer.from(snapshot.tree, "hex"));
    if (this.#whole === undefined || (this.#whole && !isKnown())) await this.reloadIndex();
    if (this.#whole === true) return this.#table;
    return (await loadIndex(this.#backend, this.#decoder, "trees", { kept: this.#kept })) ?? new BlobTable();
  }

  async #load(): Promise<void> {
    let listed: readonly string[] = [];
    const onListed = (files: readonly string[]): void => {
      listed = files;
    };
    this.#indexFiles = undefined;
    if (this.#whole !== false) {
      const limits = { most: this.#wholeIndexLimit, kept: this.#kept, onListed };
      const all = await loadIndex(this.#backend, this.#decoder, "all", limits);
      this.#whole = all !== undefined;
      if (all !== undefined) this.#table = all;
    }
    if (!this.#whole && this.#wanted.size > 0) {
      const table = await loadIndex(this.#backend, this.#decoder, this.#wanted, { kept: this.#kept, onListed });
      if (table !== undefined) this.#table = table;
    }
    this.#indexFiles = new Set(listed);
  }

  #fetchTree(table: BlobTable, id: string): Promise<Tree> {
    return this.#fetch(table, id, (location, sealed) => this.#decoder.tree(id, location, sealed));
  }

  async #fetch<T>(
    table: BlobTable,
    id: string,
    decode: (location: BlobLocation, sealed: Buffer) => Promise<T>,
  ): Promise<T> {
    let failure: RepositoryError | undefined;
    for (const location of table.locations(Buffer.from(id, "hex")).slice(0, COPIES_TRIED)) {
      try {
        return await this.#readCopy(location, decode);
      } catch (cause) {
        const error = blobFailure(id, location.pack, cause);
        // Of several failures the one that may pass is told: the same read may succeed later.
        if (failure === undefined || !isTransient(failure)) failure = error;
      }
    }
    throw (
      failure ??
      new RepositoryError("REPOSITORY_BLOB_UNKNOWN", `no index lists blob ${id}`, {
        hint: "Run `restic check`; a prune may have removed it.",
      })
    );
  }

  #readCopy<T>(location: BlobLocation, decode: (location: BlobLocation, sealed: Buffer) => Promise<T>): Promise<T> {
    const { pack, offset, length } = location;
    return readAgainIfDamaged(async () => {
      try {
        const decoded = await decode(location, await this.#packs.read(pack, offset, length));
        this.counters.blobsFetched++;
        return decoded;
      } catch (cause) {
        this.counters.failures++;
        throw cause;
      }
    });
  }
}

/** Begins what is going to be read as soon as there is a key: deriving it takes half a second. */
async function beginOpening(early: EarlyReads, snapshot: string, indexCache: string | undefined): Promise<void> {
  if (isHexId(snapshot)) void early.begin({ type: "snapshots", name: snapshot }, SMALL_FILE_LIMIT);
  if (indexCache === undefined || (await new IndexCache(indexCache).isEmpty())) beginIndex(early);
}

/** The master key and what the config says, checked. */
async function unlock(
  backend: EarlyReads,
  password: string,
  onDeriving: () => void,
): Promise<{ readonly key: CryptoKey; readonly found: z.infer<typeof config> }> {
  const sealed = backend.begin(CONFIG, SMALL_FILE_LIMIT);
  const opening = openMasterKey(backend, password, onDeriving);
  // Where there is no repository at all, that is what is told.
  opening.catch(() => undefined);
  await sealed.catch((error: unknown) => {
    if (errorCode(error) !== "REPOSITORY_OBJECT_MISSING") throw error;
    throw new RepositoryError("REPOSITORY_NOT_FOUND", `there is no restic repository at ${backend.location}`, {
      hint: "Check the path, and that its volume is mounted.",
    });
  });
  const key = await opening;
  const parsed = config.safeParse(await readUnpackedJson(backend, key, CONFIG));
  if (!parsed.success) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", "config is not one of restic");
  const { version } = parsed.data;
  if (version !== 1 && version !== 2) {
    throw new RepositoryError(
      "REPOSITORY_UNSUPPORTED",
      `the repository has format ${version}; formats 1 and 2 are known`,
      { hint: "A newer version of this product may read it." },
    );
  }
  return { key, found: parsed.data };
}

function blobFailure(id: string, pack: string, cause: unknown): RepositoryError {
  if (!(cause instanceof RepositoryError))
    return new RepositoryError("REPOSITORY_UNREACHABLE", `blob ${id}`, { cause });
  if (cause.code !== "REPOSITORY_OBJECT_MISSING") return cause;
  return new RepositoryError("REPOSITORY_PACK_MISSING", `pack ${pack}, which holds blob ${id}, is missing`, {
    cause,
    hint: "A prune may have moved its blobs: read the index anew. If it stays away, run `restic check`.",
  });
}

/** Whether an index read anew may know better. */
function isOutdated(error: unknown): boolean {
  return (
    error instanceof RepositoryError &&
    (error.code === "REPOSITORY_PACK_MISSING" || error.code === "REPOSITORY_BLOB_UNKNOWN")
  );
}
