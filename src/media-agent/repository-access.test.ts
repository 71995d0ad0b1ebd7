import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "@jest/globals";
import { type BackendConfig, REPOSITORY_FILES } from "../api/agent-config.ts";
import { systemClock } from "../base/clock.ts";
import { testAuthority } from "../base/testing/certificates.ts";
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
  const names = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_REGION",
    "AWS_ENDPOINT_URL_STS",
  ] as const;
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

  test("with the pod's identity, keys from the node's agent, as EKS gives them, when others are refused", async () => {
    const tokens: string[] = [];
    const node = createServer(({ headers }, response) => {
      tokens.push(String(headers.authorization));
      const Expiration = new Date(Date.now() + 3_600_000).toISOString();
      const keys = { AccessKeyId: "AKIAPOD", SecretAccessKey: "s3cret", Token: "session", Expiration };
      response.setHeader("content-type", "application/json").end(JSON.stringify(keys));
    });
    await new Promise<void>((resolve) => node.listen(0, "127.0.0.1", resolve));
    await writeFile(join(scratch, "token"), "a token of this pod");
    for (const name of names) delete process.env[name];
    process.env.AWS_EC2_METADATA_DISABLED = "true";
    process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI = `http://127.0.0.1:${(node.address() as AddressInfo).port}/v1/credentials`;
    process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE = join(scratch, "token");
    const isPods = (): boolean => seen.at(-1)?.includes("Credential=AKIAPOD/") === true;
    answer = () => (isPods() ? 200 : 403);
    const backend = await open({ s3: { ...place.s3, podIdentity: true } });
    await backend.readAll(config, 10);
    expect(isPods()).toBe(true);
    expect(new Set(tokens)).toEqual(new Set(["a token of this pod"]));
    await backend.close();
    await new Promise((resolve) => node.close(resolve));
  });

  test("with the pod's identity, a role from who does not answer once, as its connection was lost: it is asked again", async () => {
    let asked = 0;
    const roles = createServer((_, response) => {
      if (++asked > 1) response.end(assumedRole());
    });
    await new Promise<void>((resolve) => roles.listen(0, "127.0.0.1", resolve));
    for (const name of names) delete process.env[name];
    await writeFile(join(scratch, "token"), "a token of this pod");
    process.env.AWS_EC2_METADATA_DISABLED = "true";
    process.env.AWS_WEB_IDENTITY_TOKEN_FILE = join(scratch, "token");
    process.env.AWS_ROLE_ARN = "arn:aws:iam::123456789012:role/backups";
    process.env.AWS_REGION = "us-east-1";
    process.env.AWS_ENDPOINT_URL_STS = `http://127.0.0.1:${(roles.address() as AddressInfo).port}`;
    const clock = new ManualClock();
    answer = () => (seen.at(-1)?.includes("Credential=ASIAROLE/") === true ? 200 : 403);
    const backend = await open({ s3: { ...place.s3, podIdentity: true } }, clock);
    let isDone = false;
    const reading = backend.readAll(config, 10).finally(() => {
      isDone = true;
    });
    for (let tries = 0; !isDone && tries < 1000; tries++) {
      if (asked > 0) await clock.advance(1000);
      await systemClock.sleep(5);
    }
    expect(isDone).toBe(true);
    expect((await reading).toString()).toBe("x");
    expect(asked).toBe(2);
    await backend.close();
    roles.closeAllConnections();
    await new Promise((resolve) => roles.close(resolve));
  }, 20_000);
});

function assumedRole(): string {
  const expiration = new Date(Date.now() + 3_600_000).toISOString();
  const keys = `<AccessKeyId>ASIAROLE</AccessKeyId><SecretAccessKey>s3cret</SecretAccessKey><SessionToken>t</SessionToken>`;
  const result = `<Credentials>${keys}<Expiration>${expiration}</Expiration></Credentials>`;
  return `<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult>${result}</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`;
}

test.each([
  ["a REST server", (url: string): BackendConfig => ({ rest: { url } })],
  ["S3", (endpoint: string): BackendConfig => ({ s3: { bucket: "backups", region: "x", endpoint } })],
])("%s whose certificate only the authority in a file has signed", async (_what, place) => {
  const authority = await testAuthority();
  const pair = await authority.issue("server", ["127.0.0.1"]);
  const secure = createTlsServer(pair, (_request, response) => response.end("x"));
  await new Promise<void>((resolve) => secure.listen(0, "127.0.0.1", resolve));
  const url = `https://127.0.0.1:${(secure.address() as AddressInfo).port}`;
  await give({ s3AccessKeyId: "AKIAFILE", s3SecretAccessKey: "s3cret" });
  const wary = await open(place(url));
  await expect(wary.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_UNTRUSTED" });
  await give({ caBundle: authority.ca });
  const trusting = await open(place(url));
  expect((await trusting.readAll(config, 10)).toString()).toBe("x");
  // A process that runs takes it up when it meets a certificate that it does not trust.
  expect((await wary.readAll(config, 10)).toString()).toBe("x");
  await wary.close();
  await trusting.close();
  await new Promise((resolve) => secure.close(resolve));
});

test("another authority is taken up while the process runs, and the one before it is not trusted any more", async () => {
  const [before, after] = await Promise.all([testAuthority(), testAuthority()]);
  const [old, renewed] = await Promise.all(
    [before, after].map((authority) => authority.issue("server", ["127.0.0.1"])),
  );
  const secure = createTlsServer({ ...old }, (_request, response) => response.end("x"));
  await new Promise<void>((resolve) => secure.listen(0, "127.0.0.1", resolve));
  await give({ caBundle: before.ca });
  const clock = new ManualClock();
  const backend = await open({ rest: { url: `https://127.0.0.1:${(secure.address() as AddressInfo).port}` } }, clock);
  await backend.readAll(config, 10);

  secure.setSecureContext({ ...renewed });
  secure.closeAllConnections();
  await expect(backend.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_UNTRUSTED" });
  await give({ caBundle: after.ca });
  expect((await backend.readAll(config, 10)).toString()).toBe("x");

  // Nothing goes over what was connected with the old one, once the file was read again.
  await give({ caBundle: before.ca });
  await clock.advance(61_000);
  await expect(backend.readAll(config, 10)).rejects.toMatchObject({ code: "REPOSITORY_UNTRUSTED" });
  await backend.close();
  await new Promise((resolve) => secure.close(resolve));
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
