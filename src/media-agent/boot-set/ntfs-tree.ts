import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import type { Directory, FileTree, TreeNode } from "./file-tree.ts";
import { type NtfsLayout, repaired } from "./ntfs-layout.ts";
import { ATTRIBUTE, type NtfsAttribute, parseAttributes } from "./ntfs-record.ts";

const ROOT = 5;
const DIRECTORY = 2;
const IN_USE = 1;
const NAMES = "$I30";
/** Further records of one file. */
const RECORDS = 32;
const LIST_LIMIT = 256 * 1024;
const INDEX_LIMIT = 4 * 1024 * 1024;
const ENTRIES_LIMIT = 16_384;
const LAST_ENTRY = 2;
/** Names of the old short form only: each file has another. */
const SHORT_NAME = 2;

export interface NtfsFile extends TreeNode {
  readonly attributes: readonly NtfsAttribute[];
}

/** An NTFS file system's files, by the numbers of their records; names in lower case. */
export class NtfsTree implements FileTree<NtfsFile> {
  readonly root = ROOT;
  readonly #volume: Volume;
  readonly #layout: NtfsLayout;
  /** Where the master file table lies. */
  #table: readonly Extent[] = [];
  /** Where each of its pieces begins in the table, bytes. */
  #starts: readonly number[] = [];

  private constructor(volume: Volume, layout: NtfsLayout) {
    this.#volume = volume;
    this.#layout = layout;
    // Its first record says where the rest is.
    this.#place([{ offset: layout.table, length: layout.recordBytes }]);
  }

  /** Undefined where the master file table cannot be read. */
  static async open(volume: Volume, layout: NtfsLayout): Promise<NtfsTree | undefined> {
    const tree = new NtfsTree(volume, layout);
    const first = await tree.#record(0);
    if (first === undefined) return undefined;
    const own = dataOf(parseAttributes(first.content, layout));
    if (own.length === 0) return undefined;
    tree.#place(own);
    // A table in many pieces names the others in records that lie in the first.
    const whole = await tree.node(0);
    if (whole !== undefined) tree.#place(dataOf(whole.attributes));
    return tree;
  }

  get table(): readonly Extent[] {
    return this.#table;
  }

  async node(number: number): Promise<NtfsFile | undefined> {
    const record = await this.#record(number);
    if (record === undefined || (record.content.readUInt16LE(22) & IN_USE) === 0) return undefined;
    const attributes = await this.#attributes(number, record.content);
    const isDirectory = (record.content.readUInt16LE(22) & DIRECTORY) !== 0;
    const data = attributes.find(({ type, name }) => type === ATTRIBUTE.data && name === "");
    return { kind: isDirectory ? "directory" : "file", size: data?.size ?? 0, place: record.place, attributes };
  }

  async directory(file: NtfsFile): Promise<Directory> {
    const entries = new Map<string, number>();
    const root = file.attributes.find(({ type, name }) => type === ATTRIBUTE.indexRoot && name === NAMES)?.value;
    if (root === undefined || root.length < 32) return { entries, extents: [] };
    parseEntries(root, 16, entries);
    const blockBytes = root.readUInt32LE(8);
    const extents = extentsOf(file.attributes, ATTRIBUTE.indexAllocation, NAMES);
    if (blockBytes < 512 || blockBytes > 65_536) return { entries, extents };
    let left = INDEX_LIMIT;
    for (const { offset, length } of extents) {
      for (let at = 0; at + blockBytes <= length && left > 0 && entries.size < ENTRIES_LIMIT; at += blockBytes) {
        left -= blockBytes;
        const block = await this.#volume.read(offset + at, blockBytes);
        const content = block === undefined ? undefined : repaired(block, "INDX");
        if (content !== undefined) parseEntries(content, 24, entries);
      }
    }
    return { entries, extents };
  }

  async *extents(file: NtfsFile, limit: number): AsyncGenerator<Extent> {
    let left = limit;
    for (const { offset, length } of dataOf(file.attributes)) {
      if (left <= 0) return;
      yield { offset, length: Math.min(length, left) };
      left -= length;
    }
  }

