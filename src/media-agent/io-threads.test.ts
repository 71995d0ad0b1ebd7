import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "@jest/globals";

const run = promisify(execFile);

/** Opens pipes that nobody writes to, which hangs as a dead file server does, and then reads a file. */
const SCRIPT = `
const { open, readFile } = await import("node:fs/promises");
const { reserveIoThreads } = await import(process.env.MODULE);
if (process.env.RESERVES === "yes") reserveIoThreads(8);
for (let request = 0; request < 8; request++) open("pipe", "r").catch(() => undefined);
const late = new Promise((resolve) => setTimeout(resolve, process.env.RESERVES === "yes" ? 20_000 : 1500, "stuck"));
process.stdout.write(await Promise.race([readFile("file", "utf8"), late]), () => process.kill(process.pid, "SIGKILL"));
`;

test.each([
  ["with threads of their own, the claims are read and written", "yes", "content"],
  ["without, they are not", "no", "stuck"],
])("while a repository's file system hangs: %s", async (_what, RESERVES, expected) => {
  const directory = await mkdtemp(join(tmpdir(), "threads-"));
  try {
    await run("mkfifo", [join(directory, "pipe")]);
    await writeFile(join(directory, "file"), "content");
    const MODULE = new URL("./io-threads.ts", import.meta.url).href;
    const env: NodeJS.ProcessEnv = { ...process.env, NODE_OPTIONS: "", MODULE, RESERVES };
    delete env.UV_THREADPOOL_SIZE;
    const args = ["--input-type=module", "-e", SCRIPT];
    const ended = await run(process.execPath, args, { cwd: directory, env }).catch((error: unknown) => error);
    expect(ended).toMatchObject({ stdout: expected, signal: "SIGKILL" });
  } finally {
    await rm(directory, { recursive: true });
  }
});
