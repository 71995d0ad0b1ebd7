import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AgentState } from "./agent-state.ts";

const IDENTITY = { restore: "uid", snapshot: "a".repeat(64), epoch: 2, disks: ["root", "data"] };
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "agent-state-"));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

test("what was changed is there after a restart", async () => {
  const state = await AgentState.open(directory, IDENTITY);
  const before = { ...state.disk("data") };
  const progress = { cursor: 4096, bytesTotal: 9, bytesDurable: 5, rate: 1.5, state: "FirstPass" as const };
  await Promise.all([state.setRelocation("root", progress), state.setPhase("Ready"), state.setUnpinned()]);
  const again = await AgentState.open(directory, { ...IDENTITY, epoch: 3 });
  expect(again.disk("data")).toEqual(before);
  expect(again.disk("root").relocation).toEqual(progress);
  expect(again.current).toMatchObject({ phase: "Ready", unpinned: true, epoch: 3 });
  expect(await readdir(directory)).toEqual(["agent.json"]);
});

test("the limit of the copy is remembered until it is taken back", async () => {
  const state = await AgentState.open(directory, IDENTITY);
  await state.setRelocationLimit(1000);
  const again = await AgentState.open(directory, IDENTITY);
  expect(again.current.relocationLimit).toBe(1000);
  await again.setRelocationLimit(null);
  expect((await AgentState.open(directory, IDENTITY)).current.relocationLimit).toBeUndefined();
});

test("a renewed export shares nothing with the old one but its fsid", async () => {
  const state = await AgentState.open(directory, IDENTITY);
  const { exportPath, handleKey, fsid } = state.disk("root");
  expect(Buffer.from(exportPath.slice(1), "base64url")).toHaveLength(32);
  expect(Buffer.from(handleKey, "base64url")).toHaveLength(32);
  await state.renewExport("root");
  expect(state.disk("root").fsid).toBe(fsid);
  expect(state.disk("root").exportPath).not.toBe(exportPath);
  expect(state.disk("root").handleKey).not.toBe(handleKey);
  expect((await AgentState.open(directory, IDENTITY)).disk("root")).toEqual(state.disk("root"));
});

test("keeps out another restore, another snapshot and an older epoch", async () => {
  await AgentState.open(directory, IDENTITY);
  const open = (change: object): Promise<unknown> => AgentState.open(directory, { ...IDENTITY, ...change });
  await expect(open({ restore: "other" })).rejects.toMatchObject({ code: "STATE_MISMATCH" });
  await expect(open({ snapshot: "b".repeat(64) })).rejects.toMatchObject({ code: "STATE_MISMATCH" });
  await expect(open({ epoch: 1 })).rejects.toMatchObject({ code: "STALE_EPOCH" });
  await open({});
});

test("a state that cannot be read is never replaced by a new one", async () => {
  await writeFile(join(directory, "agent.json"), "{");
  await expect(AgentState.open(directory, IDENTITY)).rejects.toMatchObject({ code: "STATE_MISMATCH" });
  expect(await readFile(join(directory, "agent.json"), "utf8")).toBe("{");
});

test("a profile that another version wrote is lost, and nothing else", async () => {
  const state = await AgentState.open(directory, IDENTITY);
  const before = { ...state.disk("root") };
  const path = join(directory, "agent.json");
  const written = JSON.parse(await readFile(path, "utf8"));
  await writeFile(path, JSON.stringify({ ...written, profile: { reads: "?" } }));
  const again = await AgentState.open(directory, IDENTITY);
  expect(again.current.profile).toBeUndefined();
  expect(again.disk("root")).toEqual(before);
});

test("which mount writes is remembered of the export path that it mounted, and of no other", async () => {
  const state = await AgentState.open(directory, IDENTITY);
  const { exportPath } = state.disk("root");
  const fence = { mounts: 2, writer: 2, machines: [{ mount: 2, name: "node-b" }] };
  await state.setFence("root", exportPath, fence);
  const again = await AgentState.open(directory, IDENTITY);
  expect([again.disk("root").fence, again.disk("data").fence]).toEqual([fence, undefined]);
  await again.renewExport("root");
  expect(again.disk("root").fence).toBeUndefined();
  // It was on its way when the path became another one.
  await again.setFence("root", exportPath, fence);
  expect((await AgentState.open(directory, IDENTITY)).disk("root").fence).toBeUndefined();
});
