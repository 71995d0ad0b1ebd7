import type { Action } from "../actions.ts";
import type { VirtualMachine } from "../kinds.ts";
import { cutoverBegun, rollbackBegun } from "./cutover-state.ts";
import { hasEnded } from "./guest.ts";
import { runStrategyOf, updateMachine } from "./machine-update.ts";
import { isOurs } from "./names.ts";
import type { Observed } from "./observed.ts";

// KubeVirt starts no machine whose run strategy is Manual. One that ran when it was halted for its cutover, or for the way back, is
// started by the strategy Always instead, and gets its own back as soon as it runs. The other way round, KubeVirt starts a machine that
// becomes Once or RerunOnFailure, also one that had ended under that strategy: all that it knows of a run is the instance, which a halt
// removes. Such a machine stays Halted.

/** On such a machine, from when it is halted until it runs again: its run strategy. */
const START_AGAIN = "vmrestore.io/start-again";
/** On a machine that had ended by itself when it was halted, and stays so: its run strategy, which does not run it a second time. */
const ENDED = "vmrestore.io/ended-by-itself";
const MANUAL = "Manual";
const HALTED = "Halted";

/** The run strategy that people gave the machine, whatever it is started with at the moment. */
function givenStrategy(machine: VirtualMachine): string {
  const strategy = runStrategyOf(machine);
  return strategy === "Always" ? (machine.metadata.annotations?.[START_AGAIN] ?? strategy) : strategy;
}

/** The run strategy that a machine about to be halted is to have afterwards. */
export function strategyAfterwards(observed: Observed, machine: VirtualMachine): string {
  return hasRunItsCourse(observed, machine) ? HALTED : givenStrategy(machine);
}

/** The marks that a machine about to be halted gets, or loses. */
export function haltMarks(observed: Observed, machine: VirtualMachine): Record<string, string | undefined> {
  const { instance } = observed;
  const strategy = givenStrategy(machine);
  const isStarting = machine.metadata.annotations?.[START_AGAIN] !== undefined;
  const runs = instance !== undefined && !hasEnded(instance);
  return {
    [START_AGAIN]: strategy === MANUAL && (runs || isStarting) ? strategy : undefined,
    [ENDED]: hasRunItsCourse(observed, machine) ? strategy : undefined,
  };
}

/**
 * Whether it ended, and KubeVirt would leave it at that: Once runs nothing twice, RerunOnFailure nothing that shut itself down. An instance
 * that is being deleted was ended by people, after which KubeVirt starts such a machine anew.
 */
function hasRunItsCourse({ instance }: Observed, machine: VirtualMachine): boolean {
  if (instance === undefined || instance.metadata.deletionTimestamp !== undefined || !hasEnded(instance)) return false;
  const strategy = givenStrategy(machine);
  return strategy === "Once" || (strategy === "RerunOnFailure" && instance.status?.phase === "Succeeded");
}

/** Why a machine that was halted for its cutover stays so, for people; undefined where that is not so. */
export function whyItStaysHalted(machine: VirtualMachine): string | undefined {
  const strategy = machine.metadata.annotations?.[ENDED];
  if (strategy === undefined || runStrategyOf(machine) !== HALTED) return undefined;
  const { name, namespace } = machine.metadata;
  return `It is not running: it had ended by itself before its cutover, and its run strategy ${strategy} does not run it again, so it is Halted now. To start it, run \`virtctl start ${name} --namespace ${namespace}\`.`;
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
