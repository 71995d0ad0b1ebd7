import { createHmac } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ByteWriter } from "../base/bytes.ts";
import { deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { Overlay } from "../disk/overlay/overlay.ts";
import { memorySource } from "../disk/testing/memory-source.ts";
import { SimulatedDirectory } from "../disk/testing/simulated-directory.ts";
import { exportTag, serverTag } from "../nfs/handle.ts";
import { NfsServer } from "../nfs/server.ts";
import { NFS3 } from "../nfs/status.ts";
import { RpcClient } from "../nfs/testing/rpc-client.ts";
import { readOpaque, writeOpaque } from "../nfs/xdr.ts";
import { AgentState } from "./agent-state.ts";
import { ExportedDisk } from "./exported-disk.ts";

const NFS = 100003;
const LOOKUP = 3;
const WRITE = 7;
const PAGE = 4096;
const IDENTITY = { restore: "uid", snapshot: "a".repeat(64), epoch: 1, disks: ["root"] };

let scratch: string;
let claim: SimulatedDirectory;
let clock: ManualClock;
let server: NfsServer;
let state: AgentState;
let overlay: Overlay;
let disk: ExportedDisk;
let port: number;
/** While set, reads of the backup wait for it. */
let backup: Promise<void> | undefined;
const refused: string[] = [];
const clients: RpcClient[] = [];

async function start(): Promise<void> {
  clock = new ManualClock();
  server = new NfsServer({ identity: "uid" });
  state = await AgentState.open(scratch, IDENTITY);
  const memory = memorySource(Buffer.alloc(16 * PAGE));
  const base: typeof memory = {
    ...memory,
    async read(...args) {
      await backup;
      return memory.read(...args);
    },
  };
  overlay = await Overlay.open({ directory: claim.mount(), disk: "root", base, epoch: 1, clock });
  disk = new ExportedDisk({
    ...{ name: "root", overlay, state, nfs: server, epoch: 1, clock, patience: () => undefined },
    observer: {
      read: () => undefined,
      written: () => undefined,
      reading: () => ({ readClass: "guest", end: () => undefined }),
      writeRefused: (_, machine) => refused.push(machine),
    },
    signal: new AbortController().signal,
    onFailed: (error) => {
      throw error;
    },
  });
  port = await server.listen("127.0.0.1", 0);
}

async function stop(): Promise<void> {
  for (const client of clients.splice(0)) client.abandon();
  await server.close();
  await overlay.close();
}

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "second-writer-"));
  claim = new SimulatedDirectory();
  backup = undefined;
  refused.length = 0;
  await start();
});

afterEach(async () => {
  await stop();
  await rm(scratch, { recursive: true, force: true });
});

/** A node's mount. */
class Mounted {
  readonly client: RpcClient;
  readonly handle: Buffer;

  private constructor(client: RpcClient, handle: Buffer) {
    this.client = client;
    this.handle = handle;
  }

  /** @param handle of a mount that was made before */
  static async make(machine: string, handle?: Buffer): Promise<Mounted> {
    const client = await RpcClient.connect(port);
    client.machine = machine;
    clients.push(client);
    return new Mounted(client, handle ?? (await client.fileHandle(disk.exportPath)));
  }

  record(page: number, fill: number, length = PAGE): Buffer {
    const args = this.client.writeArguments(this.handle, page * PAGE, Buffer.alloc(length, fill), 2);
    return this.client.encode(NFS, WRITE, args);
  }

  /** The status. */
  async send(record: Buffer): Promise<number> {
    const reply = await this.client.send(record);
    reply.skip(20);
    return reply.u32be();
  }

  write(page: number, fill: number, length?: number): Promise<number> {
    return this.send(this.record(page, fill, length));
  }
}

const byteAt = async (page: number): Promise<number | undefined> => (await overlay.read(page * PAGE, 1, "guest"))[0];
const told = (): unknown => {
  const { writer, refusedWrites, refusedWriter } = disk.status({ total: 0, staged: 0 }, 0);
  return [writer, refusedWrites, refusedWriter];
};

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise(setImmediate);
  }
}

