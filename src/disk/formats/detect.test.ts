import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { detectFormat } from "./detect.ts";
import { resolvePath } from "./open-context.ts";
import { guestRequest, ImageFolder, MemoryFile } from "./testing/image-folder.ts";

let folder: ImageFolder;
const made = new Map<string, Buffer>();
beforeAll(async () => {
  folder = await ImageFolder.create();
  for (const [name, command] of [
    ["qcow2", "create -q -f qcow2 image 2M"],
    ["vmdk", "create -q -f vmdk image 2M"],
    ["flat vmdk", "create -q -f vmdk -o subformat=monolithicFlat image 2M"],
    ["vhdx", "create -q -f vhdx image 2M"],
    ["vhd", "create -q -f vpc image 2M"],
    ["fixed vhd", "create -q -f vpc -o subformat=fixed image 2M"],
    ["vdi", "create -q -f vdi image 2M"],
    ["qed", "create -q -f qed image 2M"],
    ["raw", "create -q -f raw image 2M"],
  ] as const) {
    await folder.qemuImg(command);
    made.set(name, await folder.read("image"));
  }
  made.set("empty", Buffer.alloc(0));
  made.set("short", Buffer.from("QF"));
});
afterAll(() => folder.remove());

const detect = (kind: string, path: string): Promise<string> =>
  detectFormat(new MemoryFile(path, made.get(kind) ?? Buffer.alloc(0)), guestRequest());

test.each([
  ["qcow2", "/disks/root.qcow2", "qcow2"],
  ["vmdk", "/disks/root.VMDK", "vmdk"],
  ["flat vmdk", "/root.vmdk", "vmdk"],
  ["vhdx", "/root.avhdx", "vhdx"],
  ["vhd", "/root.vhd", "vhd"],
  ["fixed vhd", "/root.vpc", "vhd"],
  ["raw", "/root.img", "raw"],
  ["raw", "/root.v1.raw", "raw"],
  ["raw", "/root", "raw"],
  ["empty", "/root.img", "raw"],
  ["short", "/root.img", "raw"],
])("%s as %s is %s", async (kind, path, format) => {
  expect(await detect(kind, path)).toBe(format);
});

test.each([
  ["qcow2", "/disks/root.img", "IMAGE_AMBIGUOUS"],
  ["qcow2", "/disks/root.raw", "IMAGE_AMBIGUOUS"],
  ["qcow2", "/root.qcow2/disk", "IMAGE_AMBIGUOUS"],
  ["qcow2", "/root.vmdk", "IMAGE_AMBIGUOUS"],
  ["raw", "/root.qcow2", "IMAGE_AMBIGUOUS"],
  ["fixed vhd", "/root.img", "IMAGE_AMBIGUOUS"],
  ["empty", "/root.vhdx", "IMAGE_AMBIGUOUS"],
  ["vdi", "/root.vdi", "IMAGE_UNSUPPORTED"],
  ["qed", "/root.img", "IMAGE_UNSUPPORTED"],
])("%s as %s is not decided", async (kind, path, code) => {
  await expect(detect(kind, path)).rejects.toMatchObject({ code });
});

test("an image that was recognised consists of one file; named by somebody, of all that it needs", async () => {
  await folder.qemuImg("create -q -f raw base.img 1M");
  await folder.qemuImg("create -q -f qcow2 -b base.img -F raw over.qcow2");
  await expect(folder.open("over.qcow2", "auto")).rejects.toMatchObject({ code: "IMAGE_AMBIGUOUS" });
  expect((await folder.open("over.qcow2", "qcow2")).image.files).toHaveLength(2);
  await folder.qemuImg("create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 1M");
  await expect(folder.open("flat.vmdk", "auto")).rejects.toMatchObject({ code: "IMAGE_AMBIGUOUS" });
  expect((await folder.open("flat.vmdk", "vmdk")).image.files).toHaveLength(2);
});

test("a backing file whose format nobody tells is recognised as safely", async () => {
  await folder.qemuImg("create -q -f qcow2 planted.img 1M");
  await folder.qemuImg("create -q -f qcow2 -b planted.img -F raw over.qcow2");
  expect((await folder.open("over.qcow2", "qcow2")).size).toBeLessThan(1024 * 1024);
  const bytes = await folder.read("over.qcow2");
  const extension = bytes.indexOf(Buffer.from("e2792aca", "hex"));
  bytes.writeUInt32BE(0x12345678, extension);
  await folder.write("over.qcow2", bytes);
  await expect(folder.open("over.qcow2", "qcow2")).rejects.toMatchObject({ code: "IMAGE_AMBIGUOUS" });
});

test.each([
  ["/disks/a.qcow2", "b.img", "/disks/b.img"],
  ["/disks/a.qcow2", "./sub/../b.img", "/disks/b.img"],
  ["/disks/a.qcow2", "../base/b.img", "/base/b.img"],
  ["/disks/a.qcow2", "/var/b.img", "/var/b.img"],
  ["/disks/a.qcow2", "../../b.img", undefined],
  ["/a.qcow2", "../b.img", undefined],
])("%s names %s: %s", (from, name, path) => {
  expect(resolvePath(from, name)).toBe(path);
});
