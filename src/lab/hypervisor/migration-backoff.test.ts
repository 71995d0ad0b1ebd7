import { expect, test } from "@jest/globals";
import type { Migration, MigrationPhase } from "./kinds.ts";
import { backoffLeft } from "./migration-backoff.ts";

const at = (second: number): string => new Date(second * 1000).toISOString();

function migration(born: number, phase?: MigrationPhase, ended = born, vmiName = "vm"): Migration {
  const phaseTransitionTimestamps = phase === undefined ? [] : [{ phase, phaseTransitionTimestamp: at(ended) }];
  return {
    ...{ apiVersion: "kubevirt.io/v1", kind: "VirtualMachineInstanceMigration", spec: { vmiName } },
    metadata: { name: `at-${born}`, uid: `${vmiName}-${born}`, creationTimestamp: at(born) },
    status: { ...(phase === undefined ? {} : { phase }), phaseTransitionTimestamps },
  };
}

test.each([
  ["the first", [], 0],
  ["one after one that failed", [migration(10, "Failed", 20)], 10],
  ["one after two that failed", [migration(1, "Failed", 2), migration(10, "Failed", 20)], 30],
  ["one after three", [migration(1, "Failed", 2), migration(4, "Failed", 5), migration(10, "Failed", 20)], 70],
  ["one after one that went well since", [migration(1, "Failed", 2), migration(10, "Succeeded", 20)], 0],
  ["one after another machine's", [migration(10, "Failed", 20, "other")], 0],
  ["one whose pause is over", [migration(1, "Failed", 2)], 0],
])("%s waits for as long as KubeVirt lets it", (_, before, seconds) => {
  const own = migration(25);
  expect(backoffLeft(own, [own, ...before], { firstMs: 20_000, now: 30_000 })).toBe(seconds * 1000);
});
