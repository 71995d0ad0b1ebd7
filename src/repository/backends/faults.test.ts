import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type Fault, FaultProxy } from "../testing/fault-proxy.ts";
import { HastyClock } from "../testing/hasty-clock.ts";
import { RcloneServer } from "../testing/rclone.ts";
import { noise } from "../testing/restic.ts";
import { S3Server } from "../testing/s3-server.ts";
import type { Backend } from "./backend.ts";
import type { HttpClientOptions } from "./http-client.ts";
import { RestBackend } from "./rest.ts";
import { S3Backend } from "./s3.ts";

/** For answers that never come; everything else has the usual time. */
const IMPATIENT = { connect: 10_000, stall: 700, total: 10_000 };
const content = noise(200_000, 1);
const pack = { type: "data", name: "ab".repeat(32) } as const;
const config = { type: "config", name: "" } as const;
const slowDown = "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>";

interface Server {
  readonly port: number;
  stop(): Promise<void>;
}

interface Kind {
  readonly start: () => Promise<Server>;
  readonly connect: (url: string, clock: HastyClock, client?: HttpClientOptions) => Backend;
}

let scratch: string;
const kinds: Record<string, Kind> = {
  "a restic REST server": {
    start: async () => {
      scratch = await mkdtemp(join(tmpdir(), "faults-"));
      await writeFile(join(scratch, "config"), "x");
      const server = await RcloneServer.start(scratch);
      return { port: server.port, stop: () => server.stop().then(() => rm(scratch, { recursive: true })) };
    },
    connect: (url, clock, client = {}) => new RestBackend(url, { ...client, clock, random: () => 0.5 }),
  },
  "an S3 server": {
    start: () => S3Server.start("strict"),
    connect: (endpoint, clock, client = {}) =>
      new S3Backend(
        { bucket: "backups", prefix: "a folder/x", region: "us-east-1", endpoint },
        {
          ...client,
          clock,
          random: () => 0.5,
          credentials: async () => ({ accessKeyId: "S3RVER", secretAccessKey: "S3RVER" }),
        },
      ),
  },
};

