import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type ByteReader, ByteWriter } from "../../base/bytes.ts";
import { NfsServer } from "../server.ts";
import { NFS3 } from "../status.ts";
import { MemoryExport } from "../testing/memory-export.ts";
import { RpcClient } from "../testing/rpc-client.ts";
import { readOpaque, writeOpaque } from "../xdr.ts";

const NFS = 100003;
const MOUNT = 100005;
const SIZE = 1_000_001;
const ATTRIBUTES = 84;

const errors: unknown[] = [];
let server: NfsServer;
let disk: MemoryExport;
let client: RpcClient;
let port: number;
let root: Buffer;
let file: Buffer;

beforeEach(async () => {
  server = new NfsServer({ onError: (error) => errors.push(error) });
  disk = new MemoryExport("/export", randomBytes(SIZE));
  server.addExport(disk);
  port = await server.listen("127.0.0.1", 0);
  client = await RpcClient.connect(port);
  root = await client.mount("/export");
  file = await client.fileHandle("/export", root);
});

afterEach(async () => {
  client.close();
  await server.close();
});

const of = (handle: Buffer): ByteWriter => writeOpaque(new ByteWriter(), handle);
const named = (handle: Buffer, name: string): ByteWriter => writeOpaque(of(handle), Buffer.from(name));
const ask = (procedure: number, args: ByteWriter, uid = 0): Promise<ByteReader> =>
  client.call(NFS, procedure, args.finish(), uid);

/** The status, and everything behind it read as post_op_attr or wcc_data to its very end. */
async function refusal(procedure: number, args: ByteWriter, shape: ("attributes" | "wcc")[]): Promise<number> {
  const reply = await ask(procedure, args);
  const status = reply.u32be();
  for (const part of shape) {
    if (part === "wcc" && reply.u32be() === 1) reply.skip(24);
    if (reply.u32be() === 1) reply.skip(ATTRIBUTES);
  }
  expect(reply.remaining).toBe(0);
  return status;
}

/** ctime as it is on the wire. */
async function changeTime(handle: Buffer): Promise<bigint> {
  const reply = await ask(1, of(handle));
  reply.skip(4 + ATTRIBUTES - 8);
  return reply.u64be();
}

/** sattr3 */
function settings(what: { mode?: number; uid?: number; gid?: number; size?: number }): Buffer {
  const writer = new ByteWriter();
  for (const value of [what.mode, what.uid, what.gid])
    if (value === undefined) writer.u32be(0);
    else writer.u32be(1).u32be(value);
  if (what.size === undefined) writer.u32be(0);
  else writer.u32be(1).u64be(BigInt(what.size));
  return writer.u32be(1).u32be(2).u64be(5n).finish();
}

describe("READ", () => {
  test.each([
    [0, 10, 10, 0],
    [0, SIZE, SIZE, 1],
    [SIZE - 1, 1, 1, 1],
    [SIZE - 3, 2, 2, 0],
    [SIZE - 3, 1000, 3, 1],
    [SIZE, 10, 0, 1],
    [SIZE + 5, 10, 0, 1],
    [2 ** 53, 10, 0, 1],
    [0, 0, 0, 0],
    [SIZE, 0, 0, 1],
    [0, 0xffffffff, SIZE, 1],
  ])("at %i of %i bytes gives %i, end of file: %i", async (offset, count, length, eof) => {
    const reply = await ask(6, of(file).u64be(BigInt(offset)).u32be(count));
    expect([reply.u32be(), reply.u32be()]).toEqual([0, 1]);
    reply.skip(ATTRIBUTES);
    expect([reply.u32be(), reply.u32be()]).toEqual([length, eof]);
    expect(readOpaque(reply, SIZE).equals(disk.content.subarray(offset, offset + length))).toBe(true);
    expect(reply.remaining).toBe(0);
  });

  test("of the directory is refused", async () => {
    expect(await refusal(6, of(root).u64be(0n).u32be(1), ["attributes"])).toBe(NFS3.isdir);
  });
});

