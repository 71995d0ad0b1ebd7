import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { DISRUPTION_BUDGETS, INSTANCES, NODES, PODS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { runByEvents } from "../testing/event-driven.ts";
import { boundBy } from "./agent-place.ts";
import { reasonIs } from "./testing/course.ts";
import { Crash, phaseIs, play, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

const LIVE_MOUNT = { relocation: { strategy: "None" } };
const runs = reasonIs("Expired", "Never");

/** @param reachableFrom where the agent's claims can be reached from; undefined: anywhere */
function worldWith(reachableFrom?: readonly string[]): World {
  const world = new World();
  for (const name of ["a", "b"]) {
    const labels = { "kubernetes.io/hostname": name };
    world.cluster.put(NODES, { apiVersion: "v1", kind: "Node", metadata: { name, labels }, spec: {} });
  }
  world.agentNode = "a";
  world.reachableFrom = reachableFrom;
  return world;
}

const budgets = (world: World) => world.cluster.all(DISRUPTION_BUDGETS);
const condition = (world: World) => conditionOf(restoreIn(world)?.status?.conditions, "AgentMovable");
const cordon = (world: World, name: string, unschedulable: boolean) =>
  world.cluster.change(NODES, undefined, name, (node) => {
    node.spec = { ...node.spec, unschedulable };
  });
const agentMovedTo = (world: World, node: string) => {
  world.agentNode = node;
  for (const pod of world.cluster.all(PODS))
    if (pod.metadata.namespace === OWN) world.cluster.erase(PODS, OWN, pod.metadata.name);
  world.restartAgent();
};
const eventsOf = (world: World, reason: string) =>
  world.cluster.all(EVENTS).filter((event) => (event as { reason?: string }).reason === reason);

test("an agent that can go elsewhere is not held, and its move is told with its pause, once", async () => {
  const world = worldWith();
  world.restore(LIVE_MOUNT);
  const driven = await runByEvents(world);
  await driven.seconds(12);
  expect(runs(restoreIn(world))).toBe(true);
  expect(condition(world)).toMatchObject({ status: "True", reason: "Movable" });
  expect(condition(world)?.message).toContain("node a");
  expect(restoreIn(world)?.status?.mediaAgent).toMatchObject({ node: "a" });
  expect(budgets(world)).toEqual([]);

  world.agentAnswers = false;
  cordon(world, "a", true);
  await driven.seconds(6);
  expect(reasonIs("Degraded", "AgentUnreachable")(restoreIn(world))).toBe(true);
  world.agentAnswers = true;
  agentMovedTo(world, "b");
  world.move = { from: "a", to: "b", stopped: 1000, started: 4000 };
  await driven.seconds(6);
  const at = new Date(1000).toISOString();
  expect(restoreIn(world)?.status?.mediaAgent).toMatchObject({ node: "b", lastMove: { from: "a", to: "b", at } });
  expect(eventsOf(world, "AgentMoved")).toEqual([]);
  world.move = { ...world.move, answered: 7300 };
  await driven.seconds(12);
  expect(restoreIn(world)?.status?.mediaAgent?.lastMove).toEqual({ from: "a", to: "b", at, pause: "6.3s" });
  expect(condition(world)?.message).toContain("node b");
  expect(eventsOf(world, "AgentMoved")).toHaveLength(1);
  // Nothing more is asked of the API server for it.
  const before = world.cluster.reads.length + world.cluster.writes.length;
  await driven.seconds(60);
  expect(world.cluster.reads.length + world.cluster.writes.length - before).toBe(0);
  await driven.end();
});

test("the drain of a node that the agent cannot leave is held for as long as the disks are used, and that is told", async () => {
  const world = worldWith(["a"]);
  world.restore(LIVE_MOUNT);
  const driven = await runByEvents(world);
  await driven.seconds(12);
  expect(runs(restoreIn(world))).toBe(true);
  expect(condition(world)).toMatchObject({ status: "False", reason: "BoundToNode" });
  expect(restoreIn(world)?.status?.phase).toBe("Running");
  expect(budgets(world)).toHaveLength(1);
  const [pod] = world.cluster.all(PODS).filter(({ metadata }) => metadata.namespace === OWN);
  const { spec } = budgets(world)[0] as unknown as {
    spec: { maxUnavailable: number; selector: { matchLabels: object } };
  };
  expect(spec.maxUnavailable).toBe(0);
  expect(pod?.metadata.labels).toMatchObject(spec.selector.matchLabels);

  const before = world.cluster.reads.length + world.cluster.writes.length;
  await driven.seconds(60);
  expect(world.cluster.reads.length + world.cluster.writes.length - before).toBe(0);
  cordon(world, "a", true);
  await driven.seconds(1);
  expect(condition(world)).toMatchObject({ status: "False", reason: "DrainHeld" });
  expect(eventsOf(world, "DrainHeld")).toHaveLength(1);
  cordon(world, "a", false);
  await driven.seconds(1);
  expect(condition(world)?.reason).toBe("BoundToNode");

  // A machine that is stopped waits for nothing.
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    machine.spec = { ...machine.spec, runStrategy: "Halted" };
  });
  await driven.seconds(8);
  expect(world.cluster.all(INSTANCES)).toEqual([]);
  expect(budgets(world)).toEqual([]);
  expect(condition(world)?.message).toContain("may be drained");
  await driven.end();
});

