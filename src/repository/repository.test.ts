import { afterAll, beforeAll, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { LocalBackend } from "./backends/local.ts";
import { Repository } from "./repository.ts";
import { selectSnapshot } from "./snapshot.ts";
import { readRange } from "./testing/read-range.ts";
import { noise, ResticRepository } from "./testing/restic.ts";

const MIB = 1024 * 1024;

/** A small disk: data, a long hole of zeros, text that compresses, data that repeats. */
function disk(seed: number): Buffer {
  const text = Buffer.alloc(MIB, "a line of a log that repeats itself\n");
  return Buffer.concat([
    noise(3 * MIB + 17, seed),
    Buffer.alloc(20 * MIB),
    text,
    noise(MIB, 7),
    noise(MIB, 7),
    Buffer.alloc(100_000),
  ]);
}

describe.each([
  [1, "off"],
  [2, "off"],
  [2, "auto"],
  [2, "max"],
] as const)("repository format %i, compression %s", (version, compression) => {
  let restic: ResticRepository;
  let repository: Repository;
  const first = disk(1);
  const second = Buffer.from(first);
  noise(200_000, 99).copy(second, 5 * MIB);

  beforeAll(async () => {
    restic = await ResticRepository.create(version);
    const flags = version === 2 ? ["--compression", compression] : [];
    await restic.backUp({ "disks/root.img": first, "note.txt": Buffer.from("one") }, ["--host", "a", ...flags]);
    await restic.backUp({ "disks/gone.img": noise(2 * MIB, 3) }, ["--host", "a", ...flags]);
    await restic.backUp({ "disks/root.img": second, "note.txt": Buffer.from("two") }, [
      "--host",
      "b",
      "--tag",
      "x",
      ...flags,
    ]);
    // Leaves superseded or rewritten indexes and packs behind it.
    const listed = JSON.parse(await restic.restic(["snapshots", "--json"])) as { id: string; time: string }[];
    const middle = listed.sort((a, b) => a.time.localeCompare(b.time))[1]?.id ?? "";
    await restic.restic(["forget", "--prune", middle]);
    repository = await Repository.open(new LocalBackend(restic.directory), restic.password, { threads: 1 });
  }, 180_000);

  afterAll(async () => {
    await repository?.close();
    await restic?.remove();
  });

  test("knows its format and its snapshots as restic lists them", async () => {
    expect(repository.version).toBe(version);
    const snapshots = await repository.snapshots();
    const listed = JSON.parse(await restic.restic(["snapshots", "--json"])) as {
      id: string;
      hostname: string;
      tree: string;
    }[];
    const summary = (id: string, host: string, tree: string): string => `${id} ${host} ${tree}`;
    expect(snapshots.map(({ id, host, tree }) => summary(id, host, tree)).sort()).toEqual(
      listed.map(({ id, hostname, tree }) => summary(id, hostname, tree)).sort(),
    );
  });

  test("tells where blobs of files lie that it opened, and how long they are; of other files, and of trees, nothing", async () => {
    const fresh = await Repository.open(new LocalBackend(restic.directory), restic.password, { threads: 1 });
    try {
      const snapshots = await fresh.snapshots();
      const snapshot = selectSnapshot(snapshots, { latest: { host: "a" } });
      const tree = await fresh.browse(snapshot);
      const [opened] = await fresh.openFiles([await tree.file("/disks/root.img")]);
      const elsewhere = await repository.browse(selectSnapshot(snapshots, { latest: { host: "b" } }));
      const [other] = await repository.openFiles([await elsewhere.file("/note.txt")]);
      for (const { id, length } of opened?.blobsIn(0, opened.size) ?? [])
        expect(fresh.place(id)).toEqual({ pack: expect.stringMatching(/^[0-9a-f]{64}$/), length });
      expect(fresh.place(snapshot.tree)).toBeUndefined();
      expect(fresh.place(other?.blob(0).id ?? "")).toBeUndefined();
      expect(repository.place(other?.blob(0).id ?? "")?.length).toBe(3);
    } finally {
      await fresh.close();
    }
  });

  test("reads any range of any snapshot as it was, and knows the holes", async () => {
    for (const [host, content] of [
      ["a", first],
      ["b", second],
    ] as const) {
      const snapshot = selectSnapshot(await repository.snapshots(), { latest: { host } });
      const tree = await repository.browse(snapshot);
      const [file] = await repository.openFiles([await tree.file("/disks/root.img")]);
      if (file === undefined) throw new Error("no file");
      expect(file.size).toBe(content.length);
      expect((await restic.dump(snapshot.id, "/disks/root.img")).equals(content)).toBe(true);
      expect((await readRange(repository, file, 0, file.size)).equals(content)).toBe(true);
      const zeroBytes = [...file.blobsIn(0, file.size)].reduce((sum, blob) => sum + (blob.zero ? blob.length : 0), 0);
      expect(zeroBytes).toBeGreaterThanOrEqual(8 * MIB);
      await fc.assert(
        fc.asyncProperty(fc.nat(file.size - 1), fc.nat(300_000), async (offset, wanted) => {
          const length = Math.min(wanted, file.size - offset);
          const read = await readRange(repository, file, offset, length);
          expect(read.equals(content.subarray(offset, offset + length))).toBe(true);
        }),
        { numRuns: 15 },
      );
    }
  });

  test("reads small files and says what a directory holds", async () => {
    const snapshot = selectSnapshot(await repository.snapshots(), { latest: { tags: ["x"] } });
    const tree = await repository.browse(snapshot);
    expect((await repository.readFile(await tree.file("note.txt"), 1000)).toString()).toBe("two");
    expect((await tree.list("/disks")).map((entry) => [entry.name, entry.kind, entry.size])).toEqual([
      ["root.img", "file", second.length],
    ]);
    await expect(tree.file("/disks/other.img")).rejects.toMatchObject({
      code: "PATH_NOT_FOUND",
      hint: expect.stringContaining("root.img"),
    });
    await expect(tree.file("/disks")).rejects.toMatchObject({ code: "PATH_NOT_A_FILE" });
    await expect(tree.file("/disks/../note.txt")).rejects.toMatchObject({ code: "PATH_NOT_FOUND" });
  });

  test("a pin keeps the data through forget and prune, satisfies restic, and goes away again", async () => {
    const snapshot = selectSnapshot(await repository.snapshots(), { latest: { host: "a" } });
    const owner = { hostname: "agent", pid: 1 };
    const pin = await repository.pin(snapshot.id, "uid-1", owner, Date.now);
    expect(await repository.pin(snapshot.id, "uid-1", owner, Date.now)).toBe(pin);
    expect(await restic.restic(["list", "locks"])).toBe("");
    await restic.restic(["forget", "--prune", snapshot.id]);
    await restic.restic(["check", "--read-data"]);
    await expect(repository.snapshot(snapshot.id)).rejects.toMatchObject({ code: "SNAPSHOT_NOT_FOUND" });

    const pinned = await repository.snapshot(pin);
    expect(pinned.host).toBe("vmrestore-pin-uid-1");
    expect(pinned.timeText).toBe(snapshot.timeText);
    const tree = await repository.browse(pinned);
    const [file] = await repository.openFiles([await tree.file("/disks/root.img")]);
    if (file === undefined) throw new Error("no file");
    expect((await readRange(repository, file, 0, file.size)).equals(first)).toBe(true);
    expect(await repository.isPinned("uid-1")).toBe(true);
    await repository.unpin("uid-1");
    await repository.unpin("uid-1");
    expect(await repository.isPinned("uid-1")).toBe(false);
  }, 180_000);
});
