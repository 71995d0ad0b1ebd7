import { connect } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { selfSigned, testAuthority } from "../base/testing/certificates.ts";
import { NbdClient } from "./client.ts";
import { OPT, REP } from "./protocol.ts";
import { NbdServer } from "./server.ts";
import { MemoryExport } from "./testing/memory-export.ts";
import { contextBody, infoBody, RawClient } from "./testing/raw-client.ts";

const SIZE = 1024 * 1024;
const servers: NbdServer[] = [];
const clients: RawClient[] = [];
let port: number;

async function serve(
  options: ConstructorParameters<typeof NbdServer>[0] = {},
): Promise<{ server: NbdServer; port: number }> {
  const server = new NbdServer(options);
  servers.push(server);
  server.addExport(new MemoryExport("root", Buffer.alloc(SIZE, 1)));
  server.addExport(new MemoryExport("data", Buffer.alloc(SIZE, 2)));
  return { server, port: await server.listen({ address: "127.0.0.1", port: 0 }) };
}

async function raw(where: number = port): Promise<RawClient> {
  const client = await RawClient.connect(where);
  clients.push(client);
  return client;
}

beforeEach(async () => {
  ({ port } = await serve());
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

const typesOf = (replies: { type: number }[]): number[] => replies.map(({ type }) => type);
const namesOf = (replies: { type: number; body: Buffer }[]): string[] =>
  replies.filter(({ type }) => type === REP.metaContext).map(({ body }) => body.toString("utf8", 4));

test("unknown and malformed options are refused by name, and the negotiation goes on", async () => {
  const client = await raw();
  for (const unknown of [4, 11, 99, 0xffffffff]) {
    expect(typesOf(await client.option(unknown, Buffer.from("what")))).toEqual([REP.errUnsup]);
  }
  expect(typesOf(await client.option(OPT.startTls))).toEqual([REP.errPolicy]);
  expect(typesOf(await client.option(OPT.structuredReply, Buffer.from("x")))).toEqual([REP.errInvalid]);
  expect(typesOf(await client.option(OPT.list, Buffer.from("x")))).toEqual([REP.errInvalid]);
  for (const body of ["", "abc", "\xff\xff\xff\xff\0\0", "\0\0\0\x04root\0\x05"]) {
    expect(typesOf(await client.option(OPT.info, Buffer.from(body, "latin1")))).toEqual([REP.errInvalid]);
  }
  expect(typesOf(await client.option(OPT.info, infoBody("nothing")))).toEqual([REP.errUnknown]);
  expect(typesOf(await client.option(OPT.list))).toEqual([REP.server, REP.server, REP.ack]);
  expect((await client.go("data")).at(-1)?.type).toBe(REP.ack);
});

describe("meta contexts", () => {
  test("are listed whole, by namespace, by prefix and by name", async () => {
    const client = await raw();
    const list = async (...queries: string[]): Promise<string[]> =>
      namesOf(await client.option(OPT.listMetaContext, contextBody("root", queries)));
    expect(await list()).toEqual(["base:allocation", "qemu:dirty-bitmap:test"]);
    expect(await list("base:")).toEqual(["base:allocation"]);
    expect(await list("qemu:")).toEqual(["qemu:dirty-bitmap:test"]);
    expect(await list("qemu:dirty-bitmap:")).toEqual(["qemu:dirty-bitmap:test"]);
    expect(await list("qemu:dirty-bitmap:other", "nothing:")).toEqual([]);
  });

  test("are set only after structured replies, for the export that is opened, and by name", async () => {
    const client = await raw();
    const set = (name: string, ...queries: string[]) => client.option(OPT.setMetaContext, contextBody(name, queries));
    expect(typesOf(await set("root", "base:allocation"))).toEqual([REP.errInvalid]);
    await client.option(OPT.structuredReply);
    expect(namesOf(await set("root", "base:", "qemu:"))).toEqual([]);
    expect(typesOf(await set("nothing", "base:allocation"))).toEqual([REP.errUnknown]);
    expect(namesOf(await set("root", "base:allocation", "qemu:dirty-bitmap:test"))).toHaveLength(2);
    await client.go("data");
    client.request(7, 1, 0, 4096);
    expect((await client.chunk()).type).toBe(0x8001);
  });

  test("of one export are not those of another that is opened by its name alone", async () => {
    const client = await raw();
    await client.option(OPT.structuredReply);
    await client.option(OPT.setMetaContext, contextBody("root", ["base:allocation"]));
    client.send(Buffer.from("49484156454f5054000000010000000464617461", "hex"));
    await client.read(10);
    client.request(7, 1, 0, 4096);
    expect((await client.chunk()).type).toBe(0x8001);
  });

  test("too many queries are too much to ask; listed contexts have no number yet", async () => {
    const client = await raw();
    await client.option(OPT.structuredReply);
    const many = contextBody(
      "root",
      Array.from({ length: 1000 }, () => "base:allocation"),
    );
    expect(typesOf(await client.option(OPT.setMetaContext, many))).toEqual([REP.errTooBig]);
    expect(typesOf(await client.option(OPT.listMetaContext, many))).toEqual([REP.errTooBig]);
    const listed = await client.option(OPT.listMetaContext, contextBody("root", []));
    expect(listed.slice(0, -1).map(({ body }) => body.readUInt32BE(0))).toEqual([0, 0]);
    expect(typesOf(await client.option(OPT.setMetaContext, contextBody("root", [])))).toEqual([REP.ack]);
  });

  test("queries that lie about their lengths or numbers are refused", async () => {
    const client = await raw();
    await client.option(OPT.structuredReply);
    const genuine = contextBody("root", ["base:allocation"]);
    for (let length = 0; length < genuine.length; length++) {
      expect(typesOf(await client.option(OPT.setMetaContext, genuine.subarray(0, length)))).toEqual([REP.errInvalid]);
    }
    const many = Buffer.from(genuine);
    many.writeUInt32BE(0xffffffff, 8);
    expect(typesOf(await client.option(OPT.setMetaContext, many))).toEqual([REP.errInvalid]);
    const trailing = Buffer.concat([genuine, Buffer.from("x")]);
    expect(typesOf(await client.option(OPT.listMetaContext, trailing))).toEqual([REP.errInvalid]);
  });
});

describe("a connection ends", () => {
  test("with flags that nobody defined, with an option that is too long, with too many of them", async () => {
    const flags = await RawClient.connect(port, 0xff);
    await expect(flags.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
    const long = await raw();
    long.send(Buffer.from("49484156454f505400000003ffffffff", "hex"));
    await expect(long.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
    const many = await raw();
    await expect(
      (async () => {
        for (let count = 0; count < 1000; count++) await many.option(OPT.list);
      })(),
    ).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
  });

  test("when the client says so", async () => {
    const client = await raw();
    expect(typesOf(await client.option(OPT.abort))).toEqual([REP.ack]);
    await expect(client.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
  });

  test("when it has said goodbye, whatever it sends afterwards", async () => {
    const { server, port: where } = await serve();
    const bodies: (() => Promise<RawClient>)[] = [
      async () => {
        const client = await raw(where);
        await client.option(OPT.abort);
        return client;
      },
      async () => {
        const client = await raw(where);
        await client.go("root");
        client.request(2, 1, 0, 0);
        return client;
      },
    ];
    for (const body of bodies) {
      const client = await body();
      // Half closed, it could go on for ever.
      client.socket.allowHalfOpen = true;
      const garbage = Buffer.alloc(1024 * 1024, 7);
      for (let count = 0; count < 200 && !client.socket.destroyed; count++) {
        if (!client.socket.write(garbage)) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const deadline = performance.now() + 5000;
      while (server.openConnections > 0 && performance.now() < deadline)
        await new Promise((resolve) => setTimeout(resolve, 5));
      expect(server.openConnections).toBe(0);
    }
  });

  test("where too many negotiate at once: the one that has taken longest", async () => {
    const { server, port: where } = await serve({ handshakesAtOnce: 8 });
    const served = await raw(where);
    await served.go("root");
    const idle = await Promise.all(Array.from({ length: 8 }, () => raw(where)));
    for (let count = 0; count < 20; count++) idle.push(await raw(where));
    while (server.openConnections > 9) await new Promise((resolve) => setTimeout(resolve, 5));
    // Who comes now is served, and who was served still is.
    const late = await raw(where);
    expect((await late.go("data")).at(-1)?.type).toBe(REP.ack);
    served.request(0, 1, 0, 10);
    expect((await served.simple(10)).error).toBe(0);
    await expect((idle[0] as RawClient).read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
    expect(server.refused).toBeGreaterThanOrEqual(20);
  });

  test("when the negotiation takes too long, with TLS and without", async () => {
    const authority = await testAuthority();
    const tls = { ...(await authority.issue("agent", ["127.0.0.1"])), ca: authority.ca };
    for (const options of [{ handshakeTimeoutMs: 100 }, { handshakeTimeoutMs: 100, tls }]) {
      const { server, port: where } = await serve(options);
      const silent = connect({ port: where, host: "127.0.0.1" });
      silent.resume();
      await new Promise((resolve) => silent.once("close", resolve));
      while (server.refused === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const slow = await raw(where);
      if (options.tls !== undefined) expect(typesOf(await slow.option(OPT.startTls))).toEqual([REP.ack]);
      await expect(slow.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
    }
  });
});

describe("where TLS is required", () => {
  test("nothing is told or done before it, and nothing said before it counts after it", async () => {
    const authority = await testAuthority();
    const tls = { ...(await authority.issue("agent", ["127.0.0.1"])), ca: authority.ca };
    const { port: secured } = await serve({ tls });
    const client = await raw(secured);
    for (const option of [OPT.list, OPT.info, OPT.go, OPT.structuredReply, OPT.listMetaContext, OPT.setMetaContext]) {
      expect(typesOf(await client.option(option, infoBody("root")))).toEqual([REP.errTlsReqd]);
    }
    const old = await raw(secured);
    old.send(Buffer.from("49484156454f50540000000100000004726f6f74", "hex"));
    await expect(old.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
    // Words in the clear behind STARTTLS, which somebody in between could have added.
    const injected = await raw(secured);
    injected.send(Buffer.from("49484156454f50540000000500000000" + "49484156454f50540000000300000000", "hex"));
    await injected.read(20);
    await expect(injected.read(1)).rejects.toMatchObject({ code: "NBD_DISCONNECTED" });
  });

  test("a client with a certificate of its own making is refused", async () => {
    const authority = await testAuthority();
    const { server, port: secured } = await serve({
      tls: { ...(await authority.issue("agent", ["127.0.0.1"])), ca: authority.ca },
    });
    const attempt = (tls: { cert: string; key: string }): Promise<NbdClient> =>
      NbdClient.connect({ host: "127.0.0.1", port: secured, exportName: "root", tls: { ...tls, ca: authority.ca } });
    await expect(attempt(await selfSigned("relocation"))).rejects.toMatchObject({
      code: expect.stringMatching(/^NBD_(REFUSED|DISCONNECTED)$/),
    });
    while (server.refused === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    const genuine = await attempt(await authority.issue("relocation", []));
    expect((await genuine.read(0, 2)).equals(Buffer.from([1, 1]))).toBe(true);
    genuine.close();
  });

  test("a server that is not of the authority, or bears another name, is not spoken to", async () => {
    const [authority, other] = await Promise.all([testAuthority(), testAuthority("other")]);
    const client = { ...(await authority.issue("relocation", [])), ca: authority.ca };
    const wrong = await serve({ tls: { ...(await other.issue("agent", ["127.0.0.1"])), ca: other.ca } });
    const elsewhere = await serve({ tls: { ...(await authority.issue("agent", ["10.0.0.1"])), ca: authority.ca } });
    for (const { port: where } of [wrong, elsewhere]) {
      await expect(
        NbdClient.connect({ host: "127.0.0.1", port: where, exportName: "root", tls: client }),
      ).rejects.toMatchObject({ code: "NBD_REFUSED" });
    }
  });
});
