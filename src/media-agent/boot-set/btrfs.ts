import type { Extent } from "../../disk/block-device.ts";
import type { Volume } from "./bounded-disk.ts";
import { type BtrfsItem, BtrfsTrees } from "./btrfs-items.ts";
import { type BtrfsLayout, readBtrfsLayout, SUPERBLOCK } from "./btrfs-layout.ts";
import { type Directory, type FileTree, findFiles, type TreeNode } from "./file-tree.ts";
import { LINUX_LOOKS } from "./linux-looks.ts";

const MIB = 1024 * 1024;
/** The superblock's second copy. */
const COPY: Extent = { offset: 64 * MIB, length: 4096 };
const TYPE = { inode: 1, directoryName: 84, directory: 96, data: 108, root: 132, chunk: 228 } as const;
const ROOT_TREE_DIRECTORY = 6;
const FILE_TREE = 5;
const ENTRIES_LIMIT = 8192;
const EXTENTS_LIMIT = 8192;
const NODES_LIMIT = 65_536;
/** Subvolumes that hold a root file system, as installers name them. */
const ROOT_NAMES = ["@", "root", "@rootfs"];

interface BtrfsNode extends TreeNode {
  readonly tree: number;
  readonly inode: number;
}

/**
 * A btrfs file system: its superblocks, what a Linux boot looks for in the default subvolume and in those that hold a root file
 * system by their names, and the nodes of the trees on the way. Of several devices, only what this one holds in one piece is found.
 */
export async function* btrfsBootSet(volume: Volume): AsyncGenerator<Extent> {
  const layout = await readBtrfsLayout(volume);
  if (layout === undefined) return;
  yield SUPERBLOCK;
  yield COPY;
  const trees = new BtrfsTrees(volume, layout);
  for await (const { offset, content } of trees.items(layout.chunkTree, { type: TYPE.chunk })) {
    layout.chunks.add(offset, content, layout.device);
  }
  yield* trees.visited.values();
  const files = new BtrfsFiles(trees, layout);
  for (const root of await files.roots()) yield* findFiles(files.from(root), LINUX_LOOKS);
  yield* trees.visited.values();
}

/** Inodes of all subvolumes, by numbers of their own: an inode's own number means nothing outside of its subvolume. */
class BtrfsFiles {
  readonly #trees: BtrfsTrees;
  readonly #layout: BtrfsLayout;
  readonly #known: { readonly tree: number; readonly inode: number }[] = [];
  readonly #numbers = new Map<string, number>();

  constructor(trees: BtrfsTrees, layout: BtrfsLayout) {
    this.#trees = trees;
    this.#layout = layout;
  }

  /** The directories that may be the root of what boots: first the default subvolume's. */
  async roots(): Promise<number[]> {
    const wanted = { object: ROOT_TREE_DIRECTORY, type: TYPE.directoryName };
    const found = new Set<number>();
    const add = (number: number | undefined): void => {
      if (number !== undefined) found.add(number);
    };
    for await (const { content } of this.#trees.items(this.#layout.rootTree, wanted)) {
      const entry = parseEntry(content);
      if (entry?.name === "default") add(await this.#subvolume(entry.object));
    }
    const top = await this.#subvolume(FILE_TREE);
    const node = top === undefined ? undefined : await this.#node(top);
    const entries = node === undefined ? undefined : (await this.#directory(node)).entries;
    for (const name of ROOT_NAMES) add(entries?.get(name));
    add(top);
    return [...found];
  }

  from(root: number): FileTree<BtrfsNode> {
    return {
      root,
      node: (number) => this.#node(number),
      directory: (node) => this.#directory(node),
      extents: (node, limit) => this.#extents(node, limit),
    };
  }

  async #node(number: number): Promise<BtrfsNode | undefined> {
    const place = this.#known[number];
    if (place === undefined) return undefined;
    const item = await this.#trees.first(place.tree, { object: place.inode, type: TYPE.inode });
    if (item === undefined || item.content.length < 60) return undefined;
    const format = item.content.readUInt32LE(52) & 0xf000;
    return {
      ...place,
      kind: format === 0x4000 ? "directory" : format === 0x8000 ? "file" : "other",
      size: Number(item.content.readBigUInt64LE(16)),
      place: item.leaf,
    };
  }

  async #directory({ tree, inode }: BtrfsNode): Promise<Directory> {
    const entries = new Map<string, number>();
    const extents = new Set<Extent>();
    for await (const { content, leaf } of this.#trees.items(tree, { object: inode, type: TYPE.directory })) {
      extents.add(leaf);
      const entry = parseEntry(content);
      if (entry === undefined) continue;
      const number = entry.type === TYPE.root ? await this.#subvolume(entry.object) : this.#number(tree, entry.object);
      if (number !== undefined) entries.set(entry.name, number);
      if (entries.size >= ENTRIES_LIMIT) break;
    }
    return { entries, extents: [...extents] };
  }

  async *#extents({ tree, inode }: BtrfsNode, limit: number): AsyncGenerator<Extent> {
    let left = limit;
    let count = 0;
    for await (const { content, leaf } of this.#trees.items(tree, { object: inode, type: TYPE.data })) {
      if (left <= 0 || count++ >= EXTENTS_LIMIT) return;
      yield leaf;
      const place = this.#dataPlace(content);
      if (place === undefined) continue;
      yield { offset: place.offset, length: Math.min(place.length, left) };
      left -= place.length;
    }
  }

  /** Where the data of a file's extent lies; undefined where it is in the leaf itself, a hole, or reserved only. */
  #dataPlace(content: Buffer): Extent | undefined {
    if (content.length < 53 || content.readUInt8(20) !== 1) return undefined;
    const address = Number(content.readBigUInt64LE(21));
    if (address === 0) return undefined;
    // Compressed data is read whole.
    if (content.readUInt8(16) !== 0) return this.#layout.chunks.place(address, Number(content.readBigUInt64LE(29)));
    const offset = Number(content.readBigUInt64LE(37));
    return this.#layout.chunks.place(address + offset, Number(content.readBigUInt64LE(45)));
  }

  /** The root directory of a subvolume. */
  async #subvolume(object: number): Promise<number | undefined> {
    const item: BtrfsItem | undefined = await this.#trees.first(this.#layout.rootTree, { object, type: TYPE.root });
    if (item === undefined || item.content.length < 184) return undefined;
    return this.#number(Number(item.content.readBigUInt64LE(176)), Number(item.content.readBigUInt64LE(168)));
  }

  #number(tree: number, inode: number): number | undefined {
    const key = `${tree} ${inode}`;
    const known = this.#numbers.get(key);
    if (known !== undefined || this.#known.length >= NODES_LIMIT) return known;
    this.#numbers.set(key, this.#known.length);
    this.#known.push({ tree, inode });
    return this.#known.length - 1;
  }
}

/** A directory's entry: the key it leads to, then the lengths of its data and name, and the name. */
function parseEntry(
  content: Buffer,
): { readonly object: number; readonly type: number; readonly name: string } | undefined {
  if (content.length < 30) return undefined;
  const end = 30 + content.readUInt16LE(27);
  if (end > content.length) return undefined;
  return {
    object: Number(content.readBigUInt64LE(0)),
    type: content.readUInt8(8),
    name: content.toString("utf8", 30, end),
  };
}
