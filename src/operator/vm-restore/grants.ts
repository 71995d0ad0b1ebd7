import type { Clock } from "../../base/clock.ts";

/** Longer than any reading of the cluster is old by the time that it is decided upon. */
const REMEMBERED_MS = 30_000;

/**
 * Which restores were let begin a moment ago. Several are worked on at once, and each has read the others' status some time before it
 * decides: one that was let begin in between must be counted. Asked and told within one turn of the event loop, so that no two
 * decisions miss each other. Lost with the process, when nothing is under way.
 */
export class Grants {
  readonly #clock: Clock;
  readonly #at = new Map<string, number>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(uid: string): void {
    this.#at.set(uid, this.#clock.monotonic());
  }

  /** Always as it is at the moment of asking. */
  get recent(): Pick<ReadonlyMap<string, unknown>, "has"> {
    const oldest = this.#clock.monotonic() - REMEMBERED_MS;
    for (const [uid, at] of this.#at) if (at < oldest) this.#at.delete(uid);
    return this.#at;
  }
}
