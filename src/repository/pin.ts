import type { Backend } from "./backends/backend.ts";
import type { CryptoKey } from "./crypto.ts";
import { type LockOwner, withLock } from "./lock.ts";
import { PIN_HOST_PREFIX, type Snapshot, snapshotFile, toSnapshot } from "./snapshot.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

/**
 * Writes a second snapshot of the same tree and time under a host of its own, so that `forget` and `prune` of the backup
 * tool leave the data alone while a VM runs from it. Idempotent for a uid.
 *
 * @param uid of the restore; becomes part of the host name.
 * @returns the pin's snapshot id.
 */
export async function pinSnapshot(
  backend: Backend,
  key: CryptoKey,
  version: number,
  snapshotId: string,
  uid: string,
  owner: LockOwner,
  now: () => number,
): Promise<string> {
  const host = `${PIN_HOST_PREFIX}${uid}`;
  return withLock(backend, key, version, owner, now, async () => {
    const read = (name: string): Promise<unknown> => readUnpackedJson(backend, key, { type: "snapshots", name });
    const original = snapshotFile.parse(await read(snapshotId));
    for (const pin of await findPins(backend, key, uid)) {
      if (pin.tree === original.tree) return pin.id;
    }
    return saveUnpackedJson(backend, key, version, "snapshots", {
      time: original.time,
      tree: original.tree,
      paths: original.paths,
      hostname: host,
      username: "vmrestore",
      tags: ["vmrestore-pin"],
      original: snapshotId,
    });
  });
}

/** The pins of a restore. */
export async function findPins(backend: Backend, key: CryptoKey, uid: string): Promise<Snapshot[]> {
  const pins: Snapshot[] = [];
  for (const name of await backend.list("snapshots")) {
    const snapshot = toSnapshot(name, await readUnpackedJson(backend, key, { type: "snapshots", name }));
    if (snapshot.host === `${PIN_HOST_PREFIX}${uid}`) pins.push(snapshot);
  }
  return pins;
}
