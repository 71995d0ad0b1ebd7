import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { parseCall } from "./rpc.ts";
import { NfsServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { RpcClient } from "./testing/rpc-client.ts";
import { writeOpaque } from "./xdr.ts";

const NFS = 100003;
const MOUNT = 100005;
const XID = 77;

let server: NfsServer;
let client: RpcClient;

beforeEach(async () => {
  server = new NfsServer();
  server.addExport(new MemoryExport("/export", randomBytes(8192)));
  client = await RpcClient.connect(await server.listen("127.0.0.1", 0));
});

afterEach(async () => {
  client.close();
  await server.close();
});

interface Head {
  readonly rpcVersion?: number;
  readonly program?: number;
  readonly version?: number;
  readonly procedure?: number;
  readonly flavor?: number;
  readonly credentials?: Uint8Array;
}

function call(head: Head, args: Uint8Array = Buffer.alloc(0)): Buffer {
  const { rpcVersion = 2, program = NFS, version = 3, procedure = 0, flavor = 0, credentials = Buffer.alloc(0) } = head;
  const writer = new ByteWriter().u32be(XID).u32be(0).u32be(rpcVersion).u32be(program).u32be(version).u32be(procedure);
  return writeOpaque(writer.u32be(flavor), credentials).u32be(0).u32be(0).bytes(args).finish();
}

/** All words of a reply behind its XID. */
async function words(record: Buffer): Promise<number[]> {
  const reply = await client.send(record);
  return Array.from({ length: reply.remaining / 4 }, () => reply.u32be());
}

const REPLY = 1;
const accepted = (status: number, ...more: number[]): number[] => [REPLY, 0, 0, 0, status, ...more];

function authSys(groups: number, name = "node"): Buffer {
  const writer = writeOpaque(new ByteWriter().u32be(0), Buffer.from(name)).u32be(0).u32be(0).u32be(groups);
  return writer.zeros(Math.min(groups, 60) * 4).finish();
}

describe("RFC 5531, section 9: a call that cannot be carried out says why", () => {
  test("another version of RPC, even where nothing follows", async () => {
    expect(await words(call({ rpcVersion: 3 }))).toEqual([REPLY, 1, 0, 2, 2]);
    expect(await words(call({ rpcVersion: 0 }).subarray(0, 12))).toEqual([REPLY, 1, 0, 2, 2]);
  });

  test.each([
    ["RPCSEC_GSS", 6, Buffer.alloc(20)],
    ["AUTH_DH", 3, Buffer.alloc(0)],
    ["AUTH_SYS cut short", 1, authSys(3).subarray(0, 20)],
    ["AUTH_SYS with 17 groups", 1, authSys(17)],
    ["AUTH_SYS with a name over 255 bytes", 1, authSys(0, "n".repeat(256))],
    ["AUTH_SYS of nothing", 1, Buffer.alloc(0)],
  ])("credentials of no use: %s", async (_, flavor, credentials) => {
    expect(await words(call({ flavor, credentials }))).toEqual([REPLY, 1, 1, 1]);
    expect(await words(call({ flavor: 1, credentials: authSys(16) }))).toEqual(accepted(0));
  });

  test("programs, versions and procedures that are not here", async () => {
    expect(await words(call({ program: 100227 }))).toEqual(accepted(1));
    expect(await words(call({ version: 4 }))).toEqual(accepted(2, 3, 3));
    expect(await words(call({ version: 2 }))).toEqual(accepted(2, 3, 3));
    expect(await words(call({ program: MOUNT, version: 1 }))).toEqual(accepted(2, 3, 3));
    expect(await words(call({ procedure: 22 }))).toEqual(accepted(3));
    expect(await words(call({ procedure: 0xffffffff }))).toEqual(accepted(3));
    expect(await words(call({ program: MOUNT, procedure: 6 }))).toEqual(accepted(3));
  });

  test("arguments that no procedure takes", async () => {
    for (let procedure = 1; procedure <= 21; procedure++)
      expect([procedure, await words(call({ procedure }))]).toEqual([procedure, accepted(4)]);
    const huge = new ByteWriter().u32be(0xffffffff).zeros(100).finish();
    for (let procedure = 1; procedure <= 21; procedure++)
      expect([procedure, await words(call({ procedure }, huge))]).toEqual([procedure, accepted(4)]);
    expect(await words(call({ program: MOUNT, procedure: 1 }, huge))).toEqual(accepted(4));
  });
});

test("a reply, or less than a call, ends the connection", async () => {
  const reply = call({});
  reply.writeUInt32BE(1, 4);
  await expect(client.send(reply)).rejects.toThrow("closed");
});

test("no bytes make the parser do anything but answer, refuse or give up", () => {
  const genuine = call({ flavor: 1, credentials: authSys(4), procedure: 6 }, randomBytes(60));
  const known = new Set(["TRUNCATED", "NFS_GARBAGE_ARGS", "NFS_RPC_DENIED"]);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(genuine.length - 1), fc.nat(255)), { maxLength: 20 }),
      fc.nat(genuine.length),
      (changes, cut) => {
        const mutated = Buffer.from(genuine.subarray(0, cut));
        for (const [at, value] of changes) if (at < cut) mutated[at] = value;
        try {
          const { xid, credentials, args } = parseCall(mutated);
          expect(credentials.gids.length).toBeLessThanOrEqual(17);
          expect(args.remaining).toBeLessThanOrEqual(cut);
          expect(xid).toBe(new ByteReader(mutated).u32be());
        } catch (error) {
          expect(known).toContain((error as { code?: string }).code);
        }
      },
    ),
    { numRuns: 2000 },
  );
});
