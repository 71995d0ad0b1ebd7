import type { DiskBus } from "../api/agent-control.ts";
import type { Clock } from "../base/clock.ts";
import { AnswerLimit } from "./answer-limit.ts";
import { AgentError } from "./errors.ts";

/** Guests with timers wait 30 s at least. */
const ANSWER_LIMIT_MS = 20_000;
/** A request that comes again has used up most of its guest's timer: it stands still only while the guest is paused. */
const AGAIN_MS = 200;
/** Requests of one disk at once, those included that were given up. Each may hold up to 1 MiB. */
const AT_ONCE = 64;

/**
 * How long a guest is kept waiting, by the bus on which it sees the disk. On virtio that is for as long as it takes: undefined. All others
 * have timers in the guest, after which it gives the disk up: their requests fail before, which makes QEMU pause the guest and repeat
 * them. What is repeated fails much sooner if it still cannot be done: a guest's timer goes on where it stood (seen with QEMU and
 * libata: two attempts of 20 s are more than its 30 s).
 */
export function patienceOf(clock: Clock, limitMs = ANSWER_LIMIT_MS): (bus: DiskBus) => AnswerLimit | undefined {
  const error = (): AgentError =>
    new AgentError("NOT_IN_TIME", `a request was not done within ${limitMs / 1000} s: its guest is paused meanwhile`, {
      hint: "See why the disk waits: the repository may be away, or the overlay full. The guest goes on afterwards.",
    });
  const limited = new AnswerLimit({ clock, limitMs, againMs: Math.min(AGAIN_MS, limitMs), atOnce: AT_ONCE, error });
  return (bus) => (bus === "virtio" ? undefined : limited);
}
