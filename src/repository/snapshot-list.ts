import { errorCode } from "../base/errors.ts";
import type { Backend } from "./backends/backend.ts";
import { mapBounded } from "./bounded.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { type Snapshot, toSnapshot } from "./snapshot.ts";
import { readUnpackedJson } from "./unpacked.ts";

const READS_AT_ONCE = 16;
/** Letters of all snapshots together: some 100,000 of the usual kind. */
const KEPT_LIMIT = 64 * 1024 * 1024;
/** What each takes beside its letters. */
const SNAPSHOT_WEIGHT = 400;

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

  /** Every snapshot that can be read; damaged ones are left out, and told of. */
  async readable(onDamaged: (error: unknown) => void = () => undefined): Promise<Snapshot[]> {
    return this.#readAll((error) => {
      if (errorCode(error) !== "REPOSITORY_OBJECT_DAMAGED") throw error;
      onDamaged(error);
      return undefined;
    });
  }

  async #readAll(onFailure: (error: unknown) => undefined): Promise<Snapshot[]> {
    const names = await this.#backend.list("snapshots");
    let kept = 0;
    const read = await mapBounded(names, READS_AT_ONCE, (name) =>
      this.#read(name)
        .then((snapshot) => {
          kept += weight(snapshot);
          if (kept > KEPT_LIMIT) throw tooMuch();
          return snapshot;
        })
        .catch((error: unknown) =>
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

function weight({ host, paths, tags }: Snapshot): number {
  return [host, ...paths, ...tags].reduce((sum, text) => sum + text.length, SNAPSHOT_WEIGHT);
}

function tooMuch(): RepositoryError {
  return new RepositoryError("REPOSITORY_UNSUPPORTED", "the repository's snapshots do not fit into memory", {
    hint: "Forget old snapshots, or those with very many paths.",
  });
}
