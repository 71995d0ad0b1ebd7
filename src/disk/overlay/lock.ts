import { randomUUID } from "node:crypto";
import { link, open, rename, unlink } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";

const NAME = "lock.sock";
/** Others that start at the same moment may come first, time and again, but not for ever. */
const ATTEMPTS = 10;

/**
 * Keeps a second process on this node out of a directory: a listening socket in it, which ends with its process however that
 * ends. Across nodes it says nothing; ReadWriteOncePod and the epoch do that (docs/overlay.md).
 *
 * @returns a function that lets go
 * @throws DiskError OVERLAY_LOCKED while another process holds it
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  // Socket paths end after 107 bytes; a directory's descriptor gives any directory a short name.
  const handle = await open(directory, "r");
  const at = (name: string): string => `/proc/self/fd/${handle.fd}/${name}`;
  try {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const server = await listen(at(NAME));
      if (server !== undefined) {
        server.unref();
        return async () => {
          await new Promise((resolve) => server.close(resolve));
          await handle.close();
        };
      }
      await removeDead(at(NAME), at(`${NAME}.${randomUUID().slice(0, 8)}`));
    }
    throw locked();
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Undefined where there is a socket of that name already. */
function listen(path: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once("error", (error) => (errorCode(error) === "EADDRINUSE" ? resolve(undefined) : reject(error)));
    server.listen(path, () => resolve(server));
  });
}

/**
 * Takes the socket of a process that is gone out of the way. Between the look at it and its removal somebody else may have put a
 * living one in its place: so it is moved first, looked at again, and put back where it lives.
 */
async function removeDead(path: string, aside: string): Promise<void> {
  if (await isAlive(path)) throw locked();
  try {
    await rename(path, aside);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  const lives = await isAlive(aside);
  if (lives) await link(aside, path);
  await unlink(aside);
  if (lives) throw locked();
}

function locked(): DiskError {
  return new DiskError("OVERLAY_LOCKED", "another media agent has this overlay open", {
    hint: "Wait until its pod is gone. Only one may ever write.",
  });
}

function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
