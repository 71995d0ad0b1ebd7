import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import type { BackendConfig } from "../api/agent-config.ts";
import { type Inspection, type InspectionRequest, inspection } from "../api/inspection.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { S3Backend } from "../repository/backends/s3.ts";
import { copyRepository } from "../repository/testing/copy-repository.ts";
import { RcloneServer } from "../repository/testing/rclone.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { S3Server } from "../repository/testing/s3-server.ts";
import { runInspection } from "./inspection.ts";
import { ImageWorkshop } from "./testing/disk-images.ts";

const MIB = 1024 * 1024;
const OLD = ["--time", "2025-11-01 10:00:00"];
const FORCED = ["-o", "force_size=on"];
const MANIFEST = `
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: orders-db}
spec: {template: {spec: {volumes: [{name: root}, {name: data}, {name: cloudinit}]}}}
`;

let repository: ResticRepository;
let workshop: ImageWorkshop;
let scratch: string;
let first: string;
let second: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "inspection-"));
  await writeFile(join(scratch, "password"), "correct horse\n");
  repository = await ResticRepository.create(2);
  workshop = await ImageWorkshop.create();
  const data = Buffer.concat([Buffer.alloc(20 * 1024 * 1024), noise(1024 * 1024, 1)]);
  first = await repository.backUp(
    {
      "vms/orders/virtualmachine.yaml": Buffer.from(MANIFEST),
      "vms/orders/disks/root.img": noise(3 * 1024 * 1024, 2),
      "vms/orders/disks/data.img": data,
      "vms/orders/disks/other.img": noise(4096, 3),
    },
    ["--host", "orders", "--time", "2026-01-01 10:00:00"],
  );
  second = await repository.backUp(
    {
      "disks/a.img": Buffer.concat([Buffer.from("QFI\xfb", "latin1"), noise(4092, 4)]),
      "disks/odd.img": noise(1000, 5),
    },
    ["--host", "bad", "--tag", "weekly", "--time", "2026-01-02 10:00:00"],
  );
  await repository.backUp({ "disks/a.img": noise(512, 6), "disks/a.raw": noise(512, 6) }, [
    ...["--host", "twice", "--time", "2025-12-01 10:00:00"],
  ]);
});

afterAll(async () => {
  await repository?.remove();
  await workshop?.remove();
  await rm(scratch, { recursive: true, force: true });
});

async function inspect(selector?: InspectionRequest | string, directory = repository.directory): Promise<Inspection> {
  const result = join(scratch, "result");
  await runInspection({
    repositoryDir: directory,
    repositoryPasswordFile: join(scratch, "password"),
    ...(selector === undefined ? {} : { selector: typeof selector === "string" ? selector : JSON.stringify(selector) }),
    result,
  });
  return inspection.parse(JSON.parse(await readFile(result, "utf8")));
}

test("without a selector tells what the repository is", async () => {
  expect(await inspect()).toEqual({
    repository: { id: expect.stringMatching(/^[0-9a-f]{64}$/), version: 2, snapshots: 3, latest: expect.anything() },
  });
});

describe("a repository behind a server", () => {
  async function inspectAt(place: BackendConfig, files: Record<string, string>): Promise<Inspection> {
    const credentials = await mkdtemp(join(scratch, "credentials-"));
    for (const [name, content] of Object.entries(files)) await writeFile(join(credentials, name), content);
    const result = join(scratch, "result");
    await runInspection({
      repository: JSON.stringify(place),
      repositoryPasswordFile: join(scratch, "password"),
      repositoryCredentialsDir: credentials,
      selector: JSON.stringify({ snapshot: { latest: { host: "orders" } } }),
      result,
    });
    const text = await readFile(result, "utf8");
    expect(text).not.toContain("s3cret");
    return inspection.parse(JSON.parse(text));
  }

  test("REST", async () => {
    const rclone = await RcloneServer.start(repository.directory, ["--user", "me", "--pass", "s3cret"]);
    const place = { rest: { url: rclone.url } };
    const found = await inspectAt(place, { "http-username": "me", "http-password": "s3cret" });
    expect(found).toMatchObject({ snapshot: { id: first }, repository: { snapshots: 3 } });
    const refused = await inspectAt(place, { "http-username": "me", "http-password": "other s3cret" });
    expect(refused.error).toMatchObject({ code: "REPOSITORY_FORBIDDEN" });
    await rclone.stop();
  });

  test("S3", async () => {
    const server = await S3Server.start("strict");
    const place = { bucket: server.bucket, prefix: "machines", region: "us-east-1", endpoint: server.endpoint };
    const remote = new S3Backend(place, { credentials: async () => server.credentials });
    const local = new LocalBackend(repository.directory);
    await copyRepository(local, remote);
    await remote.close();
    await local.close();
    const keys = { "s3-access-key-id": "S3RVER", "s3-secret-access-key": "S3RVER" };
    expect(await inspectAt({ s3: place }, keys)).toMatchObject({ snapshot: { id: first } });
    const wrong = await inspectAt({ s3: place }, { ...keys, "s3-secret-access-key": "s3cret" });
    expect(wrong.error).toMatchObject({ code: "REPOSITORY_FORBIDDEN", hint: expect.stringContaining("Secret") });
    await server.stop();
  });
});

