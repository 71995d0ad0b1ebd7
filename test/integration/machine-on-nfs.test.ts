import { constants, copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { systemClock } from "../../src/base/clock.ts";
import { deferred } from "../../src/base/deferred.ts";
import { silentLogger } from "../../src/base/logging.ts";
import type { BlockDevice } from "../../src/disk/block-device.ts";
import { setKernelArguments } from "../../src/lab/guest/disk-layout.ts";
import { guestCacheDirectory } from "../../src/lab/guest/recipe-cache.ts";
import { buildTinyGuest, TINY_RECORDS_ARGUMENTS } from "../../src/lab/guest/tiny-guest.ts";
import { moveGuest } from "../../src/lab/hypervisor/live-move.ts";
import type { DiskBus, MachineSpec } from "../../src/lab/hypervisor/machine.ts";
import { QemuProcess } from "../../src/lab/hypervisor/qemu-process.ts";
import { RunningMachine } from "../../src/lab/hypervisor/running-machine.ts";
import { FencedWrites } from "../../src/media-agent/fenced-writes.ts";
import { nfsDisk } from "../../src/media-agent/nfs-disk.ts";
import { patienceOf } from "../../src/media-agent/patience.ts";
import { NO_MOUNTS } from "../../src/media-agent/writer-fence.ts";
import { Portmapper } from "../../src/nfs/portmapper.ts";
import { NfsServer } from "../../src/nfs/server.ts";
import { MemoryExport } from "../../src/nfs/testing/memory-export.ts";

/** Nobody else's: tests that need a portmapper have an address each. */
const ADDRESS = "127.62.7.1";
const LIMIT_MS = 40_000;

let scratch: string;
let disk: MemoryExport;
let server: NfsServer;
let portmapper: Portmapper;
let machine: RunningMachine | undefined;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "machine-on-nfs-"));
  const signal = AbortSignal.timeout(60_000);
  const copy = join(scratch, "disk.img");
  await copyFile(await buildTinyGuest({ directory: guestCacheDirectory(), signal }), copy, constants.COPYFILE_FICLONE);
  await setKernelArguments(copy, TINY_RECORDS_ARGUMENTS, signal);
  disk = new MemoryExport("/export-of-a-guest", await readFile(copy));
  server = new NfsServer();
  server.addExport(disk);
  portmapper = await Portmapper.listen(ADDRESS, await server.listen(ADDRESS, 0));
}, 90_000);

afterEach(async () => {
  await machine?.kill();
  await portmapper.close();
  await server.close();
  await rm(scratch, { recursive: true, force: true });
});