describe("WRITE and COMMIT", () => {
  test.each([
    [0, 0, 0],
    [1, 2, 1],
    [2, 2, 1],
  ])("asked for stability %i it answers %i, with one verifier", async (stable, committed, stableWrites) => {
    const reply = await ask(7, of(file).u64be(100n).u32be(3).u32be(stable).u32be(3).bytes(Buffer.from("abc")).zeros(1));
    expect([reply.u32be(), reply.u32be(), reply.u32be()]).toEqual([0, 0, 1]);
    reply.skip(ATTRIBUTES);
    expect([reply.u32be(), reply.u32be()]).toEqual([3, committed]);
    const verifier = reply.bytes(8);
    expect([reply.remaining, disk.stableWrites]).toEqual([0, stableWrites]);
    const commit = await ask(21, of(file).u64be(0n).u32be(0));
    commit.skip(4 + 8 + ATTRIBUTES);
    expect(commit.bytes(8).equals(verifier)).toBe(true);
    expect(disk.commits).toBe(1);
  });

  test("beyond the end, of the directory, or of another length than it says is refused", async () => {
    const write = (handle: Buffer, offset: bigint, count: number, bytes: number): ByteWriter =>
      of(handle).u64be(offset).u32be(count).u32be(2).u32be(bytes).zeros(bytes);
    const before = Buffer.from(disk.content);
    expect(await refusal(7, write(file, BigInt(SIZE) - 3n, 4, 4), ["wcc"])).toBe(NFS3.fbig);
    expect(await refusal(7, write(file, 2n ** 64n - 1n, 4, 4), ["wcc"])).toBe(NFS3.fbig);
    expect(await refusal(7, write(file, 0n, 8, 4), ["wcc"])).toBe(NFS3.inval);
    expect(await refusal(7, write(root, 0n, 4, 4), ["wcc"])).toBe(NFS3.isdir);
    expect(await refusal(21, of(root).u64be(0n).u32be(0), ["wcc"])).toBe(NFS3.isdir);
    expect(disk.content.equals(before)).toBe(true);
  });

  test("advance the file's times, and a COMMIT that fails says so", async () => {
    const times = [await changeTime(file)];
    for (let count = 0; count < 3; count++) {
      await client.call(NFS, 7, client.writeArguments(file, 0, Buffer.alloc(4), 0));
      times.push(await changeTime(file));
    }
    expect(times).toEqual([...new Set(times)].sort((a, b) => (a < b ? -1 : 1)));
    disk.commit = () => Promise.reject(new Error("fsync failed"));
    expect(await refusal(21, of(file).u64be(0n).u32be(0), ["wcc"])).toBe(NFS3.io);
  });
});

test("ACCESS grants what the caller may do, and no more than was asked", async () => {
  const access = async (handle: Buffer, wanted: number, uid: number): Promise<number> => {
    const reply = await ask(4, of(handle).u32be(wanted), uid);
    expect([reply.u32be(), reply.u32be()]).toEqual([0, 1]);
    reply.skip(ATTRIBUTES);
    return reply.u32be();
  };
  const [READ, LOOKUP, MODIFY, EXTEND] = [1, 2, 4, 8];
  for (const uid of [0, 107]) expect(await access(file, 0x3f, uid)).toBe(READ | MODIFY | EXTEND);
  expect(await access(file, MODIFY, 0)).toBe(MODIFY);
  expect(await access(file, 0x3f, 1000)).toBe(0);
  for (const uid of [0, 1000]) expect(await access(root, 0x3f, uid)).toBe(READ | LOOKUP);
});

