import { createHash, type Hash } from "node:crypto";
import { type FileHandle, mkdir, open, readdir, rename, rm, statfs } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import type { TableParts } from "./blob-table.ts";
import { bytesOf } from "./grown.ts";
import type { IdTable } from "./id-table.ts";
import type { Selection } from "./index-file.ts";

const MAGIC = Buffer.from("VMRIDX03");
/** Magic, then the length of each part in bytes; the checksum comes last. */
const HEADER_BYTES = 32;
const HASH_BYTES = 32;
const WORD = Uint32Array.BYTES_PER_ELEMENT;
/** Bytes of a file; more than an agent could hold. */
const FILE_LIMIT = 1536 * 1024 * 1024;
/** Length of the ids that stands for an index which was too large to be kept as a whole. */
const TOO_MANY = 0xffffffff;
/** One part in so many of the file system may be taken: what else lies there counts on the rest. */
const FILE_SYSTEM_SHARE = 32;
/** Hashed, read or written between two turns of the event loop; well below a millisecond. */
const PIECE = 256 * 1024;

/** Which reading of which index is meant. */
export interface IndexKey {
  /** The repository's id. */
  readonly repository: string;
  /** All index files: each is named by the hash of its content, so equal names are an equal index. */
  readonly files: readonly string[];
  /** Of a table that grows, the ids as they were: what is kept is about those, and no others. */
  readonly selection: Exclude<Selection, IdTable> | { readonly ids: Uint8Array };
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
  async load(key: IndexKey): Promise<TableParts | "tooMany" | undefined> {
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
  save(key: IndexKey, parts: TableParts | "tooMany"): Promise<void> {
    this.#saving = this.#saving.then(() => this.#save(key, parts)).catch(() => undefined);
    return this.#saving;
  }

  /** Resolves when nothing is being saved any more. */
  settled(): Promise<void> {
    return this.#saving;
  }

  async #save(key: IndexKey, parts: TableParts | "tooMany"): Promise<void> {
    const name = await nameOf(key);
    const path = join(this.#directory, name);
    const temporary = `${path}.part`;
    await mkdir(this.#directory, { recursive: true });
    const { blocks, bsize } = await statfs(this.#directory);
    const bytes = parts === "tooMany" ? 0 : inOrder(parts).reduce((sum, { length }) => sum + length, 0);
    if (bytes > (blocks * bsize) / FILE_SYSTEM_SHARE) return;
    try {
      const handle = await open(temporary, "w", 0o600);
      try {
        await write(handle, parts);
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

async function nameOf({ repository, files, selection, most }: IndexKey): Promise<string> {
  const short = (hash: Hash): string => hash.digest("hex").slice(0, 32);
  const wanted = createHash("sha256").update(`${most} ${typeof selection === "string" ? selection : "these"}`);
  if (typeof selection !== "string") {
    for (const piece of pieces(selection.ids)) {
      wanted.update(piece);
      await setImmediate();
    }
  }
  const index = createHash("sha256");
  for (const file of [...files].sort()) index.update(file);
  return [short(createHash("sha256").update(repository)), short(index), short(wanted)].join("-");
}

async function read(handle: FileHandle): Promise<TableParts | "tooMany" | undefined> {
  const hash = createHash("sha256");
  const header = Buffer.alloc(HEADER_BYTES);
  await fill(handle, header, 0, hash);
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const lengths = [8, 12, 16, 20, 24].map((at) => header.readUInt32LE(at));
  const isTooMany = lengths[1] === TOO_MANY;
  const length = isTooMany ? 0 : lengths.reduce((sum, each) => sum + each, 0);
  if (length > FILE_LIMIT || (await handle.stat()).size !== HEADER_BYTES + length + HASH_BYTES) return undefined;
  const [packs = 0, ids = 0, places = 0, last = 0, rows = 0] = isTooMany ? [] : lengths;
  const parts = {
    packs: new Uint8Array(packs),
    ids: new Uint8Array(ids),
    places: new Uint32Array(places / WORD),
    last: new Uint32Array(last / WORD),
    rows: new Uint32Array(rows / WORD),
  };
  let at = HEADER_BYTES;
  for (const part of inOrder(parts)) at = await fill(handle, part, at, hash);
  const checksum = Buffer.alloc(HASH_BYTES);
  await fill(handle, checksum, at, undefined);
  if (!hash.digest().equals(checksum)) return undefined;
  return isTooMany ? "tooMany" : parts;
}

async function write(handle: FileHandle, parts: TableParts | "tooMany"): Promise<void> {
  const content = parts === "tooMany" ? [] : inOrder(parts);
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  if (parts === "tooMany") header.writeUInt32LE(TOO_MANY, 12);
  for (const [index, { length }] of content.entries()) header.writeUInt32LE(length, 8 + 4 * index);
  const hash = createHash("sha256");
  for (const part of [header, ...content]) {
    for (const piece of pieces(part)) {
      hash.update(piece);
      await handle.writeFile(piece);
    }
  }
  await handle.writeFile(hash.digest());
}

/** Words in the machine's order, as nobody else reads them. */
function inOrder({ packs, ids, places, last, rows }: TableParts): Uint8Array[] {
  return [packs, ids, bytesOf(places), bytesOf(last), bytesOf(rows)];
}

function* pieces(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
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
