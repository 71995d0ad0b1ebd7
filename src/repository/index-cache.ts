import { createHash, type Hash } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { ID_BYTES } from "./blob-id.ts";
import type { IndexFilter } from "./decoder.ts";
import { IdSet } from "./id-set.ts";
import type { IndexEntries } from "./index-file.ts";

const MAGIC = Buffer.from("VMRIDX01");
/** Magic, number of packs, number of blobs. */
const HEADER_BYTES = 16;
const COLUMN_BYTES = 16;
const HASH_BYTES = 32;
/** About 1.5 GB: more than an agent could hold. */
const BLOBS_LIMIT = 32 * 1024 * 1024;
/** Number of blobs that stands for an index which was too large to be kept as a whole. */
const TOO_MANY = 0xffffffff;
/** One part in so many of the file system may be taken: what else lies there counts on the rest. */
const FILE_SYSTEM_SHARE = 32;
/** Hashed and written between two turns of the event loop; about 3 ms. */
const PIECE = 2 * 1024 * 1024;

/** Which reading of which index is meant. */
export interface IndexKey {
  /** The repository's id. */
  readonly repository: string;
  /** All index files: each is named by the hash of its content, so equal names are an equal index. */
  readonly files: readonly string[];
  readonly filter: IndexFilter;
  /** With how many entries the reading was to be given up. */
  readonly most: number;
}

/**
 * What was kept of an index, in files of a directory that may be lost at any time: a process that starts again need not read the
 * index again. A file counts only when its checksum fits; any other is as good as none. Only those of the latest index stay.
 */
export class IndexCache {
  readonly #directory: string;
  #saving: Promise<void> = Promise.resolve();

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** What was kept; `tooMany` where it was found to be too large; undefined where it is to be read. Never rejects. */
  async load(key: IndexKey): Promise<IndexEntries | "tooMany" | undefined> {
    try {
      const path = join(this.#directory, await nameOf(key));
      const handle = await open(path, "r");
      try {
        return await read(handle);
      } finally {
        await handle.close();
      }
    } catch {
      return undefined;
    }
  }

  /** Whether nothing is kept, of any index. */
  async isEmpty(): Promise<boolean> {
    return (await readdir(this.#directory).catch(() => [])).length === 0;
  }

  /** Resolves when it is written, or was given up; never rejects, as nobody depends on it. */
  save(key: IndexKey, entries: IndexEntries | "tooMany"): Promise<void> {
    this.#saving = this.#saving.then(() => this.#save(key, entries)).catch(() => undefined);
    return this.#saving;
  }

  /** Resolves when nothing is being saved any more. */
  settled(): Promise<void> {
    return this.#saving;
  }

  async #save(key: IndexKey, entries: IndexEntries | "tooMany"): Promise<void> {
    const name = await nameOf(key);
    const path = join(this.#directory, name);
    const temporary = `${path}.part`;
    await mkdir(this.#directory, { recursive: true });
    const { blocks, bsize } = await statfs(this.#directory);
    if (entries !== "tooMany" && entries.columns.length * 12 > (blocks * bsize) / FILE_SYSTEM_SHARE) return;
    try {
      const handle = await open(temporary, "w", 0o600);
      try {
        await write(handle, entries);
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
    } catch (error) {
      await rm(temporary, { force: true }).catch(() => undefined);
      throw error;
    }
    await this.#removeOlder(name);
  }

  /** Files of the same repository's index as it was before. */
  async #removeOlder(name: string): Promise<void> {
    const [repository = "", index = ""] = name.split("-");
    for (const other of await readdir(this.#directory)) {
      const isOlder = other.startsWith(`${repository}-`) && !other.startsWith(`${repository}-${index}-`);
      if (isOlder) await rm(join(this.#directory, other), { force: true });
    }
  }
}

async function nameOf({ repository, files, filter, most }: IndexKey): Promise<string> {
  const short = (hash: Hash): string => hash.digest("hex").slice(0, 32);
  const wanted = createHash("sha256").update(`${most} ${typeof filter === "string" ? filter : "these"}`);
  if (typeof filter !== "string") await update(wanted, IdSet.from(filter).ids);
  const index = createHash("sha256");
  for (const file of [...files].sort()) index.update(file);
  return [short(createHash("sha256").update(repository)), short(index), short(wanted)].join("-");
}

async function read(handle: FileHandle): Promise<IndexEntries | "tooMany" | undefined> {
  const hash = createHash("sha256");
  const header = Buffer.alloc(HEADER_BYTES);
  await fill(handle, header, 0, hash);
  const packCount = header.readUInt32LE(8);
  const count = header.readUInt32LE(12);
  const kept = count === TOO_MANY ? 0 : count;
  const length = HEADER_BYTES + packCount * ID_BYTES + kept * (ID_BYTES + COLUMN_BYTES) + HASH_BYTES;
  const isPossible = header.subarray(0, 8).equals(MAGIC) && kept <= BLOBS_LIMIT && packCount <= kept;
  if (!isPossible || (await handle.stat()).size !== length) return undefined;
  const packNames = Buffer.alloc(packCount * ID_BYTES);
  const ids = new Uint8Array(kept * ID_BYTES);
  const columns = new Uint32Array(kept * (COLUMN_BYTES / 4));
  let at = HEADER_BYTES;
  for (const part of [packNames, ids, bytesOf(columns)]) at = await fill(handle, part, at, hash);
  const checksum = Buffer.alloc(HASH_BYTES);
  await fill(handle, checksum, at, undefined);
  if (!hash.digest().equals(checksum)) return undefined;
  if (count === TOO_MANY) return "tooMany";
  const packs = Array.from({ length: packCount }, (_, index) =>
    packNames.toString("hex", index * ID_BYTES, (index + 1) * ID_BYTES),
  );
  return { packs, ids, columns };
}

async function write(handle: FileHandle, entries: IndexEntries | "tooMany"): Promise<void> {
  const { packs, ids, columns } =
    entries === "tooMany" ? { packs: [], ids: new Uint8Array(0), columns: new Uint32Array(0) } : entries;
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(packs.length, 8);
  header.writeUInt32LE(entries === "tooMany" ? TOO_MANY : ids.length / ID_BYTES, 12);
  const hash = createHash("sha256");
  for (const part of [header, Buffer.from(packs.join(""), "hex"), ids, bytesOf(columns)]) {
    for (let at = 0; at < part.length; at += PIECE) {
      const piece = part.subarray(at, at + PIECE);
      hash.update(piece);
      await handle.writeFile(piece);
    }
  }
  await handle.writeFile(hash.digest());
}

/** Reads exactly as much as fits, and gives back where it ends; rejects where the file ends before. */
async function fill(handle: FileHandle, into: Uint8Array, from: number, hash: Hash | undefined): Promise<number> {
  for (let done = 0; done < into.length; ) {
    const wanted = Math.min(PIECE, into.length - done);
    const { bytesRead } = await handle.read(into, done, wanted, from + done);
    if (bytesRead === 0) throw new Error("it ends too early");
    hash?.update(into.subarray(done, done + bytesRead));
    done += bytesRead;
  }
  return from + into.length;
}

async function update(hash: Hash, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE) {
    hash.update(bytes.subarray(at, at + PIECE));
    await setImmediate();
  }
}

/** In the machine's order, as nobody else reads them. */
function bytesOf(columns: Uint32Array): Uint8Array {
  return new Uint8Array(columns.buffer, columns.byteOffset, columns.byteLength);
}