test("finds the disks that the manifest names, and what they hold", async () => {
  const found = await inspect({ snapshot: { latest: { host: "orders" } } });
  expect(found.error).toBeUndefined();
  expect(found.snapshot).toMatchObject({
    id: first,
    host: "orders",
    virtualMachine: "orders-db",
    disks: [
      { name: "data", path: "/vms/orders/disks/data.img", format: "raw", size: 21 * 1024 * 1024 },
      { name: "root", path: "/vms/orders/disks/root.img", format: "raw", size: 3 * 1024 * 1024 },
    ],
  });
  expect(found.snapshot?.dataBytes).toBeGreaterThanOrEqual(4 * 1024 * 1024);
  expect(found.snapshot?.dataBytes).toBeLessThan(14 * 1024 * 1024);
});

test("takes disks that are named, by the beginning of an id", async () => {
  const disks = [{ name: "system", path: "/vms/orders/disks/other.img" }];
  const found = await inspect({ snapshot: { id: first.slice(0, 8) }, disks });
  expect(found.snapshot?.disks).toEqual([{ ...disks[0], format: "raw", size: 4096 }]);
  expect(found.snapshot?.dataBytes).toBe(4096);
});

test("tells which of the named disks the manifest has no volume for", async () => {
  const path = "/vms/orders/disks/root.img";
  const ask = (name: string) => inspect({ snapshot: { id: first.slice(0, 8) }, disks: [{ name, path }] });
  expect((await ask("root")).snapshot).not.toHaveProperty("withoutVolume");
  expect((await ask("system")).snapshot?.withoutVolume).toEqual(["system"]);
});

test.each([
  ["no such snapshot", { snapshot: { id: "00000000" } }, "SNAPSHOT_NOT_FOUND"],
  ["no snapshot of the host", { snapshot: { latest: { host: "nobody" } } }, "SNAPSHOT_NOT_FOUND"],
  ["none before that time", { snapshot: { latest: { before: "2025-01-01T00:00:00Z" } } }, "SNAPSHOT_NOT_FOUND"],
  ["no such path", { snapshot: { latest: {} }, disks: [{ name: "a", path: "/none.img" }] }, "PATH_NOT_FOUND"],
  ["a qcow2 mark in a raw disk's file", { snapshot: { latest: { tags: ["weekly"] } } }, "IMAGE_AMBIGUOUS"],
  ["two files for a disk", { snapshot: { latest: { host: "twice" } } }, "DISKS_AMBIGUOUS"],
  ["odd size", { snapshot: { latest: {} }, disks: [{ name: "a", path: "/disks/odd.img" }] }, "DISK_SIZE_UNALIGNED"],
])("%s is data", async (_, selector, code) => {
  const found = await inspect(selector);
  expect(found.error?.code).toBe(code);
  expect(found.repository?.version).toBe(2);
});

test("where one snapshot is damaged, the others are had by their ids, and none is taken for the latest", async () => {
  const copy = await mkdtemp(join(scratch, "damaged-"));
  await cp(repository.directory, copy, { recursive: true });
  // A host that died while it wrote it.
  await writeFile(join(copy, "snapshots", `${first.slice(0, 8)}${"5".repeat(56)}`), "");
  expect(await inspect(undefined, copy)).toMatchObject({ repository: { snapshots: 3, damagedSnapshots: 1 } });
  const disks = [{ name: "system", path: "/vms/orders/disks/other.img" }];
  const found = await inspect({ snapshot: { id: first }, disks }, copy);
  expect(found).toMatchObject({ snapshot: { id: first, disks: [{ size: 4096 }] } });
  expect(found.error).toBeUndefined();
  const failure = async (snapshot: InspectionRequest["snapshot"]) => (await inspect({ snapshot, disks }, copy)).error;
  expect(await failure({ id: `${first.slice(0, 8)}5555` })).toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
  expect(await failure({ id: first.slice(0, 8) })).toMatchObject({ code: "SNAPSHOT_AMBIGUOUS" });
  expect(await failure({ latest: { host: "orders" } })).toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
});

