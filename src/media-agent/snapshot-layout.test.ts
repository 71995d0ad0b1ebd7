import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { LocalBackend } from "../repository/backends/local.ts";
import { Repository, type SnapshotTree } from "../repository/repository.ts";
import { ResticRepository } from "../repository/testing/restic.ts";
import { listState, readState } from "./machine-state.ts";
import { findLayout, readObjects } from "./snapshot-layout.ts";

let made: ResticRepository;
let repository: Repository;

beforeAll(async () => {
  made = await ResticRepository.create(2);
});

afterAll(async () => {
  await repository?.close();
  await made?.remove();
});

async function treeOf(files: Record<string, Buffer | string>): Promise<SnapshotTree> {
  const id = await made.backUp(
    Object.fromEntries(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)])),
  );
  await repository?.close();
  repository = await Repository.open(new LocalBackend(made.directory), made.password);
  return repository.browse(await repository.snapshot(id));
}

async function objectsOf(files: Record<string, Buffer | string>): Promise<unknown[]> {
  const tree = await treeOf(files);
  const layout = await findLayout(tree);
  return readObjects(tree, repository.readFile.bind(repository), layout?.objects ?? []);
}

const MANIFEST = "kind: VirtualMachine";

test("the objects of a machine lie beside its manifest, one a file", async () => {
  const objects = await objectsOf({
    "vm/virtualmachine.yaml": MANIFEST,
    "vm/objects/init.yaml": "kind: Secret\nmetadata: {name: init}\n",
    "vm/objects/settings.json": '{"kind": "ConfigMap"}',
    "vm/objects/notes.txt": "none",
    "objects/elsewhere.yaml": "kind: Secret",
  });
  expect(objects).toEqual([{ kind: "Secret", metadata: { name: "init" } }, { kind: "ConfigMap" }]);
});

test("without a manifest nothing belongs to one", async () => {
  expect(await objectsOf({ "disks/root.img": Buffer.alloc(512), "objects/init.yaml": "kind: Secret" })).toEqual([]);
});

test.each([
  ["no YAML", { "objects/a.yaml": "a: [" }],
  ["YAML that multiplies", { "objects/a.yaml": `a: &a [${"x,".repeat(50)}]\nb: [${"*a,".repeat(50)}]` }],
  ["too many", Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`objects/${index}.yaml`, "a: 1"]))],
  [
    "too much",
    Object.fromEntries(Array.from({ length: 5 }, (_, index) => [`objects/${index}.yaml`, Buffer.alloc(1.9e6, 35)])),
  ],
])("%s is refused", async (_, files) => {
  await expect(objectsOf({ "virtualmachine.yaml": MANIFEST, ...files })).rejects.toMatchObject({
    code: "OBJECTS_INVALID",
    hint: expect.stringContaining("VMRestore"),
  });
});

test("TPM and firmware state lies beside the manifest as on KubeVirt's claim; what else is there is left", async () => {
  const tree = await treeOf({
    "vm/virtualmachine.yaml": MANIFEST,
    "vm/state/nvram/orders_VARS.fd": "efi",
    "vm/state/swtpm/uuid/tpm2/tpm2-00.permall": "tpm",
    "vm/state/swtpm/uuid/tpm2/.lock": "",
    "vm/state/cbt/root.qcow2": "stale",
    "vm/state/notes": "none",
    "state/nvram/other_VARS.fd": "another machine's",
  });
  const manifestPath = (await findLayout(tree))?.manifestPath;
  expect(await listState(tree, manifestPath)).toEqual([
    { path: "nvram/orders_VARS.fd", size: 3 },
    { path: "swtpm/uuid/tpm2/tpm2-00.permall", size: 3 },
  ]);
  const { files } = await readState(tree, repository.readFile.bind(repository), manifestPath);
  expect(files.map(({ data }) => Buffer.from(data, "base64").toString())).toEqual(["efi", "tpm"]);
  expect(await listState(tree, undefined)).toEqual([]);
});

test.each([
  ["too many files", Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`state/nvram/${index}`, "x"]))],
  ["too many bytes", { "state/nvram/large": Buffer.alloc(8 * 1024 * 1024 + 1) }],
])("state of %s is refused", async (_, files) => {
  const tree = await treeOf({ "virtualmachine.yaml": MANIFEST, ...files });
  await expect(listState(tree, "/virtualmachine.yaml")).rejects.toMatchObject({ code: "STATE_TOO_LARGE" });
});
