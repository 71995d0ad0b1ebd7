/**
 * Why a blob is wanted, the most urgent first. `guest` and `relocation` are demand reads: somebody waits. The others are staged:
 * `boot` is the boot set, `lead` what the running relocation reads next, `ahead` the same before relocation runs.
 */
export const READ_REASONS = ["guest", "relocation", "boot", "lead", "ahead"] as const;
export type ReadReason = (typeof READ_REASONS)[number];

/** What the repository's slots are doing. */
export interface SlotUse {
  readonly free: number;
  /** Demand reads among the running ones. */
  readonly runningDemand: number;
}

export function isDemand(reason: ReadReason): boolean {
  return reason === "guest" || reason === "relocation";
}

export function isMoreUrgent(reason: ReadReason, than: ReadReason): boolean {
  return READ_REASONS.indexOf(reason) < READ_REASONS.indexOf(than);
}

/**
 * Which blob is fetched next. No clock, no I/O.
 *
 * - Demand reads go before staged ones; those of the guest before those of a relocation.
 * - While the relocation runs, guest reads on one side and its reads and their lead on the other take turns.
 * - A staged read never takes the last free slot, and one that is `ahead` waits until no demand read runs: it must cost the guest
 *   nothing while it boots.
 */
export class ReadQueue {
  /** Oldest first in each. */
  readonly #lanes: Readonly<Record<ReadReason, Set<string>>> = {
    guest: new Set(),
    relocation: new Set(),
    boot: new Set(),
    lead: new Set(),
    ahead: new Set(),
  };
  readonly #reasons = new Map<string, ReadReason>();
  #isRelocationsTurn = false;
  relocating = false;

  /** Adds a blob; one that is in already moves up where the new reason is more urgent. */
  add(id: string, reason: ReadReason): void {
    const known = this.#reasons.get(id);
    if (known !== undefined && !isMoreUrgent(reason, known)) return;
    if (known !== undefined) this.#lanes[known].delete(id);
    this.#reasons.set(id, reason);
    this.#lanes[reason].add(id);
  }

  waiting(reason: ReadReason): number {
    return this.#lanes[reason].size;
  }

  /** Takes out the blob to fetch next; undefined where none may start now. */
  next(slots: SlotUse): { readonly id: string; readonly reason: ReadReason } | undefined {
    if (slots.free < 1) return undefined;
    const reason = this.#choose(slots);
    if (reason === undefined) return undefined;
    const [id] = this.#lanes[reason];
    if (id === undefined) return undefined;
    this.#lanes[reason].delete(id);
    this.#reasons.delete(id);
    return { id, reason };
  }

  #choose(slots: SlotUse): ReadReason | undefined {
    const mayStage = slots.free >= 2;
    const has = (reason: ReadReason): boolean => this.#lanes[reason].size > 0;
    const forRelocation = has("relocation") ? "relocation" : has("lead") && mayStage ? "lead" : undefined;
    if (this.relocating) {
      const guest = has("guest") ? "guest" : undefined;
      const chosen = this.#isRelocationsTurn ? (forRelocation ?? guest) : (guest ?? forRelocation);
      if (chosen !== undefined) {
        this.#isRelocationsTurn = chosen === "guest";
        return chosen;
      }
    }
    if (has("guest")) return "guest";
    if (has("relocation")) return "relocation";
    if (!mayStage) return undefined;
    if (has("boot")) return "boot";
    if (slots.runningDemand > 0) return undefined;
    return has("lead") ? "lead" : has("ahead") ? "ahead" : undefined;
  }
}
