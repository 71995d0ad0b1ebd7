import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { memorySource } from "../../disk/testing/memory-source.ts";
import { noise } from "../../repository/testing/restic.ts";
import { lettered } from "../testing/blob-file.ts";
import { guessBootSets, learnedBootSets } from "./choose.ts";

const BLOB = 16_384;
const image = memorySource(noise(10 * BLOB, 1));

function disk(name: string, letters: string) {
  return { name, image, file: lettered(letters, BLOB), learn: async () => undefined };
}

/** The letters of what was chosen for a disk. */
async function chosen(
  disks: readonly ReturnType<typeof disk>[],
  extents: Readonly<Record<string, string>>,
  bytes = 1e9,
): Promise<{ source: string; sets: Record<string, string> }> {
  const all = lettered("abcdefghijklmnopqrstuvwxyzABCDEFGHIJ", BLOB);
  const letters = new Map(
    [..."abcdefghijklmnopqrstuvwxyzABCDEFGHIJ"].map((letter, index) => [all.blob(index).id, letter]),
  );
  const mark = (letter: string): string => {
    for (const [id, known] of letters)
      if (known === letter) return Buffer.from(id.slice(0, 6), "hex").toString("base64url");
    return "";
  };
  const content = [..."abcdefghij"].map((letter, index) => `${index === 0 ? 0 : 4}:${mark(letter)}`).join(",");
  const profile = {
    boots: 2,
    disks: Object.entries(extents).map(([name, text]) => ({ name, size: 10 * BLOB, extents: text, content })),
  };
  const { source, sets: learned, unknown } = await learnedBootSets(disks, profile, bytes);
  const sets = new Map([...learned, ...(await guessBootSets(unknown, bytes / disks.length, new ManualClock()))]);
  const named = [...sets].map(([name, blobs]) => [name, blobs.map(({ id }) => letters.get(id) ?? "?").join("")]);
  return { source, sets: Object.fromEntries(named) };
}

test("what a profile names, in its order, and only what is unchanged", async () => {
  expect(await chosen([disk("root", "abcdefghij")], { root: "w+1,0+2,8+9" })).toEqual({
    source: "Profile",
    sets: { root: "iacde" },
  });
  expect(await chosen([disk("root", "abCdefghij")], { root: "w+1,0+2,8+2,c+2" })).toEqual({
    source: "Profile",
    sets: { root: "iad" },
  });
});

test("a disk that no boot reads has nothing, one that no profile knows has its structure", async () => {
  const { source, sets } = await chosen([disk("data", "abcdefghij"), disk("new", "klmnopqrst")], { data: "" });
  expect(source).toBe("Profile");
  expect(sets).toEqual({ data: "", new: "klmnopqrst" });
});

test("where most of a profile is out of date, the structure is looked at too", async () => {
  const { source, sets } = await chosen([disk("root", "klmnefGHIJ")], {
    root: "g+2,0+a",
  });
  expect(source).toBe("Profile");
  expect(sets.root?.[0]).toBe("e");
  expect(sets.root).toHaveLength(10);
  expect(await chosen([disk("root", "klmnopqrst")], { root: "0+2,8+2" })).toMatchObject({
    source: "Structure",
    sets: { root: "klmnopqrst" },
  });
});

test("is bounded for all disks together", async () => {
  const { sets } = await chosen(
    [disk("root", "abcdefghij"), disk("data", "abcdefghij")],
    { root: "0+14", data: "0+14" },
    6 * BLOB,
  );
  expect(sets).toEqual({ root: "abc", data: "abc" });
});
