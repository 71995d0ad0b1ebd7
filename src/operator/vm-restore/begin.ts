import type { Observed } from "./observed.ts";
import { no, type Outcome, waits } from "./step.ts";

const LONGEST_WAIT_MS = 3600_000;

/** What keeps relocation from beginning, if it was not begun yet. */
export function awaitBegin({ spec, now }: Observed): Outcome | undefined {
  const { begin, beginAt, paused } = spec.relocation;
  if (paused) {
    const message = "Relocation is paused before it began: set spec.relocation.paused to false.";
    return waits(no("Relocated", "AwaitingBegin", message));
  }
  if (begin === "Manual") {
    const message = "Relocation waits for you: set spec.relocation.begin to GuestReady.";
    return waits(no("Relocated", "AwaitingBegin", message));
  }
  const left = begin === "At" ? Date.parse(beginAt ?? "") - now : 0;
  if (left <= 0) return undefined;
  return waits(no("Relocated", "AwaitingBegin", `Relocation begins at ${beginAt}.`), Math.min(left, LONGEST_WAIT_MS));
}