test("in a live migration the source writes until the target does, and never again", async () => {
  const source = await Mounted.make("node-a");
  expect(await source.write(0, 1)).toBe(NFS3.ok);
  const target = await Mounted.make("node-b");
  expect(await source.write(1, 1)).toBe(NFS3.ok);
  expect(told()).toEqual(["node-a", 0, undefined]);
  expect(await target.write(0, 2)).toBe(NFS3.ok);
  for (const page of [0, 2]) expect(await source.write(page, 1)).toBe(NFS3.acces);
  expect(await target.write(3, 2)).toBe(NFS3.ok);
  expect([await byteAt(0), await byteAt(1), await byteAt(2), await byteAt(3)]).toEqual([2, 1, 0, 2]);
  expect(told()).toEqual(["node-b", 2, "node-a"]);
  expect(refused).toEqual(["node-a", "node-a"]);
});

test("one that never wrote stays out too, once a later one has written: nobody knows whether it still runs", async () => {
  const [first, second] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect(await second.write(0, 2)).toBe(NFS3.ok);
  expect(await first.write(0, 1)).toBe(NFS3.acces);
});

test("a machine that comes back writes through its new mount; what its kernel still sends through the old one is refused", async () => {
  const before = await Mounted.make("node-a");
  expect(await before.write(0, 1)).toBe(NFS3.ok);
  const away = await Mounted.make("node-b");
  expect(await away.write(0, 2)).toBe(NFS3.ok);
  const back = await Mounted.make("node-a");
  // It has mounted, and does not run yet.
  expect(await before.write(0, 1)).toBe(NFS3.acces);
  expect(await away.write(1, 2)).toBe(NFS3.ok);
  expect(await back.write(0, 3)).toBe(NFS3.ok);
  expect([await away.write(0, 2), await before.write(0, 1)]).toEqual([NFS3.acces, NFS3.acces]);
  expect([await byteAt(0), await byteAt(1)]).toEqual([3, 2]);
});

test("two on one node, or without a name, are told apart as well", async () => {
  const [first, second] = [await Mounted.make("same"), await Mounted.make("same")];
  expect([await first.write(0, 1), await second.write(0, 2)]).toEqual([NFS3.ok, NFS3.ok]);
  expect(await first.write(0, 1)).toBe(NFS3.acces);
});

test("it is remembered over a restart, without anybody mounting anew", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect([await a.write(0, 1), await b.write(0, 2)]).toEqual([NFS3.ok, NFS3.ok]);
  await stop();
  await start();
  const [oldA, oldB] = [await Mounted.make("node-a", a.handle), await Mounted.make("node-b", b.handle)];
  expect(await oldA.write(0, 1)).toBe(NFS3.acces);
  expect(await oldB.write(1, 2)).toBe(NFS3.ok);
  expect(told()).toEqual(["node-b", 1, "node-a"]);
  const back = await Mounted.make("node-a");
  expect([await back.write(0, 3), await oldB.write(0, 2), await byteAt(0)]).toEqual([NFS3.ok, NFS3.acces, 3]);
});

test("a write that is sent again after another took over is answered as before where it was carried out, and refused where it was not", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  const [done, lost] = [a.record(0, 1), a.record(1, 1)];
  expect(await a.send(done)).toBe(NFS3.ok);
  expect([await b.write(0, 2), await b.write(1, 2)]).toEqual([NFS3.ok, NFS3.ok]);
  const again = await Mounted.make("node-a", a.handle);
  expect([await again.send(done), await again.send(lost)]).toEqual([NFS3.ok, NFS3.acces]);
  expect([await byteAt(0), await byteAt(1)]).toEqual([2, 2]);
});

