import { expect, test } from "@jest/globals";
import { MemoryFile } from "./testing/image-folder.ts";
import { parseVmdkDescriptor } from "./vmdk-descriptor.ts";

const file = new MemoryFile("/disk.vmdk", Buffer.alloc(0));
const HEAD = '# Disk DescriptorFile\nversion=1\nCID=Ab12\nparentCID=ffffffff\ncreateType="custom"\n';

test("extents, ids and settings as VMware's tools write them", () => {
  const text = [
    HEAD,
    "\n# Extent description\r",
    'RW 4192256 SPARSE "disk-s001.vmdk"',
    'RDONLY 10 FLAT "disk-f002.vmdk" 63\r',
    'RW 20 VMFS "disk-flat.vmdk"',
    "RW 5 ZERO",
    'ddb.adapterType = "lsilogic"',
    "\0anything",
  ].join("\n");
  expect(parseVmdkDescriptor(file, text)).toEqual({
    createType: "custom",
    contentId: "ab12",
    parent: undefined,
    extents: [
      { kind: "sparse", length: 4192256 * 512, fileName: "disk-s001.vmdk", start: 0 },
      { kind: "flat", length: 5120, fileName: "disk-f002.vmdk", start: 63 * 512 },
      { kind: "flat", length: 10_240, fileName: "disk-flat.vmdk", start: 0 },
      { kind: "zero", length: 2560, fileName: "", start: 0 },
    ],
  });
  expect(
    parseVmdkDescriptor(file, `${HEAD.replace("ffffffff", "1234AB")}parentFileNameHint="base.vmdk"`).parent,
  ).toEqual({
    contentId: "1234ab",
    fileName: "base.vmdk",
  });
});

test.each([
  ["another directory", 'RW 1 FLAT "../etc/shadow" 0', "IMAGE_UNSUPPORTED"],
  ["an absolute path", 'RW 1 FLAT "/etc/shadow" 0', "IMAGE_UNSUPPORTED"],
  ["a Windows path", 'RW 1 SPARSE "C:\\disk.vmdk"', "IMAGE_UNSUPPORTED"],
  ["a name with NUL", 'RW 1 SPARSE "disk\x01\x00.vmdk"', "IMAGE_UNSUPPORTED"],
  ["no name", "RW 1 SPARSE", "IMAGE_UNSUPPORTED"],
  ["the directory itself", 'RW 1 FLAT ".." 0', "IMAGE_UNSUPPORTED"],
  ["a device", 'RW 1 VMFSRDM "disk-rdm.vmdk"', "IMAGE_UNSUPPORTED"],
  ["a kind of its own", 'RW 1 SESPARSE "disk-s.vmdk"', "IMAGE_UNSUPPORTED"],
  ["no access", 'NOACCESS 1 FLAT "disk-f.vmdk" 0', "IMAGE_UNSUPPORTED"],
  ["no length", 'RW FLAT "disk-f.vmdk" 0', "IMAGE_CORRUPT"],
  ["a length beyond all bounds", 'RW 999999999999999 FLAT "disk-f.vmdk" 0', "IMAGE_CORRUPT"],
])("%s is refused", (_, line, code) => {
  const parse = (): unknown => parseVmdkDescriptor(file, `${HEAD}${line}\n`);
  expect(parse).toThrow(expect.objectContaining({ code }));
});

test("what is too long, or no descriptor at all, is refused", () => {
  expect(() => parseVmdkDescriptor(file, "version=1")).toThrow("no VMDK descriptor");
  expect(() => parseVmdkDescriptor(file, `${HEAD}${"\n".repeat(10_001)}`)).toThrow("too many lines");
  expect(() => parseVmdkDescriptor(file, HEAD + "RW 1 ZERO\n".repeat(5000))).toThrow("too many extents");
});
