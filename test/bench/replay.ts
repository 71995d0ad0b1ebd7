import { setTimeout as delay } from "node:timers/promises";
import { NbdClient } from "../../src/nbd/client.ts";
import type { TraceEvent } from "./boot-trace.ts";
import { launch } from "./commands.ts";
import type { OpenDrive } from "./drives.ts";
import { stopProcess } from "./processes.ts";

const START_LIMIT_MS = 30_000;
let ports = 0;

/**
 * Replays a boot's reads through QEMU's block layer, as a guest's go: each read begins when those have ended that had ended
 * before it in the recorded boot. No time to think.
 *
 * @param onReady called at the end, while the drive still stands
 * @returns milliseconds from the first read to the end of the last
 */
export async function replayTrace(
  drive: OpenDrive,
  trace: readonly TraceEvent[],
  onReady: () => Promise<void>,
): Promise<number> {
  return withReader(drive, async (client) => {
    const start = performance.now();
    const reads: Promise<unknown>[] = [];
    for (const event of trace) {
      if (event.length === 1) await reads[event[0]];
      else reads.push(client.read(event[0], event[1]));
    }
    const took = performance.now() - start;
    await onReady();
    return took;
  });
}

/** Reads a drive through QEMU's block layer. */
export async function withReader<T>({ qemuNbd }: OpenDrive, body: (client: NbdClient) => Promise<T>): Promise<T> {
  const [host, port] = ["127.0.0.1", 17_000 + (++ports % 1000)];
  const server = launch("qemu-nbd", ["-t", "-x", "root", "-b", host, "-p", String(port), ...qemuNbd], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  try {
    const client = await connected(host, port, () => server.exitCode === null);
    try {
      return await body(client);
    } finally {
      client.close();
    }
  } finally {
    await stopProcess(server, "SIGTERM");
  }
}

async function connected(host: string, port: number, lives: () => boolean): Promise<NbdClient> {
  const deadline = performance.now() + START_LIMIT_MS;
  for (;;) {
    try {
      return await NbdClient.connect({ host, port, exportName: "root" });
    } catch (error) {
      if (!lives() || performance.now() > deadline) throw error;
      await delay(20);
    }
  }
}
