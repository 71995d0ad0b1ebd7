import { expect, test } from "@jest/globals";
import {
  CLAIMS,
  INSTANCES,
  JOBS,
  PODS,
  SECRETS,
  SERVICES,
  STATEFUL_SETS,
  VIRTUAL_MACHINES,
  VM_RESTORES,
  VOLUMES,
} from "../kinds.ts";
import { ApiError } from "../runtime/errors.ts";
import type { ResourceType } from "../runtime/objects.ts";
import { changeSpec, reasonIs } from "./testing/course.ts";
import { COPY, type Course, endState, PLACES, SLOW_START, WHOLE } from "./testing/courses.ts";
import { phaseIs, play, playCourse, restoreIn } from "./testing/run.ts";
import { OWN, TENANT, World } from "./testing/world.ts";

// What is deleted, lost or changed under a restore at each place of its course. docs/faults.md tells the outcomes.

type Place = (typeof PLACES)[number];
/** With a machine. */
const WITH_MACHINE = PLACES.filter(
  ([name]) => !["Pending", "Preparing", "Staging", "TearingDown", "Completed"].includes(name),
);
const FROM_AGENT = WITH_MACHINE.filter(([name]) => name !== "Starting");
const BEFORE_END = PLACES.filter(([name]) => name !== "Completed" && name !== "TearingDown");
const named = (places: readonly Place[]) => places.map((place): [string, Place] => [place[0], place]);

/** A course that something happens to at a place, and which then goes on: leave is given where it waits for it. */
function disturbed([place, when]: Place, what: (world: World) => void, until: Course["until"]): Course {
  const isThere: Course["until"] = (seen, world) => when(seen, world);
  const waits = place === "Running" || place === "AwaitingCutover";
  const relocation = place === "Running" ? { ...COPY, begin: "Manual" } : waits ? { ...COPY, cutover: {} } : COPY;
  return {
    name: `at ${place}`,
    spec: { relocation },
    deeds: [
      ...(place === "Starting" ? [SLOW_START] : []),
      { when: isThere, what },
      { when: () => true, what: (world) => (waits ? changeSpec(world, { relocation: COPY }) : undefined) },
    ],
    until,
  };
}

async function undisturbedEnd() {
  return endState(await playCourse(WHOLE));
}

test("nothing that a restore makes has an owner reference to it, so no garbage collector takes a disk from a machine", async () => {
  const world = new World();
  world.restore();
  let looked = 0;
  const step = world.step.bind(world);
  world.step = () => {
    for (const type of [JOBS, SECRETS, SERVICES, STATEFUL_SETS, CLAIMS, VOLUMES, VIRTUAL_MACHINES] as ResourceType[]) {
      for (const { metadata } of world.cluster.all(type)) {
        looked++;
        expect(metadata.ownerReferences ?? []).toEqual([]);
      }
    }
    step();
  };
  await play(world, phaseIs("Completed"));
  expect(looked).toBeGreaterThan(100);
});

test.each(named(FROM_AGENT.slice(0, 4)))(
  "a restore that is deleted in the foreground while %s keeps its agent, and only its own finalizer is taken off",
  async (_, place) => {
    const foreground = (world: World) => {
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", ({ metadata }) => {
        metadata.finalizers = [...(metadata.finalizers ?? []), "foregroundDeletion"];
      });
      world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
    };
    const spec = { relocation: { ...COPY, ...(place[0] === "Running" ? { begin: "Manual" } : { cutover: {} }) } };
    const world = await playCourse({
      name: "foreground",
      spec,
      deeds: [{ when: place[1], what: foreground }],
      until: reasonIs("TornDown", "MachineDependsOnAgent"),
    });
    await play(world, () => false, 20).catch(() => undefined);
    expect(world.cluster.all(STATEFUL_SETS)).toHaveLength(1);
    expect(world.cluster.all(VIRTUAL_MACHINES)).toHaveLength(1);
    world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
    await play(world, (restore) => restore?.metadata.finalizers?.join() === "foregroundDeletion");
    expect(world.cluster.keys().filter((key) => key.includes("vmr-"))).toEqual([]);
  },
);

