import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const BLOCK = 4096;
const content = noise(2 * 1024 * 1024, 5);
const disk = { name: "root", path: "/disks/root.img", size: content.length };

let repository: ResticRepository;
let agent: TestAgent;
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-move-"));
  repository = await ResticRepository.create(2);
  const snapshot = await repository.backUp({ "disks/root.img": content });
  agent = await TestAgent.create({ repository, snapshot, disks: [disk] });
}, 180_000);

afterAll(async () => {
  await agent?.remove();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

const block = (number: number): Buffer => Buffer.alloc(BLOCK, `write ${number} `);

/** Writes blocks, many at once, until the connection ends. Gives back which were acknowledged. */
async function writeUntilItEnds(file: NfsFile): Promise<number[]> {
  const acknowledged: number[] = [];
  let next = 0;
  const writer = async () => {
    while (next < content.length / BLOCK) {
      const number = next++;
      const isDone = await file.write(number * BLOCK, block(number)).then(
        () => true,
        () => false,
      );
      if (!isDone) return;
      acknowledged.push(number);
      if (acknowledged.length === 60) void agent.stop("SIGTERM");
    }
  };
  await Promise.all(Array.from({ length: 8 }, writer));
  return acknowledged;
}

test("an agent that is moved in order keeps what it acknowledged, and the next one tells how long nobody got an answer", async () => {
  await agent.start({ node: "a" });
  const path = (await agent.operator.status()).disks[0]?.exportPath ?? "";
  const file = await NfsFile.open(agent.address, path);
  const acknowledged = await writeUntilItEnds(file);
  expect(acknowledged.length).toBeGreaterThanOrEqual(60);
  expect(await agent.exited()).toBe(0);

  await agent.start({ node: "b" });
  const before = (await agent.operator.status()).move;
  expect(before).toMatchObject({ from: "a", to: "b" });
  expect(before?.stopped).toBeLessThanOrEqual(before?.started ?? 0);
  // What asks the other servers is no client that waited.
  expect(before?.answered).toBeUndefined();
  const again = await NfsFile.open(agent.address, path, file.handle);
  for (const number of acknowledged) expect((await again.read(number * BLOCK, BLOCK)).equals(block(number))).toBe(true);
  const { answered, ...move } = (await agent.operator.status()).move ?? {};
  expect(move).toEqual(before);
  expect(answered).toBeGreaterThanOrEqual(before?.started ?? 0);
  again.close();

  // Killed, it leaves no time; what came before it is forgotten, as is the first move.
  await agent.stop("SIGKILL");
  await agent.start({ node: "a" });
  const copy = join(scratch, "copy");
  await run("nbdcopy", [agent.nbdUri("root"), copy]);
  const merged = await readFile(copy);
  for (const number of acknowledged)
    expect(merged.subarray(number * BLOCK, (number + 1) * BLOCK).equals(block(number))).toBe(true);
  const killed = (await agent.operator.status()).move;
  expect(killed).toMatchObject({ from: "b", to: "a" });
  expect(killed).not.toHaveProperty("stopped");
}, 180_000);

test("an agent that moves while nobody has its disks open paused nobody, however late the first one comes", async () => {
  await agent.stop("SIGTERM");
  await agent.start({ node: "b" });
  const path = (await agent.operator.status()).disks[0]?.exportPath ?? "";
  const file = await NfsFile.open(agent.address, path);
  await file.read(0, BLOCK);
  file.close();
  while ((await agent.operator.status()).connections.nfs > 0) await delay(20);
  await agent.stop("SIGTERM");
  await agent.start({ node: "c" });
  const late = await NfsFile.open(agent.address, path, file.handle);
  await late.read(0, BLOCK);
  late.close();
  const { move } = await agent.operator.status();
  expect(move).toMatchObject({ from: "b", to: "c", answered: expect.any(Number) });
  expect(move).not.toHaveProperty("stopped");
}, 180_000);
