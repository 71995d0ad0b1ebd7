import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import { isTrue } from "../../src/operator/conditions.ts";
import { RestoreScenario } from "../scenario/restore-scenario.ts";

const LIMIT_MS = 5 * 60_000;
const MIB = 2 ** 20;
const LIVE_MOUNT = { relocation: { strategy: "None" }, liveMount: { onExpiry: "Keep" } };

async function second(): Promise<string> {
  const example = parse(await readFile(join(import.meta.dirname, "../../examples/vmrestore.yaml"), "utf8"));
  example.metadata.name = "orders-copy";
  const virtualMachine = { name: "orders-copy", macAddresses: "Regenerate", firmwareIdentity: "Regenerate" };
  example.spec = { ...example.spec, ...LIVE_MOUNT, virtualMachine };
  return stringify(example);
}

test(
  "a second machine of one backup has most of it from the first one's agent, as the operator told them",
  async () => {
    const scenario = await RestoreScenario.start(LIVE_MOUNT, AbortSignal.timeout(LIMIT_MS));
    try {
      const first = await scenario.until(({ conditions }) => isTrue(conditions, "GuestReady"));
      expect(first.mediaAgent?.bytesFromPeers).toBeUndefined();
      const file = join(scenario.directory, "second.yaml");
      await writeFile(file, await second());
      await scenario.kubectl("apply", "-f", file);
      for (;;) {
        const status = await scenario.cluster.restoreStatus("orders-copy");
        if (status?.phase === "Failed") throw new Error(status.message);
        const isReady = isTrue(status?.conditions, "GuestReady");
        if (isReady && (status?.mediaAgent?.bytesFromPeers ?? 0) > MIB) break;
        await scenario.look();
      }
    } catch (error) {
      process.stderr.write(`${scenario.logs()}\n`);
      throw error;
    } finally {
      await scenario.close();
    }
  },
  LIMIT_MS + 30_000,
);
