import { execFile } from "node:child_process";
import { lookup } from "node:dns";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, request, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, LookupFunction } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import { testAuthority } from "../../base/testing/certificates.ts";
import { Repository } from "../repository.ts";
import { HastyClock } from "../testing/hasty-clock.ts";
import { noise } from "../testing/restic.ts";
import { S3Server } from "../testing/s3-server.ts";
import { S3Backend, type S3Options, type S3Place } from "./s3.ts";

const content = noise(3_000_000, 12);
const clock = new HastyClock();
let server: S3Server;
let strict: S3Server;
let scratch: string;

beforeAll(async () => {
  server = await S3Server.start("lenient");
  strict = await S3Server.start("strict");
  scratch = await mkdtemp(join(tmpdir(), "s3-backend-"));
  await writeFile(join(scratch, "root.img"), content);
}, 120_000);
afterAll(async () => {
  await server?.stop();
  await strict?.stop();
  await rm(scratch, { recursive: true });
});

/** restic itself, on a folder of the bucket. */
async function restic(folder: string, args: readonly string[]): Promise<string> {
  const repository = `s3:${server.endpoint}/${server.bucket}/${folder}`;
  const env = { ...process.env, ...server.resticEnvironment(), RESTIC_PASSWORD: "password" };
  const { stdout } = await promisify(execFile)("restic", ["--no-cache", "-r", repository, ...args], {
    env,
    cwd: scratch,
  });
  return stdout;
}

function connect(place: Partial<S3Place> = {}, options: Partial<S3Options> = {}): S3Backend {
  return new S3Backend(
    { bucket: server.bucket, region: "us-east-1", endpoint: server.endpoint, ...place },
    { credentials: async () => server.credentials, clock, ...options },
  );
}

describe.each(["default", "s3legacy"])("a repository that restic made there, layout %s", (layout) => {
  const folder = `backups of ${layout}`;
  const option = ["-o", `s3.layout=${layout}`];

  beforeAll(async () => {
    await restic(folder, [...option, "init", "--repository-version", "2"]);
    await restic(folder, [...option, "backup", "root.img"]);
  }, 180_000);

  test("is read, pinned, and still satisfies restic", async () => {
    const repository = await Repository.open(connect({ prefix: folder }), "password", { threads: 1 });
    const [snapshot] = await repository.snapshots();
    if (snapshot === undefined) throw new Error("no snapshot");
    const tree = await repository.browse(snapshot);
    const [file] = await tree.list(`${scratch}`).catch(() => tree.list("/"));
    expect(file?.name).toBe("root.img");
    const node = await tree.file(`${scratch}/root.img`).catch(() => tree.file("/root.img"));
    expect((await repository.readFile(node, 10e6)).equals(content)).toBe(true);

    const pin = await repository.pin(snapshot.id, "uid", { hostname: "test", pid: 1 }, Date.now);
    expect(await restic(folder, [...option, "snapshots", "--json"])).toContain(pin);
    await restic(folder, [...option, "forget", "--prune", snapshot.id]);
    await restic(folder, [...option, "check", "--read-data"]);
    expect((await repository.readFile(node, 10e6)).equals(content)).toBe(true);
    await repository.unpin("uid");
    expect(JSON.parse(await restic(folder, [...option, "snapshots", "--json"]))).toHaveLength(0);
    await repository.close();
  }, 180_000);

  test("lists what restic lists", async () => {
    const backend = connect({ prefix: folder });
    for (const [type, called] of [
      ["data", "packs"],
      ["index", "index"],
      ["keys", "keys"],
    ] as const) {
      const listed = (await restic(folder, [...option, "list", called])).trim().split("\n").sort();
      expect((await backend.list(type)).sort()).toEqual(listed);
    }
    await backend.close();
  }, 120_000);
});

