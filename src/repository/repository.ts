import * as z from "zod";
import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import { type BlobLocation, BlobTable, ID_BYTES } from "./blob-table.ts";
import { CRYPTO_OVERHEAD, type CryptoKey } from "./crypto.ts";
import { Decoder } from "./decoder.ts";
import { RepositoryError } from "./errors.ts";
import { IdSet } from "./id-set.ts";
import { type IndexEntries, isHexId } from "./index-file.ts";
import { openMasterKey } from "./key-file.ts";
import type { LockOwner } from "./lock.ts";
import { findPins, pinSnapshot } from "./pin.ts";
import { RepositoryFile } from "./repository-file.ts";
import { type Snapshot, toSnapshot } from "./snapshot.ts";
import { parseTree, splitPath, type TreeNode } from "./tree.ts";
import { readUnpackedJson } from "./unpacked.ts";
import { findZeroBlobs } from "./zero-blobs.ts";

const config = z.object({ version: z.int(), id: z.string().max(128) });

/** Index files decoded at once: each holds up to 50,000 blobs as JSON while it is read. */
const INDEX_FILES_AT_ONCE = 2;
const INDEX_FILE_LIMIT = 128 * 1024 * 1024;
const SNAPSHOTS_AT_ONCE = 16;
/** A tree deeper than that is no disk's place. */
const DEPTH_LIMIT = 64;

/** What an entry of a directory in a snapshot is. */
export interface DirectoryEntry {
  readonly name: string;
  readonly kind: "file" | "directory" | "other";
  readonly size: number;
}

/** Counted since the repository was opened. */
export interface RepositoryCounters {
  /** Bytes of packs that were read from the backend. */
  bytesFetched: number;
  blobsFetched: number;
  failures: number;
}

interface OpenOptions {
  /** Worker threads that decode. */
  readonly threads?: number;
}

/**
 * A restic repository, format 1 or 2, opened for reading. Holds in memory only what the files that were opened need: about
 * 60 bytes for each of their blobs, whatever else the repository holds.
 */
export class Repository {
  readonly id: string;
  /** Format version: 1, or 2 with compression. */
  readonly version: number;
  readonly location: string;
  readonly counters: RepositoryCounters = { bytesFetched: 0, blobsFetched: 0, failures: 0 };
  readonly #backend: Backend;
  readonly #key: CryptoKey;
  readonly #decoder: Decoder;
  /** Data blobs of the opened files. */
  #data = new BlobTable();
  #wanted: Buffer[] = [];

  private constructor(backend: Backend, key: CryptoKey, decoder: Decoder, id: string, version: number) {
    this.#backend = backend;
    this.#key = key;
    this.#decoder = decoder;
    this.location = backend.location;
    this.id = id;
    this.version = version;
  }

  /**
   * @throws RepositoryError REPOSITORY_NOT_FOUND, REPOSITORY_WRONG_PASSWORD, REPOSITORY_UNSUPPORTED, REPOSITORY_UNREACHABLE
   */
  static async open(backend: Backend, password: string, options: OpenOptions = {}): Promise<Repository> {
    if (!(await backend.exists({ type: "config", name: "" }).catch(notThere))) {
      throw new RepositoryError("REPOSITORY_NOT_FOUND", `there is no restic repository at ${backend.location}`, {
        hint: "Check the path, and that its volume is mounted.",
      });
    }
    const key = await openMasterKey(backend, password);
    const parsed = config.safeParse(await readUnpackedJson(backend, key, { type: "config", name: "" }));
    if (!parsed.success) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", "config is not one of restic");
    const { id, version } = parsed.data;
    if (version !== 1 && version !== 2) {
      throw new RepositoryError(
        "REPOSITORY_UNSUPPORTED",
        `the repository has format ${version}; formats 1 and 2 are known`,
        {
          hint: "A newer version of this product may read it.",
        },
      );
    }
    return new Repository(backend, key, new Decoder(key, options.threads ?? 2), id, version);
  }

