import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "@jest/globals";
import { random } from "../scenario/random.ts";
import {
  BACKUP_FORMATS,
  type BackupFormat,
  lostRecords,
  RestoreScenario,
  type Victim,
} from "../scenario/restore-scenario.ts";

/** `make chaos`: whole restores, with kills at random moments from the first to the last. VMRESTORE_CHAOS_RUNS says how many. */
const RUNS = Number(process.env.VMRESTORE_CHAOS_RUNS ?? 20);
const SEED = Number(process.env.VMRESTORE_CHAOS_SEED ?? Date.now() % 1_000_000);
/** In one restore: what is killed without end never ends. */
const KILLS = 8;
const LIMIT_MS = 10 * 60_000;
const VICTIMS: readonly Victim[] = ["media-agent", "relocate", "operator"];

test.each(Array.from({ length: RUNS }, (_, index) => SEED + index))(
  "seed %i: nothing that the guest was told is written is lost",
  async (seed) => {
    const next = random(seed);
    const format = BACKUP_FORMATS[seed % BACKUP_FORMATS.length] as BackupFormat;
    const bandwidthLimit = `${2 + Math.floor(next() * 10)}Mi`;
    const relocation = {
      target: { storageClassName: "fast", volumeMode: "Filesystem" },
      bandwidthLimit,
      cutover: { when: "Automatic", verify: true },
    };
    const scenario = await RestoreScenario.start({ relocation }, AbortSignal.timeout(LIMIT_MS), format);
    const over = new AbortController();
    const kills = (async () => {
      for (let count = 0; count < KILLS && !over.signal.aborted; count++) {
        await delay(500 + next() * 8000, undefined, { signal: over.signal }).catch(() => undefined);
        const victim = VICTIMS[Math.floor(next() * VICTIMS.length)] as Victim;
        if (!over.signal.aborted) await Promise.race([scenario.kill(victim), delay(3000)]);
      }
    })();
    try {
      await scenario.until(({ phase }) => phase === "Completed");
      over.abort();
      await kills;
      const target = await scenario.readTarget();
      expect(lostRecords(await scenario.acknowledged(), target)).toEqual([]);
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      over.abort();
      await scenario.close();
    }
  },
  LIMIT_MS + 60_000,
);
