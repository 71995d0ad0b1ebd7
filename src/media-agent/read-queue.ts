/**
 * Why a blob is wanted, the most urgent first. `guest` and `relocation` are demand reads: somebody waits. The others are staged:
 * `boot` is the boot set, `readahead` what a guest that reads in sequence asks for next, `hydrate` anything at all while the
 * backup may vanish, `lead` what the running relocation reads next, `peer` what another agent needs and this one is to fetch for both,
 * `ahead` what the relocation will read, before it runs.
 */
export const READ_REASONS = ["guest", "relocation", "boot", "readahead", "hydrate", "lead", "peer", "ahead"] as const;
export type ReadReason = (typeof READ_REASONS)[number];

/** What the repository's slots are doing. */
export interface SlotUse {
  readonly free: number;
  /** Demand reads among the running ones. */
  readonly runningDemand: number;
  /** Whether the relocation, its lead and other agents hold as many as they may now, see `relocationShare`: then none of theirs starts. */
  readonly relocationHeld: boolean;
}

export function isDemand(reason: ReadReason): boolean {
  return reason === "guest" || reason === "relocation";
}

/** Whether a read is the relocation's, its lead's, or for another agent: no guest waits for it here. All others are the guest's, or staged for it. */
export function isRelocations(reason: ReadReason): boolean {
  return reason === "relocation" || reason === "lead" || reason === "peer" || reason === "ahead";
}

export function isMoreUrgent(reason: ReadReason, than: ReadReason): boolean {
  return READ_REASONS.indexOf(reason) < READ_REASONS.indexOf(than);
}

/**
 * Which blob is fetched next. No clock, no I/O.
 *
 * - Demand reads go before staged ones; those of the guest before those of a relocation.
 * - While the relocation runs there are two sides that take turns: the guest's reads with what is staged for the guest, and the
 *   relocation's reads with their lead and what other agents need. A side that has nothing to fetch loses nothing but its turn.
 * - While the relocation holds as many slots as it may, none of its reads starts, nor of its lead's, nor for another agent.
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
    peer: new Set(),
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

  /** Reads of the guest and what is staged for it. */
  get waitingForGuest(): number {
    return READ_REASONS.reduce((sum, reason) => sum + (isRelocations(reason) ? 0 : this.waiting(reason)), 0);
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
    const demand = this.#first("guest") ?? this.#firstOfRelocation(slots, "relocation");
    if (demand !== undefined || !mayStage) return demand;
    return (
      this.#first("boot", "readahead", "hydrate") ??
      this.#firstOfRelocation(slots, "peer") ??
      (slots.runningDemand > 0 ? undefined : this.#firstOfRelocation(slots, "lead", "ahead"))
    );
  }

  #takeTurns(slots: SlotUse, mayStage: boolean): ReadReason | undefined {
    // In its turn against reads that wait, a side's staged read may take the last free slot if another serves a demand read.
    const mayAgainst = (other: ReadReason | undefined): boolean =>
      mayStage || (other !== undefined && slots.free + slots.runningDemand >= 2);
    const ofGuest = this.#first("guest");
    const ofRelocation = this.#firstOfRelocation(slots, "relocation");
    const guest = ofGuest ?? (mayAgainst(ofRelocation) ? this.#first("boot", "readahead", "hydrate") : undefined);
    const relocation =
      ofRelocation ?? (mayAgainst(ofGuest) ? this.#firstOfRelocation(slots, "lead", "peer", "ahead") : undefined);
    const chosen = this.#isRelocationsTurn ? (relocation ?? guest) : (guest ?? relocation);
    if (chosen !== undefined) this.#isRelocationsTurn = chosen === guest;
    return chosen;
  }

  #firstOfRelocation({ relocationHeld }: SlotUse, ...reasons: readonly ReadReason[]): ReadReason | undefined {
    return relocationHeld ? undefined : this.#first(...reasons);
  }

  #first(...reasons: readonly ReadReason[]): ReadReason | undefined {
    return reasons.find((reason) => this.#lanes[reason].size > 0);
  }
}
