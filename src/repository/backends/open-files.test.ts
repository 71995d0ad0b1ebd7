import { mkdtemp, readdir, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { OpenFiles } from "./open-files.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "open-files-"));
});
afterEach(() => rm(directory, { recursive: true }));

/** Names of the files below the directory that this process has open. */
async function openNow(): Promise<string[]> {
  const links = await Promise.all(
    (await readdir("/proc/self/fd")).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => "")),
  );
  return links.filter((link) => link.startsWith(directory));
}

async function readText(files: OpenFiles, path: string): Promise<string> {
  return files.use(path, async (handle) => {
    let text = "";
    // One byte at a time: eviction gets every chance to come between two reads.
    for (let at = 0; ; at++) {
      const { bytesRead, buffer } = await handle.read(Buffer.alloc(1), 0, 1, at);
      if (bytesRead === 0) return text;
      text += buffer.toString();
    }
  });
}

test("many more files at once than stay open: every read gets its own file's bytes, and nothing leaks", async () => {
  const files = new OpenFiles(3);
  const paths = Array.from({ length: 40 }, (_, index) => join(directory, `file-${index}`));
  for (const [index, path] of paths.entries()) await writeFile(path, `content ${index}`);
  const reads = Array.from({ length: 200 }, (_, index) => index % paths.length);
  const texts = await Promise.all(reads.map((index) => readText(files, paths[index] ?? "")));
  expect(texts).toEqual(reads.map((index) => `content ${index}`));
  expect((await openNow()).length).toBeLessThanOrEqual(3);
  await files.close();
  expect(await openNow()).toEqual([]);
});

test("a file that could not be opened is tried again", async () => {
  const files = new OpenFiles(3);
  const path = join(directory, "late");
  await expect(readText(files, path)).rejects.toMatchObject({ code: "ENOENT" });
  await writeFile(path, "here");
  expect(await readText(files, path)).toBe("here");
  await files.close();
});

test("one reader's failure does not close the file under another", async () => {
  const files = new OpenFiles(3);
  const path = join(directory, "shared");
  await writeFile(path, "a longer text that takes several reads");
  const good = readText(files, path);
  const bad = files.use(path, () => Promise.reject(new Error("mine alone")));
  await expect(bad).rejects.toThrow("mine alone");
  expect(await good).toBe("a longer text that takes several reads");
  await files.close();
});
