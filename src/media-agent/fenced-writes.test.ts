import { setImmediate as turn } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { deferred } from "../base/deferred.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import type { DiskError } from "../disk/errors.ts";
import { FencedWrites, type FencedWritesOptions } from "./fenced-writes.ts";
import { NO_MOUNTS, type WriterFence } from "./writer-fence.ts";

const full = (): Error => Object.assign(new Error("no space"), { code: "ENOSPC" });

interface Opened {
  readonly writes: FencedWrites;
  readonly clock: ManualClock;
  readonly stopping: AbortController;
  readonly failures: unknown[];
  readonly refused: string[];
  /** As it is durable. */
  saved(): WriterFence;
}

function open(change: Partial<FencedWritesOptions> = {}): Opened {
  let saved = change.fence ?? NO_MOUNTS;
  const [clock, stopping] = [new ManualClock(), new AbortController()];
  const failures: unknown[] = [];
  const refused: string[] = [];
  const save = change.save;
  const writes = new FencedWrites({
    fence: saved,
    endWrites: async () => undefined,
    onRefused: (machine) => refused.push(machine),
    onFailed: (error) => failures.push(error),
    clock,
    signal: stopping.signal,
    ...change,
    save: async (fence) => {
      await save?.(fence);
      saved = fence;
    },
  });
  return { writes, clock, stopping, failures, refused, saved: () => saved };
}

const nothing = async (): Promise<void> => undefined;

test("it is durable that a mount has taken over before its first write begins, and nobody else's begins meanwhile", async () => {
  const gate = deferred();
  const begun: string[] = [];
  const { writes, saved } = open({
    save: async ({ writer }) => {
      if (writer === 2) await gate.promise;
    },
  });
  const [a, b] = [await writes.mount("a"), await writes.mount("b")];
  await writes.write(a, nothing);
  const first = writes.write(b, async () => {
    begun.push(`b after ${saved().writer}`);
  });
  await turn();
  const old = expect(writes.write(a, async () => begun.push("a"))).rejects.toMatchObject({ code: "WRITER_FENCED" });
  await turn();
  expect(begun).toEqual([]);
  gate.resolve();
  await first;
  await old;
  expect(begun).toEqual(["b after 2"]);
});

test("writes of the mount that is superseded are over before the first one of the next", async () => {
  const ended = deferred();
  let told: DiskError | undefined;
  let hasBegun = false;
  const { writes } = open({
    endWrites: async (error) => {
      told = error;
      if (hasBegun) await ended.promise;
    },
  });
  const [a, b] = [await writes.mount("a"), await writes.mount("b")];
  await writes.write(a, nothing);
  hasBegun = true;
  let isDone = false;
  const next = writes.write(b, async () => {
    isDone = true;
  });
  await turn();
  expect([isDone, told?.code]).toEqual([false, "WRITER_FENCED"]);
  ended.resolve();
  await next;
  expect(isDone).toBe(true);
});

test("who was refused, and how often, is told for ten minutes", async () => {
  const { writes, clock, refused } = open();
  const [a, b] = [await writes.mount("node-a"), await writes.mount("node-b")];
  expect(writes.writer).toBe("");
  await writes.write(b, nothing);
  expect([writes.writer, writes.refused, writes.refusedMachine]).toEqual(["node-b", 0, undefined]);
  for (let count = 0; count < 3; count++) await expect(writes.write(a, nothing)).rejects.toThrow();
  expect([writes.refused, writes.refusedMachine, refused.length]).toEqual([3, "node-a", 3]);
  await clock.advance(599_000);
  expect(writes.refusedMachine).toBe("node-a");
  await clock.advance(2000);
  expect([writes.refused, writes.refusedMachine]).toEqual([3, undefined]);
});

test("on a full claim machines mount, and the first write of one waits until it can be durable that it writes", async () => {
  let isFull = true;
  const { writes, clock, saved, failures } = open({
    save: async () => {
      if (isFull) throw full();
    },
  });
  const [a, b] = [await writes.mount("a"), await writes.mount("b")];
  expect([a, b, saved().mounts]).toEqual([1, 2, 0]);
  let isDone = false;
  const write = writes.write(b, async () => {
    isDone = true;
  });
  await clock.advance(5000);
  expect([isDone, writes.full]).toEqual([false, true]);
  isFull = false;
  expect(await writes.mount("c")).toBe(3);
  await clock.advance(1000);
  await write;
  expect([isDone, writes.full, saved().writer, saved().mounts, failures]).toEqual([true, false, 2, 3, []]);
  await expect(writes.write(a, nothing)).rejects.toMatchObject({ code: "WRITER_FENCED" });
});

