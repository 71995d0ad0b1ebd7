import { AGENT_PORTS } from "../../api/agent-config.ts";
import { LABELS, readsOf } from "../../api/group.ts";
import { type Peer, peerFor } from "../../api/peers.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import type { Clock } from "../../base/clock.ts";
import { isTrue } from "../conditions.ts";
import { SECRETS, SERVICES, VM_RESTORES } from "../kinds.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { readKeys } from "./keys.ts";
import { restoreNames } from "./names.ts";
import { type Sharer, sharingGroup } from "./sharing-group.ts";

/** For so long the same answer is given for a namespace, in milliseconds: with many restores, each asks for it. */
const REMEMBERED_MS = 500;

/** What is known of the restores whose agents may share what they fetch. */
export class Sharers {
  readonly #known: ClusterReads;
  readonly #clock: Clock;
  readonly #own: string;
  readonly #remembered = new Map<string, { readonly all: Promise<Sharer[]>; readonly at: number }>();

  /**
   * @param known what the watches know: nothing is asked of the API server for this
   * @param own the operator's namespace
   */
  constructor(known: ClusterReads, clock: Clock, own: string) {
    this.#known = known;
    this.#clock = clock;
    this.#own = own;
  }

  /** The agents that this restore's agent is to share with, as far as they can be reached. */
  async peersOf({ metadata }: VMRestore): Promise<Peer[]> {
    const { uid = "", namespace = "" } = metadata;
    const others = sharingGroup(uid, await this.#of(namespace));
    const peers = await Promise.all(others.map((other) => this.#peer(other, uid)));
    return peers.filter((peer) => peer !== undefined).sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  #of(namespace: string): Promise<Sharer[]> {
    const time = this.#clock.monotonic();
    for (const [name, { at }] of this.#remembered) if (time - at > REMEMBERED_MS) this.#remembered.delete(name);
    const known = this.#remembered.get(namespace);
    if (known !== undefined) return known.all;
    const all = this.#look(namespace);
    this.#remembered.set(namespace, { all, at: time });
    return all;
  }

  async #look(namespace: string): Promise<Sharer[]> {
    const restores = await this.#known.list(VM_RESTORES, namespace);
    return Promise.all(restores.map((restore) => this.#sharer(restore)));
  }

  async #sharer(restore: VMRestore): Promise<Sharer> {
    const { uid = "", creationTimestamp = "", deletionTimestamp } = restore.metadata;
    const conditions = restore.status?.conditions;
    const isOver =
      deletionTimestamp !== undefined || ["CutOver", "Completed", "Discarded"].some((type) => isTrue(conditions, type));
    // What was made with the agent says which repositories those are, whatever bears their names now.
    const plan = isOver ? undefined : await this.#known.get(SECRETS, this.#own, restoreNames(restore, "").plan);
    return {
      uid,
      created: Date.parse(creationTimestamp) || 0,
      repositories: readsOf(plan?.metadata.labels ?? {}),
      snapshot: restore.status?.snapshot?.id ?? "",
      isOver,
    };
  }

  /** Undefined where it is not made yet, or by an operator that knew of no sharing. */
  async #peer(uid: string, asker: string): Promise<Peer | undefined> {
    const names = restoreNames({ metadata: { uid } } as VMRestore, "");
    const service = await this.#known.get(SERVICES, this.#own, names.agent);
    const secret = await this.#known.get(SECRETS, this.#own, names.keys);
    const { clusterIP: host = "", ports = [] } = service?.spec ?? {};
    const isServed = ports.some(({ port }) => port === AGENT_PORTS.peers);
    const isOurs = [service, secret].every((object) => object?.metadata.labels?.[LABELS.restoreUid] === uid);
    if (secret === undefined || host === "" || !isServed || !isOurs) return undefined;
    const { ca, agent } = readKeys(secret);
    if (ca === "" || agent.key === "") return undefined;
    return peerFor(asker, { id: uid, host, ca, key: agent.key });
  }
}
