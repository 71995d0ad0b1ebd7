import type { VMRestore } from "../../../api/vm-restore.ts";
import { conditionOf } from "../../conditions.ts";
import { VIRTUAL_MACHINES, VM_RESTORES } from "../../kinds.ts";
import { play, restoreIn } from "./run.ts";
import { TENANT, type World } from "./world.ts";

// What tests of a restore's course share: changing it, waiting for it, and looking at what came of it.

/** A spec's relocation to the class `fast`, cut over as soon as it may be. */
export const relocation = (change: object = {}) => ({
  relocation: { target: { storageClassName: "fast" }, cutover: { when: "Automatic" }, ...change },
});

export const reasonIs = (type: string, reason: string) => (restore: VMRestore | undefined) =>
  conditionOf(restore?.status?.conditions, type)?.reason === reason;

/** The claim of the machine's first volume. */
export const claimOf = (world: World) =>
  world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db")?.spec?.template?.spec?.volumes?.[0]?.persistentVolumeClaim
    ?.claimName;

/** @param change laid over the spec, field by field at the top */
export function changeSpec(world: World, change: object): void {
  world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
    restore.spec = { ...(restore.spec as object), ...change };
  });
}

/** Gathers what the status says, `phase: message`, as the world goes on. */
export function listen(world: World): ReadonlySet<string> {
  const said = new Set<string>();
  const step = world.step.bind(world);
  world.step = () => {
    const { phase, message } = restoreIn(world)?.status ?? {};
    if (phase !== undefined) said.add(`${phase}: ${message}`);
    step();
  };
  return said;
}

/** What {@link listen} hears where a whole sentence is told. */
export const SENTENCE = /^\w+: [A-Z\d].{10,}\.$/;

/** Goes on for some rounds of a second. */
export async function settle(world: World, rounds = 15): Promise<VMRestore | undefined> {
  await play(world, () => false, rounds).catch(() => undefined);
  return restoreIn(world);
}