test("where no node takes the agent, the scheduler's words are told", async () => {
  const world = worldWith();
  world.restore(LIVE_MOUNT);
  await play(world, runs);
  world.agentAnswers = false;
  const message = "0/2 nodes are available: 2 node(s) were unschedulable.";
  for (const { metadata } of world.cluster.all(PODS).filter((pod) => pod.metadata.namespace === OWN))
    world.cluster.change(PODS, OWN, metadata.name, (pod) => {
      pod.spec = {};
      pod.status = { phase: "Pending", conditions: [{ type: "PodScheduled", status: "False", message }] };
    });
  const waiting = await play(world, reasonIs("Degraded", "AgentUnreachable"));
  expect(waiting?.status?.message).toContain(message);
  // Where it could go is not forgotten meanwhile.
  expect(condition(world)?.status).toBe("True");
});

test("an operator that dies before or after any write leaves no budget, and makes none twice", async () => {
  const whole = async (prepare: (world: World) => void) => {
    const world = worldWith(["a"]);
    world.restore();
    prepare(world);
    await play(world, phaseIs("Completed"), 300);
    return world;
  };
  const counted = await whole(() => undefined);
  const writes = counted.cluster.writes.filter(({ type }) => type !== EVENTS);
  const at = writes.flatMap(({ type }, index) => (type.kind === DISRUPTION_BUDGETS.kind ? [index + 1] : []));
  expect(at.length).toBeGreaterThanOrEqual(2);
  for (const n of at.flatMap((index) => [index, index + 1])) {
    for (const when of ["before", "after"] as const) {
      const world = await whole((other) => {
        let seen = 0;
        other.cluster.onWrite = ({ type }, moment) => {
          if (type !== EVENTS && moment === when && ++seen === n) throw new Crash();
        };
      });
      expect({ n, when, left: budgets(world).length }).toEqual({ n, when, left: 0 });
      const made = world.cluster.writes.filter(
        ({ type, verb }) => type.kind === DISRUPTION_BUDGETS.kind && verb === "create",
      );
      expect({ n, when, made: made.length }).toEqual({ n, when, made: 1 });
    }
  }
});

test("deleted with its machine, it leaves no budget", async () => {
  const world = worldWith(["a"]);
  world.restore({ ...LIVE_MOUNT, deletionPolicy: "Discard" });
  await play(world, runs);
  expect(budgets(world)).toHaveLength(1);
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(budgets(world)).toEqual([]);
});

const node = (name: string, labels: Record<string, string>) =>
  ({ apiVersion: "v1", kind: "Node", metadata: { name, labels } }) as const;
const term = (key: string, operator: string, ...values: string[]) => ({ key, operator, values });
const ZONES = [node("a", { zone: "1", disk: "ssd" }), node("b", { zone: "1" }), node("c", { zone: "2" })];

test.each([
  ["no affinity", undefined, {}, undefined],
  ["its own node", [term("zone", "In", "1"), term("disk", "Exists")], {}, "overlay"],
  ["a zone with two nodes", [term("zone", "In", "1")], {}, undefined],
  ["a zone whose other node is not selected", [term("zone", "In", "1")], { disk: "ssd" }, "overlay"],
  ["all but one", [term("zone", "NotIn", "2")], {}, undefined],
  ["those without a label", [term("disk", "DoesNotExist")], {}, undefined],
  ["what nobody has", [term("zone", "Gt", "2")], {}, "overlay"],
  ["a number", [term("zone", "Lt", "2")], {}, undefined],
  ["an operator that is not known", [term("zone", "Near", "1")], {}, "overlay"],
])("whether a volume binds the agent to its node: %s", (_, matchExpressions, selector, wanted) => {
  const required = matchExpressions && { nodeSelectorTerms: [{ matchExpressions }] };
  const spec = required === undefined ? {} : { nodeAffinity: { required } };
  const volume = { apiVersion: "v1", kind: "PersistentVolume", metadata: { name: "v" }, spec } as const;
  const free = { ...volume, spec: {} };
  const volumes = [
    { claim: "cache", volume: free },
    { claim: "overlay", volume },
  ];
  const place = { node: undefined, nodeName: "a", volumes, nodes: ZONES, budget: undefined };
  // Nodes are looked at only where a volume asks for some.
  const seen = required === undefined ? { ...place, nodes: [] } : place;
  expect(boundBy(seen as Parameters<typeof boundBy>[0], selector)).toBe(wanted);
});
