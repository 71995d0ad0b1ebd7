import * as z from "zod";
import type { Backend } from "./backends/backend.ts";
import { mapBounded } from "./bounded.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

/** restic calls a lock stale, and lets `unlock` remove it, when it is older than this. */
const STALE_MS = 30 * 60 * 1000;

/** Locks read at once. */
const READS_AT_ONCE = 8;

const lockFile = z.object({
  time: z.string(),
  exclusive: z.boolean().default(false),
  hostname: z.string().default("?"),
  username: z.string().default("?"),
});

/** Who we are in the locks we make. */
export interface LockOwner {
  readonly hostname: string;
  readonly pid: number;
}

/** What a lock is made with. */
export interface LockMaker {
  readonly backend: Backend;
  readonly key: CryptoKey;
  /** The repository's format. */
  readonly version: number;
  readonly owner: LockOwner;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/**
 * Holds a non-exclusive lock (restic doc/design.rst, "Locks") while `body` runs, so that no prune takes away what it is
 * looking at. Short by design: a prune of somebody else waits for it or fails.
 *
 * @param purpose the lock's user name; nobody else uses it at the same time, so a lock that bears it was left by a process that
 *   died, and is removed
 * @throws RepositoryError REPOSITORY_LOCKED where somebody holds an exclusive lock that is not stale.
 */
export async function withLock<T>(maker: LockMaker, purpose: string, body: () => Promise<T>): Promise<T> {
  const { backend, key, version, owner, now } = maker;
  // Somebody who begins just now is not to be held up by a lock that is refused anyway.
  const before = await readLocks(maker);
  refuseExclusive(before, now());
  for (const { name, username } of before) if (username === purpose) await unlock(backend, name);
  const own = await saveUnpackedJson(backend, key, version, "locks", {
    time: new Date(now()).toISOString(),
    exclusive: false,
    hostname: owner.hostname,
    username: purpose,
    pid: owner.pid,
    uid: 0,
    gid: 0,
  });
  try {
    // Ours is in place before we look for others': of two that lock at once, at least one sees the other.
    refuseExclusive(
      (await readLocks(maker)).filter(({ name }) => name !== own),
      now(),
    );
    return await body();
  } finally {
    await unlock(backend, own);
  }
}

/** What was done under the lock is what counts; a lock that stays is stale after half an hour. */
async function unlock(backend: Backend, name: string): Promise<void> {
  await backend.remove({ type: "locks", name }).catch(() => undefined);
}

interface FoundLock extends z.infer<typeof lockFile> {
  readonly name: string;
}

async function readLocks({ backend, key }: LockMaker): Promise<FoundLock[]> {
  const locks = await mapBounded(await backend.list("locks"), READS_AT_ONCE, async (name) => {
    const content = await readUnpackedJson(backend, key, { type: "locks", name }).catch((error: unknown) => {
      // It went away between the listing and now, or was cut off by a dying host: neither holds us up.
      if (error instanceof RepositoryError && error.code !== "REPOSITORY_UNREACHABLE") return undefined;
      throw error;
    });
    const lock = lockFile.safeParse(content);
    return lock.success ? { ...lock.data, name } : undefined;
  });
  return locks.filter((lock) => lock !== undefined);
}

function refuseExclusive(locks: readonly FoundLock[], now: number): void {
  for (const { exclusive, time, hostname } of locks) {
    if (!exclusive || now - Date.parse(time) > STALE_MS) continue;
    throw new RepositoryError("REPOSITORY_LOCKED", `the repository is locked exclusively by ${hostname}`, {
      hint: "A prune is probably running. `restic list locks` shows the locks, `restic unlock` removes stale ones.",
    });
  }
}
