import { createHash } from "node:crypto";
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import * as z from "zod";
import { makeDurable, syncPath } from "../base/durable-file.ts";
import { ID_BYTES } from "../repository/blob-id.ts";
import { IdTable } from "../repository/id-table.ts";
import { RepositoryFile } from "../repository/repository-file.ts";
import type { SnapshotDisk } from "./snapshot-disk.ts";

const MAGIC = Buffer.from("VMRDSK01");
/** Magic, and how long the JSON is that follows. */
const HEAD_BYTES = MAGIC.length + 4;
const HASH_BYTES = 32;
/** Id, then length and whether it is all zeros. */
const BLOB_BYTES = ID_BYTES + 4;
const ZERO_FLAG = 0x80000000;
/** Blobs between two turns of the event loop; about a millisecond. */
const BLOBS_AT_ONCE = 2048;
/** More than an agent could hold. */
const FILE_LIMIT = 1024 * 1024 * 1024;

const header = z.strictObject({
  snapshot: z.string(),
  disks: z.array(
    z.strictObject({
      format: z.enum(["raw", "qcow2", "vmdk", "vhd", "vhdx"]),
      size: z.int().nonnegative(),
      files: z.array(z.strictObject({ path: z.string(), blobCount: z.int().nonnegative() })).min(1),
    }),
  ),
});

/**
 * Of which blobs a snapshot's disks are made, on the cache claim: when the snapshot is gone from the repository, what the cache holds
 * can still be served. Disposable like the cache: whatever is wrong with it makes it as good as none.
 */
export class KeptDisks {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
  }

  /** Resolves when they are kept, or cannot be; never rejects. */
  async save(snapshot: string, disks: readonly SnapshotDisk[]): Promise<void> {
    const path = join(this.#directory, snapshot);
    const temporary = `${path}.part`;
    try {
      await mkdir(this.#directory, { recursive: true });
      await syncPath(dirname(this.#directory));
      // Who put it there may have died before it was durable.
      if (await isWhole(path)) return await makeDurable(path);
      const handle = await open(temporary, "w", 0o600);
      try {
        const hash = createHash("sha256");
        for await (const piece of encode(snapshot, disks)) {
          hash.update(piece);
          await handle.writeFile(piece);
        }
        await handle.writeFile(hash.digest());
        // After a crash of the node, the cache may be all that is left.
        await handle.sync();
      } finally {
        await handle.close();
      }
      await rename(temporary, path);
      await syncPath(this.#directory);
    } catch {
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }

  /** The disks as they were, in their order; undefined where they are not here. Never rejects. */
  async load(snapshot: string): Promise<SnapshotDisk[] | undefined> {
    try {
      const bytes = await readFile(join(this.#directory, snapshot));
      return bytes.length > FILE_LIMIT ? undefined : await decode(bytes, snapshot);
    } catch {
      return undefined;
    }
  }
}

/** Whether the file's checksum fits. */
async function isWhole(path: string): Promise<boolean> {
  const handle = await open(path, "r").catch(() => undefined);
  if (handle === undefined) return false;
  try {
    const hash = createHash("sha256");
    const { size } = await handle.stat();
    const piece = Buffer.alloc(BLOBS_AT_ONCE * BLOB_BYTES);
    let at = 0;
    while (at < size - HASH_BYTES) {
      const { bytesRead } = await handle.read(piece, 0, Math.min(piece.length, size - HASH_BYTES - at), at);
      if (bytesRead === 0) return false;
      hash.update(piece.subarray(0, bytesRead));
      at += bytesRead;
    }
    const { bytesRead } = await handle.read(piece, 0, HASH_BYTES, at);
    return hash.digest().equals(piece.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}

async function* encode(snapshot: string, disks: readonly SnapshotDisk[]): AsyncGenerator<Buffer> {
  const json = Buffer.from(
    JSON.stringify({
      snapshot,
      disks: disks.map(({ format, size, files }) => ({
        format,
        size,
        files: files.map(({ path, blobCount }) => ({ path, blobCount })),
      })),
    } satisfies z.infer<typeof header>),
  );
  const head = Buffer.alloc(HEAD_BYTES);
  MAGIC.copy(head);
  head.writeUInt32LE(json.length, MAGIC.length);
  yield Buffer.concat([head, json]);
  for (const file of disks.flatMap(({ files }) => files)) {
    for (let first = 0; first < file.blobCount; first += BLOBS_AT_ONCE) {
      const count = Math.min(BLOBS_AT_ONCE, file.blobCount - first);
      const piece = Buffer.alloc(count * BLOB_BYTES);
      for (let index = 0; index < count; index++) {
        const { id, length, zero } = file.blob(first + index);
        piece.write(id, index * BLOB_BYTES, "hex");
        piece.writeUInt32LE((length | (zero ? ZERO_FLAG : 0)) >>> 0, index * BLOB_BYTES + ID_BYTES);
      }
      yield piece;
      await nextTurn();
    }
  }
}

async function decode(bytes: Buffer, snapshot: string): Promise<SnapshotDisk[] | undefined> {
  const content = bytes.subarray(0, bytes.length - HASH_BYTES);
  const hash = createHash("sha256");
  for (let at = 0; at < content.length; at += BLOBS_AT_ONCE * BLOB_BYTES) {
    hash.update(content.subarray(at, at + BLOBS_AT_ONCE * BLOB_BYTES));
    await nextTurn();
  }
  if (!hash.digest().equals(bytes.subarray(content.length)) || !content.subarray(0, MAGIC.length).equals(MAGIC)) return;
  let at = HEAD_BYTES + content.readUInt32LE(MAGIC.length);
  const found = header.parse(JSON.parse(content.toString("utf8", HEAD_BYTES, at)));
  const count = found.disks.flatMap(({ files }) => files).reduce((sum, { blobCount }) => sum + blobCount, 0);
  if (found.snapshot !== snapshot || at + count * BLOB_BYTES !== content.length) return undefined;
  const ids = IdTable.withRoom(count);
  const disks: SnapshotDisk[] = [];
  for (const { format, size, files } of found.disks) {
    const decoded: RepositoryFile[] = [];
    for (const { path, blobCount } of files) {
      decoded.push(await decodeFile(content.subarray(at, at + blobCount * BLOB_BYTES), path, ids));
      at += blobCount * BLOB_BYTES;
    }
    const [own, ...others] = decoded;
    if (own === undefined) return undefined;
    disks.push({ format, size, files: [own, ...others] });
  }
  return disks;
}

async function decodeFile(bytes: Buffer, path: string, ids: IdTable): Promise<RepositoryFile> {
  const count = bytes.length / BLOB_BYTES;
  const numbers = new Uint32Array(count);
  const offsets = new Float64Array(count + 1);
  const zero = new Uint8Array(count);
  for (let index = 0; index < count; index++) {
    const word = bytes.readUInt32LE(index * BLOB_BYTES + ID_BYTES);
    numbers[index] = ids.add(bytes, index * BLOB_BYTES);
    offsets[index + 1] = (offsets[index] ?? 0) + (word & ~ZERO_FLAG);
    zero[index] = word >= ZERO_FLAG ? 1 : 0;
    if (index % BLOBS_AT_ONCE === 0) await nextTurn();
  }
  return new RepositoryFile(path, ids, numbers, offsets, zero);
}
