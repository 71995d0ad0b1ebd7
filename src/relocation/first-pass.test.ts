import { randomBytes } from "node:crypto";
import { expect, test } from "@jest/globals";
import type { RelocationProgress } from "../api/agent-control.ts";
import type { AgentControlClient } from "../api/agent-control-client.ts";
import { silentLogger } from "../base/logging.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { AgentSession } from "./agent-session.ts";
import { BufferPool } from "./buffer-pool.ts";
import { FairSlots } from "./fair-slots.ts";
import { firstPass } from "./first-pass.ts";
import { Progress } from "./progress.ts";

const MIB = 1024 * 1024;
const SIZE = 40 * MIB;

/** A target that loses what was not synced when its machine dies. */
class LossyTarget {
  readonly heldBackFrom = SIZE;
  readonly #cached = Buffer.alloc(SIZE, 0xff);
  durable = Buffer.alloc(SIZE, 0xff);

  async write(offset: number, data: Buffer): Promise<void> {
    data.copy(this.#cached, offset);
  }

  async writeZeroes(offset: number, length: number): Promise<void> {
    this.#cached.fill(0, offset, offset + length);
  }

  async sync(): Promise<void> {
    const now = Buffer.from(this.#cached);
    await new Promise((resolve) => setImmediate(resolve));
    this.durable = now;
  }
}

test("a cursor is told only when everything below it is durable, and flushed at the agent before", async () => {
  const content = randomBytes(SIZE);
  content.fill(0, 10 * MIB, 12 * MIB);
  const clock = new ManualClock();
  const target = new LossyTarget();
  const told: RelocationProgress[] = [];
  let readSinceFlush = 0;
  let highest = 0;
  const client = {
    reportRelocation: async (_disk: string, progress: RelocationProgress) => {
      expect(target.durable.subarray(0, progress.cursor).equals(content.subarray(0, progress.cursor))).toBe(true);
      expect(progress.cursor).toBeLessThanOrEqual(readSinceFlush);
      told.push(progress);
    },
  } as unknown as AgentControlClient;
  const session = new AgentSession(client, clock, silentLogger, () => undefined);
  const source = {
    read: async (offset: number, length: number) => {
      // Any order, and time passes meanwhile.
      await clock.advance(300);
      for (let turns = offset % 5; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      highest = Math.max(highest, offset + length);
      return Buffer.from(content.subarray(offset, offset + length));
    },
    flush: async () => {
      readSinceFlush = highest;
    },
    async *allocation(offset: number, end: number) {
      for (let at = offset; at < end; at += MIB) {
        yield { offset: at, length: MIB, matters: at < 10 * MIB || at >= 12 * MIB };
      }
    },
    async *dirty() {
      // No generation is frozen.
    },
  };
  const progress = new Progress("root", session, clock, undefined);
  const slots = new FairSlots(4);
  const buffers = new BufferPool(MIB);
  const never = new AbortController().signal;
  await firstPass({ source, target, progress, slots, buffers, bucket: undefined, clock }, false, never);
  expect(target.durable.equals(content)).toBe(true);
  expect(told.length).toBeGreaterThan(4);
  const cursors = told.map(({ cursor }) => cursor);
  expect(cursors).toEqual([...cursors].sort((a, b) => a - b));
  expect(told.at(-1)).toMatchObject({
    state: "Converging",
    cursor: SIZE,
    bytesDurable: 38 * MIB,
    bytesTotal: 38 * MIB,
  });
  for (const { bytesDurable, bytesTotal, cursor } of told) {
    expect(bytesDurable).toBeLessThanOrEqual(bytesTotal);
    expect(bytesDurable).toBe(cursor - Math.max(0, Math.min(2 * MIB, cursor - 10 * MIB)));
  }
});

test("a sync that fails ends the pass, and no cursor is told after it", async () => {
  const clock = new ManualClock();
  const told: RelocationProgress[] = [];
  const client = {
    reportRelocation: async (_disk: string, progress: RelocationProgress) => {
      told.push(progress);
    },
  } as unknown as AgentControlClient;
  const source = {
    read: async (_offset: number, length: number) => {
      await clock.advance(300);
      return randomBytes(length);
    },
    flush: async () => undefined,
    async *allocation(offset: number, end: number) {
      yield { offset, length: end - offset, matters: true };
    },
    async *dirty() {
      // No generation is frozen.
    },
  };
  const target = new LossyTarget();
  target.sync = () => Promise.reject(new Error("the medium is gone"));
  const progress = new Progress(
    "root",
    new AgentSession(client, clock, silentLogger, () => undefined),
    clock,
    undefined,
  );
  const slots = new FairSlots(4);
  const buffers = new BufferPool(MIB);
  const pass = firstPass(
    { source, target, progress, slots, buffers, bucket: undefined, clock },
    false,
    new AbortController().signal,
  );
  await expect(pass).rejects.toThrow("the medium is gone");
  expect(told.map(({ cursor }) => cursor)).toEqual([0]);
});