/** What the namespace controller does: deletes everything in it, and nothing new may be made there. */
function deleteNamespace(world: World): void {
  world.guestReady = true;
  world.cluster.onWrite = ({ verb, namespace, subresource }, moment) => {
    const makes = verb === "create" || (verb === "patch" && subresource === "");
    if (makes && namespace === TENANT && moment === "before")
      throw new ApiError(`namespace ${TENANT} is being terminated`, { status: 403, reason: "Forbidden" });
  };
  const kinds = [VM_RESTORES, VIRTUAL_MACHINES, CLAIMS, JOBS, SECRETS] as ResourceType[];
  for (const type of kinds) {
    for (const { metadata } of world.cluster.all(type))
      if (metadata.namespace === TENANT) world.cluster.erase(type, TENANT, metadata.name);
  }
}

test.each(named(PLACES))(
  "the namespace is deleted while %s: its machine goes before its disk, and nothing is left",
  async (_, place) => {
    const course = disturbed(place, deleteNamespace, (restore) => restore === undefined);
    const world = await playCourse(course, {
      round: ({ cluster }) => {
        // A launcher that still runs still has its disk.
        const launcher = cluster
          .all(PODS)
          .find(({ spec }) =>
            spec?.volumes?.some((volume) => /-restoring$/.test(volume.persistentVolumeClaim?.claimName ?? "")),
          );
        if (launcher !== undefined) expect(cluster.all(STATEFUL_SETS)).toHaveLength(1);
      },
      mayFail: (error) => error instanceof ApiError,
    });
    for (let round = 0; round < 3; round++) world.step();
    expect(world.cluster.keys().filter((key) => key.includes("vmr-") && !key.startsWith("Event/"))).toEqual([]);
  },
);

test.each(named(BEFORE_END))(
  "the agent's pod is evicted, or its node is gone, while %s: it is waited for, and the course goes on",
  async (_, place) => {
    const wanted = await undisturbedEnd();
    let since: number | undefined;
    const lose = (world: World) => {
      since = 0;
      world.agentAnswers = false;
      for (const pod of world.cluster.all(PODS).filter(({ metadata }) => metadata.namespace === OWN))
        world.cluster.change(PODS, OWN, pod.metadata.name, (changed) => {
          if (changed.status?.phase === "Running") changed.status = { phase: "Failed" };
        });
    };
    const world = await playCourse(disturbed(place, lose, phaseIs("Completed")), {
      round: (fresh) => {
        if (since === undefined || since++ !== 45) return;
        // Another pod, on another node, with the same claims.
        for (const pod of fresh.cluster.all(PODS).filter(({ status }) => status?.phase === "Failed"))
          fresh.cluster.erase(PODS, OWN, pod.metadata.name);
        fresh.guestReady = true;
        fresh.agentAnswers = true;
        fresh.restartAgent();
      },
    });
    expect(endState(world)).toEqual(wanted);
    expect(world.cluster.writes.filter(({ verb, type }) => verb === "create" && type === STATEFUL_SETS)).toHaveLength(
      1,
    );
    expect(world.sealed).toBe(true);
  },
);

const EDITS: readonly (readonly [string, (world: World) => void])[] = [
  [
    "stops and starts again",
    (world) => {
      setRunStrategy(world, "Halted");
      world.step();
      setRunStrategy(world, "Always");
    },
  ],
  ["restarts", (world) => world.cluster.erase(INSTANCES, TENANT, "orders-db")],
];

function setRunStrategy(world: World, runStrategy: string): void {
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
    machine.spec = { ...machine.spec, runStrategy };
  });
}

test.each(
  EDITS.flatMap(([deed, what]) => named(WITH_MACHINE).map(([name, place]) => [deed, name, place, what] as const)),
)(
  "somebody %s the machine while %s: the course comes to its end, on what was sealed and copied whole",
  async (_deed, _name, place, what) => {
    const wanted = await undisturbedEnd();
    const disturb = (world: World) => {
      what(world);
      world.guestReady = true;
    };
    const world = await playCourse(disturbed(place, disturb, phaseIs("Completed")));
    expect(endState(world)).toEqual(wanted);
    expect([world.sealed, world.progress?.state]).toEqual([true, "Done"]);
  },
);

