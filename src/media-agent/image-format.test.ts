import { readFile } from "node:fs/promises";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { foreignFormat } from "./image-format.ts";
import { ImageWorkshop } from "./testing/disk-images.ts";

let workshop: ImageWorkshop;

beforeAll(async () => {
  workshop = await ImageWorkshop.create();
});
afterAll(() => workshop.remove());

test.each([
  ["raw", undefined],
  ["qcow2", "qcow2"],
  ["vmdk", "VMDK"],
  ["vhdx", "VHDX"],
  ["vpc", "VHD"],
  ["vpc,subformat=fixed", "VHD"],
  ["vdi", "VDI"],
  ["qed", "QED"],
])("an image that qemu-img made as %s", async (format, expected) => {
  const [name = "", option] = format.split(",");
  const options = option === undefined ? [] : ["-o", option];
  await workshop.run("qemu-img", "create", "-q", "-f", name, ...options, "image", "2M");
  const content = await readFile(workshop.path("image"));
  expect(foreignFormat(content.subarray(0, 512), content.subarray(-512))).toBe(expected);
});

test("short files are raw", () => {
  expect(foreignFormat(Buffer.alloc(0), Buffer.alloc(0))).toBeUndefined();
  expect(foreignFormat(Buffer.from("QF"), Buffer.from("QF"))).toBeUndefined();
});
