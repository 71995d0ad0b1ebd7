import { readFileSync } from "node:fs";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { ByteWriter } from "../base/bytes.ts";
import { NbdClient } from "./client.ts";
import {
  CHUNK,
  CMD,
  IHAVEOPT,
  INFO,
  NBDMAGIC,
  OPT,
  OPTION_REPLY_MAGIC,
  REP,
  STRUCTURED_REPLY_MAGIC,
} from "./protocol.ts";

const SIZE = 1024 * 1024;

interface Asked {
  readonly type: number;
  readonly cookie: bigint;
  readonly offset: bigint;
  readonly length: number;
}

/** A server that negotiates properly and then answers what a test tells it to. */
let server: Server;
let port: number;
let answer: (asked: Asked, socket: Socket) => void;
/** Bytes that are sent instead of a greeting. */
let greeting: Buffer | undefined;
const sockets = new Set<Socket>();

beforeEach(async () => {
  greeting = undefined;
  server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    socket.once("close", () => sockets.delete(socket));
    if (greeting === undefined) negotiate(socket);
    else socket.end(greeting);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  port = (server.address() as AddressInfo).port;
});

afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

function negotiate(socket: Socket): void {
  socket.write(new ByteWriter().u64be(NBDMAGIC).u64be(IHAVEOPT).u16be(3).finish());
  let bytes = Buffer.alloc(0);
  let isGreeted = false;
  let isOpen = false;
  const reply = (option: number, type: number, body: Buffer = Buffer.alloc(0)): void => {
    const head = new ByteWriter().u64be(OPTION_REPLY_MAGIC).u32be(option).u32be(type).u32be(body.length);
    socket.write(Buffer.from(head.bytes(body).finish()));
  };
  const take = (length: number): Buffer => {
    const taken = bytes.subarray(0, length);
    bytes = bytes.subarray(length);
    return taken;
  };
  socket.on("data", (piece) => {
    bytes = Buffer.concat([bytes, piece]);
    if (!isGreeted && bytes.length >= 4) {
      take(4);
      isGreeted = true;
    }
    while (!isOpen && bytes.length >= 16 && bytes.length >= 16 + bytes.readUInt32BE(12)) {
      const option = bytes.readUInt32BE(8);
      take(16 + bytes.readUInt32BE(12));
      if (option === OPT.setMetaContext) {
        reply(option, REP.metaContext, new ByteWriter().u32be(1).bytes(Buffer.from("base:allocation")).finish());
      }
      if (option === OPT.go) {
        reply(option, REP.info, new ByteWriter().u16be(INFO.export).u64be(BigInt(SIZE)).u16be(1).finish());
        isOpen = true;
      }
      reply(option, REP.ack);
    }
    while (isOpen && bytes.length >= 28) {
      const head = take(28);
      answer(
        {
          type: head.readUInt16BE(6),
          cookie: head.readBigUInt64BE(8),
          offset: head.readBigUInt64BE(16),
          length: head.readUInt32BE(24),
        },
        socket,
      );
    }
  });
}

function chunk(cookie: bigint, type: number, body: Buffer, isLast = true): Buffer {
  const head = new ByteWriter()
    .u32be(STRUCTURED_REPLY_MAGIC)
    .u16be(isLast ? 1 : 0)
    .u16be(type)
    .u64be(cookie);
  return Buffer.from(head.u32be(body.length).bytes(body).finish());
}

const at = (offset: number, data: Buffer): Buffer => new ByteWriter().u64be(BigInt(offset)).bytes(data).finish();
const hole = (offset: number, length: number): Buffer => new ByteWriter().u64be(BigInt(offset)).u32be(length).finish();
const open = (): Promise<NbdClient> => NbdClient.connect({ host: "127.0.0.1", port, exportName: "x", timeout: 500 });

test("puts a read together from pieces in any order", async () => {
  answer = ({ cookie }, socket) => {
    socket.write(chunk(cookie, CHUNK.offsetData, at(1030, Buffer.alloc(70, 3)), false));
    socket.write(chunk(cookie, CHUNK.offsetHole, hole(1010, 20), false));
    socket.write(chunk(cookie, CHUNK.offsetData, at(1000, Buffer.alloc(10, 1))));
  };
  const client = await open();
  const expected = Buffer.concat([Buffer.alloc(10, 1), Buffer.alloc(20), Buffer.alloc(70, 3)]);
  expect((await client.read(1000, 100)).equals(expected)).toBe(true);
  client.close();
});

test("an error is told with its number and words, and the connection lives", async () => {
  answer = ({ cookie, length }, socket) => {
    const text = Buffer.from("the medium is gone");
    if (length === 7) {
      socket.write(chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(3)), false));
      const body = new ByteWriter().u32be(5).u16be(text.length).bytes(text).finish();
      socket.write(chunk(cookie, CHUNK.error, body));
    } else socket.write(chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(length))));
  };
  const client = await open();
  await expect(client.read(0, 7)).rejects.toMatchObject({
    code: "NBD_IO",
    message: expect.stringMatching(/5.*the medium is gone/),
  });
  expect((await client.read(0, 8)).length).toBe(8);
  client.close();
});

