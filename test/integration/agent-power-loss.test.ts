import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { agentRun, Backup } from "../scenario/agent-chaos.ts";

/** The real agent's syncs: its claim loses what they did not cover, or fails. `make chaos` has many more of these runs. */
let backup: Backup;

beforeAll(async () => {
  backup = await Backup.create();
}, 180_000);

afterAll(() => backup?.repository.remove());

test.each([7, 15])(
  "seed %i: every record that was acknowledged outlasts power losses and errors of the claim",
  async (seed) => {
    const { acknowledged, powerLosses } = await agentRun(seed, backup);
    expect(acknowledged).toBeGreaterThan(10);
    expect(powerLosses).toBeGreaterThan(0);
  },
  180_000,
);
