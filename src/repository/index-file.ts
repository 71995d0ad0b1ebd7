import { ID_BYTES, isHexId } from "./blob-id.ts";
import { CRYPTO_OVERHEAD } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { JsonScanner, keys } from "./json-scanner.ts";

/** restic's chunker makes blobs of at most 8 MiB. */
const DATA_LIMIT = 16 * 1024 * 1024;
/** The tree that holds a disk lists all its blobs, at 67 bytes each: this is enough for about 8 TiB. */
const TREE_LIMIT = 512 * 1024 * 1024;
const UINT32_LIMIT = 2 ** 32;
/** Bytes of JSON for one blob, at least: how many there can be is known before they are read. */
const JSON_PER_BLOB = 120;

/** pack, offset, length, uncompressed length */
const COLUMNS = 4;

/** What was kept of one index file, in a form that passes cheaply between threads. */
export interface IndexEntries {
  readonly packs: string[];
  /** Ids of the blobs kept, one behind the other. */
  readonly ids: Uint8Array<ArrayBuffer>;
  /** For each blob: number of its pack in `packs`, offset, length, uncompressed length (0: not compressed). */
  readonly columns: Uint32Array<ArrayBuffer>;
}

type BlobType = "data" | "tree";
/** Whether to keep the blob whose id lies in the first 32 bytes of `id`. */
type Wanted = (type: BlobType, id: Uint8Array) => boolean;

const TYPES: readonly BlobType[] = ["data", "tree"];
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
export function parseIndex(name: string, plain: Uint8Array, wanted: Wanted): IndexEntries {
  try {
    return new IndexReader(plain, wanted).read();
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
  readonly #wanted: Wanted;
  readonly #packs: string[] = [];
  readonly #id = new Uint8Array(ID_BYTES);
  #ids: Uint8Array<ArrayBuffer>;
  #columns: Uint32Array<ArrayBuffer>;
  #count = 0;

  constructor(plain: Uint8Array, wanted: Wanted) {
    this.#json = new JsonScanner(plain);
    this.#wanted = wanted;
    const room = Math.min(1024, Math.ceil(plain.length / JSON_PER_BLOB));
    this.#ids = new Uint8Array(room * ID_BYTES);
    this.#columns = new Uint32Array(room * COLUMNS);
  }

  read(): IndexEntries {
    const json = this.#json;
    json.object(ROOT, (key) => {
      if (key === 0) json.array(() => this.#pack());
      else json.skip();
    });
    json.end();
    return {
      packs: this.#packs,
      ids: this.#ids.slice(0, this.#count * ID_BYTES),
      columns: this.#columns.slice(0, this.#count * COLUMNS),
    };
  }

  #pack(): void {
    const before = this.#count;
    let id: string | undefined;
    this.#json.object(PACK, (key) => {
      if (key === 0) id = this.#hexId();
      else if (key === 1) this.#json.array(() => this.#blob());
      else this.#json.skip();
    });
    if (id === undefined) throw new SyntaxError("a pack has no id");
    if (this.#count > before) this.#packs.push(id);
  }

  #blob(): void {
    const json = this.#json;
    let hasId = false;
    let type: BlobType | undefined;
    let offset = -1;
    let length = -1;
    let uncompressed = 0;
    json.object(BLOB, (key) => {
      if (key === 0) {
        json.hex(this.#id, 0, ID_BYTES);
        hasId = true;
      } else if (key === 1) type = TYPES[json.choice(TYPE_NAMES)];
      else if (key === 2) offset = json.integer();
      else if (key === 3) length = json.integer();
      else if (key === 4) uncompressed = json.integer();
      else json.skip();
    });
    if (!hasId || type === undefined) throw new SyntaxError("a blob has no id or type");
    const limit = type === "data" ? DATA_LIMIT : TREE_LIMIT;
    const possible =
      offset >= 0 &&
      length >= CRYPTO_OVERHEAD &&
      length <= limit &&
      uncompressed <= limit &&
      offset + length < UINT32_LIMIT;
    if (!possible) throw new SyntaxError(`blob ${Buffer.from(this.#id).toString("hex")} has an impossible place`);
    if (this.#wanted(type, this.#id)) this.#keep(offset, length, uncompressed);
  }

  #keep(offset: number, length: number, uncompressed: number): void {
    if ((this.#count + 1) * ID_BYTES > this.#ids.length) this.#grow();
    this.#ids.set(this.#id, this.#count * ID_BYTES);
    const at = this.#count * COLUMNS;
    this.#columns[at] = this.#packs.length; // the pack's own id is known when all of it was read
    this.#columns[at + 1] = offset;
    this.#columns[at + 2] = length;
    this.#columns[at + 3] = uncompressed;
    this.#count++;
  }

  #grow(): void {
    const room = 2 * (this.#count + 1);
    const ids = new Uint8Array(room * ID_BYTES);
    ids.set(this.#ids);
    this.#ids = ids;
    const columns = new Uint32Array(room * COLUMNS);
    columns.set(this.#columns);
    this.#columns = columns;
  }

  #hexId(): string {
    const id = this.#json.string(2 * ID_BYTES);
    if (!isHexId(id)) throw new SyntaxError("a name is not 64 hexadecimal digits");
    return id;
  }
}
