import { existsSync } from "node:fs";
import { copyFile, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NbdExport } from "../../src/nbd/export.ts";
import { NbdServer } from "../../src/nbd/server.ts";
import { bootUntilPage } from "./boot.ts";
import type { Workplace } from "./workplace.ts";

/** `[offset, length]`: the n-th such read begins. `[n]`: read n has come to its end. In the order in which that happened. */
export type TraceEvent = readonly [number, number] | readonly [number];

/** The guest's reads from power-on until its page answers; recorded once, then taken from the workplace. */
export async function bootTrace(workplace: Workplace): Promise<readonly TraceEvent[]> {
  const file = join(workplace.directory, "boot-trace.json");
  if (existsSync(file)) return JSON.parse(await readFile(file, "utf8")) as TraceEvent[];
  process.stdout.write("recording what the guest reads while it boots\n");
  const copy = join(workplace.directory, "traced.img");
  await copyFile(workplace.disk, copy);
  const handle = await open(copy, "r+");
  const server = new NbdServer();
  const socket = join(tmpdir(), `bench-trace-${process.pid}.sock`);
  try {
    const events: TraceEvent[] = [];
    server.addExport(recording(handle, workplace.diskBytes, events));
    await server.listen({ path: socket });
    let until = 0;
    await bootUntilPage(`file=nbd+unix:///root?socket=${socket},format=raw`, async () => {
      until = events.length;
    });
    const trace = closed(events.slice(0, until));
    await writeFile(file, JSON.stringify(trace));
    return trace;
  } finally {
    await server.close();
    await handle.close();
    await rm(copy);
  }
}

type Handle = Awaited<ReturnType<typeof open>>;

function recording(handle: Handle, size: number, events: TraceEvent[]): NbdExport {
  let reads = 0;
  const write = async (offset: number, data: Uint8Array): Promise<void> => {
    await handle.write(data, 0, data.length, offset);
  };
  const writeZeroes = (offset: number, length: number): Promise<void> => write(offset, Buffer.alloc(length));
  return {
    name: "root",
    description: "records what is read",
    size,
    readOnly: false,
    async read(offset, length) {
      const number = reads++;
      events.push([offset, length]);
      const data = Buffer.alloc(length);
      await handle.read(data, 0, length, offset);
      events.push([number]);
      return data;
    },
    write,
    writeZeroes,
    trim: async () => {},
    flush: () => handle.datasync(),
    metaContexts: () => [],
    blockStatus: (_, __, length) => [{ length, flags: 0 }],
  };
}

/** Reads that were under way at the end come to their end. */
function closed(events: readonly TraceEvent[]): TraceEvent[] {
  const ended = new Set(events.flatMap((event) => (event.length === 1 ? [event[0]] : [])));
  const begun = events.filter((event) => event.length === 2).length;
  const open = Array.from({ length: begun }, (_, number) => number).filter((number) => !ended.has(number));
  return [...events, ...open.map((number): TraceEvent => [number])];
}

/** What a trace reads, and what it takes to have it. Bytes. */
export interface TraceSize {
  readonly reads: number;
  readonly bytes: number;
  /** Fetched by a cache of 256 MB in chunks of 4 MiB, the one used longest ago thrown out first. */
  readonly chunked: number;
}

const CHUNK = 4 * 1024 * 1024;
const CHUNKS = 64;

export function traceSize(trace: readonly TraceEvent[]): TraceSize {
  let [reads, bytes, fetched] = [0, 0, 0];
  const cached = new Set<number>();
  for (const event of trace) {
    if (event.length === 1) continue;
    const [offset, length] = event;
    reads++;
    bytes += length;
    for (let chunk = Math.floor(offset / CHUNK); chunk * CHUNK < offset + length; chunk++) {
      if (!cached.delete(chunk)) fetched++;
      cached.add(chunk);
      const [oldest] = cached;
      if (cached.size > CHUNKS && oldest !== undefined) cached.delete(oldest);
    }
  }
  return { reads, bytes, chunked: fetched * CHUNK };
}