describe("an answer that is wrong is never taken for data", () => {
  const wrong: Record<string, (cookie: bigint) => Buffer> = {
    "too little": (cookie) => chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(99))),
    "too much": (cookie) => chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(101))),
    elsewhere: (cookie) => chunk(cookie, CHUNK.offsetData, at(5000, Buffer.alloc(100))),
    "before the range": (cookie) => chunk(cookie, CHUNK.offsetHole, hole(0, 100)),
    "the same twice": (cookie) =>
      Buffer.concat([
        chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(50)), false),
        chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(50))),
      ]),
    "nothing at all": (cookie) => chunk(cookie, CHUNK.none, Buffer.alloc(0)),
    "of an unknown kind": (cookie) => chunk(cookie, 77, Buffer.alloc(100)),
    "to somebody else": (cookie) => chunk(cookie + 5n, CHUNK.offsetData, at(0, Buffer.alloc(100))),
    "of a huge length": (cookie) =>
      new ByteWriter().u32be(STRUCTURED_REPLY_MAGIC).u16be(1).u16be(1).u64be(cookie).u32be(0xffffffff).finish(),
    "without its magic": () => Buffer.alloc(20),
    "an error cut short": (cookie) => chunk(cookie, CHUNK.error, Buffer.from([0, 0, 0, 5, 0, 99])),
  };
  test.each(Object.keys(wrong))("%s", async (name) => {
    answer = ({ cookie }, socket) => socket.write(wrong[name]?.(cookie) ?? Buffer.alloc(0));
    const client = await open();
    const offset = name === "before the range" ? 10 : 0;
    await expect(client.read(offset, 100)).rejects.toMatchObject({ code: "NBD_PROTOCOL" });
    client.close();
  });

  test("a block status without extents, or with one of no bytes", async () => {
    for (const extents of [[], [0, 1], [4096, 0, 0, 1]]) {
      const body = new ByteWriter().u32be(1);
      for (const number of extents) body.u32be(number);
      answer = ({ cookie }, socket) => socket.write(chunk(cookie, CHUNK.blockStatus, Buffer.from(body.finish())));
      const connection = await open();
      await expect(connection.blockStatus("base:allocation", 0, SIZE)).rejects.toMatchObject({ code: "NBD_PROTOCOL" });
      connection.close();
    }
  });

  test("whatever bytes come, a read of 100 bytes gives 100 or an error", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(127), fc.nat(255)), { minLength: 1, maxLength: 6 }),
        fc.nat(128),
        async (changes, length) => {
          answer = ({ cookie }, socket) => {
            const bytes = chunk(cookie, CHUNK.offsetData, at(0, Buffer.alloc(100, 9)));
            for (const [where, value] of changes) bytes[where] = value;
            socket.end(bytes.subarray(0, length));
          };
          const client = await open();
          const outcome = await client.read(0, 100).catch((error: unknown) => error);
          if (Buffer.isBuffer(outcome)) expect(outcome.length).toBe(100);
          else expect(outcome).toMatchObject({ code: expect.stringMatching(/^(NBD_|TRUNCATED)/) });
          client.close();
        },
      ),
      { numRuns: 100 },
    );
  });
});

test("a connection that breaks fails everything under way, and what is asked later", async () => {
  answer = ({ type }, socket) => {
    if (type === CMD.flush) socket.destroy();
  };
  const client = await open();
  const reads = [client.read(0, 10), client.read(10, 10), client.flush()];
  for (const outcome of await Promise.allSettled(reads)) {
    expect(outcome).toMatchObject({ status: "rejected", reason: { code: "NBD_DISCONNECTED" } });
  }
  expect(client.closed).toBe(true);
  await expect(client.read(0, 10)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
});

test("somebody who is no NBD server, or says nothing, is given up", async () => {
  greeting = Buffer.from("HTTP/1.1 400 Bad Request\r\n\r\n");
  await expect(open()).rejects.toMatchObject({ code: "NBD_PROTOCOL" });
  greeting = Buffer.alloc(0);
  await expect(open()).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
  const silent = createServer((socket) => {
    sockets.add(socket);
  });
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port: where } = silent.address() as AddressInfo;
  await expect(
    NbdClient.connect({ host: "127.0.0.1", port: where, exportName: "x", timeout: 100 }),
  ).rejects.toMatchObject({ code: "NBD_TIMEOUT" });
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => silent.close(resolve));
});

test("a server that vanishes is noticed although nothing is sent: the kernel asks for it", async () => {
  const client = await open();
  try {
    const hex = port.toString(16).toUpperCase().padStart(4, "0");
    // Local address, remote address, state (established), queues, and which timer runs: 02 is keepalive's (proc(5)).
    const own = readFileSync("/proc/net/tcp", "latin1")
      .split("\n")
      .filter((line) => new RegExp(`^ *\\d+: \\S+ 0100007F:${hex} 01 `).test(line));
    expect(own).toHaveLength(1);
    expect(own[0]?.trim().split(/\s+/)[5]).toMatch(/^02:/);
  } finally {
    client.close();
  }
});
