import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type BackendConfig, REPOSITORY_FILES } from "../api/agent-config.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { openBackend, readPassword } from "./repository-access.ts";

const config = { type: "config", name: "" } as const;
let scratch: string;
let server: Server;
let url: string;
/** Authorization headers that the server saw. */
let seen: string[] = [];
let answer: () => number = () => 200;

beforeAll(async () => {
  server = createServer((request, response) => {
    seen.push(String(request.headers.authorization));
    response.writeHead(answer()).end("x");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => server.close(resolve)));
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "repository-access-"));
  seen = [];
  answer = () => 200;
});
afterEach(() => rm(scratch, { recursive: true }));

async function give(files: Partial<Record<keyof typeof REPOSITORY_FILES, string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(scratch, REPOSITORY_FILES[name as keyof typeof REPOSITORY_FILES]), content);
  }
}

const open = (place: BackendConfig, clock = new ManualClock()) =>
  openBackend(place, { repositoryPasswordFile: join(scratch, "password"), repositoryCredentialsDir: scratch }, clock);

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString("base64")}`;

test("new credentials are taken up after a minute, and at once when the old ones are refused", async () => {
  const clock = new ManualClock();
  await give({ httpUsername: "me", httpPassword: "one\n" });
  const backend = await open({ rest: { url } }, clock);
  await backend.readAll(config, 10);
  await give({ httpPassword: "two" });
  await backend.readAll(config, 10);
  await clock.advance(61_000);
  await backend.readAll(config, 10);
  expect(seen).toEqual([basic("me:one"), basic("me:one"), basic("me:two")]);

  await give({ httpPassword: "three" });
  answer = () => (seen.at(-1) === basic("me:three") ? 200 : 401);
  await backend.readAll(config, 10);
  expect(seen.slice(3)).toEqual([basic("me:two"), basic("me:three")]);
  await backend.close();
});

test("a server that asks for nobody's name", async () => {
  const backend = await open({ rest: { url } });
  await backend.readAll(config, 10);
  expect(seen).toEqual(["undefined"]);
  await backend.close();
});

describe("S3", () => {
  const place = { s3: { bucket: "backups", region: "eu-west-1", endpoint: "" } };
  const names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"] as const;
  const before = names.map((name) => process.env[name]);
  beforeEach(() => {
    place.s3.endpoint = url;
  });
  afterEach(() => {
    for (const [index, name] of names.entries()) {
      if (before[index] === undefined) delete process.env[name];
      else process.env[name] = before[index];
    }
  });

  test("keys from files", async () => {
    await give({ s3AccessKeyId: "AKIAFILE", s3SecretAccessKey: "s3cret" });
    const backend = await open(place);
    await backend.readAll(config, 10);
    expect(seen).toEqual([expect.stringContaining("Credential=AKIAFILE/")]);
    await backend.close();
  });

  test("without files nothing is asked: the pod's own identity is not for whoever lost a key", async () => {
    process.env.AWS_ACCESS_KEY_ID = "AKIAENV";
    process.env.AWS_SECRET_ACCESS_KEY = "s3cret";
    const backend = await open(place);
    await expect(backend.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
    expect(seen).toEqual([]);
    await backend.close();
  });

  test("with the pod's identity, the environment's keys: none at first, then some", async () => {
    process.env.AWS_EC2_METADATA_DISABLED = "true";
    delete process.env.AWS_ACCESS_KEY_ID;
    await give({ s3AccessKeyId: "AKIAFILE", s3SecretAccessKey: "s3cret" });
    const backend = await open({ s3: { ...place.s3, podIdentity: true } });
    await expect(backend.readAll(config, 10)).rejects.toMatchObject({
      code: "REPOSITORY_FORBIDDEN",
      hint: expect.stringContaining("credentialsSecretRef"),
    });
    process.env.AWS_ACCESS_KEY_ID = "AKIAENV";
    process.env.AWS_SECRET_ACCESS_KEY = "s3cret";
    await backend.readAll(config, 10);
    expect(seen).toEqual([expect.stringContaining("Credential=AKIAENV/")]);
    await backend.close();
  });
});

test("a volume's directory, and the password without an editor's newline", async () => {
  await mkdir(join(scratch, "repository"));
  await give({ password: "p4ss word\n" });
  const access = {
    repositoryDir: join(scratch, "repository"),
    repositoryPasswordFile: join(scratch, REPOSITORY_FILES.password),
  };
  expect(await openBackend({ local: {} }, access, new ManualClock())).toBeInstanceOf(LocalBackend);
  expect(await readPassword(access)).toBe("p4ss word");
});

test.each<BackendConfig>([{}, { local: {} }, { rest: { url: "http://x/" }, s3: { bucket: "abc", region: "x" } }])(
  "no one place: %j",
  async (place) => {
    await expect(open(place)).rejects.toMatchObject({ code: "CONFIG_INVALID" });
  },
);