test("the bucket is named by the host where that is asked for", async () => {
  const hosts: string[] = [];
  const toLoopback: LookupFunction = (host, options, callback) => {
    hosts.push(host);
    lookup("127.0.0.1", options, callback as never);
  };
  const file = { type: "locks", name: "ef".repeat(32) } as const;
  const byPath = connect({ prefix: "by host" });
  await byPath.save(file, Buffer.from("x"));
  const place = { prefix: "by host", endpoint: `http://s3.test:${server.port}`, addressing: "VirtualHost" } as const;
  const byHost = connect(place, { lookup: toLoopback });
  expect(await byHost.list("locks")).toEqual([file.name]);
  expect((await byHost.readAll(file, 10)).toString()).toBe("x");
  expect(new Set(hosts)).toEqual(new Set(["backups.s3.test"]));
  await byPath.close();
  await byHost.close();
});

test("a server's certificate: trusted by its own authority only, and every request is signed for the host that it goes to", async () => {
  const authority = await testAuthority();
  const front = createTlsServer(
    await authority.issue("server", ["127.0.0.1"]),
    ({ method, url, headers }, response) => {
      const { port } = strict;
      request({ host: "127.0.0.1", port, method, path: url, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 0, answer.headers);
        answer.pipe(response);
      }).end();
    },
  );
  await new Promise<void>((resolve) => front.listen(0, "127.0.0.1", resolve));
  const file = { type: "locks", name: "ab".repeat(32) } as const;
  const inClear = connect({ endpoint: strict.endpoint });
  await inClear.save(file, Buffer.from("over TLS"));
  const endpoint = `https://127.0.0.1:${(front.address() as AddressInfo).port}`;
  const trusting = connect({ endpoint }, { ca: authority.ca });
  expect((await trusting.readRange(file, 5, 3)).toString()).toBe("TLS");
  const other = await testAuthority("another authority");
  const strangers = [connect({ endpoint }, { ca: other.ca }), connect({ endpoint })];
  for (const wary of strangers) {
    await expect(wary.readAll(file, 10)).rejects.toMatchObject({
      code: "REPOSITORY_UNTRUSTED",
      hint: expect.stringContaining("CA"),
    });
  }
  for (const backend of [inClear, trusting, ...strangers]) await backend.close();
  await new Promise((resolve) => front.close(resolve));
});

test.each([
  [{ region: "eu-west-1", endpoint: undefined }, "https://backups.s3.eu-west-1.amazonaws.com"],
  [{ region: "cn-north-1", endpoint: undefined }, "https://backups.s3.cn-north-1.amazonaws.com.cn"],
  [{ region: "eu-west-1", endpoint: undefined, bucket: "with.dots" }, "https://s3.eu-west-1.amazonaws.com/with.dots"],
  [{ endpoint: "https://minio:9000" }, "https://minio:9000/backups"],
])("where the requests go: %#", (place, expected) => {
  expect(connect(place).address.href).toBe(`${expected}/`);
});

test.each([{ bucket: "No_Bucket" }, { bucket: "a/../b" }, { prefix: "a/../../other" }])("no place: %p", (place) => {
  expect(() => connect(place)).toThrow(expect.objectContaining({ code: "REPOSITORY_UNSUPPORTED" }));
});

