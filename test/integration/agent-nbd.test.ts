import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, expect, test } from "@jest/globals";
import { StorageDaemon } from "../../src/base/testing/storage-daemon.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { RcloneServer } from "../../src/repository/testing/rclone.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

/** The agent's own NBD: TLS with certificates of the restore on both sides, over overlay, cache and a repository behind HTTP. */
const run = promisify(execFile);
const MIB = 1024 * 1024;
const original = Buffer.concat([noise(12 * MIB, 1), Buffer.alloc(9 * MIB), noise(11 * MIB, 2)]);
const disks = [{ name: "root", path: "/disks/root.img", size: original.length }];
/** Nothing is staged. */
const profile = { boots: 1, disks: [{ name: "root", size: original.length, extents: "" }] };
/** Writes of a guest: over data, over zeros, zeros over data, less than a sector, and the end. */
const WRITES = [
  [MIB, noise(300_000, 3)],
  [15 * MIB + 512, noise(65_536, 4)],
  [23 * MIB, Buffer.alloc(MIB)],
  [5 * MIB + 77, noise(100, 5)],
  [original.length - 4096, noise(4096, 6)],
] as const;
/** What the relocation and a backup must see. */
const merged = Buffer.from(original);
for (const [offset, bytes] of WRITES) bytes.copy(merged, offset);

let scratch: string;
let repository: ResticRepository;
let server: RcloneServer;
let agent: TestAgent;
let tls: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-nbd-"));
  repository = await ResticRepository.create(2);
  const snapshot = await repository.backUp({ "disks/root.img": original }, ["--pack-size", "4"]);
  server = await RcloneServer.start(repository.directory);
  const remote = { place: { rest: { url: server.url } }, credentials: {} };
  agent = await TestAgent.create({ repository, remote, snapshot, disks });
  tls = `tls-creds-x509,id=tls0,dir=${join(agent.directory, "client")},endpoint=client,verify-peer=yes`;
  await agent.start({ profile });
  const file = await NfsFile.open(agent.address, (await agent.operator.status()).disks[0]?.exportPath ?? "");
  for (const [offset, bytes] of WRITES) await file.write(offset, bytes);
  file.close();
}, 120_000);

afterAll(async () => {
  await agent?.remove();
  await server?.stop();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

/** Each begins with nothing in the cache. */
beforeEach(async () => {
  await agent.stop();
  await rm(join(agent.directory, "cache"), { recursive: true, force: true });
  await agent.start();
});

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 800; tries++) {
    if (await holds()) return;
    await delay(25);
  }
  throw new Error(`not in twenty seconds: ${what}`);
}

async function metric(name: string): Promise<number> {
  const { text } = await agent.metricsPort("/metrics");
  const line = text.split("\n").find((candidate) => candidate.startsWith(`vmrestore_agent_${name} `));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
}

const connections = (): Promise<number> => metric("nbd_connections");
const bytesRead = (): Promise<number> => metric('disk_read_bytes_total{disk="root",class="relocation"}');

/** How QEMU names the export. */
const image = {
  ...{ driver: "nbd", export: "root", "tls-creds": "tls0" },
  server: { type: "inet", host: "", port: "10809" },
};
const qemuImage = (): typeof image => ({ ...image, server: { ...image.server, host: agent.address } });

test("nbdcopy takes the merged image over 64 connections, with large requests and with small ones, from a cold cache and a warm one", async () => {
  const copy = join(scratch, "copy");
  // Without as many threads it makes fewer connections.
  const many = ["--connections=64", "--threads=64", "--requests=2"];
  const take = (requestBytes: number): Promise<unknown> =>
    run("nbdcopy", [...many, `--request-size=${requestBytes}`, agent.nbdUri("root"), copy]);
  server.pause();
  const first = take(8 * MIB);
  first.catch(() => undefined);
  try {
    await until("all of them are open", async () => (await connections()) === 64);
  } finally {
    server.resume();
  }
  await first;
  expect((await readFile(copy)).equals(merged)).toBe(true);
  await rm(copy);
  await take(65_536);
  expect((await readFile(copy)).equals(merged)).toBe(true);
  await until("all connections are gone", async () => (await connections()) === 0);
}, 120_000);

test("QEMU compares it: it is the merged image, and not the backup's any more", async () => {
  const compare = async (content: Buffer): Promise<string> => {
    const file = join(scratch, "expected.img");
    await writeFile(file, content);
    const options = `driver=nbd,server.type=inet,server.host=${agent.address},server.port=10809,export=root,tls-creds=tls0`;
    const args = ["compare", "--object", tls, "--image-opts", `driver=raw,file.filename=${file}`, options];
    return (await run("qemu-img", args)).stdout;
  };
  expect(await compare(merged)).toContain("Images are identical");
  await expect(compare(original)).rejects.toMatchObject({ stdout: expect.stringContaining(`offset ${MIB}`) });
}, 120_000);

