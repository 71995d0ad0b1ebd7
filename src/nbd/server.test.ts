import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteWriter } from "../base/bytes.ts";
import { createAuthority } from "../base/certificates.ts";
import { NbdClient } from "./client.ts";
import { NbdServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const SIZE = 40 * MIB;

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
    Buffer.concat([randomBytes(3 * MIB), Buffer.alloc(SIZE - 4 * MIB), randomBytes(MIB)]),
  );
  server.addExport(disk);
  server.addExport(new MemoryExport("data", Buffer.alloc(10_000), true));
  port = await server.listen({ address: "127.0.0.1", port: 0 });
  url = `nbd://127.0.0.1:${port}/root`;
});

afterEach(async () => {
  await server.close();
  await rm(scratch, { recursive: true, force: true });
});

describe("libnbd", () => {
  test("nbdinfo sees the exports, their contexts and flags", async () => {
    const list = JSON.parse((await run("nbdinfo", ["--json", "--list", `nbd://127.0.0.1:${port}`])).stdout);
    const [root, data] = list.exports;
    expect(list.protocol).toBe("newstyle-fixed");
    expect(list.structured).toBe(true);
    expect([root["export-name"], root["export-size"], root.is_read_only, root.can_multi_conn, root.can_fua]).toEqual([
      "root",
      SIZE,
      false,
      true,
      true,
    ]);
    expect(root.contexts).toEqual(["base:allocation", "qemu:dirty-bitmap:test"]);
    expect([data["export-name"], data.is_read_only, data.block_size_maximum]).toEqual(["data", true, 32 * MIB]);
  });

  test("nbdinfo --map tells zeros and dirty pages", async () => {
    disk.dirty.add(2);
    const map = JSON.parse((await run("nbdinfo", ["--json", "--map", url])).stdout);
    expect(map).toEqual([
      { offset: 0, length: 3 * MIB, type: 0, description: "data" },
      { offset: 3 * MIB, length: SIZE - 4 * MIB, type: 3, description: "hole,zero" },
      { offset: SIZE - MIB, length: MIB, type: 0, description: "data" },
    ]);
    const dirty = JSON.parse((await run("nbdinfo", ["--json", "--map=qemu:dirty-bitmap:test", url])).stdout);
    expect(dirty.filter((extent: { type: number }) => extent.type === 1)).toEqual([
      expect.objectContaining({ offset: 8192, length: 4096 }),
    ]);
  });

  test("nbdcopy copies both ways", async () => {
    const file = join(scratch, "copy");
    await run("nbdcopy", [url, file]);
    expect((await readFile(file)).equals(disk.content)).toBe(true);
    const other = randomBytes(SIZE);
    other.fill(0, 5 * MIB, 20 * MIB);
    await writeFile(file, other);
    await run("nbdcopy", ["--flush", file, url]);
    expect(disk.content.equals(other)).toBe(true);
    expect(disk.flushes).toBeGreaterThan(0);
  });
});

describe("QEMU", () => {
  test("qemu-io writes, zeroes, discards, flushes, and reads them back", async () => {
    const commands = [
      "write -P 0xa5 4096 33554432",
      "write -f -P 0x5a 1 511",
      "read -P 0x5a 1 511",
      "write -z 65536 131072",
      "read -P 0 65536 131072",
      "discard 1048576 1048576",
      "read -P 0xa5 2097152 1000000",
      "flush",
    ];
    const { stdout } = await run("qemu-io", ["-f", "raw", ...commands.flatMap((command) => ["-c", command]), url]);
    expect(stdout).not.toMatch(/failed|error|mismatch/i);
    expect(disk.durableWrites).toBeGreaterThan(0);
    expect(disk.content.subarray(4096, 65536).every((byte) => byte === 0xa5)).toBe(true);
  });

  test("qemu-img compares, maps and converts", async () => {
    const file = join(scratch, "disk.img");
    await writeFile(file, disk.content);
    await run("qemu-img", ["compare", "-f", "raw", "-F", "raw", url, file]);
    const map = JSON.parse((await run("qemu-img", ["map", "--output=json", "-f", "raw", url])).stdout);
    expect(map.map((extent: { start: number; zero: boolean }) => [extent.start, extent.zero])).toEqual([
      [0, false],
      [3 * MIB, true],
      [SIZE - MIB, false],
    ]);
    await run("qemu-img", ["convert", "-O", "qcow2", url, join(scratch, "disk.qcow2")]);
    await run("qemu-img", ["compare", join(scratch, "disk.qcow2"), url]);
  });
});

