import { expect, test } from "@jest/globals";
import type { VMRestoreStatus } from "../../src/api/vm-restore-status.ts";
import { lostRecords, RestoreScenario } from "../scenario/restore-scenario.ts";

const LIMIT_MS = 5 * 60_000;

const isPhase =
  (phase: VMRestoreStatus["phase"]) =>
  (status: VMRestoreStatus): boolean =>
    status.phase === phase || status.phase === "Completed";

test(
  "media agent, operator and relocation Job are killed at several moments; every record the guest saw acknowledged is on the target",
  async () => {
    const relocation = {
      target: { storageClassName: "fast", volumeMode: "Filesystem" },
      // Slow enough that the Job is met in the middle of its copy.
      bandwidthLimit: "6Mi",
      cutover: { when: "Automatic", verify: true },
    };
    const scenario = await RestoreScenario.start({ relocation }, AbortSignal.timeout(LIMIT_MS), "qcow2");
    try {
      await scenario.until(isPhase("Preparing"));
      await scenario.kill("operator");
      await scenario.until(isPhase("Launching"));
      await scenario.kill("media-agent"); // while the guest boots
      await scenario.kill("operator");
      await scenario.until(isPhase("Relocating"));
      await scenario.kill("relocate"); // before it has copied much
      await scenario.until(({ relocation: copy }) => (copy?.percent ?? 0) >= 20);
      await scenario.kill("media-agent"); // under the guest and the Job
      await scenario.until(({ relocation: copy }) => (copy?.percent ?? 0) >= 50);
      await scenario.kill("relocate");
      await scenario.kill("operator");
      await scenario.until(isPhase("CuttingOver"));
      await scenario.kill("operator");
      await scenario.kill("media-agent");
      const status = await scenario.until(isPhase("Completed"));
      expect(status.relocation?.percent).toBe(100);

      const before = (await scenario.acknowledged()).filter(({ boot }) => boot === 1);
      expect(before.length).toBeGreaterThan(20);
      const target = await scenario.readTarget();
      const all = await scenario.acknowledged();
      expect(lostRecords(all, target)).toEqual([]);
      expect(Math.max(...all.map(({ boot }) => boot))).toBe(2);
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      await scenario.close();
    }
  },
  LIMIT_MS + 30_000,
);
