import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { BackendConfig } from "../../src/api/agent-config.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { LocalBackend } from "../../src/repository/backends/local.ts";
import { S3Backend } from "../../src/repository/backends/s3.ts";
import { copyRepository } from "../../src/repository/testing/copy-repository.ts";
import { FaultProxy } from "../../src/repository/testing/fault-proxy.ts";
import { RcloneServer } from "../../src/repository/testing/rclone.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";
import { S3Server } from "../../src/repository/testing/s3-server.ts";

const MIB = 1024 * 1024;
const content = Buffer.concat([noise(17 * MIB, 1), Buffer.alloc(20 * MIB), noise(7 * MIB, 2)]);

interface Remote {
  readonly port: number;
  readonly place: (url: string) => BackendConfig;
  readonly credentials: Readonly<Record<string, string>>;
  readonly stop: () => Promise<void>;
}

async function s3(restic: ResticRepository): Promise<Remote> {
  const server = await S3Server.start("strict");
  const place = { bucket: server.bucket, prefix: "machines", region: "us-east-1" };
  const remote = new S3Backend(
    { ...place, endpoint: server.endpoint },
    { credentials: async () => server.credentials },
  );
  const local = new LocalBackend(restic.directory);
  await copyRepository(local, remote);
  await Promise.all([local.close(), remote.close()]);
  return {
    port: server.port,
    place: (endpoint) => ({ s3: { ...place, endpoint } }),
    credentials: { "s3-access-key-id": "S3RVER", "s3-secret-access-key": "S3RVER" },
    stop: () => server.stop(),
  };
}

async function rest(restic: ResticRepository): Promise<Remote> {
  const server = await RcloneServer.start(restic.directory, ["--user", "S3RVER", "--pass", "S3RVER"]);
  return {
    port: server.port,
    place: (url) => ({ rest: { url } }),
    credentials: { "http-username": "S3RVER", "http-password": "S3RVER" },
    stop: () => server.stop(),
  };
}

describe.each([
  ["S3", s3],
  ["a REST server", rest],
] as const)("an agent whose repository is behind %s", (_where, begin) => {
  let restic: ResticRepository;
  let remote: Remote;
  let proxy: FaultProxy;
  let agent: TestAgent;
  let scratch: string;

  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), "agent-remote-"));
    restic = await ResticRepository.create(2);
    const snapshot = await restic.backUp({ "root.img": content });
    remote = await begin(restic);
    proxy = await FaultProxy.start(remote.port);
    agent = await TestAgent.create({
      repository: restic,
      remote: { place: remote.place(proxy.url), credentials: remote.credentials },
      snapshot,
      disks: [{ name: "root", path: "/root.img", size: content.length }],
      pin: true,
    });
  }, 180_000);
  afterAll(async () => {
    await agent?.remove();
    await proxy?.stop();
    await remote?.stop();
    await restic?.remove();
    await rm(scratch, { recursive: true });
  });

  async function copy(): Promise<Buffer> {
    const path = join(scratch, "copy");
    await rm(path, { force: true });
    await promisify(execFile)("nbdcopy", [agent.nbdUri("root"), path]);
    return readFile(path);
  }
  /** However long it takes: a faulty link costs pauses, and the machine may be busy. */
  async function start(): Promise<void> {
    await agent.spawn();
    while ((await agent.metricsPort("/readyz").catch(() => undefined))?.status !== 200) await delay(50);
  }
  const indexReads = (): number => proxy.seen.filter(({ url }) => /index\/[0-9a-f]{64}/.test(url)).length;

  test("every byte is right, though the server fails, cuts off and alters answers", async () => {
    proxy.fault = ({ method }, number) => {
      if (method !== "GET") return undefined;
      if (number % 5 === 1) return { kind: "status", status: 503 };
      if (number % 7 === 2) return { kind: "cut", after: 1000 };
      if (number % 11 === 3) return { kind: "alter" };
      return undefined;
    };
    await start();
    expect((await copy()).equals(content)).toBe(true);
    proxy.fault = () => undefined;
    while (!(await agent.operator.status()).repository.pinned) await delay(50);
    expect(indexReads()).toBeGreaterThan(0);
  }, 180_000);

  test("started again it does not read the index again", async () => {
    await agent.stop("SIGKILL");
    proxy.seen.length = 0;
    await start();
    expect((await copy()).equals(content)).toBe(true);
    expect(indexReads()).toBe(0);
  }, 180_000);

  test("credentials that are changed while it runs: it waits, says so, and goes on", async () => {
    proxy.fault = () => ({ kind: "status", status: 403 });
    await agent.stop();
    await agent.spawn();
    const waiting = async (): Promise<string> =>
      (await agent.metricsPort("/readyz").catch(() => undefined))?.text ?? "";
    while (!(await waiting()).includes("403")) await delay(50);
    proxy.fault = () => undefined;
    while ((await agent.metricsPort("/readyz")).status !== 200) await delay(50);
    expect((await copy()).equals(content)).toBe(true);
  }, 180_000);

  test("nothing secret is in its log, its configuration or its status", async () => {
    const config = await readFile(join(agent.directory, "config.json"), "utf8");
    const status = JSON.stringify(await agent.operator.status());
    const metrics = (await agent.metricsPort("/metrics")).text;
    for (const text of [agent.log, config, status, metrics]) expect(text).not.toMatch(/S3RVER|p4ss/);
    expect(agent.log).not.toContain(restic.password);
  });
});
