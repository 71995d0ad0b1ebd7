import type { AddressInfo } from "node:net";
import { expect, test } from "@jest/globals";
import { serveHealth } from "../operator/runtime/health-server.ts";
import { OperatorMetrics } from "../operator/runtime/metrics.ts";
import { listenAddress } from "./listen-address.ts";

test.each([
  [":9464", { port: 9464 }],
  ["127.0.0.1:0", { host: "127.0.0.1", port: 0 }],
  ["127.0.0.1", { host: "127.0.0.1", port: 9464 }],
  ["[::1]:9464", { host: "::1", port: 9464 }],
])("%s says where to listen", (text, address) => {
  expect(listenAddress(text)).toEqual(address);
});

test("a pod that has only IPv6 is found well by its probes, and one that has only IPv4", async () => {
  const { registry } = new OperatorMetrics();
  const server = await serveHealth({ ...listenAddress(":0"), registry, isReady: () => true });
  const { port } = server.address() as AddressInfo;
  try {
    for (const host of ["127.0.0.1", "[::1]"]) expect((await fetch(`http://${host}:${port}/healthz`)).status).toBe(200);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
