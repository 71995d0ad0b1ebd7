/**
 * Why a blob is wanted, the most urgent first. `guest` and `relocation` are demand reads: somebody waits. The others are staged:
 * `boot` is the boot set, `readahead` what a guest that reads in sequence asks for next, `hydrate` anything at all while the
 * backup may vanish, `lead` what the running relocation reads next, `ahead` the same before relocation runs.
 */
export const READ_REASONS = ["guest", "relocation", "boot", "readahead", "hydrate", "lead", "ahead"] as const;
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
 * - While the relocation runs there are two sides that take turns: the guest's reads with what is staged for the guest, and the
 *   relocation's reads with their lead. A side that has nothing to fetch loses nothing but its turn.
 * - Staged reads leave a slot free, and one that is `ahead` waits until no demand read runs: it must cost the guest nothing while
 *   it boots. Only during relocation, in its side's turn against reads of the other that wait, a staged one may take the last free
 *   slot, as long as another slot serves a demand read: or else whoever keeps every slot busy would keep it out for good.
 */
export class ReadQueue {
  /** Oldest first in each. */
  readonly #lanes: Readonly<Record<ReadReason, Set<string>>> = {
    guest: new Set(),
    relocation: new Set(),
    boot: new Set(),
    readahead: new Set(),
    hydrate: new Set(),
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
    if (this.relocating) return this.#takeTurns(slots, mayStage);
    const demand = this.#first("guest", "relocation");
    if (demand !== undefined || !mayStage) return demand;
    return (
      this.#first("boot", "readahead", "hydrate") ??
      (slots.runningDemand > 0 ? undefined : this.#first("lead", "ahead"))
    );
  }

  #takeTurns(slots: SlotUse, mayStage: boolean): ReadReason | undefined {
    // In its turn against reads that wait, a side's staged read may take the last free slot if another serves a demand read.
    const mayAgainst = (other: ReadReason): boolean =>
      mayStage || (this.#first(other) !== undefined && slots.free + slots.runningDemand >= 2);
    const guest =
      this.#first("guest") ?? (mayAgainst("relocation") ? this.#first("boot", "readahead", "hydrate") : undefined);
    const relocation = this.#first("relocation") ?? (mayAgainst("guest") ? this.#first("lead", "ahead") : undefined);
    const chosen = this.#isRelocationsTurn ? (relocation ?? guest) : (guest ?? relocation);
    if (chosen !== undefined) this.#isRelocationsTurn = chosen === guest;
    return chosen;
  }

  #first(...reasons: readonly ReadReason[]): ReadReason | undefined {
    return reasons.find((reason) => this.#lanes[reason].size > 0);
  }
}
