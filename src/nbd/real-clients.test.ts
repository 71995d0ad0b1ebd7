import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { deferred } from "../base/deferred.ts";
import { selfSigned, testAuthority } from "../base/testing/certificates.ts";
import { StorageDaemon } from "../base/testing/storage-daemon.ts";
import { NbdServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE = 64 * MIB;

let scratch: string;
let server: NbdServer;
let disk: MemoryExport;
let port: number;
let url: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "nbd-"));
  server = new NbdServer();
  disk = new MemoryExport(
    "root",
    Buffer.concat([randomBytes(8 * MIB), Buffer.alloc(SIZE - 9 * MIB), randomBytes(MIB)]),
  );
  server.addExport(disk);
  port = await server.listen({ address: "127.0.0.1", port: 0 });
  url = `nbd://127.0.0.1:${port}/root`;
});

afterEach(async () => {
  await server.close();
  await rm(scratch, { recursive: true, force: true });
});

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!holds()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await delay(5);
  }
}

test("fio's nbd engine verifies what it wrote, at depth 32 and over several connections", async () => {
  const { stdout } = await run("fio", [
    ...["--name=x", "--ioengine=nbd", `--uri=${url}`, "--rw=randrw", "--bsrange=512-256k", "--blockalign=512"],
    ...["--iodepth=32", "--size=8M", "--offset_increment=8M", "--numjobs=4", "--fsync=16", "--randseed=5"],
    ...["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0", "--output-format=json"],
  ]);
  const jobs = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs as { error: number; read: { io_bytes: number } }[];
  expect(jobs.map(({ error }) => error)).toEqual([0, 0, 0, 0]);
  for (const { read } of jobs) expect(read.io_bytes).toBeGreaterThan(0);
  expect(server.counters.errors).toBe(0);
  expect(disk.flushes).toBeGreaterThan(0);
});

test("nbdcopy takes it over 64 connections, with large requests and with small ones", async () => {
  const file = join(scratch, "copy");
  let most = 0;
  const read = disk.read.bind(disk);
  disk.read = (...given) => {
    most = Math.max(most, server.openConnections);
    return read(...given);
  };
  for (const request of [32 * MIB, 65_536]) {
    // Without as many threads it makes fewer connections.
    const many = ["--connections=64", "--threads=64", "--requests=2"];
    await run("nbdcopy", [...many, `--request-size=${request}`, url, file]);
    expect((await readFile(file)).equals(disk.content)).toBe(true);
    await rm(file);
  }
  expect(most).toBe(64);
  await until("all are gone", () => server.openConnections === 0);
});

test("QEMU copies on read: what it has read once it does not ask for again", async () => {
  const overlay = join(scratch, "overlay.qcow2");
  await run("qemu-img", ["create", "-q", "-f", "qcow2", "-b", url, "-F", "raw", overlay]);
  const read = (): Promise<unknown> =>
    run("qemu-io", ["-C", "-f", "qcow2", "-c", "read -v 1048576 64", "-c", "read 0 8M", overlay]);
  await read();
  const { bytesRead } = server.counters;
  expect(bytesRead).toBeGreaterThanOrEqual(8 * MIB);
  await read();
  expect(server.counters.bytesRead - bytesRead).toBeLessThan(MIB);
  await run("qemu-img", ["rebase", "-q", "-u", "-f", "qcow2", "-b", "", overlay]);
  const plain = join(scratch, "begin.img");
  await run("qemu-img", ["dd", "-f", "qcow2", "-O", "raw", "bs=1M", "count=8", `if=${overlay}`, `of=${plain}`]);
  expect((await readFile(plain)).subarray(0, 8 * MIB).equals(disk.content.subarray(0, 8 * MIB))).toBe(true);
});

describe("QEMU's block jobs", () => {
  let daemon: StorageDaemon;

  beforeEach(async () => {
    daemon = new StorageDaemon();
    await daemon.execute("qmp_capabilities");
    const socket = { type: "inet", host: "127.0.0.1", port: String(port) };
    await daemon.execute("blockdev-add", {
      ...{ driver: "nbd", "node-name": "source", server: socket, export: "root", "read-only": false },
    });
  });

  afterEach(() => daemon.end());

  test("mirror the disk to a file, and leave its zeros out", async () => {
    const target = join(scratch, "target.img");
    await writeFile(target, "");
    await run("truncate", ["-s", String(SIZE), target]);
    await daemon.execute("blockdev-add", {
      ...{ driver: "raw", "node-name": "target" },
      file: { driver: "file", filename: target },
    });
    await daemon.execute("blockdev-mirror", {
      ...{ "job-id": "copy", device: "source", target: "target", sync: "full", granularity: 65_536 },
    });
    await daemon.event("BLOCK_JOB_READY");
    await daemon.execute("block-job-complete", { device: "copy" });
    await daemon.event("BLOCK_JOB_COMPLETED");
    await daemon.end();
    expect((await readFile(target)).equals(disk.content)).toBe(true);
    // It asked for what is allocated, and left the zeros out.
    expect(server.counters.blockStatuses).toBeGreaterThan(0);
    expect(server.counters.bytesRead).toBeLessThan(16 * MIB);
  });
});

