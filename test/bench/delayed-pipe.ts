import { spawn } from "node:child_process";
import { setTimeout as delay } from "node:timers/promises";

/**
 * What borg takes for `ssh`: runs the command here, and lets its answers wait and pass at a rate, as the REST server's do.
 * `delayed-pipe.ts DELAY_MS BYTES_PER_SECOND HOST COMMAND…`
 */
const [delayMs, bytesPerSecond, , program = "", ...args] = process.argv.slice(2);
const child = spawn(program, args, { stdio: ["pipe", "pipe", "inherit"] });
process.stdin.pipe(child.stdin);
let freeAt = 0;
/** Chunks under way at once are as many as borg asks for before it reads an answer, which is bounded there. */
let order = Promise.resolve();
child.stdout.on("data", (piece: Buffer) => {
  const now = performance.now();
  freeAt = Math.max(now, freeAt) + (piece.length / Number(bytesPerSecond)) * 1000;
  const due = freeAt + Number(delayMs);
  order = order.then(async () => {
    const wait = due - performance.now();
    if (wait > 1) await delay(wait);
    process.stdout.write(piece);
  });
});
child.on("close", (code) => void order.then(() => process.exit(code ?? 1)));
