import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const IMAGES = { root: noise(5 * MIB, 1), data: noise(3 * MIB, 2) };

let repositories: ResticRepository[];
let scratch: string;
let agent: TestAgent;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-repositories-"));
  repositories = await Promise.all([ResticRepository.create(2), ResticRepository.create(1)]);
  const [first, second] = repositories;
  if (first === undefined || second === undefined) throw new Error("there are two");
  // As VolSync keeps them: one for each claim, whose one file lies at the snapshot's root.
  const snapshot = await first.backUp({ "disk.img": IMAGES.root });
  const others = [{ repository: second, snapshot: await second.backUp({ "disk.img": IMAGES.data }) }];
  const disks = [
    { name: "root", path: "/disk.img", size: IMAGES.root.length },
    { name: "data", path: "/disk.img", size: IMAGES.data.length, snapshot: 1 },
  ];
  agent = await TestAgent.create({ repository: first, snapshot, disks, others, pin: true });
  await agent.start();
}, 180_000);

afterAll(async () => {
  await agent?.remove();
  await Promise.all((repositories ?? []).map((repository) => repository.remove()));
  await rm(scratch, { recursive: true, force: true });
});

async function merged(disk: string): Promise<Buffer> {
  const copy = join(scratch, disk);
  await rm(copy, { force: true });
  await run("nbdcopy", [agent.nbdUri(disk), copy]);
  return readFile(copy);
}

test("one agent serves disks of two repositories, before and after it was killed", async () => {
  for (let start = 0; start < 2; start++) {
    for (const [disk, content] of Object.entries(IMAGES)) expect((await merged(disk)).equals(content)).toBe(true);
    await agent.stop("SIGKILL");
    await agent.start();
  }
}, 180_000);

test("each repository holds a pin, and none after they were taken away", async () => {
  const pinsOf = async () =>
    Promise.all(
      repositories.map(async (repository) => {
        const listed = JSON.parse(
          await repository.restic(["snapshots", "--json", "--tag", "vmrestore-pin"]),
        ) as unknown[];
        return listed.length;
      }),
    );
  while (!(await agent.operator.status()).repository.pinned) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await pinsOf()).toEqual([1, 1]);
  await agent.operator.unpin();
  expect(await pinsOf()).toEqual([0, 0]);
}, 180_000);
