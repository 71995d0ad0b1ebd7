import { setTimeout as delay } from "node:timers/promises";
import { SlowRepository } from "../bench/slow-repository.ts";

/**
 * A repository over a link that is fast for some seconds, and then for some has each answer come later than a client of `timeo=10`
 * waits: `serve-repository.ts DIRECTORY PORT`. On 127.0.0.1.
 */
const [directory = "", port = ""] = process.argv.slice(2);
const FAST = { delayMs: 2, bytesPerSecond: 100 * 1024 * 1024 };
const SLOW = { delayMs: 2500, bytesPerSecond: 8 * 1024 * 1024 };
const LONGEST_MS = 8000;

const repository = await SlowRepository.start(directory, FAST, Number(port));
for (;;) {
  for (const link of [FAST, SLOW]) {
    repository.setLink(link);
    await delay(Math.random() * LONGEST_MS);
  }
}