describe.each(Object.entries(kinds))("between here and %s", (_what, { start, connect }) => {
  let server: Server;
  let proxy: FaultProxy;
  let clock: HastyClock;
  let backend: Backend;

  beforeAll(async () => {
    server = await start();
    proxy = await FaultProxy.start(server.port);
    const direct = connect(`http://127.0.0.1:${server.port}`, new HastyClock());
    await direct.save(pack, content);
    await direct.close();
  }, 120_000);
  afterAll(async () => {
    await proxy?.stop();
    await server?.stop();
  });
  beforeEach(async () => {
    clock = new HastyClock();
    backend = connect(proxy.url, clock);
    // Once, so that what is looked up only once is out of the way.
    proxy.fault = () => undefined;
    expect((await backend.readRange(pack, 10, 20)).equals(content.subarray(10, 30))).toBe(true);
    proxy.seen.length = 0;
  });
  afterEach(() => backend.close());

  const times = (count: number, fault: Fault) => (_seen: unknown, number: number) =>
    number < count ? fault : undefined;
  const read = (): Promise<Buffer> => backend.readRange(pack, 1000, 100_000);

  test.each<[string, Fault]>([
    ["a server's failure", { kind: "status", status: 500 }],
    ["a server that has too much to do", { kind: "status", status: 503, body: slowDown }],
    ["a limit of requests", { kind: "status", status: 429, headers: { "retry-after": "1" } }],
    ["a connection that is cut", { kind: "cut", after: 50_000 }],
    ["a connection that is cut at once", { kind: "lose" }],
    ["an answer that stops", { kind: "stall", after: 50_000 }],
    ["an answer that does not begin", { kind: "stall", after: 0 }],
    ["a body that is too short", { kind: "truncate", by: 1 }],
    ["a range that is not heeded", { kind: "whole" }],
  ])("%s is tried again, with growing pauses", async (_fault, fault) => {
    const impatient = fault.kind === "stall" ? connect(proxy.url, clock, { limits: IMPATIENT }) : undefined;
    await impatient?.readRange(pack, 10, 20);
    proxy.seen.length = 0;
    proxy.fault = times(2, fault);
    expect((await (impatient ?? backend).readRange(pack, 1000, 100_000)).equals(content.subarray(1000, 101_000))).toBe(
      true,
    );
    await impatient?.close();
    // On a busy machine a good answer may take too long for the impatient.
    expect(proxy.seen.length).toBeGreaterThanOrEqual(3);
    if (fault.kind === "stall") return;
    expect(proxy.seen).toHaveLength(3);
    const asked = fault.kind === "status" && fault.headers !== undefined;
    // A connection that was idle may have been closed by the server at any time: the first loss is made good at once.
    expect(clock.pauses).toEqual(fault.kind === "lose" ? [150] : asked ? [1000, 1000] : [150, 300]);
  });

  test("an answer that drips is given up, however long it might have been", async () => {
    const dripping = connect(proxy.url, clock, { limits: { ...IMPATIENT, stall: 5000, total: 1000 } });
    proxy.fault = times(1, { kind: "drip", every: 20 });
    // Of a whole file nobody knows the length: at the slowest pace 256 MiB would take more than an hour.
    const read = await dripping.readAll(pack, 256 * 2 ** 20);
    expect(read.equals(content)).toBe(true);
    expect(proxy.seen.length).toBeGreaterThanOrEqual(2);
    await dripping.close();
  });

  test("what does not pass is said after four tries, and names the object", async () => {
    proxy.fault = times(99, { kind: "status", status: 503, body: slowDown });
    await expect(read()).rejects.toMatchObject({
      code: "REPOSITORY_UNREACHABLE",
      message: expect.stringContaining(pack.name),
    });
    expect(proxy.seen).toHaveLength(4);
  });

  test("a file that is shorter than the index says is damaged, at once", async () => {
    await expect(backend.readRange(pack, 199_990, 20)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    await expect(backend.readRange(pack, 300_000, 20)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    expect(clock.pauses).toEqual([]);
    expect(await backend.readRange(pack, 199_990, 10)).toEqual(content.subarray(199_990));
    expect(await backend.readRange(pack, 5, 0)).toHaveLength(0);
  });

  test("a file over its limit is refused before it is read", async () => {
    await expect(backend.readAll(pack, 199_999)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
    expect((await backend.readAll(pack, 200_000)).equals(content)).toBe(true);
  });

  test.each([301, 302, 303, 307, 308])("a redirect (%i) is not followed, wherever it leads", async (status) => {
    const thief = await FaultProxy.start(server.port);
    try {
      proxy.fault = times(9, { kind: "status", status, headers: { location: `${thief.url}/x?secret=1` } });
      await expect(read()).rejects.toMatchObject({
        code: "REPOSITORY_REDIRECTED",
        hint: expect.not.stringContaining("secret"),
      });
      await expect(backend.save(pack, content)).rejects.toMatchObject({ code: "REPOSITORY_REDIRECTED" });
      expect(thief.seen).toEqual([]);
    } finally {
      await thief.stop();
    }
  });

  test("a hundred ranged reads at once go over a few connections, and each gets its own bytes", async () => {
    const few = connect(proxy.url, clock, { connections: 5 });
    proxy.mostAtOnce = 0;
    const offsets = Array.from({ length: 100 }, (_, index) => index * 1999);
    const reads = await Promise.all(offsets.map((offset) => few.readRange(pack, offset, 1500)));
    for (const [index, offset] of offsets.entries()) {
      expect(reads[index]?.equals(content.subarray(offset, offset + 1500))).toBe(true);
    }
    expect(proxy.mostAtOnce).toBe(5);
    await few.close();
  });

  test("a write whose answer is lost is made again, and is there", async () => {
    const file = { type: "locks", name: "cd".repeat(32) } as const;
    proxy.fault = times(1, { kind: "lose" });
    await backend.save(file, Buffer.from("lock"));
    expect((await backend.readAll(file, 100)).toString()).toBe("lock");
    expect(await backend.list("locks")).toEqual([file.name]);
    await backend.remove(file);
    await backend.remove(file);
    expect(await backend.exists(file)).toBe(false);
    expect(await backend.list("locks")).toEqual([]);
    await expect(backend.readAll(file, 100)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_MISSING" });
  });

  test("names that are none never reach the server", async () => {
    proxy.seen.length = 0;
    for (const name of ["../config", "", "A".repeat(64), `${"0".repeat(63)}?`]) {
      await expect(backend.readRange({ type: "data", name }, 0, 1)).rejects.toMatchObject({
        code: "REPOSITORY_OBJECT_DAMAGED",
      });
    }
    expect(proxy.seen).toEqual([]);
  });

  test("refused to read is told from refused to write", async () => {
    proxy.fault = times(99, { kind: "status", status: 403 });
    await expect(backend.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
    await expect(backend.exists(config)).rejects.toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
    await expect(backend.save(config, content)).rejects.toMatchObject({ code: "REPOSITORY_READ_ONLY" });
  });
});

test("nobody there: unreachable", async () => {
  const clock = new HastyClock();
  const nobody = new RestBackend("http://127.0.0.1:9/", { clock });
  await expect(nobody.readAll(config, 100)).rejects.toMatchObject({ code: "REPOSITORY_UNREACHABLE" });
  expect(clock.pauses).toHaveLength(3);
  await nobody.close();
});
