import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { LocalBackend } from "../backends/local.ts";
import { writeBigIndex } from "./big-index.ts";
import { writeCheapKey } from "./keys.ts";

/**
 * By hand: how long an index of many blobs takes to load, and how much memory. Arguments: blobs there are, blobs that are needed.
 * Twenty millions take some minutes and 1 GB below the temporary directory, which is removed again.
 */
const [count = "1000000", needed = "100000"] = process.argv.slice(2);

const scratch = await mkdtemp(join(tmpdir(), "big-index-"));
const say = (text: string): boolean => process.stdout.write(`${text}\n`);
try {
  const directory = join(scratch, "repository");
  const backend = new LocalBackend(directory);
  const key = { encryption: randomBytes(32), macK: randomBytes(16), macR: randomBytes(16) };
  await writeCheapKey(backend, key, "password");
  await writeFile(join(directory, "config"), "");
  const begun = performance.now();
  await writeBigIndex(backend, key, 2, Number(count));
  say(
    `${count} blobs in ${(await backend.list("index")).length} files, written in ${seconds(performance.now() - begun)}`,
  );
  const script = new URL("./index-memory-main.ts", import.meta.url).pathname;
  const cache = join(scratch, "cache");
  for (const what of ["read from the repository", "found again by the next process"]) {
    const args = [
      "--expose-gc",
      "--disable-warning=ExperimentalWarning",
      script,
      directory,
      "password",
      needed,
      count,
      cache,
    ];
    const { stdout } = await promisify(execFile)(process.execPath, args, { env: {} });
    const { blobs, took, beforeMiB, peakMiB, longestTurn } = JSON.parse(stdout) as Record<string, number>;
    say(
      `${what}: ${blobs} kept in ${seconds(took ?? 0)}, peak ${peakMiB?.toFixed(0)} MiB (${beforeMiB?.toFixed(0)} before), longest turn ${longestTurn?.toFixed(0)} ms`,
    );
  }
} finally {
  await rm(scratch, { recursive: true });
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
