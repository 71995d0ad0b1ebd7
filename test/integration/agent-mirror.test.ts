import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { AGENT_PORTS } from "../../src/api/agent-config.ts";
import { StorageDaemon } from "../../src/base/testing/storage-daemon.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { Portmapper } from "../../src/nfs/portmapper.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const MIB = 1024 * 1024;
const disk = Buffer.concat([noise(40 * MIB, 1), Buffer.alloc(160 * MIB), noise(120 * MIB, 2)]);
const disks = [{ name: "root", path: "/disks/root.img", size: disk.length }];
/** No boot reads anything. */
const profile = { boots: 1, disks: [{ name: "root", size: disk.length, extents: "" }] };

let repository: ResticRepository;
let scratch: string;
let agent: TestAgent;
let portmapper: Portmapper;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "mirror-"));
  repository = await ResticRepository.create(2);
  const snapshot = await repository.backUp({ "disks/root.img": disk });
  agent = await TestAgent.create({ repository, snapshot, disks, cacheBytes: 128 * MIB });
  await agent.start({ profile });
  portmapper = await Portmapper.listen(agent.address, AGENT_PORTS.nfs);
}, 120_000);

afterAll(async () => {
  await portmapper?.close();
  await agent?.remove();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

async function metric(name: string): Promise<number> {
  const { text } = await agent.metricsPort("/metrics");
  const line = text.split("\n").find((candidate) => candidate.startsWith(`vmrestore_agent_${name} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

test("the mirror of a live migration is recognised beside the guest's reads, and what it reads is staged before it comes", async () => {
  await agent.operator.setPhase("Booting");
  await agent.operator.setPhase("Ready");
  await agent.operator.setPhase("Relocating");
  const path = (await agent.operator.status()).disks[0]?.exportPath ?? "";
  const target = join(scratch, "target");
  await writeFile(target, "");
  await truncate(target, disk.length);
  const guest = await NfsFile.open(agent.address, path);
  const blockdevs = [
    `driver=nfs,node-name=export,server.type=inet,server.host=${agent.address},path=${path}/disk.img`,
    "driver=raw,node-name=source,file=export",
    `driver=file,node-name=file,filename=${target}`,
    "driver=raw,node-name=target,file=file",
  ];
  const daemon = new StorageDaemon(blockdevs.flatMap((blockdev) => ["--blockdev", blockdev]));
  try {
    await daemon.execute("qmp_capabilities");
    await daemon.execute("blockdev-mirror", { "job-id": "move", device: "source", target: "target", sync: "full" });
    let isReady = false;
    const ready = daemon.event("BLOCK_JOB_READY").finally(() => {
      isReady = true;
    });
    let reads = 0;
    while (!isReady) {
      const offset = ((reads++ * 7919) % (disk.length / 4096)) * 4096;
      expect((await guest.read(offset, 4096)).equals(disk.subarray(offset, offset + 4096))).toBe(true);
    }
    await ready;
    await daemon.execute("block-job-complete", { device: "move" });
    await daemon.event("BLOCK_JOB_COMPLETED");
    expect((await readFile(target)).equals(disk)).toBe(true);
    const copied = await metric('disk_read_bytes_total{disk="root",class="relocation"}');
    const guests = await metric('disk_read_bytes_total{disk="root",class="guest"}');
    expect(copied).toBeGreaterThan(disk.length - 140 * MIB);
    expect(copied + guests).toBe(disk.length + reads * 4096);
    // The cursor has followed it to the end, and the lead was staged in front of it.
    expect(await metric('copied_until_bytes{disk="root"}')).toBe(disk.length);
    expect((await agent.operator.status()).disks[0]?.copiedUntil).toBe(disk.length);
    expect(await metric('repository_fetches_total{reason="lead",result="success"}')).toBeGreaterThan(5);
  } finally {
    guest.close();
    await daemon.end();
  }
}, 120_000);
