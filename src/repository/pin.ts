import { RepositoryError } from "./errors.ts";
import { type LockMaker, withLock } from "./lock.ts";
import { PIN_HOST_PREFIX, type Snapshot, toSnapshot } from "./snapshot.ts";
import type { SnapshotList } from "./snapshot-list.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

/** On every pin, so that `restic snapshots --tag` shows them. */
const PIN_TAG = "vmrestore-pin";

/**
 * Writes a second snapshot of the same tree and time, so that `forget` and `prune` of the backup tool leave the data alone
 * while a VM runs from it. Host, path and tags are its own, so that it is alone in its group by whatever `forget` groups:
 * it neither counts as one of the backups that a policy keeps, nor is it dropped by that policy. Idempotent for a uid.
 *
 * It holds when this resolves, whoever prunes meanwhile: the snapshot was still there *after* the pin was in place, so
 * a prune that no longer found the snapshot found the pin. The lock beside it is only what restic expects of a writer.
 *
 * @param uid of the restore; becomes part of the host name
 * @returns the pin's snapshot id
 * @throws RepositoryError SNAPSHOT_NOT_FOUND where it was forgotten, REPOSITORY_LOCKED, REPOSITORY_READ_ONLY
 */
export async function pinSnapshot(
  writer: LockMaker,
  snapshots: SnapshotList,
  snapshotId: string,
  uid: string,
): Promise<string> {
  const { backend, key, version } = writer;
  // An agent that restarts: its own pin may be all that is left of the snapshot. To find it needs no lock.
  const mine = (await findPins(snapshots, uid)).find((pin) => pin.original === snapshotId);
  if (mine !== undefined) return mine.id;
  const file = { type: "snapshots", name: snapshotId } as const;
  // Who asks again and again for what is gone is to be in nobody's way: a prune refuses to begin while there is a lock.
  if (!(await backend.exists(file))) throw forgotten(snapshotId);
  return withLock(writer, `${PIN_HOST_PREFIX}${uid}`, async () => {
    if (!(await backend.exists(file))) throw forgotten(snapshotId);
    const original = toSnapshot(snapshotId, await readUnpackedJson(backend, key, file));
    const pin = await saveUnpackedJson(backend, key, version, "snapshots", {
      time: original.timeText,
      tree: original.tree,
      paths: [`/${PIN_HOST_PREFIX}${uid}`],
      hostname: `${PIN_HOST_PREFIX}${uid}`,
      username: "vmrestore",
      tags: [PIN_TAG, `${PIN_HOST_PREFIX}${uid}`],
      original: snapshotId,
    });
    if (await backend.exists(file)) return pin;
    await backend.remove({ type: "snapshots", name: pin });
    throw forgotten(snapshotId);
  });
}

/** The pins of a restore. A damaged snapshot protects nothing, so it is none. */
export async function findPins(snapshots: SnapshotList, uid: string): Promise<Snapshot[]> {
  return (await snapshots.readable()).filter((snapshot) => snapshot.host === `${PIN_HOST_PREFIX}${uid}`);
}

function forgotten(id: string): RepositoryError {
  return new RepositoryError("SNAPSHOT_NOT_FOUND", `snapshot ${id} was forgotten before it could be pinned`, {
    hint: "Choose another snapshot; `restic snapshots` lists them.",
  });
}
