import { constants } from "node:fs";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode } from "../../base/errors.ts";
import { Semaphore } from "../../base/semaphore.ts";
import { DiskError } from "../errors.ts";
import { DirectorySyncs } from "./directory-syncs.ts";
import { EntryFile, isPassing } from "./entry-file.ts";
import { EvictionOrder, type EvictionRank } from "./eviction-order.ts";
import { checksumsOf, PIECE } from "./piece-checksums.ts";
import { Residency, type ResidentPieces, readFromDevice } from "./residency.ts";
import { restoreUses, saveUses, useOrderBytes } from "./use-order.ts";

/** Entries whose file and checksums are held open: a descriptor and about 1 KiB each. */
const OPEN_ENTRIES = 2048;
/** Entries that are made durable at once: each keeps a thread, and takes of the device what a guest's reads would have. */
const SYNCS = 4;
/** How often a read is tried that the system had nothing left for, and what passes in between, in milliseconds. */
const TRIES = 4;
const PAUSE_MS = 20;
const NAME = /^[0-9a-f]{64}$/;

interface Entry {
  /** Bytes on the disk, checksums included. */
  readonly bytes: number;
  readonly length: number;
  /** Counts up with every use. */
  used: number;
  readonly resident: ResidentPieces;
  /** When it was given its name (see {@link DirectorySyncs}); 0: an earlier process did that. */
  readonly name: number;
  durability: "unknown" | "durable" | "failed";
}

/**
 * Blobs of the repository on the agent's own disk: bounded in bytes, shared by all disks (the key is the blob's id), warm
 * again after a restart. Disposable: whatever is wrong with an entry makes it a miss. One file an entry, which outlasts a power
 * failure only once {@link BlockCache.makeDurable} said so.
 */
export class BlockCache {
  readonly #directory: string;
  readonly #limit: number;
  readonly #eviction: EvictionOrder;
  readonly #entries = new Map<string, Entry>();
  readonly #open = new Map<string, Promise<EntryFile>>();
  readonly #writing = new Map<string, Promise<void>>();
  /** Files that are being removed: what is put in again meanwhile must not lose its own with them. */
  readonly #dropping = new Map<string, Promise<void>>();
  readonly #syncing = new Map<string, Promise<boolean>>();
  readonly #syncs = new Semaphore(SYNCS);
  readonly #names: DirectorySyncs;
  readonly #residency = new Residency(() => performance.now(), readFromDevice);
  #bytes = 0;
  #uses = 0;
  #savedUses = 0;
  /** Entries that were dropped because their checksum did not fit. */
  corrupted = 0;
  evicted = 0;

  private constructor(directory: string, limit: number, rank: EvictionRank) {
    this.#directory = directory;
    this.#names = new DirectorySyncs(directory);
    this.#limit = limit - useOrderBytes(limit);
    this.#eviction = new EvictionOrder(this.#entries, rank);
  }

  /**
   * @param limit bytes on the disk that are never exceeded
   * @throws DiskError CACHE_UNUSABLE where the directory cannot be used
   */
  static async open(directory: string, limit: number, rank: EvictionRank): Promise<BlockCache> {
    const cache = new BlockCache(directory, limit, rank);
    try {
      await mkdir(directory, { recursive: true });
      for (const entry of await readdir(directory, { withFileTypes: true })) {
        const path = join(directory, entry.name);
        if (!NAME.test(entry.name)) {
          if (entry.name.endsWith(".part")) await rm(path, { force: true });
          continue;
        }
        const handle = await open(path, "r");
        const { size } = await handle.stat().finally(() => handle.close());
        if (contentLength(size) === 0) {
          await rm(path, { force: true });
          continue;
        }
        cache.#entries.set(entry.name, cache.#entry(size, contentLength(size), 0));
        cache.#bytes += onDisk(size);
      }
      cache.#uses = await restoreUses(directory, cache.#entries);
    } catch (cause) {
      throw new DiskError("CACHE_UNUSABLE", `the cache directory cannot be used: ${errorCode(cause) ?? "failed"}`, {
        cause,
        hint: "Check the cache claim; it may be emptied at any time.",
      });
    }
    await cache.#makeRoom(0);
    return cache;
  }

