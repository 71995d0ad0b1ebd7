import type { Action } from "../actions.ts";
import type { VirtualMachine } from "../kinds.ts";
import { cutoverBegun, rollbackBegun } from "./cutover-state.ts";
import { hasEnded } from "./guest.ts";
import { runStrategyOf, updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import type { Observed } from "./observed.ts";

// KubeVirt starts no machine whose run strategy is Manual. One that ran when it was halted for its cutover, or for the way back, is
// started by the strategy Always instead, and gets its own back as soon as it runs.

/** On such a machine, from when it is halted until it runs again: its run strategy. */
const START_AGAIN = "vmrestore.io/start-again";
const MANUAL = "Manual";

/** The run strategy that people gave the machine, whatever it is started with at the moment. */
export function givenStrategy(machine: VirtualMachine): string {
  const strategy = runStrategyOf(machine);
  return strategy === "Always" ? (machine.metadata.annotations?.[START_AGAIN] ?? strategy) : strategy;
}

/** The mark that a machine about to be halted gets, or loses. */
export function startAgainMark({ instance }: Observed, machine: VirtualMachine): Record<string, string | undefined> {
  const strategy = givenStrategy(machine);
  const isStarting = machine.metadata.annotations?.[START_AGAIN] !== undefined;
  const runs = instance !== undefined && !hasEnded(instance);
  return { [START_AGAIN]: strategy === MANUAL && (runs || isStarting) ? strategy : undefined };
}

/** The run strategy with which a machine that was halted goes on. */
export function strategyToGoOn(machine: VirtualMachine, given = "Always"): string {
  return machine.metadata.annotations?.[START_AGAIN] === undefined ? given : "Always";
}

/** Gives a machine that runs again its own run strategy back; an edit that people made meanwhile stays. */
export function giveStrategyBack(observed: Observed): Action[] {
  const { restore, machine, instance } = observed;
  const given = machine?.metadata.annotations?.[START_AGAIN];
  if (machine === undefined || given === undefined || !isOurs(restore, machine)) return [];
  if (machine.metadata.deletionTimestamp !== undefined || cutoverBegun(observed) || rollbackBegun(observed)) return [];
  const isAlways = runStrategyOf(machine) === "Always";
  const runs = instance !== undefined && instance.metadata.deletionTimestamp === undefined && !hasEnded(instance);
  if (isAlways && !runs) return [];
  const spec = isAlways ? { runStrategy: given } : {};
  return [updateMachine(machine, { annotations: { [START_AGAIN]: undefined }, spec })];
}
