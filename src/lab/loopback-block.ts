import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { errorCode, VmRestoreError } from "../base/errors.ts";

/** Second octets of 127.0.0.0/8 that labs share among themselves, two for each: Services and pods. */
const FIRST = 98;
const LAST = 126;
const LOCK_PORT = 61_999;

/** The loopback addresses of one lab. Several labs may run on one machine; each has its own. */
export interface LoopbackBlock {
  /** CIDR notation. */
  readonly serviceRange: string;
  /** The first two octets of pods' addresses. */
  readonly podPrefix: string;
  release(): Promise<void>;
}

/**
 * Takes a block that no other lab on this machine holds; the one that this directory had before where it is free, since Services'
 * addresses never change. Held by a listening socket, which ends with the process.
 */
export async function takeLoopbackBlock(directory: string): Promise<LoopbackBlock> {
  const file = join(directory, "loopback-block");
  const before = Number(await readFile(file, "utf8").catch(() => Number.NaN));
  const all = Array.from({ length: (LAST - FIRST) / 2 + 1 }, (_, index) => FIRST + index * 2);
  for (const octet of Number.isNaN(before) ? all : [before]) {
    const release = await lock(`127.${octet}.255.254`);
    if (release === undefined) continue;
    await writeFile(file, String(octet));
    return { serviceRange: `127.${octet}.0.0/16`, podPrefix: `127.${octet + 1}`, release };
  }
  throw new VmRestoreError(
    "LAB_ADDRESSES_TAKEN",
    "other labs on this machine hold all loopback addresses that this one could have",
    {
      hint: "End the other labs, or use a new directory.",
    },
  );
}

async function lock(address: string): Promise<(() => Promise<void>) | undefined> {
  const server = createServer((socket) => socket.destroy());
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(LOCK_PORT, address, resolve);
    });
  } catch (error) {
    if (errorCode(error) === "EADDRINUSE") return undefined;
    throw error;
  }
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}
