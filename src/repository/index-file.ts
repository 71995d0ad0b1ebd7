import { ID_BYTES } from "./blob-id.ts";
import { CRYPTO_OVERHEAD } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import type { IdTable } from "./id-table.ts";
import { JsonScanner, keys } from "./json-scanner.ts";
import { release } from "./release.ts";

/** restic's chunker makes blobs of at most 8 MiB. */
const DATA_LIMIT = 16 * 1024 * 1024;
/** The tree that holds a disk lists all its blobs, at 67 bytes each: this is enough for about 8 TiB. */
const TREE_LIMIT = 512 * 1024 * 1024;
const UINT32_LIMIT = 2 ** 32;
/** Bytes of JSON for one blob, at least: how many there can be is known before they are read. */
const JSON_PER_BLOB = '{"id":"","type":"data","offset":0,"length":32}'.length + 2 * ID_BYTES;

/** pack, offset, length, uncompressed length */
const COLUMNS = 4;

/** What was kept of one index file, in a form that passes cheaply between threads. */
export interface IndexEntries {
  /** Ids of the packs, one behind the other. */
  readonly packs: Uint8Array<ArrayBuffer>;
  /** Ids of the blobs kept, one behind the other; where `numbers` are given, none. */
  readonly ids: Uint8Array<ArrayBuffer>;
  /** The blobs' numbers in the table of those that were wanted; without one, none. */
  readonly numbers: Uint32Array<ArrayBuffer>;
  /** For each blob: number of its pack in `packs`, offset, length, uncompressed length (0: not compressed). */
  readonly columns: Uint32Array<ArrayBuffer>;
}

const TYPES = ["data", "tree"] as const;

/** Which blobs of an index file are kept: all, those of directories, or the data blobs whose ids are in a table. */
export type Selection = "all" | "trees" | IdTable;

const TYPE_NAMES = keys(...TYPES);
const ROOT = keys("packs");
const PACK = keys("id", "blobs");
const BLOB = keys("id", "type", "offset", "length", "uncompressed_length");

/**
 * Reads an index file (restic doc/design.rst, "Indexing") and keeps the blobs that are wanted. Everything in it is checked
 * before it is used: an index that lies about a place is refused as a whole.
 *
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED
 */
export function parseIndex(name: string, plain: Uint8Array, selection: Selection): IndexEntries {
  try {
    return new IndexReader(plain, selection).read();
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new RepositoryError(
      "REPOSITORY_OBJECT_DAMAGED",
      `index/${name} is not an index of restic: ${cause.message}`,
      {
        cause,
        hint: "Run `restic repair index`.",
      },
    );
  }
}

class IndexReader {
  readonly #json: JsonScanner;
  readonly #selection: Selection;
  readonly #id = new Uint8Array(ID_BYTES);
  readonly #room: number;
  #packs: Uint8Array<ArrayBuffer>;
  #packCount = 0;
  readonly #ids: Uint8Array<ArrayBuffer>;
  readonly #numbers: Uint32Array<ArrayBuffer>;
  readonly #columns: Uint32Array<ArrayBuffer>;
  #count = 0;

  constructor(plain: Uint8Array, selection: Selection) {
    this.#json = new JsonScanner(plain);
    this.#selection = selection;
    // Room for as many as there can be: what is not used of it is never touched, and so takes no memory.
    this.#room = Math.ceil(plain.length / JSON_PER_BLOB);
    const isNumbered = typeof selection !== "string";
    this.#packs = new Uint8Array(64 * ID_BYTES);
    this.#ids = new Uint8Array(isNumbered ? 0 : this.#room * ID_BYTES);
    this.#numbers = new Uint32Array(isNumbered ? this.#room : 0);
    this.#columns = new Uint32Array(this.#room * COLUMNS);
  }

  read(): IndexEntries {
    const json = this.#json;
    json.object(ROOT, (key) => {
      if (key === 0) json.array(() => this.#pack());
      else json.skip();
    });
    json.end();
    const entries = {
      packs: this.#packs.slice(0, this.#packCount * ID_BYTES),
      ids: this.#ids.slice(0, this.#count * ID_BYTES),
      numbers: this.#numbers.slice(0, this.#count),
      columns: this.#columns.slice(0, this.#count * COLUMNS),
    };
    for (const part of [this.#ids, this.#numbers, this.#columns]) release(part);
    return entries;
  }

  #pack(): void {
    const before = this.#count;
    const at = this.#packCount * ID_BYTES;
    if (at === this.#packs.length) {
      const larger = new Uint8Array(2 * at);
      larger.set(this.#packs);
      this.#packs = larger;
    }
    let hasId = false;
    this.#json.object(PACK, (key) => {
      if (key === 0) {
        this.#json.hex(this.#packs, at, ID_BYTES);
        hasId = true;
      } else if (key === 1) this.#json.array(() => this.#blob());
      else this.#json.skip();
    });
    if (!hasId) throw new SyntaxError("a pack has no id");
    if (this.#count > before) this.#packCount++;
  }

  #blob(): void {
    const json = this.#json;
    const id = this.#id;
    let hasId = false;
    let type = -1;
    let offset = -1;
    let length = -1;
    let uncompressed = 0;
    if (json.enter()) {
      let key = -1;
      do {
        key = json.key(BLOB, key + 1);
        if (key === 0) {
          json.hex(id, 0, ID_BYTES);
          hasId = true;
        } else if (key === 1) {
          type = json.choice(TYPE_NAMES);
          if (type < 0) throw new SyntaxError("a blob of an unknown type");
        } else if (key === 2) offset = json.integer();
        else if (key === 3) length = json.integer();
        else if (key === 4) uncompressed = json.integer();
        else json.skip();
      } while (json.next());
    }
    if (!hasId || type < 0) throw new SyntaxError("a blob has no id or type");
    const limit = type === 0 ? DATA_LIMIT : TREE_LIMIT;
    const possible =
      offset >= 0 &&
      length >= CRYPTO_OVERHEAD &&
      length <= limit &&
      uncompressed <= limit &&
      offset + length < UINT32_LIMIT;
    if (!possible) throw new SyntaxError(`blob ${Buffer.from(id).toString("hex")} has an impossible place`);
    const selection = this.#selection;
    if (selection === "all" || (selection === "trees" && type === 1)) {
      this.#ids.set(id, this.#count * ID_BYTES);
      this.#keep(offset, length, uncompressed);
    } else if (typeof selection !== "string" && type === 0) {
      const number = selection.find(id);
      if (number < 0) return;
      this.#numbers[this.#count] = number;
      this.#keep(offset, length, uncompressed);
    }
  }

  #keep(offset: number, length: number, uncompressed: number): void {
    const at = this.#count * COLUMNS;
    this.#columns[at] = this.#packCount; // the pack's own id is known when all of it was read
    this.#columns[at + 1] = offset;
    this.#columns[at + 2] = length;
    this.#columns[at + 3] = uncompressed;
    this.#count++;
  }
}
