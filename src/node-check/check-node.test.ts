import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { parseNodeReport } from "../api/node-report.ts";
import { checkNode, serviceOf, tryService } from "./check-node.ts";

const SERVICE = { host: "10.96.0.1", port: 443 };
const atOnce = async () => undefined;

test("one answer is enough, and none after some attempts is said with its reason", async () => {
  const outcomes = ["no answer", undefined];
  expect(await tryService(SERVICE, async () => outcomes.shift(), atOnce)).toEqual({ serviceNetwork: "Reached" });
  let attempts = 0;
  const never = async () => {
    attempts++;
    return "EHOSTUNREACH";
  };
  expect(await tryService(SERVICE, never, atOnce)).toEqual({
    serviceNetwork: "Unreachable",
    serviceNetworkError: "10.96.0.1 port 443: EHOSTUNREACH",
  });
  expect(attempts).toBe(3);
});

test("where no Service is told, nothing is said of the network", async () => {
  expect(serviceOf({})).toBeUndefined();
  expect(serviceOf({ KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "tcp" })).toBeUndefined();
  expect(serviceOf({ KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" })).toEqual(SERVICE);
  expect(await tryService(undefined, async () => "never", atOnce)).toEqual({ serviceNetwork: "Unknown" });
});

test("the command writes a report that the operator reads, and reaches a real port", async () => {
  const folder = await mkdtemp(join(tmpdir(), "vmrestore-check-"));
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const before = { ...process.env };
  try {
    process.env.KUBERNETES_SERVICE_HOST = "127.0.0.1";
    process.env.KUBERNETES_SERVICE_PORT = String((server.address() as { port: number }).port);
    await checkNode({
      bin: folder,
      sbin: folder,
      modules: folder,
      sysfs: join(folder, "none"),
      proc: "/proc",
      result: join(folder, "report"),
    });
    const report = parseNodeReport(await readFile(join(folder, "report"), "utf8"));
    expect(report).toMatchObject({ serviceNetwork: "Reached", mountHelper: "Unknown", selinux: "Unknown" });
    expect(report?.kernel).not.toBe("");
  } finally {
    process.env = before;
    server.close();
    await rm(folder, { recursive: true });
  }
});