test.each(named(WITH_MACHINE))("somebody edits the machine while %s: what was edited stays", async (_, place) => {
  const edit = (world: World) => {
    world.guestReady = true;
    world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", (machine) => {
      machine.metadata.labels = { ...machine.metadata.labels, team: "orders" };
      const template = machine.spec?.template;
      machine.spec = { ...machine.spec, template: { ...template, spec: { ...template?.spec, hostname: "edited" } } };
    });
  };
  const world = await playCourse(disturbed(place, edit, phaseIs("Completed")));
  const machine = world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
  expect(machine?.metadata.labels?.team).toBe("orders");
  expect(machine?.spec?.template?.spec?.hostname).toBe("edited");
  expect(machine?.spec?.template?.spec?.volumes?.[0]?.persistentVolumeClaim?.claimName).toBe("orders-db-root");
});

/** Somebody drains the machine's node, or migrates it by hand: it starts to move into another launcher pod, with the disks it has. */
function setOut(world: World): void {
  world.guestReady = true;
  const instance = world.cluster.peek(INSTANCES, TENANT, "orders-db");
  if (instance === undefined) throw new Error("nothing runs");
  const { name, uid = "", labels } = instance.metadata;
  world.cluster.put(PODS, {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: `virt-launcher-${name}-moved`,
      namespace: TENANT,
      labels: { ...labels, "kubevirt.io": "virt-launcher" },
      ownerReferences: [{ uid, kind: instance.kind, name }],
    },
    spec: { volumes: instance.spec?.volumes ?? [] },
    status: { phase: "Running" },
  });
  world.cluster.change(INSTANCES, TENANT, name, (moving) => {
    const migrationState = { migrationUid: "evacuation", targetPod: `virt-launcher-${name}-moved` };
    moving.status = { ...moving.status, migrationState };
  });
}

/** It has arrived, unless it was shut down on its way. */
function arrive(world: World): void {
  const instance = world.cluster.peek(INSTANCES, TENANT, "orders-db");
  if (instance?.status?.migrationState?.migrationUid !== "evacuation") return;
  world.cluster.change(INSTANCES, TENANT, "orders-db", (moved) => {
    moved.status = { ...moved.status, migrationState: { ...moved.status?.migrationState, completed: true } };
  });
  world.cluster.change(PODS, TENANT, "virt-launcher-orders-db", (pod) => {
    pod.status = { ...pod.status, phase: "Succeeded" };
  });
}

const MOVES = named(WITH_MACHINE.filter(([name]) => !["Halting", "FinalPass", "Switching"].includes(name))).flatMap(
  ([name, place]) => [1, 5].map((rounds) => [name, rounds, place] as const),
);

test.each(MOVES)(
  "the machine moves to another node while %s, within %i rounds: the course goes on to the same end",
  async (name, rounds, place) => {
    const wanted = await undisturbedEnd();
    const course = disturbed(place, setOut, phaseIs("Completed"));
    let passed = 0;
    const arrival = { when: () => ++passed > rounds, what: arrive };
    const [last] = course.deeds.slice(-1);
    const deeds = [...course.deeds.slice(0, -1), arrival, ...(last === undefined ? [] : [last])];
    const world = await playCourse({ ...course, deeds });
    const end = endState(world);
    // The pods of a machine that moved on its target are its own. Those that mounted the agent's disks are gone.
    const keys = end.keys.filter((key) => name !== "Starting" || !key.endsWith("-moved"));
    expect({ ...end, keys }).toEqual(wanted);
    expect(world.faults).toEqual([]);
  },
);

test("a machine that is on its way to another node when it is halted for cutover is cut over all the same", async () => {
  const wanted = await undisturbedEnd();
  const place = WITH_MACHINE.find(([name]) => name === "AwaitingCutover") as Place;
  const world = await playCourse(disturbed(place, setOut, phaseIs("Completed")));
  expect(endState(world)).toEqual(wanted);
});

