import type { DiskStatus } from "../../api/agent-control.ts";
import type { Clock } from "../../base/clock.ts";
import { RateWindow } from "../../base/rate-window.ts";

const WINDOW_MS = 10_000;
/** What was looked at for less than this tells no rate. */
const LEAST_MS = 2000;
/** What came between two looks is counted as if it had come evenly, in pieces this long: looks may be further apart than the window. */
const PIECE_MS = 1000;

interface Look {
  readonly at: number;
  readonly instance: string;
  /** How far the copy is, by disk; only those of which it is known. */
  readonly places: ReadonlyMap<string, number>;
}

/** Measures how fast a live migration's copy reads, by how much further it is at each look at the agent. */
export class CopyMeter {
  readonly #clock: Clock;
  #last: Look | undefined;
  #measured: { readonly window: RateWindow; readonly since: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * @param seen what the agent says now
   * @returns bytes a second, of all disks; undefined where nothing moves or too little was seen to tell
   */
  look(seen: {
    readonly instance: string;
    readonly disks: readonly Pick<DiskStatus, "name" | "copiedUntil">[];
  }): number | undefined {
    const at = this.#clock.monotonic();
    const places = new Map(seen.disks.flatMap(({ name, copiedUntil: to }) => (to === undefined ? [] : [[name, to]])));
    const now: Look = { at, instance: seen.instance, places };
    const last = this.#last;
    this.#last = now;
    if (this.#measured === undefined || last === undefined || !goesOn(last, now)) {
      this.#measured = places.size === 0 ? undefined : { window: new RateWindow(WINDOW_MS, at), since: at };
      return undefined;
    }
    const { window, since } = this.#measured;
    const pieces = Math.max(1, Math.ceil((at - last.at) / PIECE_MS));
    for (let piece = 1; piece <= pieces; piece++)
      window.add(growth(last, now) / pieces, last.at + ((at - last.at) * piece) / pieces);
    const rate = window.rate(at);
    return at - since < LEAST_MS || rate === 0 ? undefined : rate;
  }
}

/** Whether it is still the same copy. An agent that was started anew knows of none at first, and another attempt begins from the start. */
function goesOn(last: Look, now: Look): boolean {
  return (
    last.instance === now.instance && [...last.places].every(([name, from]) => (now.places.get(name) ?? -1) >= from)
  );
}

/** Bytes. How far a disk is when it is first told counts for nothing: nobody knows in what time that was read. */
function growth(last: Look, now: Look): number {
  return [...last.places].reduce((sum, [name, from]) => sum + (now.places.get(name) ?? from) - from, 0);
}
