import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "@jest/globals";
import { foreignFormat } from "./image-format.ts";

const directory = mkdtempSync(join(tmpdir(), "image-format-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

test.each([
  ["raw", undefined],
  ["qcow2", "qcow2"],
  ["vmdk", "VMDK"],
  ["vhdx", "VHDX"],
  ["vpc", "VHD"],
  ["vpc,subformat=fixed", "VHD"],
  ["vdi", "VDI"],
])("an image that qemu-img made as %s", (format, expected) => {
  const path = join(directory, "image");
  const [name = "", option] = format.split(",");
  execFileSync("qemu-img", ["create", "-q", "-f", name, ...(option === undefined ? [] : ["-o", option]), path, "2M"]);
  const content = readFileSync(path);
  expect(foreignFormat(content.subarray(0, 512), content.subarray(-512))).toBe(expected);
});

test("short files are raw", () => {
  expect(foreignFormat(Buffer.alloc(0), Buffer.alloc(0))).toBeUndefined();
  expect(foreignFormat(Buffer.from("QF"), Buffer.from("QF"))).toBeUndefined();
});