function spec(bus: DiskBus): MachineSpec {
  return {
    ...{ name: "on-nfs", chipset: "q35", accelerator: "tcg", cpus: 1, memoryBytes: 128 << 20, firmware: {} },
    disks: [
      {
        ...{ name: "root", bus, isCdrom: false, readOnly: false, direct: true, writeThrough: false },
        source: { kind: "nfs", server: ADDRESS, path: `${disk.path}/disk.img` },
        ...{ errorPolicy: "stop", bootOrder: 1, serial: undefined },
      },
    ],
    ...{ interfaces: [], hasRandomSource: false },
  };
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

test("an I/O error stops the guest, which goes on without noticing when the disk works again", async () => {
  const console = join(scratch, "console");
  const log = (): Promise<string> => readFile(console, "utf8").catch(() => "");
  const lastRecord = async (): Promise<number> =>
    Number([...(await log()).matchAll(/^ACK (\d+)\r?$/gm)].at(-1)?.[1] ?? 0);
  const started = await RunningMachine.start({
    ...{ spec: spec("virtio"), console, clock: systemClock, logger: silentLogger, onChange: () => undefined },
  });
  machine = started;
  await until("first records", async () => (await lastRecord()) > 10);
  await until("the agent", () => started.agentConnected);

  let refused = 0;
  disk.beforeWrite = async () => {
    refused++;
    throw Object.assign(new Error("the disk is broken"), { code: "EIO" });
  };
  await until("the guest is stopped", () => started.paused === "PausedIOError");
  const atStop = await lastRecord();
  // It is resumed now and then, and stopped again as long as the disk is broken.
  const before = refused;
  await until("another attempt", () => refused > before);
  disk.beforeWrite = async () => undefined;
  await until("records again", async () => (await lastRecord()) > atStop + 10);
  expect(started.paused).toBeUndefined();

  const { monotonic } = systemClock;
  const deadline = monotonic() + LIMIT_MS;
  await until("the guest is off", async () => {
    await started.shutDown(deadline);
    return started.exit !== undefined;
  });
  expect(started.exit).toMatchObject({ code: 0 });
  expect(await log()).toContain("TINY POWER OFF");
  expect(await log()).not.toMatch(/RECORD FAILED|I\/O error|error/i);
  for (let number = 1; number <= (await lastRecord()); number++) {
    expect(disk.content.includes(`record ${number} boot 1`)).toBe(true);
    if (number > 50) break;
  }
}, 120_000);

/** A disk in memory whose requests hang while it is away, as those of the media agent do while its repository is. */
class DiskThatGoesAway implements BlockDevice {
  readonly size: number;
  readonly #content: Buffer;
  #back = deferred();
  waited = 0;

  constructor(content: Buffer) {
    this.#content = content;
    this.size = content.length;
    this.#back.resolve();
  }

  goAway(): void {
    this.#back = deferred();
  }

  comeBack(): void {
    this.#back.resolve();
  }

  async read(offset: number, length: number): Promise<Buffer> {
    await this.#wait();
    return Buffer.from(this.#content.subarray(offset, offset + length));
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await this.#wait();
    this.#content.set(data, offset);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    await this.write(offset, Buffer.alloc(length));
  }

  flush(): Promise<void> {
    return this.#wait();
  }

  extents(): never[] {
    return [];
  }

  async #wait(): Promise<void> {
    this.waited++;
    await this.#back.promise;
  }
}

test("a guest whose disk has timers is paused by the answer that comes in time, and goes on without noticing when the disk is back", async () => {
  const away = new DiskThatGoesAway(disk.content);
  const patience = patienceOf(systemClock, 1500);
  const exportPath = `/${"s".repeat(43)}`;
  const state = { exportPath, handleKey: "k".repeat(43), fsid: "5", bus: "scsi" as const };
  const observer = {
    read: () => undefined,
    written: () => undefined,
    writeRefused: () => undefined,
    reading: () => ({ readClass: "guest" as const, end: () => undefined }),
  };
  const writes = { mount: async () => 1, write: <T>(_mount: number, carryOut: () => Promise<T>) => carryOut() };
  server.addExport(nfsDisk({ name: "root", device: away, state, writes, observer, limit: () => patience("scsi") }));
  const console = join(scratch, "console");
  const log = (): Promise<string> => readFile(console, "utf8").catch(() => "");
  const lastRecord = async (): Promise<number> =>
    Number([...(await log()).matchAll(/^ACK (\d+)\r?$/gm)].at(-1)?.[1] ?? 0);
  const machineSpec = spec("scsi");
  const disks = machineSpec.disks.map((one) => ({
    ...{ ...one, source: { kind: "nfs" as const, server: ADDRESS, path: `${state.exportPath}/disk.img` } },
  }));
  const started = await RunningMachine.start({
    ...{
      spec: { ...machineSpec, disks },
      console,
      clock: systemClock,
      logger: silentLogger,
      onChange: () => undefined,
    },
  });
  machine = started;
  await until("first records", async () => (await lastRecord()) > 10);
  await until("the agent", () => started.agentConnected);

  away.goAway();
  await until("the guest is paused", () => started.paused === "PausedIOError");
  const atStop = await lastRecord();
  const before = away.waited;
  // It is resumed now and then, and asks again.
  await until("another attempt", () => away.waited > before);
  await until("paused again", () => started.paused === "PausedIOError");
  expect(await lastRecord()).toBe(atStop);
  away.comeBack();
  await until("records again", async () => (await lastRecord()) > atStop + 10);
  expect(started.paused).toBeUndefined();

  const deadline = systemClock.monotonic() + LIMIT_MS;
  await until("the guest is off", async () => {
    await started.shutDown(deadline);
    return started.exit !== undefined;
  });
  expect(await log()).toContain("TINY POWER OFF");
  expect(await log()).not.toMatch(/RECORD FAILED|I\/O error|exception|reset|error/i);
  for (let number = 1; number <= Math.min(50, await lastRecord()); number++) {
    expect(disk.content.includes(`record ${number} boot 1`)).toBe(true);
  }
}, 120_000);

test("a guest that moves between QEMUs on one export writes on, here and there, and one that is woken behind its back writes nothing", async () => {
  const writes = new FencedWrites({
    ...{ fence: NO_MOUNTS, save: async () => undefined, endWrites: async () => undefined, clock: systemClock },
    ...{ onRefused: () => undefined, onFailed: () => undefined, signal: new AbortController().signal },
  });
  const carryOut = disk.write.bind(disk);
  disk.mount = (name) => writes.mount(name);
  disk.write = (offset, data, stable, mount) => writes.write(mount, () => carryOut(offset, data, stable, mount));
  const running: QemuProcess[] = [];
  const start = async (name: string, incoming: boolean) => {
    const console = join(scratch, name);
    const qemu = await QemuProcess.start(spec("virtio"), { console, incoming, onEvent: () => undefined });
    running.push(qemu);
    const acknowledged = async (): Promise<number[]> => {
      const text = await readFile(console, "latin1").catch(() => "");
      return [...text.matchAll(/^ACK (\d+)\r?$/gm)].map(([, number]) => Number(number));
    };
    return { qemu, console, acknowledged };
  };
  const move = async (source: QemuProcess, target: QemuProcess): Promise<void> => {
    await moveGuest({ source, target, nodes: [], signal: AbortSignal.timeout(LIMIT_MS) });
  };
  try {
    const first = await start("first", false);
    await until("records", async () => (await first.acknowledged()).length > 10);
    const second = await start("second", true);
    await move(first.qemu, second.qemu);
    await until("records over there", async () => (await second.acknowledged()).length > 10);
    expect([disk.writer, writes.refused]).toEqual([2, 0]);

    const before = await first.acknowledged();
    await first.qemu.qmp.execute("cont");
    const isStopped = async (): Promise<boolean> =>
      ((await first.qemu.qmp.execute("query-status")) as { status: string }).status === "io-error";
    await until("the first one is stopped", isStopped);
    expect(writes.refused).toBeGreaterThan(0);
    const seen = (await second.acknowledged()).length;
    await until("the second one goes on", async () => (await second.acknowledged()).length > seen + 10);
    // What was written before the move, and not told to the guest yet, it may hear of now; that record is looked for below like all others.
    const woken = await first.acknowledged();
    expect(woken.slice(0, before.length)).toEqual(before);
    expect(woken.length).toBeLessThanOrEqual(before.length + 1);
    await first.qemu.kill();

    const { refused } = writes;
    const third = await start("third", true);
    await move(second.qemu, third.qemu);
    await until("records back here", async () => (await third.acknowledged()).length > 10);
    await second.qemu.kill();
    expect([disk.writer, writes.refused]).toEqual([3, refused]);
    await third.qemu.kill();
    for (const { console, acknowledged } of [first, second, third]) {
      for (const number of (await acknowledged()).slice(-20))
        expect(disk.content.includes(`record ${number} boot 1`)).toBe(true);
      if (console !== first.console) expect(await readFile(console, "latin1")).not.toMatch(/RECORD FAILED|error/i);
    }
  } finally {
    await Promise.all(running.map((qemu) => qemu.kill()));
  }
}, 180_000);
