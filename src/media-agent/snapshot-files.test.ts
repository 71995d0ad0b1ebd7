import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { LocalBackend } from "../repository/backends/local.ts";
import { Repository, type SnapshotTree } from "../repository/repository.ts";
import { ResticRepository } from "../repository/testing/restic.ts";
import { SnapshotFiles } from "./snapshot-files.ts";

const ID = "0123456789abcdef";

let made: ResticRepository;
let repository: Repository;
let tree: SnapshotTree;
/** Files that were read, and what reading them throws. */
let reads = 0;
let failure: Error | undefined;
const counted = {
  readFile: (...args: Parameters<Repository["readFile"]>): ReturnType<Repository["readFile"]> => {
    reads++;
    return failure === undefined ? repository.readFile(...args) : Promise.reject(failure);
  },
} as Repository;

beforeAll(async () => {
  made = await ResticRepository.create(2);
  const files = {
    "virtualmachine.yaml": "{kind: VirtualMachine, metadata: {name: vm}, spec: {template: {spec: {volumes: []}}}}",
    "objects/a.yaml": "kind: Secret",
    "state/nvram/orders_VARS.fd": "efi",
  };
  const id = await made.backUp(
    Object.fromEntries(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)])),
  );
  repository = await Repository.open(new LocalBackend(made.directory), made.password);
  tree = await repository.browse(await repository.snapshot(id));
});

afterAll(async () => {
  await repository?.close();
  await made?.remove();
});

test("what was read once is not read again; what failed is", async () => {
  const files = new SnapshotFiles({ tree, repository: counted }, ID);
  failure = new Error("away");
  await expect(files.manifest()).rejects.toThrow("away");
  failure = undefined;
  reads = 0;
  for (let time = 0; time < 3; time++) {
    const [manifest, objects, listing] = await Promise.all([files.manifest(), files.objects(), files.stateFiles()]);
    expect(manifest).toMatchObject({ kind: "VirtualMachine" });
    expect(objects).toEqual([{ kind: "Secret" }]);
    expect(listing).toMatchObject([{ path: "nvram/orders_VARS.fd", size: 3 }]);
  }
  expect(reads).toBe(2);
});

test("the machine's state is not held in memory", async () => {
  const files = new SnapshotFiles({ tree, repository: counted }, ID);
  const first = await files.machineState();
  const before = reads;
  expect(await files.machineState()).toEqual(first);
  expect(JSON.stringify(first)).toContain("orders_VARS.fd");
  expect(reads).toBe(before + 1);
});

test("a snapshot that is gone is said to be", async () => {
  const files = new SnapshotFiles({ tree: undefined, repository: counted }, ID);
  const gone = { code: "NOT_FOUND", message: expect.stringContaining(ID) };
  await expect(files.manifest()).rejects.toMatchObject(gone);
  await expect(files.stateFiles()).rejects.toMatchObject(gone);
  await expect(files.machineState()).rejects.toMatchObject(gone);
});
