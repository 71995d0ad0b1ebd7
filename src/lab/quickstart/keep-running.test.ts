import { spawn } from "node:child_process";
import { once } from "node:events";
import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { keepRunning } from "./keep-running.ts";

test("a process that ends by itself is started again, one that is stopped is not", async () => {
  const clock = new ManualClock();
  const children: ReturnType<typeof spawn>[] = [];
  const start = () => {
    const child = spawn(process.execPath, [
      "-e",
      children.length === 0 ? "process.exit(1)" : "setInterval(() => 0, 1e3)",
    ]);
    children.push(child);
    return child;
  };
  const kept = keepRunning(start, clock);
  await once(children[0] as NodeJS.EventEmitter, "exit");
  await clock.advance(999);
  expect(children).toHaveLength(1);
  await clock.advance(1);
  expect(children).toHaveLength(2);
  await kept.stop();
  expect(children[1]?.signalCode).toBe("SIGTERM");
  await clock.advance(5000);
  expect(children).toHaveLength(2);
  // Stopped while it waits to be started again.
  const other = keepRunning(() => spawn(process.execPath, ["-e", ""]), clock);
  await other.stop();
});
