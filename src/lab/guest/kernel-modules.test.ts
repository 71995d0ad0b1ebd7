import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { moduleDependencies, modulesInLoadOrder } from "./kernel-modules.ts";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "kernel-modules-"));
  await mkdir(join(root, "kernel", "drivers"), { recursive: true });
});

afterEach(() => rm(root, { recursive: true, force: true }));

function write(name: string, depends: string): Promise<void> {
  return writeFile(join(root, "kernel", "drivers", `${name}.ko`), `\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`);
}

test("a module comes after all that it depends on, and once only", async () => {
  await write("virtio", "");
  await write("virtio_ring", "virtio");
  await write("virtio-net", "net-failover,virtio_ring");
  await write("net_failover", "failover");
  await write("failover", "");
  await write("virtio_blk", "virtio_ring,virtio");
  await write("unwanted", "");
  const names = (await modulesInLoadOrder(root, ["virtio_net", "virtio-blk"])).map((path) => basename(path, ".ko"));
  expect(names).toEqual(["failover", "net_failover", "virtio", "virtio_ring", "virtio-net", "virtio_blk"]);
});

test("a module that the kernel does not have is named", async () => {
  await write("virtio_blk", "virtio_ring");
  await expect(modulesInLoadOrder(root, ["virtio_blk"])).rejects.toThrow("no module virtio_ring");
});

test("modules without dependencies", () => {
  expect(moduleDependencies(Buffer.from("\0depends=\0"))).toEqual([]);
  expect(moduleDependencies(Buffer.from("nothing"))).toEqual([]);
});
