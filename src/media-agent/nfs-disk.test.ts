import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import type { DiskBus } from "../api/agent-control.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import type { BlockDevice } from "../disk/block-device.ts";
import { DiskError, type DiskErrorCode } from "../disk/errors.ts";
import { memorySource } from "../disk/testing/memory-source.ts";
import type { NfsExport } from "../nfs/export.ts";
import { nfsDisk } from "./nfs-disk.ts";
import { patienceOf } from "./patience.ts";

const observer = {
  read: () => undefined,
  written: () => undefined,
  writeRefused: () => undefined,
  reading: () => ({ readClass: "guest" as const, end: () => undefined }),
};
/** Everybody may write. */
const writes = { mount: async () => 1, write: <T>(_mount: number, carryOut: () => Promise<T>) => carryOut() };
const state = {
  exportPath: `/${"p".repeat(43)}`,
  handleKey: "k".repeat(43),
  fsid: "1",
  bus: "virtio",
} as const;

function exported(device: Partial<BlockDevice>, clock = new ManualClock(), bus: DiskBus = "virtio"): NfsExport {
  const whole: BlockDevice = {
    ...memorySource(Buffer.alloc(4096)),
    write: async () => undefined,
    writeZeroes: async () => undefined,
    flush: async () => undefined,
    ...device,
  };
  const patience = patienceOf(clock);
  return nfsDisk({ name: "root", device: whole, state, writes, observer, limit: () => patience(bus) });
}

async function outcome(work: Promise<unknown>): Promise<string> {
  let seen = "no answer";
  work.then(
    () => {
      seen = "done";
    },
    (error: { code?: string }) => {
      seen = error.code ?? "failed";
    },
  );
  for (let count = 0; count < 5; count++) await turn();
  return seen;
}

test.each<[DiskErrorCode, string]>([
  ["OVERLAY_FAILED", "no answer"],
  ["DISK_CLOSED", "no answer"],
  ["DISK_SEALED", "DISK_SEALED"],
])("a client whose request ends with %s gets: %s", async (code, expected) => {
  const fail = (): Promise<never> => Promise.reject(new DiskError(code, "it failed"));
  const disk = exported({ read: fail, write: fail, flush: fail });
  expect(await outcome(disk.read(0, 512))).toBe(expected);
  expect(await outcome(disk.write(0, Buffer.alloc(512), true, 1))).toBe(expected);
  expect(await outcome(disk.commit())).toBe(expected);
});

test("for a guest with timers, reads, writes and commits that hang are answered with an error, in time", async () => {
  const clock = new ManualClock();
  const hang = (): Promise<never> => new Promise(() => undefined);
  const disk = exported({ read: hang, write: hang, flush: hang }, clock, "sata");
  const answers = [disk.read(0, 512), disk.write(0, Buffer.alloc(512), true, 1), disk.commit()].map(outcome);
  expect(await Promise.all(answers)).toEqual(["no answer", "no answer", "no answer"]);
  const late = [disk.read(0, 512), disk.write(0, Buffer.alloc(512), true, 1), disk.commit()];
  const settled = Promise.allSettled(late);
  await clock.advance(20_000);
  expect((await settled).map((one) => one.status === "rejected" && one.reason.code)).toEqual([
    "NOT_IN_TIME",
    "NOT_IN_TIME",
    "NOT_IN_TIME",
  ]);
});

test("a guest without them waits for as long as it takes", async () => {
  const clock = new ManualClock();
  const hang = (): Promise<never> => new Promise(() => undefined);
  const disk = exported({ read: hang, write: hang, flush: hang }, clock);
  const answers = [disk.read(0, 512), disk.write(0, Buffer.alloc(512), true, 1), disk.commit()].map(outcome);
  await clock.advance(3_600_000);
  expect(await Promise.all(answers)).toEqual(["no answer", "no answer", "no answer"]);
});