test.each(named(WITH_MACHINE))(
  "somebody deletes the machine while %s: what it wrote is kept until the restore is deleted too",
  async (name, place) => {
    // Once only the switch is missing, everything is on the target.
    const isSwitched = ["Switching", "Starting"].includes(name);
    const world = await playCourse(
      disturbed(
        place,
        ({ cluster }) => cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db"),
        isSwitched ? phaseIs("Completed") : phaseIs("Failed"),
      ),
    );
    await play(world, () => false, 20).catch(() => undefined);
    const overlays = () => world.cluster.all(CLAIMS).filter(({ metadata }) => metadata.name.endsWith("-overlay"));
    if (!isSwitched) {
      expect(restoreIn(world)?.status?.message).toMatch(/was deleted\. What it wrote is still in the media agent/);
      expect(overlays()).toHaveLength(1);
    }
    // Switched disks are the machine's own: nobody but its users deletes them.
    const target = world.cluster.peek(CLAIMS, TENANT, "orders-db-root");
    if (isSwitched) expect(target).toBeDefined();
    world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
    await play(world, (restore) => restore === undefined);
    expect(overlays()).toEqual([]);
    expect(world.cluster.all(VIRTUAL_MACHINES)).toEqual([]);
    if (isSwitched) expect(world.cluster.peek(CLAIMS, TENANT, "orders-db-root")).toEqual(target);
  },
);

test.each(named(BEFORE_END))(
  "the operator is upgraded while %s: what an older one made is not changed, and its course is brought to the end",
  async (_, place) => {
    const wanted = await undisturbedEnd();
    let set: unknown;
    const age = (world: World) => {
      world.guestReady = true;
      for (const { metadata } of world.cluster.all(STATEFUL_SETS)) {
        world.cluster.change(STATEFUL_SETS as ResourceType<Template>, OWN, metadata.name, (old) => {
          old.spec.template.spec.containers = [{ name: "media-agent", image: "vmrestore:old", args: ["--older"] }];
          delete old.metadata.labels?.["vmrestore.io/restore-namespace"];
        });
        set = world.cluster.peek(STATEFUL_SETS, OWN, metadata.name)?.metadata.uid;
      }
      for (const { metadata } of world.cluster.all(SECRETS).filter((one) => one.metadata.name.endsWith("-plan"))) {
        world.cluster.change(SECRETS, OWN, metadata.name, (secret) => {
          const plan = JSON.parse(Buffer.from(secret.data?.["plan.json"] ?? "", "base64").toString());
          delete plan.backedUpAs;
          delete plan.mount.backend;
          plan.somethingNew = { of: "another version" };
          secret.data = { ...secret.data, "plan.json": Buffer.from(JSON.stringify(plan)).toString("base64") };
        });
      }
      world.cluster.change(VM_RESTORES, TENANT, "orders-db", (restore) => {
        const { timeline: _timeline, mediaAgent: _agent, ...status } = restore.status ?? {};
        const lastTransitionTime = "2025-01-01T00:00:00Z";
        restore.status = {
          ...status,
          conditions: [
            ...(status.conditions ?? []),
            { type: "Ancient", status: "True", reason: "Old", message: "Of an older version.", lastTransitionTime },
          ],
        };
      });
    };
    const world = await playCourse(disturbed(place, age, phaseIs("Completed")));
    const end = endState(world);
    expect({ ...end, conditions: end.conditions?.filter((line) => !line.startsWith("Ancient")) }).toEqual(wanted);
    if (set !== undefined) {
      const made = world.cluster.writes.filter(({ verb, type }) => verb === "create" && type === STATEFUL_SETS);
      expect(made).toHaveLength(1);
    }
  },
);

interface Template {
  apiVersion: string;
  kind: string;
  metadata: { name: string; namespace?: string; labels?: Record<string, string> };
  spec: { template: { spec: { containers: object[] } } };
}

test("a target claim that nobody can provision is waited for in words, and the copy goes on when it is there", async () => {
  const world = new World();
  world.restore();
  world.copyingGoesOn = false;
  await play(world, phaseIs("Relocating"));
  const message =
    '0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims (storage class "fast" is full)';
  const pend = (is: boolean) => {
    for (const pod of world.cluster.all(PODS).filter(({ metadata }) => metadata.name.includes("-copy-")))
      world.cluster.change(PODS, TENANT, pod.metadata.name, (changed) => {
        const conditions = [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message }];
        changed.status = is ? { phase: "Pending", conditions } : { phase: "Running" };
      });
  };
  await play(world, () => world.cluster.all(PODS).some(({ metadata }) => metadata.name.includes("-copy-")));
  pend(true);
  const waiting = await play(world, (restore) => restore?.status?.message?.includes("unbound immediate") === true);
  expect(waiting?.status?.phase).toBe("Relocating");
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  pend(false);
  world.copyingGoesOn = true;
  await play(world, phaseIs("Completed"));
});