describe("SETATTR", () => {
  const set = (handle: Buffer, what: Parameters<typeof settings>[0], guard?: bigint): Promise<number> => {
    const args = of(handle).bytes(settings(what));
    return refusal(2, guard === undefined ? args.u32be(0) : args.u32be(1).u64be(guard), ["wcc"]);
  };

  test("accepts what already is, and refuses every change", async () => {
    expect(await set(file, {})).toBe(0);
    expect(await set(file, { mode: 0o100660, uid: 107, gid: 107, size: SIZE })).toBe(0);
    expect(await set(root, { mode: 0o755, uid: 107, gid: 107 })).toBe(0);
    for (const change of [{ mode: 0o666 }, { uid: 0 }, { gid: 0 }, { size: 0 }, { size: SIZE + 1 }, { size: 2 ** 60 }])
      expect([change, await set(file, change)]).toEqual([change, NFS3.perm]);
    for (const change of [{ mode: 0o777 }, { size: 4096 }]) expect(await set(root, change)).toBe(NFS3.perm);
  });

  test("holds to its guard", async () => {
    const seen = await changeTime(file);
    expect(await set(file, { size: SIZE }, seen)).toBe(0);
    await client.call(NFS, 7, client.writeArguments(file, 0, Buffer.alloc(4), 0));
    expect(await set(file, { size: SIZE }, seen)).toBe(NFS3.notSync);
    expect(await set(root, {}, await changeTime(root))).toBe(0);
  });
});

describe("the directory never changes", () => {
  test("CREATE gives the file that is there, if that leaves it as it is", async () => {
    const create = (name: string, mode: number, what: Parameters<typeof settings>[0] = {}): ByteWriter =>
      named(root, name)
        .u32be(mode)
        .bytes(mode === 2 ? Buffer.alloc(8) : settings(what));
    const reply = await ask(8, create("disk.img", 0, { mode: 0o644, size: SIZE }));
    expect([reply.u32be(), reply.u32be()]).toEqual([0, 1]);
    expect(readOpaque(reply, 64).equals(file)).toBe(true);
    expect(await refusal(8, create("disk.img", 0, { size: 0 }), ["wcc"])).toBe(NFS3.perm);
    expect(await refusal(8, create("disk.img", 1), ["wcc"])).toBe(NFS3.exist);
    for (const name of ["disk.img", "other"]) expect(await refusal(8, create(name, 2), ["wcc"])).toBe(NFS3.notsupp);
    expect(await refusal(8, create("other", 0), ["wcc"])).toBe(NFS3.rofs);
    expect(await refusal(8, named(file, "x").u32be(0).bytes(settings({})), ["wcc"])).toBe(NFS3.notdir);
  });

  test("everything else is refused by its own status, in the shape that its reply has", async () => {
    expect(await refusal(9, named(root, "d").bytes(settings({})), ["wcc"])).toBe(NFS3.rofs);
    expect(await refusal(10, writeOpaque(named(root, "l").bytes(settings({})), Buffer.from("x")), ["wcc"])).toBe(
      NFS3.notsupp,
    );
    expect(await refusal(11, named(root, "n").u32be(7).bytes(settings({})), ["wcc"])).toBe(NFS3.notsupp);
    expect(await refusal(12, named(root, "disk.img"), ["wcc"])).toBe(NFS3.rofs);
    expect(await refusal(13, named(root, "d"), ["wcc"])).toBe(NFS3.rofs);
    const rename = writeOpaque(writeOpaque(named(root, "disk.img"), root), Buffer.from("other"));
    expect(await refusal(14, rename, ["wcc", "wcc"])).toBe(NFS3.rofs);
    expect(await refusal(15, writeOpaque(writeOpaque(of(file), root), Buffer.from("l")), ["attributes", "wcc"])).toBe(
      NFS3.notsupp,
    );
    expect(await refusal(5, of(file), ["attributes"])).toBe(NFS3.inval);
  });

  test("LOOKUP finds the file and the directory itself", async () => {
    for (const [name, handle] of [
      ["disk.img", file],
      [".", root],
      ["..", root],
    ] as const) {
      const reply = await ask(3, named(root, name));
      expect(reply.u32be()).toBe(0);
      expect(readOpaque(reply, 64).equals(handle)).toBe(true);
      reply.skip(2 * (4 + ATTRIBUTES));
      expect(reply.remaining).toBe(0);
    }
    expect(await refusal(3, named(root, "other"), ["attributes"])).toBe(NFS3.noent);
    expect(await refusal(3, named(root, "n".repeat(256)), ["attributes"])).toBe(NFS3.nametoolong);
    expect(await refusal(3, named(root, "n".repeat(255)), ["attributes"])).toBe(NFS3.noent);
    expect(await refusal(3, named(file, "."), ["attributes"])).toBe(NFS3.notdir);
  });
});