test("our client reads any range as it is, many at once, and tells what the server refuses", async () => {
  const client = await NbdClient.connect({
    host: "127.0.0.1",
    port,
    exportName: "root",
    contexts: ["qemu:dirty-bitmap:test"],
  });
  expect(client.size).toBe(SIZE);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(SIZE - 1), fc.nat(200_000)), { minLength: 1, maxLength: 20 }),
      async (ranges) => {
        await Promise.all(
          ranges.map(async ([offset, wanted]) => {
            const length = Math.min(wanted, SIZE - offset);
            expect((await client.read(offset, length)).equals(disk.content.subarray(offset, offset + length))).toBe(
              true,
            );
          }),
        );
      },
    ),
    { numRuns: 30 },
  );
  await client.write(100, Buffer.from("hello"), true);
  await client.flush();
  expect(disk.content.toString("latin1", 100, 105)).toBe("hello");
  expect((await client.blockStatus("qemu:dirty-bitmap:test", 0, SIZE))[0]).toEqual({ length: 4096, flags: 1 });
  await expect(client.read(SIZE - 5, 10)).rejects.toMatchObject({ code: "NBD_IO" });
  expect((await client.read(0, 10)).length).toBe(10);
  const waiting = client.read(0, MIB);
  await server.close();
  await expect(waiting.then(() => client.read(0, 1))).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
  await expect(NbdClient.connect({ host: "127.0.0.1", port, exportName: "root" })).rejects.toMatchObject({
    code: "NBD_DISCONNECTED",
  });
});

test("an unknown export, and writing to a read-only one, are refused", async () => {
  await expect(NbdClient.connect({ host: "127.0.0.1", port, exportName: "nothing" })).rejects.toMatchObject({
    code: "NBD_REFUSED",
  });
  const client = await NbdClient.connect({ host: "127.0.0.1", port, exportName: "data" });
  await expect(client.write(0, Buffer.alloc(1), false)).rejects.toMatchObject({ code: "NBD_IO" });
  client.close();
});

test("clients older than NBD_OPT_GO are served through NBD_OPT_EXPORT_NAME", async () => {
  const socket = connect({ port, host: "127.0.0.1" });
  const received: Buffer[] = [];
  socket.on("data", (piece) => received.push(piece));
  const has = async (bytes: number): Promise<Buffer> => {
    while (received.reduce((sum, piece) => sum + piece.length, 0) < bytes)
      await new Promise((resolve) => setTimeout(resolve, 2));
    return Buffer.concat(received);
  };
  await has(18);
  const option = new ByteWriter().u32be(1).u64be(0x49484156454f5054n).u32be(1).u32be(4).bytes(Buffer.from("root"));
  socket.write(option.finish());
  const negotiated = await has(18 + 10 + 124);
  expect(negotiated.readBigUInt64BE(18)).toBe(BigInt(SIZE));
  socket.write(new ByteWriter().u32be(0x25609513).u16be(0).u16be(0).u64be(7n).u64be(1000n).u32be(500).finish());
  const answered = await has(18 + 134 + 16 + 500);
  expect(answered.readUInt32BE(152)).toBe(0x67446698);
  expect(answered.subarray(168).equals(disk.content.subarray(1000, 1500))).toBe(true);
  socket.destroy();
});