test("a request that is none, a wrong password and a missing repository are data too", async () => {
  expect((await inspect("{")).error?.code).toBe("REQUEST_INVALID");
  expect((await inspect('{"snapshot":{}}')).error?.code).toBe("REQUEST_INVALID");
  expect((await inspect(undefined, scratch)).error?.code).toBe("REPOSITORY_NOT_FOUND");
  await writeFile(join(scratch, "password"), "wrong");
  expect((await inspect()).error?.code).toBe("REPOSITORY_WRONG_PASSWORD");
  await writeFile(join(scratch, "password"), "correct horse");
});

test("a result too long for the termination message says so", async () => {
  const disks = Array.from({ length: 64 }, (_, index) => ({
    name: `${"n".repeat(60)}${index}`,
    path: `${"/.".repeat(20)}/vms/orders/disks/other.img`,
  }));
  const found = await inspect({ snapshot: { id: first }, disks });
  expect(found.error?.code).toBe("INSPECTION_TOO_LARGE");
  expect((await readFile(join(scratch, "result"))).length).toBeLessThan(4096);
  expect(second).not.toBe(first);
});

test("finds images of every format by their names and contents, and tells how large their disks are", async () => {
  const sizes = { raw: 3, qcow2: 4, vmdk: 5, vhd: 6, vhdx: 7 } as const;
  const files: Record<string, Buffer> = {};
  for (const [format, size] of Object.entries(sizes)) {
    const name = `${format}.${format === "raw" ? "img" : format}`;
    const known = format === "vhd" ? "vpc" : format;
    await workshop.run("qemu-img", "create", "-q", "-f", known, ...(format === "vhd" ? FORCED : []), name, `${size}M`);
    files[`disks/${name}`] = await readFile(workshop.path(name));
  }
  await repository.backUp(files, ["--host", "formats", "--time", "2025-11-01 10:00:00"]);
  const found = await inspect({ snapshot: { latest: { host: "formats" } } });
  expect(found.error).toBeUndefined();
  expect(Object.fromEntries((found.snapshot?.disks ?? []).map(({ format, size }) => [format, size]))).toEqual(
    Object.fromEntries(Object.entries(sizes).map(([format, size]) => [format, size * MIB])),
  );
});

test("an image of several files is opened where its format is named, and all of its data counts", async () => {
  await workshop.blank("base.img", 4 * MIB);
  await workshop.run("qemu-io", "-f", "raw", "-c", "write -P 5 0 2M", "base.img");
  await workshop.run("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", "over.qcow2", "6M");
  await workshop.run("truncate", "--size=%512", "over.qcow2");
  const files = { "disks/over.qcow2": await readFile(workshop.path("over.qcow2")) };
  const withBase = { ...files, "disks/base.img": await readFile(workshop.path("base.img")) };
  const alone = await repository.backUp(files, OLD);
  const both = await repository.backUp(withBase, OLD);
  const disk = { name: "root", path: "/disks/over.qcow2" };
  expect((await inspect({ snapshot: { id: both }, disks: [disk] })).error?.code).toBe("IMAGE_AMBIGUOUS");
  const named = { ...disk, format: "qcow2" } as const;
  expect((await inspect({ snapshot: { id: alone }, disks: [named] })).error?.code).toBe("IMAGE_FILE_MISSING");
  const found = await inspect({ snapshot: { id: both }, disks: [named] });
  expect(found.snapshot?.disks).toEqual([{ ...named, size: 6 * MIB }]);
  expect(found.snapshot?.dataBytes).toBeGreaterThan(MIB);
  const raw = await inspect({ snapshot: { id: both }, disks: [{ ...disk, format: "raw" }] });
  expect(raw.snapshot?.disks).toEqual([{ ...disk, format: "raw", size: files["disks/over.qcow2"].length }]);
});