test("a QEMU that is killed in the middle of its requests leaves nothing behind, and no half of a write", async () => {
  const PIECE = 4 * MIB;
  const before = Buffer.from(disk.content);
  const gate = deferred();
  const original = disk.write.bind(disk);
  let begun = 0;
  disk.write = async (offset, data, options) => {
    begun++;
    if (begun % 2 === 0) await gate.promise;
    await original(offset, data, options);
  };
  const commands = Array.from({ length: 16 }, (_, index) => [
    "-c",
    `aio_write -P ${index + 1} ${index * PIECE} ${PIECE}`,
  ]);
  const qemu = spawn("qemu-io", ["-f", "raw", "-t", "none", ...commands.flat(), "-c", "aio_flush", url], {
    stdio: "ignore",
  });
  await until("writes are under way", () => begun >= 6);
  qemu.kill("SIGKILL");
  await once(qemu, "exit");
  await until("its connection is gone", () => server.openConnections === 0);
  gate.resolve();
  await delay(50);
  let applied = 0;
  for (let index = 0; index < 16; index++) {
    const piece = disk.content.subarray(index * PIECE, (index + 1) * PIECE);
    const isWhole = piece.every((byte) => byte === index + 1);
    if (isWhole) applied++;
    else expect([index, piece.equals(before.subarray(index * PIECE, (index + 1) * PIECE))]).toEqual([index, true]);
  }
  expect(applied).toBe(begun);
  disk.write = original;
  await run("qemu-io", ["-f", "raw", "-c", "write -P 9 0 4096", "-c", "read -P 9 0 4096", url]);
});

describe("with TLS, QEMU and libnbd", () => {
  let secured: NbdServer;
  let where: string;
  let ca: string;

  beforeEach(async () => {
    const authority = await testAuthority();
    ca = authority.ca;
    secured = new NbdServer({ tls: { ...(await authority.issue("agent", ["127.0.0.1", "localhost"])), ca } });
    secured.addExport(disk);
    where = `localhost:${await secured.listen({ address: "127.0.0.1", port: 0 })}`;
    await present(await authority.issue("relocation", []));
  });

  afterEach(() => secured.close());

  /** What clients show from now on. */
  async function present(pair: { readonly cert: string; readonly key: string }): Promise<void> {
    await writeFile(join(scratch, "ca-cert.pem"), ca);
    await writeFile(join(scratch, "client-cert.pem"), pair.cert);
    await rm(join(scratch, "client-key.pem"), { force: true });
    await writeFile(join(scratch, "client-key.pem"), pair.key, { mode: 0o600 });
  }

  const libnbd = (): Promise<unknown> => run("nbdinfo", ["--size", `nbds://${where}/root?tls-certificates=${scratch}`]);
  const qemu = (): Promise<unknown> => {
    const [host = "", number = ""] = where.split(":");
    const image = `driver=raw,file.driver=nbd,file.host=${host},file.port=${number},file.export=root,file.tls-creds=tls`;
    const object = `tls-creds-x509,id=tls,dir=${scratch},endpoint=client,sanity-check=off`;
    return run("qemu-img", ["info", "--object", object, "--image-opts", image]);
  };

  test("are served with a certificate of the authority, and with no other", async () => {
    await Promise.all([libnbd(), qemu()]);
    const { reads } = secured.counters;
    const refused = secured.refused;
    const strangers = [await selfSigned("relocation"), await (await testAuthority("other")).issue("relocation", [])];
    for (const stranger of strangers) {
      await present(stranger);
      await expect(libnbd()).rejects.toThrow();
      await expect(qemu()).rejects.toThrow();
    }
    await until("all are counted", () => secured.refused >= refused + 4);
    expect(secured.counters.reads).toBe(reads);
    expect(secured.openConnections).toBe(0);
  });
});
