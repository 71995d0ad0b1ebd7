import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { agentRun, Backup } from "../scenario/agent-chaos.ts";

/** `make chaos`: a real media agent killed at random moments. VMRESTORE_AGENT_CHAOS_RUNS says how often. */
const RUNS = Number(process.env.VMRESTORE_AGENT_CHAOS_RUNS ?? 200);
const SEED = Number(process.env.VMRESTORE_CHAOS_SEED ?? Date.now() % 1_000_000);

let backup: Backup;

beforeAll(async () => {
  backup = await Backup.create();
}, 60_000);

afterAll(() => backup?.repository.remove());

test.each(Array.from({ length: RUNS }, (_, index) => SEED + index))(
  "seed %i: every record that was acknowledged is there, and every other byte is the backup's",
  async (seed) => {
    const { trouble, kills, acknowledged, powerLosses, failures } = await agentRun(seed, backup);
    const faults = powerLosses === undefined ? "" : `, ${powerLosses} power losses, ${failures} failures of the claim`;
    process.stderr.write(`seed ${seed}: ${trouble}, ${kills} kills${faults}, ${acknowledged} records acknowledged\n`);
    expect(kills).toBeGreaterThan(0);
    expect(acknowledged).toBeGreaterThan(0);
  },
  180_000,
);
