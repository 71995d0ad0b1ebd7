import {
  CLAIMS,
  INSTANCES,
  JOBS,
  VIRTUAL_MACHINES,
  type VirtualMachine,
  type VirtualMachineInstance,
} from "../../kinds.ts";
import { ROLLBACK_ANNOTATIONS } from "../cutover-state.ts";
import { OWN, TENANT, type World } from "./world.ts";

const NAME = "orders-db";
const AGENT = "the media agent";

/**
 * A guest that writes all the time, and looks whenever it starts whether everything that it wrote is there: the newest write that each
 * place holds is told by its number. Copies and migrations carry numbers from place to place. Going back on purpose loses what was
 * written since the switch, and nothing else may.
 */
export class GuestWrites {
  readonly faults: string[] = [];
  readonly #world: World;
  /** The newest write on the agent, and on each target claim by its uid. */
  readonly #newest = new Map<string, number>([[AGENT, 0]]);
  #acknowledged = 0;
  #instance: string | undefined;
  #place: string | undefined;
  #rolledBack: string | undefined;
  #wasDone = false;

  constructor(world: World) {
    this.#world = world;
    const step = world.step.bind(world);
    world.step = () => {
      step();
      this.#look();
    };
  }

  #look(): void {
    const { cluster } = this.#world;
    const machine = cluster.peek(VIRTUAL_MACHINES, TENANT, NAME);
    const instance = cluster.peek(INSTANCES, TENANT, NAME);
    this.#lookAtJob(instance);
    if (machine !== undefined) {
      this.#lookAtRollBack(machine);
      this.#lookAtDisk(machine);
    }
    if (instance === undefined) return;
    this.#lookAtArrival(instance);
    if (instance.metadata.deletionTimestamp !== undefined) return;
    if (instance.status?.phase !== "Running") return;
    const place = this.#placeOf(instance);
    if (place === undefined) return void this.faults.push("runs on a claim that is not there");
    if (instance.metadata.uid !== this.#instance) this.#start(place);
    this.#instance = instance.metadata.uid;
    this.#place = place;
    if (place === AGENT && this.#world.sealed) this.faults.push("writes to the agent while it is sealed");
    this.#newest.set(place, ++this.#acknowledged);
  }

  /** It may end in the moment in which it has arrived. */
  #lookAtArrival(instance: VirtualMachineInstance): void {
    const place = this.#placeOf(instance);
    if (instance.metadata.uid !== this.#instance || place === undefined || place === this.#place) return;
    if (place === AGENT) this.faults.push("was moved back from its target while it ran there");
    else this.#newest.set(place, this.#acknowledged);
    this.#place = place;
  }

  /** Where the guest itself is: KubeVirt names the targets in the instance long before it arrives there. */
  #placeOf({ spec, status }: VirtualMachineInstance): string | undefined {
    const { migratedVolumes, migrationState } = status ?? {};
    const isOnItsWay = migratedVolumes !== undefined && migrationState?.targetNodeDomainReadyTimestamp === undefined;
    const claim = spec?.volumes?.[0]?.persistentVolumeClaim?.claimName ?? "";
    if (isOnItsWay || claim.endsWith("-restoring")) return AGENT;
    return this.#world.cluster.peek(CLAIMS, TENANT, claim)?.metadata.uid;
  }

  #start(place: string): void {
    const found = this.#newest.get(place) ?? -1;
    if (found !== this.#acknowledged)
      this.faults.push(`found write ${found} of ${this.#acknowledged} on ${place === AGENT ? AGENT : "its target"}`);
    this.#acknowledged = found;
  }

  #lookAtRollBack({ metadata, spec }: VirtualMachine): void {
    const rolledBack = metadata.annotations?.[ROLLBACK_ANNOTATIONS.rolledBack];
    if (rolledBack === this.#rolledBack) return;
    this.#rolledBack = rolledBack;
    const [volume] = spec?.template?.spec?.volumes ?? [];
    if (volume?.persistentVolumeClaim?.claimName.endsWith("-restoring") !== true)
      this.faults.push("is called taken back, and is on its target");
    this.#acknowledged = this.#newest.get(AGENT) ?? 0;
  }

  /** A copy that is done holds what the sealed agent does. */
  #lookAtJob(instance: VirtualMachineInstance | undefined): void {
    const { cluster, progress } = this.#world;
    const isDone = progress?.state === "Done" || progress?.state === "Verifying";
    const job = cluster.all(JOBS).find(({ metadata }) => metadata.name.endsWith("-copy"));
    const { spec } = (job ?? {}) as Partial<Pick<VirtualMachine, "spec">>;
    const claims = (spec?.template?.spec?.volumes ?? []).flatMap(
      ({ persistentVolumeClaim: claim }) => claim?.claimName ?? [],
    );
    const [claim = ""] = claims;
    const uid = cluster.peek(CLAIMS, TENANT, claim)?.metadata.uid;
    if (job !== undefined && instance?.status?.phase === "Running" && uid !== undefined && this.#place === uid)
      this.faults.push("its disk is copied over while it runs on it");
    if (isDone && !this.#wasDone && uid !== undefined) this.#newest.set(uid, this.#newest.get(AGENT) ?? 0);
    this.#wasDone = isDone;
  }

  #lookAtDisk({ metadata, spec }: VirtualMachine): void {
    if (metadata.deletionTimestamp !== undefined) return;
    const { cluster } = this.#world;
    for (const { persistentVolumeClaim: claim } of spec?.template?.spec?.volumes ?? []) {
      if (claim?.claimName.endsWith("-restoring") !== true) continue;
      if (!cluster.all(CLAIMS).some((one) => one.metadata.namespace === OWN && one.metadata.name.endsWith("-overlay")))
        this.faults.push("is on the agent, and the agent's overlay is gone");
    }
  }
}
