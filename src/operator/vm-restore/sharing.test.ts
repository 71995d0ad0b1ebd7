import { expect, test } from "@jest/globals";
import { peersDigest, peerToken } from "../../api/peers.ts";
import { SECRETS, SERVICES, VM_RESTORES } from "../kinds.ts";
import { runByEvents } from "../testing/event-driven.ts";
import { readKeys } from "./keys.ts";
import { TENANT, World } from "./testing/world.ts";

const LIVE = { relocation: { strategy: "None" } };

function uidOf(world: World, name: string): string {
  return world.cluster.peek(VM_RESTORES, TENANT, name)?.metadata.uid ?? "";
}

/** uids of those that a restore's agent was told of last; undefined where it was told nothing. */
function toldTo(world: World, name: string): string[] | undefined {
  const keys = world.cluster.all(SECRETS).find(({ metadata }) => metadata.name === `vmr-${uidOf(world, name)}-keys`);
  if (keys === undefined) return undefined;
  return world.agent.peersTold.get(readKeys(keys).ca)?.peers.map(({ id }) => id);
}

const machine = (name: string) => ({ ...LIVE, virtualMachine: { name } });

test("agents are told of one another when a second restore comes, and again when it goes; then nobody says a word", async () => {
  const world = new World();
  world.restore(machine("a"), "a");
  const driven = await runByEvents(world);
  await driven.seconds(20);
  expect(toldTo(world, "a")).toBeUndefined();
  world.restore(machine("b"), "b");
  await driven.seconds(20);
  expect(toldTo(world, "a")).toEqual([uidOf(world, "b")]);
  expect(toldTo(world, "b")).toEqual([uidOf(world, "a")]);
  const requests = () => world.cluster.reads.length + world.cluster.writes.length;
  const [before, told] = [requests(), world.told.length];
  await driven.seconds(60);
  expect(requests()).toBe(before);
  expect(world.told.length).toBe(told);
  // Agents that began anew know nothing.
  world.restartAgent();
  await driven.seconds(10);
  expect(toldTo(world, "a")).toEqual([uidOf(world, "b")]);
  expect(toldTo(world, "b")).toEqual([uidOf(world, "a")]);
  await world.cluster.delete(VM_RESTORES, world.cluster.peek(VM_RESTORES, TENANT, "b") as never);
  await driven.seconds(10);
  expect(toldTo(world, "a")).toEqual([]);
  // Its machine needs its agent on, which the others do not count on any more.
  expect(toldTo(world, "b")).toEqual([]);
  await driven.end();
});

test("each is told where the other is, by whose certificate it is known, and what to show it", async () => {
  const world = new World();
  for (const name of ["a", "b"]) world.restore(machine(name), name);
  const driven = await runByEvents(world);
  await driven.seconds(20);
  const [a, b] = ["a", "b"].map((name) => uidOf(world, name));
  const secretOf = (uid = "") => {
    const secret = world.cluster.all(SECRETS).find(({ metadata }) => metadata.name === `vmr-${uid}-keys`);
    if (secret === undefined) throw new Error("no keys");
    return readKeys(secret);
  };
  const told = world.agent.peersTold.get(secretOf(a).ca);
  const peer = {
    id: b,
    host: "10.0.0.7",
    port: 8444,
    ca: secretOf(b).ca,
    token: peerToken(secretOf(b).agent.key, a ?? ""),
  };
  expect(told).toEqual({ digest: peersDigest([peer as never]), peers: [peer] });
  expect(JSON.stringify(world.cluster.all(VM_RESTORES))).not.toContain(peer.token);
  expect(JSON.stringify(world.told)).not.toContain(peer.token);
  await driven.end();
});

test("an agent that cannot be told goes on alone, and is told again after a while", async () => {
  const world = new World();
  const connect = world.connect;
  let tries = 0;
  let refuses = true;
  world.connect = (options) => {
    const control = connect(options);
    const setPeers: typeof control.setPeers = async (request) => {
      tries++;
      if (refuses) throw new Error("not now");
      await control.setPeers(request);
    };
    return { ...control, setPeers };
  };
  for (const name of ["a", "b"]) world.restore(machine(name), name);
  const driven = await runByEvents(world);
  await driven.seconds(30);
  for (const name of ["a", "b"]) expect(world.cluster.peek(VM_RESTORES, TENANT, name)?.status?.phase).toBe("Running");
  expect(tries).toBeGreaterThan(2);
  expect(tries).toBeLessThan(14);
  refuses = false;
  await driven.seconds(16);
  expect(toldTo(world, "a")).toEqual([uidOf(world, "b")]);
  await driven.end();
});

test("one whose agent an earlier operator made, without a port for it, is left out", async () => {
  const world = new World();
  world.restore(machine("a"), "a");
  const driven = await runByEvents(world);
  await driven.seconds(20);
  const [service] = world.cluster.all(SERVICES);
  world.cluster.change(SERVICES, service?.metadata.namespace, service?.metadata.name ?? "", (changed) => {
    changed.spec = { ...changed.spec, ports: [{ port: 8443 }] };
  });
  world.restore(machine("b"), "b");
  await driven.seconds(20);
  expect(toldTo(world, "b")).toBeUndefined();
  expect(toldTo(world, "a")).toEqual([uidOf(world, "b")]);
  await driven.end();
});
