import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { TestAgent, type TestDisk } from "../../src/media-agent/testing/agent-process.ts";
import { ImageWorkshop } from "../../src/media-agent/testing/disk-images.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
/** No whole number of blocks of any format. */
const SIZE = 40 * MIB + 3 * 512;

let workshop: ImageWorkshop;
let restic: ResticRepository;
let agent: TestAgent;
let disks: TestDisk[];

/** One snapshot with a disk in each format, every one of them with data, holes and zeros written. */
beforeAll(async () => {
  workshop = await ImageWorkshop.create();
  const image = (...args: readonly string[]): Promise<string> => workshop.run("qemu-img", ...args);
  await workshop.blank("source.img", SIZE);
  await workshop.tree("noise", { a: noise(3 * MIB, 1), b: noise(5 * MIB, 2) });
  await workshop.run("dd", "if=noise/a", "of=source.img", "bs=64k", "seek=3", "conv=notrunc", "status=none");
  await workshop.run("dd", "if=noise/b", "of=source.img", "bs=64k", "seek=300", "conv=notrunc", "status=none");

  await image("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", "compression_type=zstd", "source.img", "base.qcow2");
  await image("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "chain.qcow2");
  const writes = ["write -P 7 100k 300k", "write -z 20M 1M", "write -P 8 38M 512"].flatMap((line) => ["-c", line]);
  await workshop.run("qemu-io", "-f", "qcow2", ...writes, "chain.qcow2");
  await image("convert", "-f", "raw", "-O", "vhdx", "-o", "block_size=1M", "source.img", "plain.vhdx");
  await workshop.run("qemu-io", "-f", "vhdx", ...writes, "plain.vhdx");
  await image("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", "source.img", "streamed.vmdk");
  await image("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "source.img", "split.vmdk");
  await image("convert", "-f", "raw", "-O", "vpc", "-o", "force_size=on", "source.img", "dynamic.vhd");

  const names = ["base.qcow2", "chain.qcow2", "plain.vhdx", "streamed.vmdk", "split.vmdk", "split-s001.vmdk"];
  const files: Record<string, Buffer> = {};
  for (const name of [...names, "dynamic.vhd"]) files[`disks/${name}`] = await readFile(workshop.path(name));
  restic = await ResticRepository.create(2);
  const snapshot = await restic.backUp(files);
  const disk = (name: string, format: TestDisk["format"]): TestDisk => ({
    name: name.replace(/\..*/, ""),
    path: `/disks/${name}`,
    size: SIZE,
    ...(format === undefined ? {} : { format }),
  });
  disks = [
    disk("chain.qcow2", "qcow2"),
    disk("plain.vhdx", "vhdx"),
    disk("streamed.vmdk", "vmdk"),
    disk("split.vmdk", "vmdk"),
    disk("dynamic.vhd", "vhd"),
  ];
  agent = await TestAgent.create({ repository: restic, snapshot, disks });
  await agent.start();
}, 90_000);

afterAll(async () => {
  await agent?.remove();
  await restic?.remove();
  await workshop?.remove();
});

/** QEMU compares what the agent serves with what QEMU itself reads from the image; it fails where they differ. */
async function compare(disk: TestDisk): Promise<string> {
  const { host, port } = { host: agent.address, port: "10809" };
  const tls = `tls-creds-x509,id=tls0,dir=${agent.directory}/client,endpoint=client`;
  const nbd = `driver=nbd,server.type=inet,server.host=${host},server.port=${port},export=${disk.name},tls-creds=tls0`;
  const format = disk.format === "vhd" ? "vpc" : disk.format;
  const own = `driver=${format},file.driver=file,file.filename=${workshop.path(disk.path.replace("/disks/", ""))}`;
  return (await run("qemu-img", ["compare", "--object", tls, "--image-opts", own, nbd])).stdout;
}

test("every disk is served over NBD as QEMU reads it", async () => {
  for (const disk of disks) expect(await compare(disk)).toBe("Images are identical.\n");
}, 180_000);

test("what nothing is allocated for is known to be zero, and is not fetched", async () => {
  const { repository } = await agent.operator.status();
  // How much it is depends on where restic cuts; headers are fetched twice.
  expect(repository.bytesFetched).toBeLessThan((disks.length * SIZE) / 3);
  for (const { name } of disks) {
    const { stdout } = await run("nbdinfo", ["--map", "--json", agent.nbdUri(name)]);
    const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
    const holes = extents.filter(({ type }) => type === 3).reduce((sum, { length }) => sum + length, 0);
    expect(holes).toBeGreaterThan(20 * MIB);
  }
}, 180_000);

test("a write lies over the image, and a restart brings the same disks", async () => {
  const [chain] = disks;
  if (chain === undefined) throw new Error("no disk");
  await agent.stop();
  await agent.start();
  expect(await compare(chain)).toBe("Images are identical.\n");
  await agent.stop();
  await agent.spawn({ disks: [{ ...chain, size: chain.size - 512 }] });
  expect(await agent.exited()).not.toBe(0);
  expect(agent.log).toMatch(/DISK_SIZE_MISMATCH|STATE_MISMATCH/);
}, 180_000);
