import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "@jest/globals";
import type { VMRestoreStatus } from "../../src/api/vm-restore-status.ts";
import { median } from "../bench/table.ts";
import { type AgentDrain, drainAgent, drainWherever } from "../scenario/agent-drain.ts";
import { random } from "../scenario/random.ts";
import { lostRecords, RestoreScenario } from "../scenario/restore-scenario.ts";

/**
 * `make chaos`: the node of the media agent is drained at random moments, under a machine that boots, runs, or is relocated.
 * VMRESTORE_CHAOS_RUNS says how many machines.
 */
const RUNS = Number(process.env.VMRESTORE_CHAOS_RUNS ?? 6);
const SEED = Number(process.env.VMRESTORE_CHAOS_SEED ?? Date.now() % 1_000_000);
const LIMIT_MS = 10 * 60_000;

const TARGET = { target: { storageClassName: "fast", volumeMode: "Filesystem" } };
/** Slow enough that a drain meets it in the middle. */
const COPY = { strategy: "Copy", bandwidthLimit: "4Mi", cutover: { when: "Automatic", verify: true }, ...TARGET };
/** The same; but the guest's memory must be copied faster than it changes. */
const LIVE_BANDWIDTH = { spec: { configuration: { migrations: { bandwidthPerMigration: "32Mi" } } } };

const RELOCATIONS = [{ strategy: "None" }, { strategy: "LiveMigration", ...TARGET }, COPY] as const;

const isFrom =
  (...phases: VMRestoreStatus["phase"][]) =>
  ({ phase }: VMRestoreStatus): boolean =>
    phases.includes(phase) || phase === "Completed";

const all: AgentDrain[] = [];

afterAll(() => {
  process.stderr.write(`${all.length} drains: ${described(all)}\n`);
});

test.each(Array.from({ length: RUNS }, (_, index) => SEED + index))(
  "seed %i: the machine waits, goes on and is not restarted; nothing that it was told is written is lost",
  async (seed) => {
    const next = random(seed);
    const relocation = RELOCATIONS[seed % RELOCATIONS.length] as (typeof RELOCATIONS)[number];
    const { strategy } = relocation;
    const scenario = await RestoreScenario.start({ relocation }, AbortSignal.timeout(LIMIT_MS));
    const drains: AgentDrain[] = [];
    const drainLater = async (mostMs: number): Promise<void> => {
      await delay(next() * mostMs);
      const drained = await drainAgent(scenario);
      if (drained !== undefined) drains.push(drained);
    };
    try {
      const slow = ["patch", "kubevirt", "kubevirt", "-n", "kubevirt", "--type", "merge", "-p"];
      await scenario.kubectl(...slow, JSON.stringify(LIVE_BANDWIDTH));
      await scenario.until(isFrom("Launching", "Running", "Relocating"));
      await drainLater(6000); // while it boots
      if (strategy === "None") {
        await scenario.until(isFrom("Running"));
        await drainLater(6000);
        await drainLater(3000);
      } else {
        await scenario.until(isFrom("Relocating", "CuttingOver"));
        await drainLater(2000);
        await drainLater(6000); // it may be over by then
        if (strategy === "Copy") {
          await scenario.until(isFrom("CuttingOver"));
          await drainWherever(scenario);
        }
        await scenario.until(isFrom());
      }
      const records = strategy === "None" ? await scenario.readServed() : await scenario.readTarget();
      process.stderr.write(`seed ${seed}, ${strategy}: ${described(drains)}\n`);
      all.push(...drains);
      expect(drains.length).toBeGreaterThanOrEqual(2);
      for (const { from, to } of drains) expect([from, to].sort()).toEqual(["lab-node", "lab-node-2"]);
      expect(drains.some(({ pauseMs }) => pauseMs !== undefined)).toBe(true);
      const told = await scenario.acknowledged();
      expect(told.length).toBeGreaterThan(0);
      expect(lostRecords(told, records)).toEqual([]);
      const console = (await scenario.consoles()).join("");
      const boots = console.match(/TINY READY boots=\d+/g)?.sort();
      expect(boots).toEqual(["TINY READY boots=1", ...(strategy === "Copy" ? ["TINY READY boots=2"] : [])]);
      expect(console).not.toMatch(/RECORD FAILED|I\/O error/i);
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      await scenario.close();
    }
  },
  LIMIT_MS + 60_000,
);

function described(drains: readonly AgentDrain[]): string {
  const told = drains.map(({ pauseMs, silenceMs }) => `${pauseMs ?? "nobody"}/${silenceMs}`).join(", ");
  const pauses = drains.flatMap(({ pauseMs }) => pauseMs ?? []);
  return `paused for ${median(pauses)} ms (median), ${Math.max(0, ...pauses)} ms (most); paused/guest silent, in ms: ${told}`;
}
