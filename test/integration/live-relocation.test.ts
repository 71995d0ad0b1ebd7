import { expect, test } from "@jest/globals";
import { lostRecords, RestoreScenario } from "../scenario/restore-scenario.ts";

const LIMIT_MS = 4 * 60_000;

test(
  "Auto moves the running machine to its target: it is never restarted, nothing it was told is lost, and the agent goes",
  async () => {
    const relocation = { target: { storageClassName: "fast", volumeMode: "Filesystem" } };
    const scenario = await RestoreScenario.start({ relocation }, AbortSignal.timeout(LIMIT_MS));
    try {
      await scenario.until(({ phase }) => phase === "Relocating" || phase === "Completed");
      await scenario.kill("operator");
      const status = await scenario.until(({ phase }) => phase === "Completed");
      expect(status).toMatchObject({ strategy: "LiveMigration", relocation: { percent: 100 } });
      expect(status.cutoverDowntime).toBeUndefined();

      const acknowledged = async (): Promise<number[][]> =>
        (await scenario.consoles()).map((text) =>
          [...text.matchAll(/^ACK (\d+)\r?$/gm)].map(([, record]) => Number(record)),
        );
      // It goes on writing where it is now.
      const seen = Math.max(...(await acknowledged()).flat());
      while (Math.max(...(await acknowledged()).flat()) < seen + 5)
        await new Promise((resolve) => setTimeout(resolve, 50));
      const target = await scenario.readTarget();
      const consoles = await scenario.consoles();
      const boots = consoles.join("").match(/TINY READY boots=\d+/g);
      expect(boots).toEqual(["TINY READY boots=1"]);
      const told = await acknowledged();
      expect(told.filter((records) => records.length > 0)).toHaveLength(2);
      const all = told.flat().map((record) => ({ record, boot: 1 }));
      expect(lostRecords(all, target)).toEqual([]);
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      await scenario.close();
    }
  },
  LIMIT_MS + 30_000,
);
