import { open, unlink } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { errorCode } from "../../base/errors.ts";
import { DiskError } from "../errors.ts";

const NAME = "lock.sock";

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
  const path = `/proc/self/fd/${handle.fd}/${NAME}`;
  const server = createServer((socket) => socket.destroy());
  const listen = (): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, () => {
        server.off("error", reject);
        resolve();
      });
    });
  try {
    await listen().catch(async (error: unknown) => {
      if (errorCode(error) !== "EADDRINUSE") throw error;
      if (await isAlive(path)) {
        throw new DiskError("OVERLAY_LOCKED", "another media agent has this overlay open", {
          hint: "Wait until its pod is gone. Only one may ever write.",
        });
      }
      await unlink(path);
      await listen();
    });
  } catch (error) {
    await handle.close();
    throw error;
  }
  server.unref();
  return async () => {
    await new Promise((resolve) => server.close(resolve));
    await handle.close();
  };
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
