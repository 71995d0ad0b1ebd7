import { describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { LocalBackend } from "./backends/local.ts";
import { Repository } from "./repository.ts";
import { inPieces } from "./testing/in-pieces.ts";
import { ResticRepository } from "./testing/restic.ts";
import { parseTree, splitPath, type Tree } from "./tree.ts";

const hexId = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString("hex"));
const node = fc.record(
  {
    name: fc.string().map((name) => name.replaceAll("\\", "/")),
    type: fc.constantFrom("file", "dir", "symlink"),
    mode: fc.nat(),
    mtime: fc.constant("2026-01-02T03:04:05.123456789+01:00"),
    inode: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map(String),
    size: fc.nat(),
    content: fc.option(fc.array(hexId, { maxLength: 70 })),
    subtree: fc.option(hexId),
    extended_attributes: fc.jsonValue(),
  },
  { requiredKeys: ["name", "type"] },
);

/** @param pieceLength bytes that arrive at once */
function parse(value: unknown, pieceLength = 1000): Promise<Tree> {
  const text = Buffer.from(typeof value === "string" ? value : JSON.stringify(value));
  return parseTree("id", inPieces(text, pieceLength), text.length);
}

test("reads names, types, sizes, subtrees and contents", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(node, { maxLength: 8 }), fc.integer({ min: 1, max: 600 }), async (nodes, pieceLength) => {
      const tree = await parse({ nodes }, pieceLength);
      const read = tree.nodes.map(({ contentStart, contentCount, ...rest }) => {
        const ids = Buffer.from(tree.contents.subarray(contentStart * 32, (contentStart + contentCount) * 32));
        return { ...rest, content: ids.toString("hex") };
      });
      expect(read).toEqual(
        nodes.map(({ name, type, size = 0, content, subtree }) => ({
          name,
          type,
          size,
          subtree: subtree ?? undefined,
          content: (content ?? []).join(""),
        })),
      );
    }),
  );
});

test("a directory that is empty", async () => {
  expect((await parse({ nodes: null })).nodes).toEqual([]);
  expect((await parse({ nodes: [] })).nodes).toEqual([]);
});

describe("what is no tree is refused", () => {
  const good = { name: "a", type: "file", size: 1, content: ["ab".repeat(32)] };
  test.each([
    ["no name", { name: undefined }],
    ["a number for a name", { name: 5 }],
    ["an endless name", { name: "n".repeat(5000) }],
    ["no type", { type: undefined }],
    ["a negative size", { size: -1 }],
    ["a size as text", { size: "1" }],
    ["a content id that is none", { content: ["ab"] }],
    ["content that is no list", { content: "ab".repeat(32) }],
    ["a subtree that is no id", { subtree: "../../config" }],
  ])("%s", async (_what, change) => {
    await expect(parse({ nodes: [good, { ...good, ...change }] })).rejects.toMatchObject({
      code: "REPOSITORY_OBJECT_DAMAGED",
      message: expect.stringContaining("tree id"),
    });
  });

  test("whatever else it may be", async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
        try {
          await parse(text, 7);
        } catch (error) {
          expect(error).toMatchObject({ code: "REPOSITORY_OBJECT_DAMAGED" });
        }
      }),
    );
  });
});

test("a disk of a million blobs costs what its ids cost", async () => {
  const count = 1_000_000;
  const id = `"${"0123456789abcdef".repeat(4)}"`;
  const plain = Buffer.concat([
    Buffer.from('{"nodes":[{"name":"disk","type":"file","size":5,"content":['),
    Buffer.alloc((id.length + 1) * count - 1, `${id},`),
    Buffer.from("]}]}"),
  ]);
  const heapBefore = process.memoryUsage().heapUsed;
  const tree = await parseTree("id", inPieces(plain, 128 * 1024), plain.length);
  expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(20 * 1024 * 1024);
  expect(tree.nodes[0]?.contentCount).toBe(count);
  expect(tree.contents.length).toBe(count * 32);
});

test("paths", () => {
  expect(splitPath("/a//b/./c/")).toEqual(["a", "b", "c"]);
  expect(splitPath("")).toEqual([]);
  expect(() => splitPath("/a/../b")).toThrow(expect.objectContaining({ code: "PATH_NOT_FOUND" }));
});

test("names that restic escaped come back as they are on disk", async () => {
  const names = [
    'a "quoted" one',
    "back\\slash",
    "tab\there",
    "ümläut ☃",
    "line\nbreak",
    "bell\x07",
    "\u200bunseen",
    "\\x41",
  ];
  const restic = await ResticRepository.create(2);
  try {
    const id = await restic.backUp(Object.fromEntries(names.map((name) => [name, Buffer.from(name)])));
    const repository = await Repository.open(new LocalBackend(restic.directory), restic.password, { threads: 1 });
    const tree = await repository.browse(await repository.snapshot(id));
    expect((await tree.list("/")).map((entry) => entry.name).sort()).toEqual([...names].sort());
    for (const name of names) {
      expect((await repository.readFile(await tree.file(name), 100)).toString()).toBe(name);
    }
    await repository.close();
  } finally {
    await restic.remove();
  }
}, 120_000);
