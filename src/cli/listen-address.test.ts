import type { AddressInfo } from "node:net";
import { expect, test } from "@jest/globals";
import { serveHealth } from "../operator/runtime/health-server.ts";
import { OperatorMetrics } from "../operator/runtime/metrics.ts";
import { operatorCommand } from "./commands/operator.ts";
import { listenAddress } from "./listen-address.ts";

test.each([
  [":9464", { port: 9464 }],
  ["127.0.0.1:0", { host: "127.0.0.1", port: 0 }],
  ["127.0.0.1", { host: "127.0.0.1", port: 9464 }],
  ["[::1]:9464", { host: "::1", port: 9464 }],
  ["[::1]", { host: "::1", port: 9464 }],
  ["localhost:8080", { host: "localhost", port: 8080 }],
])("%s says where to listen", (text, address) => {
  expect(listenAddress(text)).toEqual(address);
});

test.each([
  ["foo:bar", /ip:port/],
  ["127.0.0.1:bar", /a port from 0/],
  [":99999", /a port from 0/],
  [":-1", /a port from 0/],
  [":1e3", /a port from 0/],
  ["127.0.0.1:", /a port from 0/],
  ["[::1", /ip:port/],
  ["[::1]9464", /ip:port/],
  ["[127.0.0.1]:9464", /ip:port/],
  ["999.0.0.1:9464", /ip:port/],
  ["::1", /brackets: \[::1\]:9464/],
  ["::1:9464", /brackets/],
  ["", /ip:port/],
])("%j is refused, and it is said what to write", (text, hint) => {
  expect(() => listenAddress(text)).toThrow(
    expect.objectContaining({ code: "LISTEN_ADDRESS_INVALID", hint: expect.stringMatching(hint) }),
  );
});

test("nothing is begun with an address that is none", async () => {
  const begun = operatorCommand().parseAsync(
    ["--namespace", "n", "--kubeconfig", "/nonexistent/kubeconfig", "--listen", "foo:bar"],
    { from: "user" },
  );
  await expect(begun).rejects.toMatchObject({ code: "LISTEN_ADDRESS_INVALID" });
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