describe("TLS", () => {
  const validity = { from: new Date(Date.now() - 3_600_000), to: new Date(Date.now() + 3_600_000) };
  let secured: NbdServer;
  let securedPort: number;
  let ca: string;
  let client: { key: string; cert: string };

  beforeEach(async () => {
    const authority = await createAuthority("restore-1", validity);
    ca = authority.ca;
    client = await authority.issue("relocation", []);
    secured = new NbdServer({ tls: { ...(await authority.issue("agent", ["127.0.0.1", "localhost"])), ca } });
    secured.addExport(disk);
    securedPort = await secured.listen({ address: "127.0.0.1", port: 0 });
    await writeFile(join(scratch, "ca-cert.pem"), ca);
    await writeFile(join(scratch, "client-key.pem"), client.key, { mode: 0o600 });
    await writeFile(join(scratch, "client-cert.pem"), client.cert);
  });

  afterEach(() => secured.close());

  test("libnbd and QEMU with a certificate of the restore are served", async () => {
    const { stdout } = await run("nbdinfo", [
      "--size",
      `nbds://localhost:${securedPort}/root?tls-certificates=${scratch}`,
    ]);
    expect(Number(stdout)).toBe(SIZE);
    await writeFile(join(scratch, "plain.img"), disk.content);
    await run("qemu-img", [
      "compare",
      "--object",
      `tls-creds-x509,id=tls,dir=${scratch},endpoint=client`,
      "--image-opts",
      `driver=raw,file.driver=nbd,file.host=localhost,file.port=${securedPort},file.export=root,file.tls-creds=tls`,
      `driver=raw,file.filename=${join(scratch, "plain.img")}`,
    ]);
    const own = await NbdClient.connect({
      host: "127.0.0.1",
      port: securedPort,
      exportName: "root",
      tls: { ...client, ca, servername: "localhost" },
    });
    expect((await own.read(0, 4096)).equals(disk.content.subarray(0, 4096))).toBe(true);
    own.close();
  });

  test("no certificate, one of somebody else's, and no TLS at all are refused", async () => {
    const stranger = await (await createAuthority("restore-2", validity)).issue("relocation", []);
    const attempt = (tls: { key: string; cert: string } | undefined): Promise<NbdClient> =>
      NbdClient.connect({
        host: "127.0.0.1",
        port: securedPort,
        exportName: "root",
        ...(tls === undefined ? {} : { tls: { ...tls, ca, servername: "localhost" } }),
      });
    await expect(attempt(stranger)).rejects.toMatchObject({ code: expect.stringMatching(/NBD_/) });
    await expect(attempt({ key: "", cert: "" })).rejects.toMatchObject({ code: expect.stringMatching(/NBD_/) });
    await expect(attempt(undefined)).rejects.toMatchObject({ code: "NBD_REFUSED" });
    await expect(run("nbdinfo", ["--size", `nbd://localhost:${securedPort}/root`])).rejects.toThrow();
    expect(secured.refused).toBeGreaterThan(0);
  });
});

test("garbage in the handshake or afterwards ends its own connection at most", async () => {
  const good = await NbdClient.connect({ host: "127.0.0.1", port, exportName: "root" });
  const option = (type: number, body: Buffer): Buffer =>
    new ByteWriter().u64be(0x49484156454f5054n).u32be(type).u32be(body.length).bytes(body).finish();
  const go = option(7, new ByteWriter().u32be(4).bytes(Buffer.from("root")).u16be(0).finish());
  const read = new ByteWriter().u32be(0x25609513).u16be(0).u16be(0).u64be(7n).u64be(0n).u32be(100).finish();
  const genuine = Buffer.concat([Buffer.from([0, 0, 0, 3]), option(8, Buffer.alloc(0)), go, read, read]);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(genuine.length - 1), fc.nat(255)), { maxLength: 10 }),
      async (changes) => {
        const mutated = Buffer.from(genuine);
        for (const [at, value] of changes) mutated[at] = value;
        const socket = connect({ port, host: "127.0.0.1" });
        socket.on("error", () => {});
        socket.resume();
        socket.write(mutated);
        await new Promise((resolve) => setTimeout(resolve, 4));
        socket.destroy();
      },
    ),
    { numRuns: 200 },
  );
  expect((await good.read(0, 100)).length).toBe(100);
  good.close();
});

test("sixty-four connections at once, each closed in the middle of its requests", async () => {
  const clients = await Promise.all(
    Array.from({ length: 64 }, () => NbdClient.connect({ host: "127.0.0.1", port, exportName: "root" })),
  );
  const reads = clients.flatMap((client, index) => Array.from({ length: 8 }, () => client.read(index * 1000, 100_000)));
  for (const client of clients.slice(32)) client.close();
  const outcomes = await Promise.allSettled(reads);
  expect(outcomes.filter((outcome) => outcome.status === "fulfilled").length).toBeGreaterThanOrEqual(32 * 8);
  for (const client of clients) client.close();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(server.openConnections).toBe(0);
});