  #place(table: readonly Extent[]): void {
    const starts: number[] = [];
    let start = 0;
    for (const { length } of table) {
      starts.push(start);
      start += length;
    }
    this.#table = table;
    this.#starts = starts;
  }

  /** A record, repaired, and where it lies. */
  async #record(number: number): Promise<{ content: Buffer; place: Extent } | undefined> {
    const { recordBytes } = this.#layout;
    const piece = this.#pieceAt(number * recordBytes);
    if (piece === undefined || piece.length < recordBytes) return undefined;
    const place = { offset: piece.offset, length: recordBytes };
    const bytes = await this.#volume.read(place.offset, recordBytes);
    const content = bytes === undefined ? undefined : repaired(bytes, "FILE");
    return content === undefined ? undefined : { content, place };
  }

  /** What is left of the table's piece that holds a byte of it. Halves: a hostile table has pieces by the hundred thousand. */
  #pieceAt(at: number): Extent | undefined {
    let low = 0;
    let high = this.#table.length - 1;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((this.#starts[middle] ?? 0) <= at) low = middle;
      else high = middle - 1;
    }
    const within = at - (this.#starts[low] ?? 0);
    const piece = this.#table[low];
    return piece === undefined ? undefined : { offset: piece.offset + within, length: piece.length - within };
  }

  /** A file's attributes, with those that its list says lie in other records. */
  async #attributes(number: number, record: Buffer): Promise<readonly NtfsAttribute[]> {
    const own = parseAttributes(record, this.#layout);
    const list = own.find(({ type }) => type === ATTRIBUTE.list);
    if (list === undefined) return own;
    const others = new Set<number>();
    const bytes = list.value ?? (await this.#contentOf(list));
    for (let at = 0; at + 24 <= bytes.length && others.size < RECORDS; ) {
      const other = bytes.readUIntLE(at + 16, 6);
      if (other !== number) others.add(other);
      const length = bytes.readUInt16LE(at + 4);
      if (length < 24) break;
      at += length;
    }
    const all = [...own];
    for (const other of others) {
      const found = await this.#record(other);
      if (found !== undefined) all.push(...parseAttributes(found.content, this.#layout));
    }
    return all;
  }

  async #contentOf({ extents, size }: NtfsAttribute): Promise<Buffer> {
    const [first] = extents;
    const length = Math.min(first?.length ?? 0, size, LIST_LIMIT);
    const content = first === undefined || length <= 0 ? undefined : await this.#volume.read(first.offset, length);
    return content ?? Buffer.alloc(0);
  }
}

function dataOf(attributes: readonly NtfsAttribute[]): Extent[] {
  return extentsOf(attributes, ATTRIBUTE.data, "");
}

/** Where an attribute lies, its parts in order. */
function extentsOf(attributes: readonly NtfsAttribute[], type: number, name: string): Extent[] {
  return attributes
    .filter((attribute) => attribute.type === type && attribute.name === name)
    .sort((a, b) => a.firstCluster - b.firstCluster)
    .flatMap(({ extents }) => extents);
}

/** The entries of an index node, whose header is at `header`. Where the tree goes on does not matter: all its nodes are read. */
function parseEntries(node: Buffer, header: number, entries: Map<string, number>): void {
  let at = header + node.readUInt32LE(header);
  const end = Math.min(node.length, header + node.readUInt32LE(header + 4));
  while (at + 16 <= end && entries.size < ENTRIES_LIMIT) {
    const length = node.readUInt16LE(at + 8);
    const keyLength = node.readUInt16LE(at + 10);
    if ((node.readUInt16LE(at + 12) & LAST_ENTRY) !== 0 || length < 16 || at + length > end) return;
    const name = at + 16 + 66;
    if (keyLength >= 66 && name <= at + length) {
      const nameEnd = name + node.readUInt8(name - 2) * 2;
      if (node.readUInt8(name - 1) !== SHORT_NAME && nameEnd <= at + length) {
        entries.set(node.toString("utf16le", name, nameEnd).toLowerCase(), node.readUIntLE(at, 6));
      }
    }
    at += length;
  }
}
