import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import { mapBounded } from "./bounded.ts";
import type { CryptoKey } from "./crypto.ts";
import { type Snapshot, toSnapshot } from "./snapshot.ts";
import { readUnpackedJson } from "./unpacked.ts";

const READS_AT_ONCE = 16;

/**
 * The snapshots of a repository. A snapshot file never changes (its name is the hash of its content), so each is read once,
 * however often the list is asked for.
 */
export class SnapshotList {
  readonly #backend: Backend;
  readonly #key: CryptoKey;
  #known = new Map<string, Snapshot>();

  constructor(backend: Backend, key: CryptoKey) {
    this.#backend = backend;
    this.#key = key;
  }

  /** Every snapshot that is there now; unordered. @throws RepositoryError REPOSITORY_OBJECT_DAMAGED for any that is */
  async all(): Promise<Snapshot[]> {
    return this.#readAll((error) => {
      throw error;
    });
  }

  /** Every snapshot that can be read; damaged ones are left out. */
  async readable(): Promise<Snapshot[]> {
    return this.#readAll((error) => {
      if (errorCode(error) !== "REPOSITORY_OBJECT_DAMAGED") throw error;
      return undefined;
    });
  }

  async #readAll(onFailure: (error: unknown) => undefined): Promise<Snapshot[]> {
    const names = await this.#backend.list("snapshots");
    const read = await mapBounded(names, READS_AT_ONCE, (name) =>
      this.#read(name).catch((error: unknown) =>
        // Forgotten since the listing: it is no longer in the list, then.
        errorCode(error) === "REPOSITORY_OBJECT_MISSING" ? undefined : onFailure(error),
      ),
    );
    const snapshots = read.filter((snapshot) => snapshot !== undefined);
    this.#known = new Map(snapshots.map((snapshot) => [snapshot.id, snapshot]));
    return snapshots;
  }

  async #read(name: string): Promise<Snapshot> {
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    return toSnapshot(name, await readUnpackedJson(this.#backend, this.#key, { type: "snapshots", name }));
  }
}
