import { expect, test } from "@jest/globals";
import { RelocationCursor } from "./relocation-cursor.ts";

const MIB = 1024 * 1024;

test("follows the relocation's reads, also where they overtake one another", () => {
  const cursor = new RelocationCursor(10 * MIB);
  expect(cursor.read(10 * MIB, MIB, "relocation")).toBe(true);
  expect(cursor.read(13 * MIB, MIB, "relocation")).toBe(true);
  expect(cursor.read(12 * MIB, MIB, "relocation")).toBe(false);
  expect(cursor.position).toBe(14 * MIB);
  cursor.read(500 * MIB, MIB, "relocation");
  expect(cursor.position).toBe(501 * MIB);
  cursor.read(0, MIB, "relocation");
  expect(cursor.position).toBe(MIB);
});

test("a guest's work does not move it, a live migration's sequence does", () => {
  const cursor = new RelocationCursor();
  for (let index = 0; index < 2000; index++) cursor.read(((index * 7919) % 900) * MIB, 65_536, "guest");
  for (let index = 0; index < 2000; index++) cursor.read(5 * MIB, 65_536, "guest");
  cursor.read(3 * MIB, MIB, "staging");
  expect(cursor.position).toBe(0);
  for (let offset = 0; offset < 100 * MIB; offset += MIB) {
    cursor.read(offset, MIB, "guest");
    cursor.read(((offset / MIB) * 7919 * MIB) % (1000 * MIB), 4096, "guest");
  }
  expect(cursor.position).toBe(100 * MIB);
});