describe("READDIR and READDIRPLUS", () => {
  interface Listing {
    readonly names: string[];
    readonly cookie: bigint;
    readonly eof: number;
    readonly bytes: number;
  }

  async function list(plus: boolean, cookie: bigint, count: number, names = 0xffff): Promise<Listing> {
    const args = of(root).u64be(cookie).u64be(0n);
    const reply = await ask(plus ? 17 : 16, plus ? args.u32be(names).u32be(count) : args.u32be(count));
    const bytes = reply.remaining;
    expect(reply.u32be()).toBe(0);
    reply.skip(4 + ATTRIBUTES);
    expect(reply.u64be()).toBe(0n);
    const listing = { names: [] as string[], cookie };
    while (reply.u32be() === 1) {
      reply.skip(8);
      listing.names.push(readOpaque(reply, 255).toString());
      listing.cookie = reply.u64be();
      if (plus) {
        expect(reply.u32be()).toBe(1);
        reply.skip(ATTRIBUTES);
        expect(reply.u32be()).toBe(1);
        expect(readOpaque(reply, 64).equals(listing.names.at(-1) === "disk.img" ? file : root)).toBe(true);
      }
    }
    return { ...listing, eof: reply.u32be(), bytes };
  }

  test.each([false, true])("list everything, in one reply or one entry at a time (plus: %s)", async (plus) => {
    const whole = await list(plus, 0n, 4096);
    expect([whole.names, whole.eof]).toEqual([[".", "..", "disk.img"], 1]);
    const names: string[] = [];
    let cookie = 0n;
    for (let eof = 0; eof === 0; ) {
      const part = await list(plus, cookie, plus ? 320 : 160);
      expect(part.bytes).toBeLessThanOrEqual(plus ? 320 : 160);
      expect(part.names.length).toBeGreaterThan(0);
      names.push(...part.names);
      ({ cookie, eof } = part);
    }
    expect(names).toEqual([".", "..", "disk.img"]);
    expect((await list(plus, 3n, 4096)).names).toEqual([]);
  });

  test("READDIRPLUS keeps to the bytes of names that it may give, but always gives one", async () => {
    expect((await list(true, 0n, 4096, 1)).names).toEqual(["."]);
    expect((await list(true, 0n, 4096, 56)).names).toEqual([".", ".."]);
  });

  test("a cookie or verifier that was never given out, no room, and a file are refused", async () => {
    const args = (handle: Buffer, cookie: bigint, verifier: bigint, count: number): ByteWriter =>
      of(handle).u64be(cookie).u64be(verifier).u32be(count);
    expect(await refusal(16, args(root, 4n, 0n, 4096), ["attributes"])).toBe(NFS3.badCookie);
    expect(await refusal(16, args(root, 2n ** 64n - 1n, 0n, 4096), ["attributes"])).toBe(NFS3.badCookie);
    expect(await refusal(16, args(root, 1n, 9n, 4096), ["attributes"])).toBe(NFS3.badCookie);
    expect(await refusal(16, args(root, 0n, 0n, 100), ["attributes"])).toBe(NFS3.toosmall);
    expect(await refusal(16, args(file, 0n, 0n, 4096), ["attributes"])).toBe(NFS3.notdir);
  });
});

test("FSSTAT has nothing free, FSINFO tells the transfer sizes, PATHCONF the names", async () => {
  const stat = await ask(18, of(root));
  stat.skip(8 + ATTRIBUTES);
  expect(Array.from({ length: 6 }, () => Number(stat.u64be()))).toEqual([SIZE, 0, 0, 2, 0, 0]);
  const info = await ask(19, of(root));
  info.skip(8 + ATTRIBUTES);
  const MIB = 1024 * 1024;
  expect(Array.from({ length: 7 }, () => info.u32be())).toEqual([MIB, MIB, 4096, MIB, MIB, 4096, 4096]);
  expect([info.u64be(), info.u32be(), info.u32be(), info.u32be()]).toEqual([BigInt(SIZE), 0, 1, 8]);
  const path = await ask(20, of(root));
  path.skip(8 + ATTRIBUTES);
  expect(Array.from({ length: 6 }, () => path.u32be())).toEqual([1, 255, 1, 1, 0, 1]);
});

