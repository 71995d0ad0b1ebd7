import { expect, test } from "@jest/globals";
import { type CpioMember, cpioArchive } from "./cpio.ts";

const MEMBERS: CpioMember[] = [
  { path: "bin", type: "directory" },
  { path: "bin/tool", type: "file", data: Buffer.from("abc"), executable: true },
  { path: "note", type: "file", data: Buffer.alloc(4, "x"), executable: false },
  { path: "bin/alias", type: "link", target: "tool" },
];

/** Reads a newc archive as the format's description says, apart from the writer's code. */
function list(archive: Buffer): { name: string; mode: number; content: string }[] {
  const found = [];
  let at = 0;
  for (;;) {
    expect(archive.toString("latin1", at, at + 6)).toBe("070701");
    const field = (index: number): number =>
      Number.parseInt(archive.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const nameLength = field(11);
    const name = archive.toString("utf8", at + 110, at + 110 + nameLength - 1);
    const start = (at + 110 + nameLength + 3) & ~3;
    if (name === "TRAILER!!!") return found;
    found.push({ name, mode: field(1), content: archive.toString("utf8", start, start + field(6)) });
    at = (start + field(6) + 3) & ~3;
  }
}

test("members come back with their modes and contents, padded to four bytes", () => {
  const archive = cpioArchive(MEMBERS);
  expect(archive.length % 4).toBe(0);
  expect(list(archive)).toEqual([
    { name: "bin", mode: 0o040755, content: "" },
    { name: "bin/tool", mode: 0o100755, content: "abc" },
    { name: "note", mode: 0o100644, content: "xxxx" },
    { name: "bin/alias", mode: 0o120777, content: "tool" },
  ]);
  expect(cpioArchive(MEMBERS)).toEqual(archive);
});

test("absolute paths are refused", () => {
  expect(() => cpioArchive([{ path: "/etc", type: "directory" }])).toThrow("not a relative path");
});
