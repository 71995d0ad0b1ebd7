import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;

let repository: ResticRepository;
let snapshot: string;
let scratch: string;
const root = Buffer.concat([noise(9 * MIB, 1), Buffer.alloc(30 * MIB), noise(5 * MIB, 2)]);
const data = Buffer.concat([noise(3 * MIB, 3), noise(MIB, 1), Buffer.alloc(MIB)]);
const disks = [
  { name: "root", path: "/disks/root.img", size: root.length },
  { name: "data", path: "/disks/data.img", size: data.length },
];
let agent: TestAgent;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-test-"));
  repository = await ResticRepository.create(2);
  const manifest = "kind: VirtualMachine\nmetadata: {name: db}\nspec: {template: {spec: {volumes: []}}}\n";
  snapshot = await repository.backUp({
    "disks/root.img": root,
    "disks/data.img": data,
    "virtualmachine.yaml": Buffer.from(manifest),
  });
  agent = await TestAgent.create({ repository, snapshot, disks, pin: true });
}, 60_000);

afterAll(async () => {
  await agent?.remove();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

test("the merged image is the original, over NBD and over NFS", async () => {
  await agent.start();
  const original = join(scratch, "original");
  const copy = join(scratch, "copy");
  for (const [disk, content] of [
    ["root", root],
    ["data", data],
  ] as const) {
    await writeFile(original, content);
    await run("nbdcopy", [agent.nbdUri(disk), copy]);
    expect((await readFile(copy)).equals(content)).toBe(true);
    await rm(copy);
    await run("nfs-cp", [await agent.nfsUrl(disk), copy]);
    expect((await readFile(copy)).equals(content)).toBe(true);
  }
}, 60_000);