test("keys that the server does not know, and a bucket that is not there", async () => {
  const config = { type: "config", name: "" } as const;
  const asked: boolean[] = [];
  const stranger = connect(
    { endpoint: strict.endpoint },
    {
      credentials: async (renew) => {
        asked.push(renew);
        return renew ? strict.credentials : { accessKeyId: "S3RVER", secretAccessKey: "wrong s3cret" };
      },
    },
  );
  // The second try is made with new ones.
  await expect(stranger.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_OBJECT_MISSING" });
  expect(asked).toEqual([false, true]);
  await stranger.close();

  const wrong = connect(
    { endpoint: strict.endpoint },
    { credentials: async () => ({ accessKeyId: "who", secretAccessKey: "s3cret" }) },
  );
  const error = await wrong.readAll(config, 10).catch((caught: unknown) => caught);
  expect(error).toMatchObject({ code: "REPOSITORY_FORBIDDEN", message: expect.stringContaining("InvalidAccessKeyId") });
  expect(JSON.stringify(error) + String(error)).not.toContain("s3cret");
  await wrong.close();

  const nowhere = connect({ bucket: "no-such-bucket" });
  await expect(nowhere.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_NOT_FOUND" });
  await nowhere.close();
});

describe("what other servers say", () => {
  let other: Server;
  let answer: { status: number; headers?: Record<string, string>; body: string };

  beforeAll(async () => {
    other = createServer((_request, response) => response.writeHead(answer.status, answer.headers).end(answer.body));
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  });
  afterAll(() => new Promise((resolve) => other.close(resolve)));

  const xml = (code: string, more = ""): string => `<?xml version="1.0"?><Error><Code>${code}</Code>${more}</Error>`;

  test.each([
    [
      { status: 400, body: xml("AuthorizationHeaderMalformed", "<Region>eu-west-3</Region>") },
      "REPOSITORY_REDIRECTED",
      "eu-west-3",
    ],
    [
      { status: 301, headers: { "x-amz-bucket-region": "eu-west-2" }, body: xml("PermanentRedirect") },
      "REPOSITORY_REDIRECTED",
      "eu-west-2",
    ],
    [{ status: 403, body: xml("RequestTimeTooSkewed") }, "REPOSITORY_UNREACHABLE", "clock"],
    [{ status: 403, body: xml("InvalidObjectState") }, "REPOSITORY_FORBIDDEN", "archive"],
    [{ status: 403, body: xml("AccessDenied") }, "REPOSITORY_FORBIDDEN", "s3:GetObject"],
    [{ status: 400, body: xml("ExpiredToken") }, "REPOSITORY_FORBIDDEN", "Secret"],
    [{ status: 400, body: "<html>no S3</html>" }, "REPOSITORY_UNSUPPORTED", "endpoint"],
    [{ status: 200, body: "<html>no S3</html>" }, "REPOSITORY_UNREACHABLE", "endpoint"],
  ] as const)("%j", async (given, code, hint) => {
    answer = given;
    const backend = connect({ endpoint: `http://127.0.0.1:${(other.address() as AddressInfo).port}` });
    await expect(backend.list("snapshots")).rejects.toMatchObject({ code, hint: expect.stringContaining(hint) });
    await backend.close();
  });

  test("a listing of several pages is complete", async () => {
    const names = Array.from({ length: 5 }, (_, index) => `${index}`.repeat(64));
    const asked: URLSearchParams[] = [];
    const page = (token: string | null): string => {
      const at = token === null ? 0 : Number(token.slice(2));
      const keys = names.slice(at, at + 2).map((name) => `<Contents><Key>x/locks/${name}</Key></Contents>`);
      const next = at + 2 < names.length ? `<NextContinuationToken>+&amp;${at + 2}</NextContinuationToken>` : "";
      return `<ListBucketResult><IsTruncated>${next !== ""}</IsTruncated>${keys.join("")}${next}</ListBucketResult>`;
    };
    const paging = createServer((request, response) => {
      const query = new URL(request.url ?? "", "http://x").searchParams;
      asked.push(query);
      response.end(page(query.get("continuation-token")));
    });
    await new Promise<void>((resolve) => paging.listen(0, "127.0.0.1", resolve));
    const port = (paging.address() as AddressInfo).port;
    const backend = connect({ prefix: "x", endpoint: `http://127.0.0.1:${port}` });
    expect(await backend.list("locks")).toEqual(names);
    expect(asked.slice(-3).map((query) => query.get("continuation-token"))).toEqual([null, "+&2", "+&4"]);
    expect(asked.at(-1)?.get("prefix")).toBe("x/locks/");
    await backend.close();
    await new Promise((resolve) => paging.close(resolve));
  });

  test("a listing without end is given up", async () => {
    answer = {
      status: 200,
      body: "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>x</NextContinuationToken></ListBucketResult>",
    };
    const backend = connect({ endpoint: `http://127.0.0.1:${(other.address() as AddressInfo).port}` });
    await expect(backend.list("locks")).rejects.toMatchObject({ code: "REPOSITORY_UNSUPPORTED" });
    await backend.close();
  });
});