  /** Bytes on the disk. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Bytes that fit before anything has to go. */
  get free(): number {
    return this.#limit - this.#bytes;
  }

  get size(): number {
    return this.#entries.size;
  }

  has(id: string): boolean {
    return this.#entries.has(id);
  }

  /**
   * Bytes `[offset, offset + length)` of a blob, or undefined where it is not here (any more).
   *
   * @param into where they go; a new buffer unless given. What it holds is unknown where the blob was not here
   */
  async read(id: string, offset: number, length: number, into?: Buffer): Promise<Buffer | undefined> {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    // Cut off, as files are that were not on the device yet when the power failed.
    if (offset + length > entry.length) return this.#giveUp(id, entry);
    entry.used = ++this.#uses;
    const bytes = into?.subarray(0, length) ?? Buffer.allocUnsafe(length);
    for (let tries = 1; ; tries++) {
      const file = this.#openEntry(id, entry);
      try {
        await (await file).read(offset, bytes);
        return bytes;
      } catch (error) {
        if (!isPassing(error)) return this.#giveUp(id, entry);
        // Nobody else is to meet what could not be opened.
        if (this.#open.get(id) === file) await this.#shut(id);
        if (tries === TRIES) return undefined;
      }
      await sleep(PAUSE_MS);
      if (this.#entries.get(id) !== entry) return undefined;
    }
  }

  /** Whether an entry is known to outlast a power failure. */
  isDurable(id: string): boolean {
    return this.#entries.get(id)?.durability === "durable";
  }

  /**
   * Makes an entry outlast a power failure, and resolves to whether it does; never rejects. What an earlier process put there is read
   * first: the power may have failed since, and left something else. Few at a time; what is not here, or damaged, is not durable.
   */
  makeDurable(id: string): Promise<boolean> {
    const entry = this.#entries.get(id);
    if (entry === undefined || entry.durability !== "unknown") return Promise.resolve(this.isDurable(id));
    return joined(this.#syncing, id, () => this.#sync(id, entry).catch(() => false));
  }

  /** Puts a blob in; one that is in already, or that does not fit, is left. Failures to write are no one's concern. */
  async put(id: string, content: Buffer): Promise<void> {
    if (this.#entries.has(id) || content.length === 0) return;
    return joined(this.#writing, id, () => this.#write(id, content).catch(() => undefined));
  }

  /** Makes the order in which blobs were used survive a restart. Failures are no one's concern. */
  async saveUses(): Promise<void> {
    if (this.#savedUses === this.#uses) return;
    this.#savedUses = this.#uses;
    await saveUses(this.#directory, this.#entries, this.#limit).catch(() => undefined);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#writing.values(), ...this.#syncing.values()]);
    await this.saveUses();
    await Promise.all([...this.#open.keys()].map((id) => this.#shut(id)));
  }

  async #write(id: string, content: Buffer): Promise<void> {
    await this.#dropping.get(id)?.catch(() => undefined);
    const size = content.length + Math.ceil(content.length / PIECE) * 4;
    const bytes = onDisk(size);
    if (bytes > this.#limit) return;
    await this.#makeRoom(bytes);
    // Where others that are being written have taken it all, this one is not cached.
    if (this.#bytes + bytes > this.#limit) return;
    // Room is taken before the first byte is written, so the bound holds at every moment.
    this.#bytes += bytes;
    const path = join(this.#directory, id);
    try {
      const handle = await open(`${path}.part`, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
      try {
        const { bytesWritten } = await handle.writev([content, checksumsOf(content)]);
        // A file system that fills up takes a part, and says nothing else of it.
        if (bytesWritten !== size) throw new Error("cut off");
      } finally {
        await handle.close();
      }
      await rename(`${path}.part`, path);
      const entry = this.#entry(size, content.length, this.#names.given());
      entry.used = ++this.#uses;
      this.#residency.note(entry.resident, 0, Math.ceil(content.length / PIECE));
      this.#entries.set(id, entry);
    } catch (error) {
      this.#bytes -= bytes;
      await rm(`${path}.part`, { force: true });
      throw error;
    }
  }

  /** Its bytes, then its name, and only then it counts: either without the other is nothing after a power failure. */
  async #sync(id: string, entry: Entry): Promise<boolean> {
    await this.#syncs.use(() => this.#syncBytes(id, entry));
    await this.#names.cover(entry.name);
    // What was evicted meanwhile, and perhaps put in again, is another file.
    if (this.#entries.get(id) !== entry) return false;
    entry.durability = "durable";
    return true;
  }

  async #syncBytes(id: string, entry: Entry): Promise<void> {
    // A descriptor and a belief of its own: guests' reads keep theirs.
    const resident = this.#residency.none(Math.ceil(entry.length / PIECE));
    try {
      const file = await EntryFile.open(join(this.#directory, id), entry.length, resident, this.#residency);
      try {
        if (entry.name === 0) await file.verify();
        await file.sync().catch((error: unknown) => {
          // The kernel tells it once; the next sync would succeed, whatever is on the device.
          entry.durability = "failed";
          throw error;
        });
      } finally {
        await file.close();
      }
    } catch (error) {
      if (entry.durability === "unknown" && !isPassing(error)) await this.#giveUp(id, entry);
      throw error;
    }
  }

  /** An entry was evicted while it was read, or is damaged: either way the blob is fetched anew. */
  async #giveUp(id: string, entry: Entry): Promise<undefined> {
    if (this.#entries.get(id) !== entry) return;
    this.corrupted++;
    // A file that cannot be removed keeps its room.
    await this.#drop(id).catch(() => undefined);
  }

  async #makeRoom(bytes: number): Promise<void> {
    while (this.#bytes + bytes > this.#limit) {
      const id = await this.#eviction.next();
      if (id === undefined) return;
      this.evicted++;
      await this.#drop(id);
    }
  }

  async #drop(id: string): Promise<void> {
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    await joined(this.#dropping, id, () => this.#remove(id, entry));
  }

  async #remove(id: string, { bytes }: Entry): Promise<void> {
    await this.#shut(id);
    await rm(join(this.#directory, id), { force: true });
    this.#bytes -= bytes;
  }

  /** @param size bytes of its file. @param length bytes of its blob */
  #entry(size: number, length: number, name: number): Entry {
    const resident = this.#residency.none(Math.ceil(length / PIECE));
    return { bytes: onDisk(size), length, used: 0, resident, name, durability: "unknown" };
  }

  #openEntry(id: string, entry: Entry): Promise<EntryFile> {
    const known = this.#open.get(id);
    // While there is plenty of room, nobody need know who was used last.
    if (known !== undefined && this.#open.size <= OPEN_ENTRIES / 2) return known;
    const opened = known ?? EntryFile.open(join(this.#directory, id), entry.length, entry.resident, this.#residency);
    this.#open.delete(id);
    this.#open.set(id, opened);
    if (this.#open.size > OPEN_ENTRIES) {
      const oldest = this.#open.keys().next().value;
      if (oldest !== undefined) void this.#shut(oldest);
    }
    return opened;
  }

  async #shut(id: string): Promise<void> {
    const opened = this.#open.get(id);
    this.#open.delete(id);
    await opened?.then((file) => file.close()).catch(() => undefined);
  }
}

/** What is under way for an entry, or is begun now. */
function joined<T>(underWay: Map<string, Promise<T>>, id: string, begin: () => Promise<T>): Promise<T> {
  const known = underWay.get(id);
  if (known !== undefined) return known;
  const begun = begin().finally(() => underWay.delete(id));
  underWay.set(id, begun);
  return begun;
}

/** File systems give whole blocks. */
function onDisk(size: number): number {
  return Math.ceil(size / PIECE) * PIECE;
}

/** The blob's length, from its file's: the inverse of adding four bytes for each piece. */
function contentLength(size: number): number {
  const pieces = Math.ceil(size / (PIECE + 4));
  return Math.max(0, size - pieces * 4);
}
