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

test("nothing but the relocation's reads moves it", () => {
  const cursor = new RelocationCursor();
  for (let offset = 0; offset < 100 * MIB; offset += MIB) {
    expect(cursor.read(offset, MIB, "guest")).toBe(false);
    expect(cursor.read(offset, MIB, "staging")).toBe(false);
  }
  expect(cursor.position).toBe(0);
});