test("a machine of QEMU's that copies on read over it reads each part once, and keeps what it was", async () => {
  const overlay = join(scratch, "overlay.qcow2");
  const backing = `json:${JSON.stringify({ driver: "raw", file: qemuImage() })}`;
  await run("qemu-img", [
    ...["create", "-q", "--object", tls, "-f", "qcow2", "-b", backing, "-F", "raw", overlay],
    String(original.length),
  ]);
  const read = (): Promise<unknown> =>
    run("qemu-io", ["--object", tls, "-C", "-f", "qcow2", "-c", "read 0 8M", "-c", "read 14M 2M", overlay]);
  await read();
  const once = await bytesRead();
  // Of the second part, all but what was written is known to be zeros.
  expect(once).toBeGreaterThan(8 * MIB);
  await read();
  expect((await bytesRead()) - once).toBeLessThan(MIB);
  await run("qemu-img", ["rebase", "-q", "-u", "-f", "qcow2", "-b", "", overlay]);
  const plain = join(scratch, "plain.img");
  await run("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", overlay, plain]);
  const kept = await readFile(plain);
  for (const [from, to] of [
    [0, 8 * MIB],
    [14 * MIB, 16 * MIB],
  ] as const) {
    expect(kept.subarray(from, to).equals(merged.subarray(from, to))).toBe(true);
  }
}, 120_000);

test("QEMU mirrors it, and leaves out what is known to be zeros", async () => {
  const target = join(scratch, "target.img");
  await writeFile(target, "");
  await truncate(target, original.length);
  const daemon = new StorageDaemon(["--object", tls]);
  try {
    await daemon.execute("qmp_capabilities");
    await daemon.execute("blockdev-add", { ...qemuImage(), "node-name": "source", "read-only": true });
    await daemon.execute("blockdev-add", {
      ...{ driver: "raw", "node-name": "target" },
      file: { driver: "file", filename: target },
    });
    await daemon.execute("blockdev-mirror", { "job-id": "move", device: "source", target: "target", sync: "full" });
    await daemon.event("BLOCK_JOB_READY");
    await daemon.execute("block-job-complete", { device: "move" });
    await daemon.event("BLOCK_JOB_COMPLETED");
  } finally {
    await daemon.end();
  }
  expect((await readFile(target)).equals(merged)).toBe(true);
  expect(await bytesRead()).toBeLessThan(original.length - 6 * MIB);
}, 120_000);

test("clients that are killed while their reads wait for the repository leave nothing behind, and others are served", async () => {
  const descriptors = async (): Promise<number> => (await readdir(`/proc/${agent.pid}/fd`)).length;
  server.pause();
  const clients = Array.from({ length: 6 }, (_, index) =>
    spawn("nbdcopy", ["--connections=8", "--threads=8", agent.nbdUri("root"), join(scratch, `killed-${index}`)], {
      stdio: "ignore",
    }),
  );
  try {
    await until("all of them read", async () => (await connections()) === 48);
    await until("their reads wait", async () => (await metric("repository_longest_wait_seconds")) > 0.2);
    const held = await descriptors();
    for (const client of clients) client.kill("SIGKILL");
    await Promise.all(clients.map((client) => client.exitCode ?? client.signalCode ?? once(client, "exit")));
    // Though nothing that they asked for has come.
    await until("their connections are gone", async () => (await connections()) === 0);
    // Some of what else it has open may come and go.
    expect(await descriptors()).toBeLessThan(held - 30);
  } finally {
    for (const client of clients) client.kill("SIGKILL");
    server.resume();
  }
  const copy = join(scratch, "after");
  await run("nbdcopy", [agent.nbdUri("root"), copy]);
  expect((await readFile(copy)).equals(merged)).toBe(true);
}, 120_000);

test("nobody writes to it", async () => {
  const file = join(scratch, "zeros");
  await writeFile(file, Buffer.alloc(original.length));
  await expect(run("nbdcopy", [file, agent.nbdUri("root")])).rejects.toThrow(/read-only/);
  const write = ["--object", tls, "--image-opts", "-c", "write -P 1 0 4096"];
  const options = `driver=nbd,server.type=inet,server.host=${agent.address},server.port=10809,export=root,tls-creds=tls0`;
  await expect(run("qemu-io", [...write, options])).rejects.toThrow(/Permission denied/);
}, 120_000);
