import * as z from "zod";
import type { Backend } from "./backends/backend.ts";
import type { CryptoKey } from "./crypto.ts";
import { RepositoryError } from "./errors.ts";
import { readUnpackedJson, saveUnpackedJson } from "./unpacked.ts";

/** restic calls a lock stale, and lets `unlock` remove it, when it is older than this. */
const STALE_MS = 30 * 60 * 1000;

const lockFile = z.object({
  time: z.string(),
  exclusive: z.boolean().default(false),
  hostname: z.string().default("?"),
});

/** Who we are in the locks we make. */
export interface LockOwner {
  readonly hostname: string;
  readonly pid: number;
}

/**
 * Holds a non-exclusive lock (restic doc/design.rst, "Locks") while `body` runs, so that no prune takes away what it is
 * looking at. Short by design: a prune of somebody else waits for it or fails.
 *
 * @param now milliseconds since the epoch.
 * @throws RepositoryError REPOSITORY_LOCKED where somebody holds an exclusive lock that is not stale.
 */
export async function withLock<T>(
  backend: Backend,
  key: CryptoKey,
  version: number,
  owner: LockOwner,
  now: () => number,
  body: () => Promise<T>,
): Promise<T> {
  // Somebody who begins just now is not to be held up by a lock that is refused anyway.
  await refuseExclusive(backend, key, undefined, now());
  const name = await saveUnpackedJson(backend, key, version, "locks", {
    time: new Date(now()).toISOString(),
    exclusive: false,
    hostname: owner.hostname,
    username: "vmrestore",
    pid: owner.pid,
    uid: 0,
    gid: 0,
  });
  let result: T;
  try {
    // Ours is in place before we look for others': of two that lock at once, at least one sees the other.
    await refuseExclusive(backend, key, name, now());
    result = await body();
  } catch (error) {
    // Why it failed is what counts; a lock that stays is stale after half an hour.
    await backend.remove({ type: "locks", name }).catch(() => undefined);
    throw error;
  }
  await backend.remove({ type: "locks", name });
  return result;
}

async function refuseExclusive(backend: Backend, key: CryptoKey, own: string | undefined, now: number): Promise<void> {
  for (const name of await backend.list("locks")) {
    if (name === own) continue;
    const content = await readUnpackedJson(backend, key, { type: "locks", name }).catch((error: unknown) => {
      // It went away between the listing and now, or was cut off by a dying host: neither holds us up.
      if (error instanceof RepositoryError && error.code !== "REPOSITORY_UNREACHABLE") return undefined;
      throw error;
    });
    const lock = lockFile.safeParse(content);
    if (!lock.success || !lock.data.exclusive || now - Date.parse(lock.data.time) > STALE_MS) continue;
    throw new RepositoryError("REPOSITORY_LOCKED", `the repository is locked exclusively by ${lock.data.hostname}`, {
      hint: "A prune is probably running. `restic list locks` shows the locks, `restic unlock` removes stale ones.",
    });
  }
}