test("writes that wait for space when another takes over are refused, those behind them too, and never come about", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect(await a.write(9, 1)).toBe(NFS3.ok);
  claim.limit = 0;
  const waiting = [a.write(0, 1), a.write(0, 1), a.write(1, 1)];
  await until("the claim is full", () => overlay.full);
  // In place there is room.
  expect(await b.write(9, 2)).toBe(NFS3.ok);
  expect(await Promise.all(waiting)).toEqual([NFS3.acces, NFS3.acces, NFS3.acces]);
  claim.limit = undefined;
  await clock.advance(5000);
  expect([await byteAt(0), await byteAt(1), await byteAt(9)]).toEqual([0, 0, 2]);
});

test("a write that waits for the backup when another takes over never comes about, and holds nobody up", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect(await a.write(9, 1)).toBe(NFS3.ok);
  const before = await byteAt(0);
  const gate = deferred();
  backup = gate.promise;
  // Less than a sector: the rest is read first.
  const waiting = a.write(0, 1, 100);
  await until("it has come", () => server.counters.calls >= 6);
  expect(await b.write(5, 2)).toBe(NFS3.ok);
  expect(await waiting).toBe(NFS3.acces);
  gate.resolve();
  expect([await byteAt(0), await byteAt(5)]).toEqual([before, 2]);
});

test("the path that unsealing makes begins anew", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect([await a.write(0, 1), await b.write(0, 2)]).toEqual([NFS3.ok, NFS3.ok]);
  await disk.seal(1);
  await disk.unseal(1);
  expect(state.disk("root").fence).toBeUndefined();
  expect(told()).toEqual([undefined, 0, undefined]);
  const again = await Mounted.make("node-a");
  expect([await again.write(0, 3), await byteAt(0)]).toEqual([NFS3.ok, 3]);
  expect(state.disk("root").fence).toMatchObject({ mounts: 1, writer: 1 });
});

test("a write that was about to take over while the path became another one never comes about", async () => {
  const [a, b] = [await Mounted.make("node-a"), await Mounted.make("node-b")];
  expect(await a.write(0, 1)).toBe(NFS3.ok);
  const [gate, reached, saved] = [deferred(), deferred(), deferred()];
  const setFence = state.setFence.bind(state);
  state.setFence = async (name, path, fence) => {
    if (fence.writer === 2) {
      reached.resolve();
      await gate.promise;
    }
    await setFence(name, path, fence);
    if (fence.writer === 2) saved.resolve();
  };
  const late = b.write(0, 2).catch(() => "no answer");
  await reached.promise;
  await disk.seal(1);
  await disk.unseal(1);
  const fresh = await Mounted.make("node-c");
  expect(await fresh.write(1, 3)).toBe(NFS3.ok);
  gate.resolve();
  expect(await late).toBe("no answer");
  await saved.promise;
  for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate);
  expect(await fresh.write(2, 3)).toBe(NFS3.ok);
  expect([await byteAt(0), await byteAt(1), await byteAt(2)]).toEqual([1, 3, 3]);
  expect(state.disk("root").fence).toMatchObject({ mounts: 1, writer: 1 });
});

test("handles that an earlier version made serve on, until a mount that has a number writes", async () => {
  const { exportPath, handleKey } = state.disk("root");
  const made = (kind: number): Buffer => {
    const head = Buffer.concat([Buffer.of(1, kind), serverTag("uid"), Buffer.from(exportTag(exportPath), "hex")]);
    const mac = createHmac("sha256", Buffer.from(handleKey, "base64url")).update(head).digest().subarray(0, 16);
    return Buffer.concat([head, mac]);
  };
  const old = await Mounted.make("node-a", made(2));
  const name = writeOpaque(writeOpaque(new ByteWriter(), made(1)), Buffer.from("disk.img"));
  const found = await old.client.call(NFS, LOOKUP, name.finish());
  expect([found.u32be(), readOpaque(found, 64)]).toEqual([NFS3.ok, old.handle]);
  expect(await old.write(0, 1)).toBe(NFS3.ok);
  const target = await Mounted.make("node-b");
  expect([await old.write(1, 1), await target.write(0, 2), await old.write(0, 1)]).toEqual([
    ...[NFS3.ok, NFS3.ok, NFS3.acces],
  ]);
});
