import type { ChildProcess } from "node:child_process";
import type { Clock } from "../../base/clock.ts";

const AGAIN_MS = 1000;
const GRACE_MS = 5000;

/**
 * Starts a process, and again whenever it ends by itself, as a Deployment does: an operator ends when it loses its Lease, on a computer
 * that slept for example.
 */
export function keepRunning(start: () => ChildProcess, clock: Clock): { stop(): Promise<void> } {
  const over = new AbortController();
  let child = start();
  const watch = (): void => {
    child.once("exit", () => {
      clock.sleep(AGAIN_MS, over.signal).then(
        () => {
          child = start();
          watch();
        },
        () => undefined,
      );
    });
  };
  watch();
  return {
    async stop() {
      over.abort();
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      const hard = setTimeout(() => child.kill("SIGKILL"), GRACE_MS);
      await ended;
      clearTimeout(hard);
    },
  };
}