test("MOUNT tells nobody what there is", async () => {
  const mount = (procedure: number, path = ""): Promise<ByteReader> =>
    client.call(MOUNT, procedure, writeOpaque(new ByteWriter(), Buffer.from(path)).finish());
  for (const listing of [2, 5]) expect((await mount(listing)).u32be()).toBe(0);
  for (const silent of [0, 3, 4]) expect((await mount(silent, "/export")).remaining).toBe(0);
  for (const path of ["/", "", "/expor", "/export/disk.img", "/export\0", "//export"])
    expect([path, (await mount(1, path)).u32be()]).toEqual([path, 2]);
  expect((await mount(1, "/export/")).u32be()).toBe(0);
});

test("all handles of a mount tell its number, and no other mount's; the machine's name comes with it", async () => {
  const other = await RpcClient.connect(port);
  other.machine = "node-b";
  const otherFile = await other.fileHandle("/export");
  other.close();
  expect(disk.mounts).toEqual(["test", "node-b"]);
  expect(otherFile.equals(file)).toBe(false);
  const created = await ask(8, named(root, "disk.img").u32be(0).zeros(24));
  created.skip(8);
  expect(readOpaque(created, 64).equals(file)).toBe(true);
  for (const [handle, mount] of [
    [file, 1],
    [otherFile, 2],
    [file, 1],
  ] as const) {
    const args = client.writeArguments(handle, 0, Buffer.alloc(8), 2);
    expect([(await client.call(NFS, 7, args)).u32be(), disk.writer]).toEqual([NFS3.ok, mount]);
  }
  // The number is under the MAC.
  const forged = Buffer.from(otherFile);
  forged.writeUInt32BE(3, forged.length - 20);
  expect((await ask(1, of(forged))).u32be()).toBe(NFS3.stale);
});

test("whatever the arguments behind a genuine handle, a call is answered, and nothing of ours fails", async () => {
  const before = Buffer.from(disk.content);
  errors.length = 0;
  disk.write = async () => undefined;
  const word = fc.oneof(fc.nat(20), fc.constantFrom(0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff));
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 22 }),
      fc.boolean(),
      fc.array(word, { maxLength: 30 }),
      fc.boolean(),
      async (procedure, isFile, words, hasName) => {
        const args = hasName ? named(isFile ? file : root, "disk.img") : of(isFile ? file : root);
        for (const each of words) args.u32be(each);
        const reply = await client.send(client.encode(NFS, procedure, args.finish()));
        reply.skip(4 + 12);
        const accepted = reply.u32be();
        expect([procedure, [0, 3, 4].includes(accepted)]).toEqual([procedure, true]);
      },
    ),
    { numRuns: 1500 },
  );
  expect(errors).toEqual([]);
  expect(disk.content.equals(before)).toBe(true);
});

test("every procedure refuses a handle of an export that is gone", async () => {
  const other = new MemoryExport("/other", Buffer.alloc(4096));
  server.addExport(other);
  const stale = await client.fileHandle("/other");
  const gone = new Promise((resolve) => client.socket.once("close", resolve));
  server.removeExport("/other");
  await gone;
  client = await RpcClient.connect(port);
  const rest = writeOpaque(new ByteWriter().zeros(4), stale).zeros(200).finish();
  for (let procedure = 1; procedure <= 21; procedure++) {
    const args = procedure === 14 ? writeOpaque(named(stale, "a"), stale).zeros(8) : of(stale).bytes(rest);
    expect([procedure, (await ask(procedure, args)).u32be()]).toEqual([procedure, NFS3.stale]);
  }
});
