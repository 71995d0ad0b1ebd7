import { ID_BYTES } from "./blob-id.ts";
import { RepositoryError } from "./errors.ts";
import { keys } from "./json-scanner.ts";
import { JsonStream, type Pieces, type Reading, readPieces } from "./json-stream.ts";

const NAME_LIMIT = 4096;
/** Bytes of JSON for one id in a list: its digits, quotes and a comma. */
const JSON_PER_ID = 2 * ID_BYTES + 2;
/** Directories with more entries than that hold no disks; each costs some hundred bytes in memory. */
const NODE_LIMIT = 1_000_000;
/** Letters of all names together. */
const NAMES_LIMIT = 64 * 1024 * 1024;

/** An entry of a directory. */
export interface TreeNode {
  readonly name: string;
  /** `file`, `dir`, `symlink`, `dev`, … */
  readonly type: string;
  /** Bytes; 0 for what has no size. */
  readonly size: number;
  /** 64 hex digits, for a directory. */
  readonly subtree: string | undefined;
  /** Where its content begins in the tree's `contents`, and how many blobs it has. */
  readonly contentStart: number;
  readonly contentCount: number;
}

/** A directory, in a form that passes cheaply between threads. */
export interface Tree {
  readonly nodes: TreeNode[];
  /** The ids of all files' blobs, one behind the other. */
  readonly contents: Uint8Array<ArrayBuffer>;
}

const ROOT = keys("nodes");
const NODE = keys("name", "type", "size", "content", "subtree");

/**
 * Reads a tree blob (restic doc/design.rst, "Trees and Data").
 *
 * @param length bytes of all pieces
 * @throws RepositoryError REPOSITORY_OBJECT_DAMAGED
 */
export async function parseTree(id: string, pieces: Pieces, length: number): Promise<Tree> {
  try {
    const reader = new TreeReader(length);
    return await readPieces(reader.stream, reader.read(), pieces);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `tree ${id} is not a tree of restic: ${cause.message}`, {
      cause,
    });
  }
}

class TreeReader {
  readonly stream = new JsonStream();
  readonly #nodes: TreeNode[] = [];
  readonly #contents: Uint8Array<ArrayBuffer>;
  #letters = 0;
  /** Ids in `#contents`. */
  #count = 0;

  constructor(length: number) {
    // Room for as many as there can be: what is not used of it is never touched, and so takes no memory.
    this.#contents = new Uint8Array(Math.ceil(length / JSON_PER_ID) * ID_BYTES);
  }

  *read(): Reading<Tree> {
    const { stream } = this;
    yield* stream.object(ROOT, (key) => (key === 0 ? stream.array(() => this.#node()) : stream.skip()));
    yield* stream.end();
    return { nodes: this.#nodes, contents: this.#contents.subarray(0, this.#count * ID_BYTES) };
  }

  *#node(): Reading {
    const { stream } = this;
    const { json } = stream;
    if (this.#nodes.length === NODE_LIMIT) throw new SyntaxError(`more than ${NODE_LIMIT} entries`);
    let name: string | undefined;
    let type = "";
    let size = 0;
    let subtree: string | undefined;
    const contentStart = this.#count;
    yield* stream.object(NODE, (key) => {
      if (key === 3) return stream.list(this.#contentId);
      return stream.step(() => {
        if (key === 0) name = json.string(NAME_LIMIT);
        else if (key === 1) type = json.string(32);
        else if (key === 2) size = json.integer();
        else if (key === 4) subtree = this.#subtreeId();
        else json.skip();
      });
    });
    if (name === undefined || type === "") throw new SyntaxError("an entry has no name or type");
    this.#letters += name.length;
    if (this.#letters > NAMES_LIMIT) throw new SyntaxError(`names of more than ${NAMES_LIMIT} letters`);
    this.#nodes.push({
      name: unquoted(name),
      type,
      size,
      subtree,
      contentStart,
      contentCount: this.#count - contentStart,
    });
  }

  readonly #contentId = (): void => {
    if ((this.#count + 1) * ID_BYTES > this.#contents.length) throw new SyntaxError("more than its length");
    this.stream.json.hex(this.#contents, this.#count * ID_BYTES, ID_BYTES);
    this.#count++;
  };

  #subtreeId(): string | undefined {
    const { json } = this.stream;
    if (json.null()) return undefined;
    const id = Buffer.alloc(ID_BYTES);
    json.hex(id, 0, ID_BYTES);
    return id.toString("hex");
  }
}

/**
 * The name as it is on disk: restic writes it as a Go string literal without its quotes, so that a name which is no UTF-8
 * survives JSON. Bytes that are no UTF-8 become U+FFFD.
 */
function unquoted(name: string): string {
  if (!name.includes("\\")) return name;
  const pieces: Buffer[] = [];
  const escapes = /\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|\\U([0-9a-f]{8})|\\(.)|[^\\]+/gsu;
  for (const [text, byte, unit, point, letter] of name.matchAll(escapes)) {
    const code = Number.parseInt(unit ?? point ?? "", 16);
    if (byte !== undefined) pieces.push(Buffer.from(byte, "hex"));
    else if (code <= 0x10ffff) pieces.push(Buffer.from(String.fromCodePoint(code)));
    else pieces.push(Buffer.from(letter === undefined ? text : (LETTERS[letter] ?? letter)));
  }
  return Buffer.concat(pieces).toString("utf8");
}

/** Go's escapes of one letter (language specification, "Rune literals"); any other stands for itself. */
const LETTERS: Readonly<Record<string, string>> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};

/** The parts of an absolute or relative path; `.` and empty parts mean nothing, `..` is refused. */
export function splitPath(path: string): string[] {
  const parts = path.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw new RepositoryError("PATH_NOT_FOUND", `${path}: a path may not go up`);
  return parts;
}
