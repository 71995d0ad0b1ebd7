import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import type { AgentStatus } from "../../src/api/agent-control.ts";
import { AgentMetrics } from "../../src/media-agent/metrics.ts";
import { OperatorMetrics } from "../../src/operator/runtime/metrics.ts";

const DASHBOARD = join(import.meta.dirname, "../../charts/vmrestore-operator/dashboards/vmrestore.json");

interface Dashboard {
  panels: { title: string; targets: { expr: string }[] }[];
}

test("every metric on the dashboard exists", () => {
  const agent = new AgentMetrics();
  agent.observe({
    status: () => ({}) as AgentStatus,
    cache: () => ({ bytes: 0, limit: 0, evicted: 0, corrupted: 0 }),
    waiting: () => 0,
    running: () => 0,
    staged: () => ({ unread: { boot: 0, lead: 0 }, read: { boot: 0, lead: 0 } }),
    cursor: () => 0,
    nbd: () => ({ refused: 0 }),
    nfs: () => ({ refused: 0, putOff: 0, abandoned: 0 }),
  });
  const names = new Set(
    [agent.registry, new OperatorMetrics().registry].flatMap((registry) =>
      registry.getMetricsAsArray().map(({ name }) => name),
    ),
  );
  const dashboard = JSON.parse(readFileSync(DASHBOARD, "utf8")) as Dashboard;
  const used = dashboard.panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) => expr.match(/vmrestore_\w+/g) ?? []),
  );
  expect(used.length).toBeGreaterThan(12);
  for (const name of used) expect([...names]).toContain(name.replace(/_bucket$/, ""));
});
