import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { SimulatedDirectory } from "../testing/simulated-directory.ts";
import { type FileStep, StepError, stepByStep } from "./file-steps.ts";
import type { OverlayFile } from "./files.ts";
import { GroupCommit } from "./group-commit.ts";
import { Journal } from "./journal.ts";
import { OP } from "./page-map.ts";
import { SpaceWait } from "./space-wait.ts";

async function groupCommit(datasync: () => Promise<void>, journalBytes = 4096): Promise<GroupCommit> {
  const journal = await Journal.create(new SimulatedDirectory().mount(), "root", 1, journalBytes);
  const data = { datasync } as OverlayFile;
  const space = new SpaceWait(new ManualClock(), new AbortController().signal);
  const checkpoint = (): Promise<never> => Promise.reject(new Error("there is room"));
  return new GroupCommit({ journal, data, inOrder: stepByStep, space, checkpoint, onFailed: () => undefined });
}

test("a commit asked for at any moment around the end of another one is carried out", async () => {
  for (let moment = 0; moment < 40; moment++) {
    const commit = await groupCommit(() => Promise.resolve());
    commit.touch();
    const first = commit.commit();
    for (let step = 0; step < moment; step++) await Promise.resolve();
    commit.touch();
    const second = commit.commit();
    const hung = new Promise((resolve) => setTimeout(resolve, 500, "hung"));
    expect(await Promise.race([Promise.all([first, second]), hung])).not.toBe("hung");
  }
});

test("all that wait while one sync runs share the next", async () => {
  let syncs = 0;
  let release: () => void = () => undefined;
  const commit = await groupCommit(() => {
    syncs++;
    return new Promise((resolve) => {
      release = resolve;
    });
  });
  commit.touch();
  const first = commit.commit();
  await Promise.resolve();
  const others = Array.from({ length: 20 }, () => {
    commit.touch();
    return commit.commit();
  });
  release();
  await first;
  expect(syncs).toBe(2);
  release();
  await Promise.all(others);
  expect(syncs).toBe(2);
});

test("records that nobody commits do not pile up", async () => {
  let syncs = 0;
  const commit = await groupCommit(async () => {
    syncs++;
  }, 1024 * 1024);
  for (let page = 0; page < 8191; page++) commit.add({ op: OP.full, a: page, b: 1 });
  await new Promise(setImmediate);
  expect(syncs).toBe(0);
  commit.touch();
  commit.add({ op: OP.full, a: 8191, b: 1 });
  await new Promise(setImmediate);
  expect(syncs).toBe(1);
});

test("a write goes through only where nobody else commits, and what it leaves behind is synced by the next", async () => {
  const directory = new SimulatedDirectory();
  const data = await directory.open("root.data");
  const journal = await Journal.create(directory, "root", 1, 4096);
  const space = new SpaceWait(new ManualClock(), new AbortController().signal);
  const carriedOut: string[][] = [];
  let failure: unknown;
  const inOrder = async (steps: readonly FileStep[]): Promise<void> => {
    carriedOut.push(steps.map(({ kind, file }) => `${kind} ${file === data ? "data" : "journal"}`));
    if (failure !== undefined) throw failure;
    await stepByStep(steps);
  };
  const checkpoint = (): Promise<never> => Promise.reject(new Error("there is room"));
  const commit = new GroupCommit({ journal, data, inOrder, space, checkpoint, onFailed: () => undefined });
  const bytes = Buffer.alloc(512, 1);
  const record = { op: OP.partial, a: 0, b: 1 } as const;
  let durable = 0;
  const onDurable = (): void => void durable++;
  const through = (): Promise<boolean> => commit.writeThrough({ bytes, offset: 0, record, onDurable });

  const first = through();
  expect(await through()).toBe(false);
  expect(await first).toBe(true);
  expect(durable).toBe(1);
  expect(carriedOut).toEqual([["write data", "datasync data", "write journal", "datasync journal"]]);
  commit.add(record);
  expect(await through()).toBe(false);
  await commit.commit();

  failure = new StepError(0, Object.assign(new Error("no space"), { code: "ENOSPC" }));
  await expect(through()).rejects.toMatchObject({ code: "ENOSPC" });
  failure = undefined;
  await commit.commit();
  expect(carriedOut.at(-1)).toEqual(["datasync data"]);
  expect(durable).toBe(1);

  failure = new StepError(1, Object.assign(new Error("no space"), { code: "ENOSPC" }));
  await expect(through()).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
  failure = undefined;
  await expect(commit.commit()).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
});
