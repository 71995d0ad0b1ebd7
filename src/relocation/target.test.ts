import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, readFile, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import fc from "fast-check";
import { BufferPool } from "./buffer-pool.ts";
import { Target } from "./target.ts";

const SIZE = 1024 * 1024;
let scratch: string;

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), "target-"));
});

afterEach(() => rm(scratch, { recursive: true }));

describe("a device", () => {
  test("reads back what was written, over whatever was there", async () => {
    const device = join(scratch, "device");
    const old = randomBytes(SIZE);
    const piece = fc.record({
      offset: fc.nat(SIZE - 200_001),
      length: fc.integer({ min: 1, max: 200_000 }),
      kind: fc.constantFrom("data", "zeros", "holes" as const),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 8 }), async (pieces) => {
        await writeFile(device, old);
        const model = Buffer.from(old);
        const target = await Target.open(device, SIZE, "copy");
        for (const { offset, length, kind } of pieces) {
          const data = kind === "data" ? randomBytes(length) : Buffer.alloc(length);
          if (kind === "data" && length > 100_000) data.fill(0, 10, length - 10);
          if (kind === "holes") await target.writeZeroes(offset, length);
          else await target.write(offset, data, false);
          data.copy(model, offset);
        }
        await target.sync();
        await target.close();
        expect((await readFile(device)).equals(model)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  test("takes what passes by the page cache and what does not, in any order", async () => {
    const device = join(scratch, "device");
    const old = randomBytes(SIZE + 100);
    const buffers = new BufferPool(65_536);
    const piece = fc.record({
      offset: fc.nat(SIZE - 65_537),
      length: fc.integer({ min: 1, max: 65_536 }),
      isAligned: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 12 }), async (pieces) => {
        await writeFile(device, old);
        const model = Buffer.from(old);
        const target = await Target.open(device, SIZE, "copy");
        for (const { offset, length, isAligned } of pieces) {
          const at = isAligned ? Math.floor(offset / 4096) * 4096 : offset;
          await buffers.use(async (buffer) => {
            const data = buffer.subarray(0, isAligned ? Math.ceil(length / 4096) * 4096 : length);
            randomBytes(data.length).copy(data);
            await target.write(at, data, false);
            data.copy(model, at);
          });
          expect((await target.read(at, length)).equals(model.subarray(at, at + length))).toBe(true);
        }
        await target.sync();
        await target.close();
        expect((await readFile(device)).equals(model)).toBe(true);
      }),
      { numRuns: 30 },
    );
  });

  // What a failed write-back leaves, the page cache showing what the device does not have, is made by writing behind a loop device's back.
  const withLoop = spawnSync("losetup", ["--find"]).status === 0 ? test : test.skip;
  withLoop("is looked at past a page cache that shows zeros it does not have", async () => {
    const backing = join(scratch, "backing");
    await writeFile(backing, Buffer.alloc(SIZE));
    const loop = execFileSync("losetup", ["--find", "--show", backing], { encoding: "utf8" }).trim();
    // While somebody has it open, as kubelet does, its page cache outlives each Job.
    const holder = await open(loop, "r+");
    try {
      await holder.read(Buffer.alloc(SIZE), 0, SIZE, 0);
      await writeFile(backing, Buffer.alloc(SIZE, 7), { flag: "r+" });
      expect((await holder.read(Buffer.alloc(1), 0, 1, 0)).buffer[0]).toBe(0);
      const target = await Target.open(loop, SIZE, "copy");
      await target.writeZeroes(0, SIZE / 2);
      await target.write(SIZE / 2, Buffer.alloc(SIZE / 4), false);
      await target.sync();
      await target.close();
    } finally {
      await holder.close();
      execFileSync("losetup", ["--detach", loop]);
    }
    const found = await readFile(backing);
    expect(found.equals(Buffer.concat([Buffer.alloc((SIZE / 4) * 3), Buffer.alloc(SIZE / 4, 7)]))).toBe(true);
  });

  test("stays thin where it reads as zeros", async () => {
    const device = join(scratch, "device");
    await writeFile(device, "");
    await truncate(device, SIZE);
    const target = await Target.open(device, SIZE, "copy");
    await target.writeZeroes(0, SIZE);
    await target.write(0, Buffer.alloc(SIZE), false);
    await target.close();
    expect((await stat(device)).blocks).toBe(0);
  });

  test("is marked without losing anything but the last page", async () => {
    const device = join(scratch, "device");
    const old = randomBytes(SIZE);
    await writeFile(device, old);
    const target = await Target.open(device, SIZE, "copy");
    await expect(target.marker()).resolves.toBeUndefined();
    await expect(target.begin("name")).resolves.toEqual({ isZeroed: false });
    await expect(target.marker()).resolves.toEqual({ target: "name", size: SIZE });
    const last = randomBytes(4096);
    await target.finish(last);
    await expect(target.marker()).resolves.toBeUndefined();
    await target.close();
    expect((await readFile(device)).equals(Buffer.concat([old.subarray(0, SIZE - 4096), last]))).toBe(true);
  });
});

describe("an image", () => {
  test("of another size bears no marker of this disk", async () => {
    const first = await Target.open(scratch, SIZE, "copy");
    await first.begin("name");
    await first.close();
    const larger = await Target.open(scratch, SIZE + 4096, "copy");
    await expect(larger.marker()).resolves.toBeUndefined();
    await larger.close();
    const again = await Target.open(scratch, SIZE, "copy");
    await expect(again.marker()).resolves.toEqual({ target: "name", size: SIZE });
    await again.close();
  });

  test("is never a link to elsewhere", async () => {
    const victim = join(scratch, "victim");
    await writeFile(victim, "precious");
    await symlink(victim, join(scratch, "disk.img"));
    await expect(Target.open(scratch, SIZE, "copy")).rejects.toMatchObject({ code: "RELOCATION_TARGET_UNFIT" });
    expect(await readFile(victim, "utf8")).toBe("precious");
  });

  test("is not made by looking, and not written", async () => {
    await expect(Target.open(scratch, SIZE, "compare")).rejects.toMatchObject({ code: "RELOCATION_TARGET_UNFIT" });
    await writeFile(join(scratch, "disk.img"), randomBytes(SIZE));
    const target = await Target.open(scratch, SIZE, "compare");
    await expect(target.write(0, Buffer.from("x"), false)).rejects.toMatchObject({ code: "RELOCATION_TARGET_FAILED" });
    await target.close();
  });
});

test("what is neither file, device nor directory, and what is not there, is unfit", async () => {
  await expect(Target.open("/dev/null", SIZE, "copy")).rejects.toMatchObject({ code: "RELOCATION_TARGET_UNFIT" });
  await expect(Target.open(join(scratch, "no"), SIZE, "copy")).rejects.toMatchObject({
    code: "RELOCATION_TARGET_UNFIT",
    hint: expect.stringContaining("block device"),
  });
});

test("a failure is told, and one of a sync each time again", async () => {
  const target = await Target.open(scratch, SIZE, "copy");
  await target.close();
  await expect(target.write(0, Buffer.from("x"), true)).rejects.toMatchObject({ code: "RELOCATION_TARGET_FAILED" });
  await expect(target.sync()).rejects.toMatchObject({ code: "RELOCATION_TARGET_FAILED" });
  await expect(target.sync()).rejects.toMatchObject({ code: "RELOCATION_TARGET_FAILED" });
});
