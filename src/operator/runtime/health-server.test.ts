import type { AddressInfo } from "node:net";
import { expect, test } from "@jest/globals";
import { serveHealth } from "./health-server.ts";
import { OperatorMetrics } from "./metrics.ts";

test("health, readiness and metrics are served", async () => {
  const metrics = new OperatorMetrics();
  let ready = false;
  const server = await serveHealth({ host: "127.0.0.1", port: 0, registry: metrics.registry, isReady: () => ready });
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    expect((await fetch(`${base}/healthz`)).status).toBe(200);
    expect((await fetch(`${base}/readyz`)).status).toBe(503);
    ready = true;
    expect((await fetch(`${base}/readyz`)).status).toBe(200);
    expect((await fetch(`${base}/secrets`)).status).toBe(404);
    expect((await fetch(`${base}/healthz`, { method: "POST" })).status).toBe(405);
    metrics.restoreIs("a", "Running");
    metrics.restoreIs("b", "Running");
    metrics.restoreIs("b", undefined);
    metrics.reconciled("vmrestore", "success", 20);
    metrics.leading(true);
    const text = await (await fetch(`${base}/metrics`)).text();
    expect(text).toContain('vmrestore_restores{phase="Running"} 1');
    expect(text).toContain('vmrestore_operator_reconciles_total{controller="vmrestore",result="success"} 1');
    expect(text).toContain("vmrestore_operator_leading 1");
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
