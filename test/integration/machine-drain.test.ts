import { expect, test } from "@jest/globals";
import { drainAgent } from "../scenario/agent-drain.ts";
import { lostRecords, RestoreScenario } from "../scenario/restore-scenario.ts";

const LIMIT_MS = 4 * 60_000;

test(
  "the node of the media agent is drained under a running machine, which waits and goes on: not restarted, and nothing it was told is lost",
  async () => {
    const scenario = await RestoreScenario.start({ relocation: { strategy: "None" } }, AbortSignal.timeout(LIMIT_MS));
    try {
      await scenario.until(({ phase }) => phase === "Running");
      const drained = await drainAgent(scenario);
      expect(drained).toMatchObject({ from: "lab-node", to: "lab-node-2" });
      expect(drained?.pauseMs).toBeGreaterThan(0);
      process.stderr.write(`paused for ${drained?.pauseMs} ms, guest silent for ${drained?.silenceMs} ms\n`);
      const served = await scenario.readServed();
      const told = await scenario.acknowledged();
      expect(told.length).toBeGreaterThan(3);
      expect(lostRecords(told, served)).toEqual([]);
      expect((await scenario.consoles()).join("").match(/TINY READY boots=\d+/g)).toEqual(["TINY READY boots=1"]);
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      await scenario.close();
    }
  },
  LIMIT_MS + 30_000,
);