test.each(named(BEFORE_END.filter(([name]) => name !== "Pending")))(
  "the repository is not ready any more while %s: what was begun goes on with what the agent has",
  async (_, place) => {
    const wanted = await undisturbedEnd();
    const spoil = (world: World) => {
      world.guestReady = true;
      const type: ResourceType<{
        apiVersion: string;
        kind: string;
        metadata: { name: string };
        status?: { conditions: object[] };
      }> = {
        apiVersion: "vmrestore.io/v1alpha1",
        kind: "BackupRepository",
        plural: "backuprepositories",
        namespaced: true,
      };
      world.cluster.change(type, TENANT, "nightly", (repository) => {
        const message = "The password is wrong.";
        repository.status = {
          conditions: [
            {
              type: "Ready",
              status: "False",
              reason: "WrongPassword",
              message,
              lastTransitionTime: "2026-01-01T00:00:00Z",
            },
          ],
        };
      });
    };
    const world = await playCourse(disturbed(place, spoil, phaseIs("Completed")));
    expect(endState(world)).toEqual(wanted);
  },
);

const OWN_PLACES = BEFORE_END.filter(([name]) => !["Pending", "Preparing"].includes(name));
const OWN_OBJECTS = [
  ["Service", SERVICES, ""],
  ["StatefulSet", STATEFUL_SETS, ""],
  ["keys", SECRETS, "-keys"],
  ["certificate", SECRETS, "-tls"],
  ["cache", CLAIMS, "-cache"],
] as const;

test.each(
  OWN_OBJECTS.flatMap(([what, type, suffix]) =>
    named(OWN_PLACES).map(([name, place]) => [what, name, place, type, suffix] as const),
  ),
)(
  "somebody deletes the agent's %s while %s: it is made anew, and all speak with one authority again",
  async (what, _name, place, type, suffix) => {
    const wanted = await undisturbedEnd();
    let address: string | undefined;
    const lose = (world: World) => {
      world.guestReady = true;
      address = world.cluster.all(SERVICES)[0]?.spec?.clusterIP;
      const name = `vmr-${restoreIn(world)?.metadata.uid}${suffix}`;
      world.cluster.erase(type as ResourceType, OWN, name);
      if (what === "StatefulSet" || what === "keys") world.restartAgent();
    };
    const addresses = new Set<string | undefined>();
    /** While disks were copied last. */
    let authorities = 0;
    const world = await playCourse(disturbed(place, lose, phaseIs("Completed")), {
      round: ({ cluster }) => {
        for (const { spec } of cluster.all(SERVICES)) addresses.add(spec?.clusterIP ?? address);
        const found = cluster.all(SECRETS).flatMap(({ data }) => data?.["ca.crt"] ?? []);
        if (cluster.all(JOBS).some(({ metadata }) => metadata.name.endsWith("-copy")))
          authorities = new Set(found).size;
      },
    });
    // Without its address or keys nobody can ask the agent to take its pin away: that is told.
    const isLate = place[0] === "Starting" && ["Service", "keys"].includes(what);
    const conditions = [...(wanted.conditions ?? []), ...(isLate ? ["PinRemoved=False LeftBehind"] : [])].sort();
    // A copy that is done already needs no certificate any more.
    if (!["FinalPass", "Switching"].includes(place[0])) expect(authorities).toBe(1);
    expect(endState(world)).toEqual({ ...wanted, conditions });
    if (what === "Service") expect([...addresses].filter((one) => one !== undefined)).toEqual(["10.0.0.7"]);
    const made = world.cluster.writes.filter(({ verb, name }) => verb === "create" && name.endsWith("-tls"));
    if (what === "keys" && !["Starting", "Switching"].includes(place[0])) expect(made).toHaveLength(2);
  },
);
