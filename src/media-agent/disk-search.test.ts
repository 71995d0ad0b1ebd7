import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { type Inspection, type InspectionRequest, inspection } from "../api/inspection.ts";
import { noise, ResticRepository } from "../repository/testing/restic.ts";
import { resolvePath } from "./disk-search.ts";
import { runInspection } from "./inspection.ts";

const image = (seed: number): Buffer => noise(4096, seed);
const ROOT = { name: "root", claim: "orders-db-root" };
const DATA = { name: "data", claim: "orders-db-data" };

let repository: ResticRepository;
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "disk-search-"));
  await writeFile(join(scratch, "password"), "correct horse");
  repository = await ResticRepository.create(2);
  // VolSync's mover goes into the claim and backs up `.` as host `volsync`: the claim's files are at the snapshot's root.
  const claim = await mkdtemp(join(scratch, "claim-"));
  await writeFile(join(claim, "disk.img"), image(1));
  await repository.restic(["backup", "--quiet", "--host", "volsync", "."], { cwd: claim });
  // K8up backs up one directory for each claim, `/data/<claim>`, each a snapshot of its own.
  await repository.backUp({ "data/orders-db-root/disk.img": image(2) }, ["--host", "shop"]);
  await repository.backUp(
    {
      "data/orders-db-root/disk.img": image(2),
      "data/orders-db-data/disk.img": image(3),
      "data/orders-db-data/old.img": image(4),
    },
    ["--host", "both"],
  );
  await repository.backUp({ "backup/root.qcow2.img": image(5), "backup/a.img": image(6), "backup/b.img": image(7) }, [
    ...["--host", "plain"],
  ]);
  await repository.backUp({ "a/root.img": image(8), "b/root.img": image(9) }, ["--host", "twice"]);
});

afterAll(async () => {
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

async function inspect(host: string, request: Omit<InspectionRequest, "snapshot">): Promise<Inspection> {
  const result = join(scratch, "result");
  await runInspection({
    repositoryDir: repository.directory,
    repositoryPasswordFile: join(scratch, "password"),
    selector: JSON.stringify({ snapshot: { latest: { host } }, ...request }),
    result,
  });
  return inspection.parse(JSON.parse(await readFile(result, "utf8")));
}

const pathsOf = ({ error, snapshot }: Inspection) => {
  expect(error).toBeUndefined();
  return Object.fromEntries((snapshot?.disks ?? []).map(({ name, path }) => [name, path]));
};

describe("without paths, the disks of a machine are found", () => {
  test("in a snapshot of one claim, as VolSync makes it", async () => {
    expect(pathsOf(await inspect("volsync", { volumes: [ROOT] }))).toEqual({ root: "/disk.img" });
  });

  test("in directories named after claims, as K8up makes them", async () => {
    expect(pathsOf(await inspect("shop", { volumes: [ROOT] }))).toEqual({ root: "/data/orders-db-root/disk.img" });
    expect(pathsOf(await inspect("both", { volumes: [ROOT, DATA] }))).toEqual({
      root: "/data/orders-db-root/disk.img",
      data: "/data/orders-db-data/disk.img",
    });
  });

  test("by their own names", async () => {
    const volumes = [{ name: "a" }, { name: "x", claim: "b" }];
    expect(pathsOf(await inspect("plain", { volumes }))).toEqual({ a: "/backup/a.img", x: "/backup/b.img" });
  });
});

test("a file that may be of a volume beside another is not chosen: it is told what there is", async () => {
  const { error } = await inspect("twice", { volumes: [{ name: "root" }] });
  expect(error).toMatchObject({ code: "DISKS_AMBIGUOUS", message: "volume root may be /a/root.img, /b/root.img" });
});

test("no disk of a machine is left behind in silence", async () => {
  const { error } = await inspect("volsync", { volumes: [ROOT, DATA] });
  expect(error).toMatchObject({
    code: "DISKS_NOT_FOUND",
    message: "no file in the snapshot is known to be of volume root, data",
    hint: "It holds /disk.img. Name the disks and their paths in the VMRestore: spec.source.disks.",
  });
});

test.each([
  ["/disk.*", "volsync", "/disk.img"],
  ["/data/*-root/disk.img", "both", "/data/orders-db-root/disk.img"],
  ["/**/old.img", "both", "/data/orders-db-data/old.img"],
  ["/**/disk.img", "volsync", "/disk.img"],
  ["/backup/?.img", "plain", undefined],
  ["/backup/[ab].img", "plain", undefined],
  ["/data/*", "both", undefined],
])("the pattern %s in the snapshot of %s means %s", async (path, host, found) => {
  const result = await inspect(host, { disks: [{ name: "root", path }] });
  if (found === undefined) expect(result.error?.code).toMatch(/^(DISKS_AMBIGUOUS|DISKS_NOT_FOUND|PATH_NOT_FOUND)$/);
  else expect(pathsOf(result)).toEqual({ root: found });
});

test("a pattern that fits several files names them, and one that fits none names the images there are", async () => {
  const several = await inspect("plain", { disks: [{ name: "root", path: "/backup/?.img" }] });
  expect(several.error?.message).toBe("/backup/?.img, the path of disk root, fits /backup/a.img, /backup/b.img");
  const none = await inspect("volsync", { disks: [{ name: "root", path: "/data/*.img" }] });
  expect(none.error).toMatchObject({ code: "DISKS_NOT_FOUND", hint: expect.stringContaining("It holds /disk.img.") });
});

test("a star stays within a name", async () => {
  const name = fc.stringMatching(/^[a-z.]{1,6}$/).filter((part) => part !== "." && part !== "..");
  await fc.assert(
    fc.asyncProperty(name, name, async (folder, file) => {
      const tree = {
        list: async (path: string) =>
          path === "/"
            ? [{ name: folder, kind: "directory" as const, size: 0 }]
            : [{ name: file, kind: "file" as const, size: 1 }],
      };
      const resolve = (path: string) => resolvePath(tree, { name: "root", path });
      await expect(resolve(`/*/${file}`)).resolves.toBe(`/${folder}/${file}`);
      await expect(resolve(`/**/*`)).resolves.toBe(`/${folder}/${file}`);
      await expect(resolve("/*")).rejects.toMatchObject({ code: "DISKS_NOT_FOUND" });
    }),
    { numRuns: 50 },
  );
});