test("a write that waits for space when the agent ends is not carried out", async () => {
  const { writes, clock, stopping } = open({
    save: async () => {
      throw full();
    },
  });
  const write = expect(writes.write(await writes.mount("a"), nothing)).rejects.toMatchObject({ code: "DISK_CLOSED" });
  await clock.advance(1000);
  stopping.abort();
  await write;
});

test("where it cannot be made durable for another reason, the agent must end", async () => {
  const broken = Object.assign(new Error("broken"), { code: "EIO" });
  let isBroken = false;
  const { writes, failures } = open({
    save: async () => {
      if (isBroken) throw broken;
    },
  });
  const [a, b] = [await writes.mount("a"), await writes.mount("b")];
  await writes.write(a, nothing);
  isBroken = true;
  await expect(writes.write(b, nothing)).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
  await expect(writes.mount("c")).rejects.toMatchObject({ code: "OVERLAY_FAILED" });
  expect(failures).toEqual([broken, broken]);
});

/** A device whose writes take effect after a number of turns. */
class SlowDevice {
  /** Through which mounts the effects came. */
  readonly effects: number[] = [];
  readonly #underWay = new Set<Promise<unknown>>();
  isDown = false;

  write(mount: number, turns: number): Promise<void> {
    const done = this.#carryOut(mount, turns);
    this.#underWay.add(done);
    done.finally(() => this.#underWay.delete(done));
    return done;
  }

  async end(): Promise<void> {
    await Promise.all(this.#underWay);
  }

  async #carryOut(mount: number, turns: number): Promise<void> {
    for (let count = 0; count < turns; count++) await turn();
    if (!this.isDown) this.effects.push(mount);
  }
}

test("whatever is mounted, written and killed in whatever order, no write takes effect after one of a later mount", async () => {
  const turns = fc.nat(3);
  const step = fc.oneof(
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("mount" as const), pause: turns }) },
    {
      weight: 8,
      arbitrary: fc.record({ kind: fc.constant("write" as const), by: fc.nat(20), takes: turns, pause: turns }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("kill" as const), pause: turns }) },
  );
  let takenOver = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 40 }), turns, async (steps, saveTakes) => {
      const effects: number[] = [];
      const numbers: number[] = [];
      let durable = NO_MOUNTS;
      const start = (): { writes: FencedWrites; device: SlowDevice } => {
        const device = new SlowDevice();
        const save = async (fence: WriterFence): Promise<void> => {
          for (let count = 0; count < saveTakes; count++) await turn();
          if (!device.isDown) durable = fence;
        };
        return { device, writes: open({ fence: durable, save, endWrites: () => device.end() }).writes };
      };
      let { writes, device } = start();
      for (let count = 0; count < 3; count++) numbers.push(await writes.mount("m"));
      const pending: Promise<unknown>[] = [];
      for (const each of steps) {
        if (each.kind === "mount") {
          const [of, mounting] = [device, writes.mount("m")];
          pending.push(mounting.then((number) => of.isDown || numbers.push(number)));
        } else if (each.kind === "write" && numbers.length > 0) {
          const [mount, of] = [numbers[each.by % numbers.length] as number, device];
          const writing = writes.write(mount, () => of.write(mount, each.takes));
          pending.push(writing.catch(() => undefined));
        } else if (each.kind === "kill") {
          device.isDown = true;
          effects.push(...device.effects);
          ({ writes, device } = start());
        }
        for (let count = 0; count < each.pause; count++) await turn();
      }
      await Promise.all(pending);
      effects.push(...device.effects);
      expect(effects).toEqual([...effects].sort((one, other) => one - other));
      expect(new Set(numbers).size).toBe(numbers.length);
      takenOver += new Set(effects).size > 1 ? 1 : 0;
    }),
    { numRuns: 300 },
  );
  expect(takenOver).toBeGreaterThan(100);
});
