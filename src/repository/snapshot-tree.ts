import { ID_BYTES } from "./blob-id.ts";
import { RepositoryError } from "./errors.ts";
import { release } from "./release.ts";
import type { Snapshot } from "./snapshot.ts";
import { splitPath, type Tree, type TreeNode } from "./tree.ts";

/** A tree deeper than that is no disk's place. */
const DEPTH_LIMIT = 64;
/** Names shown where a path is not found. */
const NAMES_SHOWN = 10;

/** What an entry of a directory in a snapshot is. */
export interface DirectoryEntry {
  readonly name: string;
  readonly kind: "file" | "directory" | "other";
  /** Bytes. */
  readonly size: number;
}

/** A regular file in a snapshot's tree. */
export interface FileNode {
  /** Absolute, in the snapshot. */
  readonly path: string;
  /** Bytes, as the tree says; checked against the blobs when the file is opened. */
  readonly size: number;
  /** The ids of its blobs, 32 bytes each, one behind the other; until it is opened. */
  readonly content: Uint8Array;
}

/** The directories and files of one snapshot. */
export class SnapshotTree {
  readonly #snapshot: Snapshot;
  readonly #readTree: (id: string) => Promise<Tree>;

  constructor(snapshot: Snapshot, readTree: (id: string) => Promise<Tree>) {
    this.#snapshot = snapshot;
    this.#readTree = readTree;
  }

  /** @throws RepositoryError PATH_NOT_FOUND */
  async list(path: string): Promise<DirectoryEntry[]> {
    const { nodes } = await this.#directory(splitPath(path), path);
    return nodes.map(({ name, type, size }) => ({
      name,
      kind: type === "file" ? "file" : type === "dir" ? "directory" : "other",
      size,
    }));
  }

  /** @throws RepositoryError PATH_NOT_FOUND, PATH_NOT_A_FILE */
  async file(path: string): Promise<FileNode> {
    const parts = splitPath(path);
    const name = parts.pop();
    const tree = await this.#directory(parts, path);
    const found = tree.nodes.find((node) => node.name === name);
    if (name === undefined || found === undefined) throw this.#notFound(path, parts, tree.nodes);
    if (found.type !== "file") {
      throw new RepositoryError("PATH_NOT_A_FILE", `${path} is a ${found.type} in snapshot ${this.#snapshot.id}`, {
        hint: "Give the path of the disk's file.",
      });
    }
    const start = found.contentStart * ID_BYTES;
    const end = start + found.contentCount * ID_BYTES;
    // A large disk's list is most of its directory's, which was read for this call only: it is not held twice.
    const isMostOfIt = 2 * (end - start) > tree.contents.length;
    const content = isMostOfIt ? tree.contents.subarray(start, end) : tree.contents.slice(start, end);
    if (!isMostOfIt) release(tree.contents);
    return { path: `/${[...parts, name].join("/")}`, size: found.size, content };
  }

  async #directory(parts: readonly string[], path: string): Promise<Tree> {
    if (parts.length > DEPTH_LIMIT) throw new RepositoryError("PATH_NOT_FOUND", `${path} is too deep`);
    let tree = await this.#readTree(this.#snapshot.tree);
    for (const [depth, part] of parts.entries()) {
      const subtree = tree.nodes.find((node) => node.name === part && node.type === "dir")?.subtree;
      if (subtree === undefined) throw this.#notFound(path, parts.slice(0, depth), tree.nodes);
      tree = await this.#readTree(subtree);
    }
    return tree;
  }

  #notFound(path: string, parent: readonly string[], siblings: readonly TreeNode[]): RepositoryError {
    const names = siblings.slice(0, NAMES_SHOWN).map((node) => node.name);
    const more = siblings.length > NAMES_SHOWN ? ", …" : "";
    return new RepositoryError("PATH_NOT_FOUND", `${path} is not in snapshot ${this.#snapshot.id}`, {
      hint: `/${parent.join("/")} holds: ${names.join(", ") || "nothing"}${more}.`,
    });
  }
}
