import { constants, copyFile, mkdtemp, open, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { rootPartition, setKernelArguments } from "../guest/disk-layout.ts";
import { guestCacheDirectory } from "../guest/recipe-cache.ts";
import { buildTinyGuest, TINY_RECORDS_ARGUMENTS } from "../guest/tiny-guest.ts";
import { runCommand } from "../quickstart/command.ts";
import { moveGuest } from "./live-move.ts";
import type { MachineSpec } from "./machine.ts";
import { QemuProcess } from "./qemu-process.ts";

const MIB = 2 ** 20;
const SIZE = 128 * MIB;
const LIMIT_MS = 180_000;

let directory: string;
let guest: string;
const machines: QemuProcess[] = [];

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "live-move-"));
  const signal = AbortSignal.timeout(LIMIT_MS);
  guest = join(directory, "guest.img");
  const built = await buildTinyGuest({ directory: guestCacheDirectory(), signal });
  await copyFile(built, guest, constants.COPYFILE_FICLONE);
  await setKernelArguments(guest, TINY_RECORDS_ARGUMENTS, signal);
}, LIMIT_MS);

afterEach(async () => {
  await Promise.all(machines.splice(0).map((machine) => machine.kill()));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

function machineOn(path: string): MachineSpec {
  const disk = { name: "root", bus: "virtio", source: { kind: "file", path }, size: SIZE, isCdrom: false } as const;
  const flags = { readOnly: false, direct: false, writeThrough: false, errorPolicy: "stop", bootOrder: 1 } as const;
  return {
    ...{ name: "mover", chipset: "q35", accelerator: "tcg", cpus: 1, memoryBytes: 128 * MIB, firmware: {} },
    disks: [{ ...disk, ...flags, serial: undefined }],
    ...{ interfaces: [], hasRandomSource: true },
  };
}

async function start(name: string, incoming = false): Promise<{ qemu: QemuProcess; console: string; image: string }> {
  const image = join(directory, `${name}.img`);
  const console = join(directory, `${name}.log`);
  await rm(console, { force: true });
  if (incoming) {
    const file = await open(image, "w");
    // Larger than the disk, as a claim with a filesystem in it is.
    await file.truncate(SIZE + 16 * MIB).finally(() => file.close());
  } else await copyFile(guest, image, constants.COPYFILE_FICLONE);
  const qemu = await QemuProcess.start(machineOn(image), { console, incoming, onEvent: () => undefined });
  machines.push(qemu);
  return { qemu, console, image };
}

const acknowledged = async (console: string): Promise<number[]> => {
  const text = await readFile(console, "latin1").catch(() => "");
  return [...text.matchAll(/^ACK (\d+)\r?$/gm)].map(([, number]) => Number(number));
};

async function until(what: string, look: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(30);
  }
}

function move(source: QemuProcess, target: QemuProcess, signal: AbortSignal = AbortSignal.timeout(LIMIT_MS)) {
  return { source, target, nodes: ["disk0"], signal };
}

async function recordsOn(image: string): Promise<string[]> {
  const { offset, length } = rootPartition({ size: SIZE, bootSize: 32 * MIB });
  const filesystem = join(directory, "root.ext4");
  const signal = AbortSignal.timeout(LIMIT_MS);
  await runCommand(
    "dd",
    [`if=${image}`, `of=${filesystem}`, "bs=1M", `skip=${offset / MIB}`, `count=${length / MIB}`, "status=none"],
    { signal },
  );
  // What the guest did not finish, because it was ended like that.
  await runCommand("e2fsck", ["-y", "-E", "journal_only", filesystem], { signal });
  await runCommand("e2fsck", ["-f", "-n", filesystem], { signal });
  await runCommand("debugfs", ["-R", `dump records ${join(directory, "records")}`, filesystem], { signal });
  return ((await readFile(join(directory, "records"), "latin1")).match(/.{511}\n/g) ?? []).map((record) =>
    record.trim(),
  );
}

test(
  "a guest moves with its disk while it writes: it is never restarted, and nothing it was told is lost",
  async () => {
    const source = await start("source");
    await until("records", async () => (await acknowledged(source.console)).length > 20);
    const target = await start("target", true);
    const { pauseMs } = await moveGuest(move(source.qemu, target.qemu));
    expect(pauseMs).toBeGreaterThan(0);
    const before = await acknowledged(source.console);
    await source.qemu.kill();
    await until("records after the move", async () => (await acknowledged(target.console)).length > 20);
    const after = await acknowledged(target.console);
    await target.qemu.kill();
    expect(await readFile(target.console, "latin1")).not.toContain("TINY READY");
    expect(after[0]).toBeGreaterThanOrEqual(before.at(-1) ?? 0);
    const records = await recordsOn(target.image);
    for (const number of [...before, ...after]) expect(records[number - 1]).toBe(`record ${number} boot 1`);
  },
  LIMIT_MS,
);

test(
  "whatever ends the move before the guest is handed over, it runs on where it was",
  async () => {
    const source = await start("staying");
    await until("records", async () => (await acknowledged(source.console)).length > 5);
    const isCopying = async (): Promise<boolean> => {
      const jobs = (await source.qemu.qmp.execute("query-block-jobs")) as { offset: number }[];
      return (jobs[0]?.offset ?? 0) > 0;
    };
    const goesOn = async (): Promise<void> => {
      expect(await source.qemu.qmp.execute("query-block-jobs")).toEqual([]);
      const seen = (await acknowledged(source.console)).length;
      await until("more records", async () => (await acknowledged(source.console)).length > seen + 5);
    };
    const dying = await start("dying", true);
    const lost = moveGuest({ ...move(source.qemu, dying.qemu), bandwidth: 4 * MIB });
    lost.catch(() => undefined);
    await until("it copies", isCopying);
    await dying.qemu.kill();
    await expect(lost).rejects.toThrow();
    await goesOn();

    const unwanted = await start("unwanted", true);
    const ending = new AbortController();
    const aborted = moveGuest({ ...move(source.qemu, unwanted.qemu, ending.signal), bandwidth: 4 * MIB });
    aborted.catch(() => undefined);
    await until("it copies", isCopying);
    ending.abort(new Error("not wanted any more"));
    await expect(aborted).rejects.toThrow("not wanted any more");
    await goesOn();

    const target = await start("third", true);
    await moveGuest(move(source.qemu, target.qemu));
    await until("records over there", async () => (await acknowledged(target.console)).length > 5);
  },
  LIMIT_MS,
);
