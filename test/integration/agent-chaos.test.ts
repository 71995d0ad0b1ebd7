import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { agentRun, Backup } from "../scenario/agent-chaos.ts";

/** A claim that fills up, a damaged cache, a damaged repository, with the same seeds every time; `make chaos` has many more runs. */
let backup: Backup;

beforeAll(async () => {
  backup = await Backup.create();
}, 180_000);

afterAll(() => backup?.repository.remove());

test.each([1, 2, 4])(
  "seed %i: every record that was acknowledged is there, and every other byte is the backup's",
  async (seed) => {
    const { kills, acknowledged } = await agentRun(seed, backup);
    expect(kills).toBeGreaterThan(0);
    expect(acknowledged).toBeGreaterThan(10);
  },
  180_000,
);
