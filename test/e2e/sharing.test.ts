import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import { isTrue } from "../../src/operator/conditions.ts";
import { RestoreScenario } from "../scenario/restore-scenario.ts";

const LIMIT_MS = 10 * 60_000;
const LIVE_MOUNT = { relocation: { strategy: "None" }, liveMount: { onExpiry: "Keep" } };

async function second(): Promise<string> {
  const example = parse(await readFile(join(import.meta.dirname, "../../examples/vmrestore.yaml"), "utf8"));
  example.metadata.name = "orders-copy";
  const virtualMachine = { name: "orders-copy", macAddresses: "Regenerate", firmwareIdentity: "Regenerate" };
  example.spec = { ...example.spec, ...LIVE_MOUNT, virtualMachine };
  return stringify(example);
}

/** How many agents were told of another one. */
function told(logs: string): number {
  return logs.match(/"agents":\["[0-9a-f-]{36}"\],"msg":"sharing blobs"/g)?.length ?? 0;
}

test(
  "the agents of two machines of one backup are told of one another, and both machines come up",
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
        // How much the second one has of the first depends on how soon it is told: test/integration/agent-peers.test.ts counts that.
        if (isReady && told(scenario.logs()) >= 2) break;
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
