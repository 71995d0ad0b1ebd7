import { randomUUID } from "node:crypto";
import { open, readdir, rename, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";

const NAME = "lock.sock";
/** The sockets of those who are about to take the lock. */
const TAKERS = `${NAME}.`;
/** Of a taker's socket that does not listen yet. */
const UNBORN = ".new";
/** How often, and for how long in all, others who take the lock at the same moment are waited for. */
const WAIT_MS = 5;
const WAITS = 200;

/** Called before each look at the directory and each change of it: for whoever wants to come between. */
type Step = () => Promise<void>;

interface Place {
  /** A short name of the directory's file: socket paths end after 107 bytes. */
  at(name: string): string;
  readonly step: Step;
}

/**
 * Keeps a second process on this node out of a directory: a listening socket in it, which ends with its process however that
 * ends. Across nodes it says nothing; ReadWriteOncePod and the epoch do that (docs/overlay.md).
 *
 * @returns a function that lets go
 * @throws DiskError OVERLAY_LOCKED while another process holds it
 */
export async function lockDirectory(
  directory: string,
  step: Step = async () => undefined,
): Promise<() => Promise<void>> {
  // A directory's descriptor gives any directory a short name.
  const handle = await open(directory, "r");
  const place: Place = { at: (name) => `/proc/self/fd/${handle.fd}/${name}`, step };
  try {
    const server = await alone(place, () => take(place));
    server.unref();
    return async () => {
      await close(server);
      await handle.close();
    };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * Runs `body` while no other taker runs its own: a name cannot be taken from a dead socket in one step, so whoever does it must know that
 * nobody puts a living one there meanwhile. Each taker has a socket of its own, under a name that is never used again, and looks for
 * those of others once it listens: of two, the one that began to listen later sees the other. A dead one stays dead, so it can be removed.
 */
async function alone<T>({ at, step }: Place, body: () => Promise<T>): Promise<T> {
  const own = `${TAKERS}${randomUUID()}`;
  await step();
  const server = await listen(at(`${own}${UNBORN}`));
  if (server === undefined) throw locked();
  try {
    // Under this name it never was without listening: nobody took it for dead.
    await step();
    await rename(at(`${own}${UNBORN}`), at(own)).catch(otherwise("ENOENT", locked()));
    await othersGone({ at, step }, own);
    return await body();
  } finally {
    await step();
    await unlink(at(own)).catch(ignored("ENOENT"));
    await close(server);
  }
}

/** Of those who are about to take the lock, the one whose name comes first goes on, once the others have seen it and given up. */
async function othersGone({ at, step }: Place, own: string): Promise<void> {
  for (let wait = 0; wait < WAITS; wait++) {
    await step();
    const others = (await readdir(at("."))).filter((name) => name.startsWith(TAKERS) && name !== own);
    const dead: string[] = [];
    let isAlone = true;
    for (const other of others) {
      await step();
      if (!(await isAlive(at(other)))) dead.push(other);
      else if (!other.endsWith(UNBORN)) {
        if (other < own) throw locked();
        isAlone = false;
      }
    }
    if (isAlone) {
      for (const name of dead) await unlink(at(name)).catch(ignored("ENOENT"));
      return;
    }
    await sleep(WAIT_MS);
  }
  throw locked();
}

/** Listens under the lock's name; nobody else tries meanwhile. */
async function take({ at, step }: Place): Promise<Server> {
  await step();
  if (await isAlive(at(NAME))) throw locked();
  await step();
  await unlink(at(NAME)).catch(ignored("ENOENT"));
  await step();
  const server = await listen(at(NAME));
  if (server === undefined) throw locked();
  return server;
}

/** Undefined where there is a socket of that name already. */
function listen(path: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once("error", (error) => (errorCode(error) === "EADDRINUSE" ? resolve(undefined) : reject(error)));
    server.listen(path, () => resolve(server));
  });
}

async function close(server: Server): Promise<void> {
  await new Promise((resolve) => server.close(resolve));
}

function locked(): DiskError {
  return new DiskError("OVERLAY_LOCKED", "another media agent has this overlay open", {
    hint: "Wait until its pod is gone. Only one may ever write.",
  });
}

/** Only what says that nobody listens is taken for that: a living one may have no room for one connection more. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => resolve(!["ECONNREFUSED", "ENOENT"].includes(errorCode(error) ?? "")));
  });
}

function ignored(code: string): (error: unknown) => void {
  return otherwise(code, undefined);
}

/** In the place of an error of this code comes another, or none. */
function otherwise(code: string, instead: DiskError | undefined): (error: unknown) => void {
  return (error) => {
    if (errorCode(error) !== code) throw error;
    if (instead !== undefined) throw instead;
  };
}