  /** Every snapshot, pins of this product included; unordered. */
  async snapshots(): Promise<Snapshot[]> {
    const names = await this.#backend.list("snapshots");
    return mapBounded(names, SNAPSHOTS_AT_ONCE, async (name) =>
      toSnapshot(name, await readUnpackedJson(this.#backend, this.#key, { type: "snapshots", name })),
    );
  }

  /** A snapshot by its full id. */
  async snapshot(id: string): Promise<Snapshot> {
    try {
      return toSnapshot(id, await readUnpackedJson(this.#backend, this.#key, { type: "snapshots", name: id }));
    } catch (cause) {
      if (errorCode(cause) !== "REPOSITORY_OBJECT_MISSING") throw cause;
      throw new RepositoryError("SNAPSHOT_NOT_FOUND", `there is no snapshot ${id}`, {
        cause,
        hint: "`restic snapshots` lists them; it may have been forgotten.",
      });
    }
  }

  /** Looks into a snapshot's tree. Holds the index of all tree blobs until it is let go. */
  async browse(snapshot: Snapshot): Promise<SnapshotTree> {
    const trees = await this.#loadIndex(undefined);
    return new SnapshotTree(snapshot, (id) => this.#fetch(trees.locations(Buffer.from(id, "hex")), id));
  }

  /**
   * Opens files for random access: one more pass over the index, in which only their blobs are kept. May be called again
   * for further files.
   *
   * @throws RepositoryError REPOSITORY_BLOB_UNKNOWN where the index lacks one of their blobs
   */
  async openFiles(nodes: readonly FileNode[]): Promise<RepositoryFile[]> {
    const lists = nodes.map((node) => contentIds(node));
    this.#wanted.push(...lists);
    await this.reloadIndex();
    const files: RepositoryFile[] = [];
    for (const [index, node] of nodes.entries()) files.push(await this.#layOut(node, lists[index] ?? Buffer.alloc(0)));
    return files;
  }

  /** Reads the index anew: after a prune, blobs lie in other packs. */
  async reloadIndex(): Promise<void> {
    this.#data = await this.#loadIndex(IdSet.of(this.#wanted));
  }

  /**
   * The plain bytes of a blob of an opened file, verified. Where one copy is missing or damaged, the next is tried.
   *
   * @param id 64 hex digits
   * @throws RepositoryError REPOSITORY_PACK_MISSING, REPOSITORY_BLOB_DAMAGED, REPOSITORY_BLOB_UNKNOWN, REPOSITORY_UNREACHABLE
   */
  async readBlob(id: string): Promise<Buffer> {
    return this.#fetch(this.#data.locations(Buffer.from(id, "hex")), id);
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

  /** See `pinSnapshot`. */
  pin(snapshotId: string, uid: string, owner: LockOwner, now: () => number): Promise<string> {
    return pinSnapshot(this.#backend, this.#key, this.version, snapshotId, uid, owner, now);
  }

  /** Whether a pin of this restore is there. */
  async isPinned(uid: string): Promise<boolean> {
    return (await findPins(this.#backend, this.#key, uid)).length > 0;
  }

  /** Removes the pins of a restore; none is no error. */
  async unpin(uid: string): Promise<void> {
    for (const pin of await findPins(this.#backend, this.#key, uid)) {
      await this.#backend.remove({ type: "snapshots", name: pin.id });
    }
  }

  async close(): Promise<void> {
    await this.#decoder.close();
    await this.#backend.close();
  }

  async #fetch(locations: readonly BlobLocation[], id: string): Promise<Buffer> {
    let failure = new RepositoryError("REPOSITORY_BLOB_UNKNOWN", `no index lists blob ${id}`, {
      hint: "Run `restic check`; a prune may have removed it.",
    });
    for (const { pack, offset, length, uncompressedLength } of locations) {
      try {
        const sealed = await this.#backend.readRange({ type: "data", name: pack }, offset, length);
        this.counters.bytesFetched += length;
        this.counters.blobsFetched++;
        return await this.#decoder.blob(id, pack, sealed, uncompressedLength);
      } catch (cause) {
        this.counters.failures++;
        failure =
          cause instanceof RepositoryError
            ? cause
            : new RepositoryError("REPOSITORY_UNREACHABLE", `blob ${id}`, { cause });
        if (failure.code === "REPOSITORY_OBJECT_MISSING") {
          failure = new RepositoryError("REPOSITORY_PACK_MISSING", `pack ${pack}, which holds blob ${id}, is missing`, {
            cause,
            hint: "A prune may have moved its blobs; the index is read anew. If it stays away, run `restic check`.",
          });
        }
      }
    }
    throw failure;
  }

  /** @param wanted data blobs to keep; undefined keeps the tree blobs instead. */
  async #loadIndex(wanted: IdSet | undefined): Promise<BlobTable> {
    const names = await this.#backend.list("index");
    const superseded = new Set<string>();
    const loaded = await mapBounded(names, INDEX_FILES_AT_ONCE, async (name): Promise<[string, IndexEntries]> => {
      const sealed = await this.#backend.readAll({ type: "index", name }, INDEX_FILE_LIMIT);
      const entries = await this.#decoder.index(name, sealed, wanted?.shared);
      for (const old of entries.supersedes) superseded.add(old);
      return [name, entries];
    });
    const table = new BlobTable();
    for (const [name, { packs, ids, columns }] of loaded) {
      if (superseded.has(name)) continue;
      for (let index = 0; index * ID_BYTES < ids.length; index++) {
        const [pack = 0, offset = 0, length = 0, uncompressedLength = 0] = columns.subarray(index * 4, index * 4 + 4);
        const id = ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
        table.add(id, { pack: packs[pack] ?? "", offset, length, uncompressedLength });
      }
    }
    return table;
  }

  async #layOut(node: FileNode, ids: Buffer): Promise<RepositoryFile> {
    const count = ids.length / ID_BYTES;
    const offsets = new Float64Array(count + 1);
    for (let index = 0; index < count; index++) {
      const id = ids.subarray(index * ID_BYTES, (index + 1) * ID_BYTES);
      const [location] = this.#data.locations(id);
      if (location === undefined) {
        throw new RepositoryError(
          "REPOSITORY_BLOB_UNKNOWN",
          `no index lists blob ${id.toString("hex")} of ${node.path}`,
          {
            hint: "Run `restic check`; the snapshot is incomplete.",
          },
        );
      }
      const length = location.uncompressedLength > 0 ? location.uncompressedLength : location.length - CRYPTO_OVERHEAD;
      offsets[index + 1] = (offsets[index] ?? 0) + length;
    }
    if (offsets[count] !== node.size) {
      throw new RepositoryError(
        "REPOSITORY_OBJECT_DAMAGED",
        `${node.path}: its blobs hold ${offsets[count]} bytes, its size is ${node.size}`,
      );
    }
    const zero = await findZeroBlobs(ids, offsets, (length) => this.#decoder.zeroId(length));
    return new RepositoryFile(node.path, ids, offsets, zero);
  }
}

/** A regular file in a snapshot's tree. */
export interface FileNode {
  readonly path: string;
  readonly size: number;
  readonly content: readonly string[];
}

/** The directories and files of one snapshot. */
export class SnapshotTree {
  readonly #snapshot: Snapshot;
  readonly #readTree: (id: string) => Promise<Buffer>;

  constructor(snapshot: Snapshot, readTree: (id: string) => Promise<Buffer>) {
    this.#snapshot = snapshot;
    this.#readTree = readTree;
  }

  /** @throws RepositoryError PATH_NOT_FOUND */
  async list(path: string): Promise<DirectoryEntry[]> {
    return (await this.#nodes(splitPath(path), path)).map(({ name, type, size }) => ({
      name,
      kind: type === "file" ? "file" : type === "dir" ? "directory" : "other",
      size: size ?? 0,
    }));
  }

  /** @throws RepositoryError PATH_NOT_FOUND, PATH_NOT_A_FILE */
  async file(path: string): Promise<FileNode> {
    const parts = splitPath(path);
    const name = parts.pop();
    const found = name === undefined ? undefined : (await this.#nodes(parts, path)).find((node) => node.name === name);
    if (found === undefined) throw await this.#notFound(path, parts);
    if (found.type !== "file") {
      throw new RepositoryError("PATH_NOT_A_FILE", `${path} is a ${found.type} in snapshot ${this.#snapshot.id}`, {
        hint: "Give the path of the disk's file.",
      });
    }
    return { path: `/${[...parts, name].join("/")}`, size: found.size ?? 0, content: found.content ?? [] };
  }

  async #nodes(parts: readonly string[], path: string): Promise<TreeNode[]> {
    if (parts.length > DEPTH_LIMIT) throw new RepositoryError("PATH_NOT_FOUND", `${path} is too deep`);
    let nodes = parseTree(this.#snapshot.tree, await this.#readTree(this.#snapshot.tree));
    for (const [depth, part] of parts.entries()) {
      const subtree = nodes.find((node) => node.name === part && node.type === "dir")?.subtree;
      if (subtree === undefined || subtree === null) throw await this.#notFound(path, parts.slice(0, depth));
      nodes = parseTree(subtree, await this.#readTree(subtree));
    }
    return nodes;
  }

  async #notFound(path: string, parent: readonly string[]): Promise<RepositoryError> {
    const names = await this.#nodes(parent, path).then(
      (nodes) =>
        nodes
          .slice(0, 10)
          .map((node) => node.name)
          .join(", "),
      () => "",
    );
    return new RepositoryError("PATH_NOT_FOUND", `${path} is not in snapshot ${this.#snapshot.id}`, {
      hint: `/${parent.join("/")} holds: ${names || "nothing"}.`,
    });
  }
}

function contentIds(node: FileNode): Buffer {
  const ids = Buffer.allocUnsafe(node.content.length * ID_BYTES);
  for (const [index, id] of node.content.entries()) {
    if (!isHexId(id)) throw new RepositoryError("REPOSITORY_OBJECT_DAMAGED", `${node.path}: its content names no blob`);
    ids.write(id, index * ID_BYTES, "hex");
  }
  return ids;
}

function notThere(cause: unknown): boolean {
  if (errorCode(cause) === "REPOSITORY_OBJECT_MISSING") return false;
  throw cause;
}

/** Results in the order of `items`, with at most `limit` under way at once. */
async function mapBounded<T, R>(items: readonly T[], limit: number, body: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) results[index] = await body(items[index] as T);
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  return results;
}
