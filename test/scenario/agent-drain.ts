import { setTimeout as delay } from "node:timers/promises";
import { parseDuration } from "../../src/api/duration.ts";
import { OPERATOR_NAMESPACE } from "../../src/lab/quickstart/manifests.ts";
import { VM_NAME } from "../../src/lab/quickstart/virtual-machine.ts";
import type { RestoreScenario } from "./restore-scenario.ts";

const LOOK_EVERY_MS = 25;
const AGENT = "app.kubernetes.io/name=vmrestore-media-agent";
/** KubeVirt refuses the eviction of launchers, and moves their machines itself; in the lab nobody does. */
const ALL_BUT_LAUNCHERS = "kubevirt.io!=virt-launcher";
/** Records that are acknowledged after a drain, before it is believed that the guest goes on. */
const MORE_RECORDS = 3;

/** What the drain of the agent's node came to. */
export interface AgentDrain {
  readonly from: string;
  readonly to: string;
  /** As the restore's status tells it; undefined where the guest had not begun: nobody need have waited. */
  readonly pauseMs: number | undefined;
  /** The longest time without a word of the guest, seen from outside: with what it did itself meanwhile. */
  readonly silenceMs: number;
}

/**
 * Drains the node that the media agent is on, by kubectl, and waits until the agent is on another one, the guest goes on, and the status
 * tells of the move, with its pause where the guest ran before. The node is let in again.
 *
 * @returns undefined where the restore was completed before the agent had moved
 */
export async function drainAgent(scenario: RestoreScenario): Promise<AgentDrain | undefined> {
  const watch = new GuestWatch(scenario);
  try {
    const from = await agentNode(scenario);
    if (from === undefined) return undefined;
    const before = (await scenario.cluster.restoreStatus(VM_NAME))?.mediaAgent?.lastMove;
    const hasBegun = (await watch.records()) > 0;
    await drain(scenario, from);
    const { phase, mediaAgent } = await scenario.until((status) => {
      const { lastMove } = status.mediaAgent ?? {};
      const isNew = lastMove !== undefined && (lastMove.at !== before?.at || lastMove.to !== before.to);
      return status.phase === "Completed" || (isNew && (lastMove.pause !== undefined || !hasBegun));
    });
    if (phase === "Completed" || mediaAgent?.lastMove === undefined) return undefined;
    const records = await watch.records();
    while ((await watch.records()) < records + MORE_RECORDS) await scenario.look();
    const { to, pause } = mediaAgent.lastMove;
    const pauseMs = pause === undefined ? undefined : parseDuration(pause);
    return { from, to, pauseMs, silenceMs: watch.silenceMs };
  } finally {
    await watch.end();
  }
}

/** Where the agent is, or undefined where there is none (any more). */
async function agentNode(scenario: RestoreScenario): Promise<string | undefined> {
  const nodes = "jsonpath={.items[*].spec.nodeName}";
  const found = await scenario.kubectl("get", "pods", "-n", OPERATOR_NAMESPACE, "-l", AGENT, "-o", nodes);
  return found.trim() === "" ? undefined : found.trim();
}

/** Drains the node that the media agent is on, if there is one, and lets it in again at once. */
export async function drainWherever(scenario: RestoreScenario): Promise<void> {
  const node = await agentNode(scenario);
  if (node !== undefined) await drain(scenario, node);
}

/** A whole `kubectl drain`: it returns when the evicted pods are gone. */
async function drain(scenario: RestoreScenario, node: string): Promise<void> {
  await scenario.kubectl("drain", node, "--pod-selector", ALL_BUT_LAUNCHERS, "--delete-emptydir-data");
  await scenario.kubectl("uncordon", node);
}

/** What the guest says of its records, looked at all the time. */
class GuestWatch {
  readonly #scenario: RestoreScenario;
  readonly #running: Promise<void>;
  #isOver = false;
  #last: { readonly records: number; readonly at: number } | undefined;
  #silenceMs = 0;

  constructor(scenario: RestoreScenario) {
    this.#scenario = scenario;
    this.#running = this.#run();
  }

  /** How many were acknowledged, by all its boots. */
  async records(): Promise<number> {
    const all = (await this.#scenario.acknowledged()).map(({ record }) => record);
    return all.reduce((most, record) => Math.max(most, record), 0);
  }

  /** The longest time between two of its records, in milliseconds. */
  get silenceMs(): number {
    return Math.round(this.#silenceMs);
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) {
      const records = await this.records();
      const at = performance.now();
      if (this.#last !== undefined) this.#silenceMs = Math.max(this.#silenceMs, at - this.#last.at);
      // One that boots has not begun yet.
      if (records > 0 && records !== this.#last?.records) this.#last = { records, at };
      await delay(LOOK_EVERY_MS);
    }
  }
}
