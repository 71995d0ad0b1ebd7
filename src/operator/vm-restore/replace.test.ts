import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { CLAIMS, INSTANCES, JOBS, MIGRATIONS, NAMESPACES, SECRETS, VIRTUAL_MACHINES, VM_RESTORES } from "../kinds.ts";
import { changeSpec, reasonIs } from "./testing/course.ts";
import { COPY, PLACES, relocationUpTo, SLOW_START } from "./testing/courses.ts";
import { phaseIs, play, playCourse, restoreIn } from "./testing/run.ts";
import { OLD_UID, OWN, TENANT, World } from "./testing/world.ts";

const REPLACE = { replace: { confirmUid: OLD_UID } };

function started(spec: object = REPLACE, change: (world: World) => void = () => undefined): World {
  const world = new World();
  world.existing();
  change(world);
  world.restore(spec);
  return world;
}

const machineIn = (world: World) => world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
const oldClaims = (world: World) =>
  world.cluster.all(CLAIMS).filter(({ metadata }) => ["orders-db-root", "orders-db-data"].includes(metadata.name));
const kept = (world: World) =>
  world.cluster
    .all(SECRETS)
    .filter(({ metadata }) => metadata.name.endsWith("-replaced") && metadata.namespace === TENANT);
const tell = (world: World, type: string) => conditionOf(restoreIn(world)?.status?.conditions, type);

/** Machines keep the state of a TPM. */
const withTpm = (world: World): void => {
  world.hasTpm = true;
  world.existing();
};
const stateClaims = (world: World) =>
  world.cluster.all(CLAIMS).filter(({ metadata }) => metadata.name.startsWith("persistent-state-for-"));

/** The old machine is there, with its disks, and runs: as it was, or made again of its manifest. */
function expectOld(world: World, name = ""): void {
  const machine = machineIn(world);
  expect({ name, runStrategy: machine?.spec?.runStrategy }).toEqual({ name, runStrategy: "Always" });
  expect(machine?.spec?.template?.spec?.volumes).toEqual([
    { name: "root", persistentVolumeClaim: { claimName: "orders-db-root" } },
    { name: "data", dataVolume: { name: "orders-db-data" } },
  ]);
  expect(machine?.metadata.labels).toEqual({ app: "orders-db" });
  expect(machine?.metadata.annotations?.["example.org/owner"]).toBe("orders");
  expect(oldClaims(world)).toHaveLength(2);
  world.step();
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  expect(world.faults).toEqual([]);
  if (!world.hasTpm) return;
  const [first] = world.stateUsed;
  expect({ name, state: world.stateUsed.at(-1) }).toEqual({ name, state: first });
  expect(stateClaims(world).map(({ metadata }) => [metadata.name, metadata.labels])).toEqual([
    [first, { "persistent-state-for": "orders-db" }],
  ]);
}

test("the machine that the uid names runs until everything is ready, and is replaced with its disks kept", async () => {
  const world = started(REPLACE, (fresh) => {
    fresh.staged = 50;
    fresh.launchable = false;
  });
  const before = machineIn(world);
  await play(world, phaseIs("Staging"));
  expect(machineIn(world)).toEqual(before);
  expect(world.cluster.all(INSTANCES)).toHaveLength(1);
  world.staged = 100;
  world.launchable = true;
  await play(world, phaseIs("Completed"));
  const after = machineIn(world);
  expect(after?.metadata.uid).not.toBe(OLD_UID);
  const claimName = `orders-db-root-${OLD_UID.slice(0, 8)}`;
  expect(after?.spec?.template?.spec?.volumes).toEqual([{ name: "root", persistentVolumeClaim: { claimName } }]);
  // Nobody owns them any more: whatever becomes of the new machine, they stay.
  expect(oldClaims(world).map(({ metadata }) => metadata.ownerReferences)).toEqual([[], []]);
  const [secret] = kept(world);
  const text = Buffer.from(secret?.data?.["virtualmachine.json"] ?? "", "base64").toString();
  expect(JSON.parse(text)).toMatchObject({
    metadata: { name: "orders-db", annotations: { "example.org/owner": "orders" } },
    spec: { ...before?.spec, runStrategy: "Always" },
  });
  expect(restoreIn(world)?.status?.replaced).toMatchObject({
    uid: OLD_UID,
    manifestSecret: secret?.metadata.name,
    claims: ["orders-db-root", "orders-db-data"],
  });
  expect(restoreIn(world)?.status?.message).toContain("orders-db-root, orders-db-data");
  expect(world.faults).toEqual([]);
});

test("every step is done only after the one before it is seen", async () => {
  const world = started();
  const seen: string[] = [];
  world.cluster.onWrite = ({ verb, type, name, namespace }, moment) => {
    if (moment !== "before" || namespace !== TENANT) return;
    const machine = machineIn(world);
    if (type === VIRTUAL_MACHINES || (type === SECRETS && name.endsWith("-replaced")))
      seen.push(`${verb} ${type.kind}`);
    if (type === VIRTUAL_MACHINES && verb === "update" && machine?.metadata.uid === OLD_UID) {
      expect(restoreIn(world)?.status?.replaced?.uid).toBe(OLD_UID);
      expect(kept(world)).toHaveLength(1);
    }
    if (type === VIRTUAL_MACHINES && verb === "delete") expect(world.cluster.all(INSTANCES)).toHaveLength(0);
  };
  await play(world, reasonIs("VirtualMachineCreated", "Created"));
  expect(seen).toEqual(["create Secret", "update VirtualMachine", "delete VirtualMachine", "create VirtualMachine"]);
});

test.each([
  ["VirtualMachineExists", (world: World) => world.existing("01de0000-0000-4000-8000-000000000002"), "another"],
  ["ReplacedNotFound", () => undefined, "none"],
] as const)("what the uid does not name is not touched: %s", async (reason, make, _) => {
  const world = new World();
  make(world);
  world.restore(REPLACE);
  const before = machineIn(world);
  await play(world, reasonIs("TargetReady", reason));
  expect(machineIn(world)).toEqual(before);
});

test.each([
  [
    "ReplacedIsOwned",
    (world: World) =>
      world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ metadata }) => {
        metadata.ownerReferences = [{ kind: "VirtualMachinePool", name: "pool", uid: "1" }];
      }),
  ],
  [
    "ReplacedByAnother",
    (world: World) =>
      world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ metadata }) => {
        metadata.annotations = { "vmrestore.io/being-replaced-by": "another" };
      }),
  ],
])("a machine that cannot be replaced is left alone, and goes on once it can: %s", async (reason, spoil) => {
  const world = started(REPLACE, spoil);
  const before = machineIn(world);
  await play(world, reasonIs("TargetReady", reason));
  expect(machineIn(world)).toEqual(before);
});

test("without being named, the machine is not touched, and how to name it is told", async () => {
  const world = started({});
  await play(world, reasonIs("TargetReady", "VirtualMachineExists"));
  expect(restoreIn(world)?.status?.message).toContain("spec.replace.confirmUid");
  expectOld(world);
});

test("a machine that is deleted and made anew while all is made ready is not touched", async () => {
  const world = started(REPLACE, (fresh) => {
    fresh.launchable = false;
    fresh.staged = 50;
  });
  await play(world, phaseIs("Staging"));
  world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
  world.existing("01de0000-0000-4000-8000-000000000002");
  world.staged = 100;
  world.launchable = true;
  await play(world, reasonIs("VirtualMachineCreated", "VirtualMachineExists"));
  expectOld(world);
  expect(kept(world)).toHaveLength(0);
});

test("an edit just before it is shut down is kept, and a start meanwhile does not keep it from being replaced", async () => {
  const world = started();
  let edits = 0;
  world.cluster.onWrite = ({ verb, type, namespace }, moment) => {
    if (moment !== "after" || namespace !== TENANT || type !== SECRETS || verb !== "create" || edits++ > 0) return;
    world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ metadata }) => {
      metadata.annotations = { ...metadata.annotations, "example.org/note": "edited" };
    });
  };
  await play(world, () => machineIn(world)?.spec?.runStrategy === "Halted");
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ spec }) => {
    if (spec !== undefined) spec.runStrategy = "Always";
  });
  await play(world, phaseIs("Completed"));
  const text = Buffer.from(kept(world)[0]?.data?.["virtualmachine.json"] ?? "", "base64").toString();
  expect(JSON.parse(text)).toMatchObject({
    metadata: { annotations: { "example.org/owner": "orders", "example.org/note": "edited" } },
    spec: { runStrategy: "Always" },
  });
});

const HALTED: (typeof PLACES)[number] = [
  "Replacing",
  (_, world) => machineIn(world)?.metadata.annotations?.["vmrestore.io/being-replaced-by"] !== undefined,
];
const BETWEEN: (typeof PLACES)[number] = [
  "between the two",
  (restore, world) => restore?.status?.replaced !== undefined && machineIn(world) === undefined,
];
const BEFORE_THE_END = [...PLACES.filter(([place]) => place !== "Completed"), HALTED, BETWEEN];
/** Nothing is there but the inspection. */
const BEFORE_THE_PLAN = ["Pending"];

test.each(BEFORE_THE_END)("undo while %s: the old machine is back, and what is lost is told", async (place, when) => {
  const world = await playCourse({
    name: `undone while ${place}`,
    spec: { ...REPLACE, relocation: relocationUpTo(place) },
    deeds: [
      ...(place === "Starting" ? [SLOW_START] : []),
      { when, what: (seen) => changeSpec(seen, { replace: { confirmUid: OLD_UID, undo: true } }) },
    ],
    before: withTpm,
    until: BEFORE_THE_PLAN.includes(place) ? reasonIs("TargetReady", "Undone") : phaseIs("Completed"),
  });
  expectOld(world, place);
  expect(kept(world)).toEqual([]);
  const left = world.cluster
    .keys()
    .filter((key) => !/^(Event|VMRestore|VMProfile|StorageClass|BackupRepository)\//.test(key));
  expect(left.filter((key) => !/inspect|persistent-state-for/.test(key))).toEqual([
    "PersistentVolumeClaim/default/orders-db-data",
    "PersistentVolumeClaim/default/orders-db-root",
    "Pod/default/virt-launcher-orders-db",
    "VirtualMachine/default/orders-db",
    "VirtualMachineInstance/default/orders-db",
  ]);
  if (BEFORE_THE_PLAN.includes(place)) return;
  expect(restoreIn(world)?.status?.replaced).toBeUndefined();
  const wasMade = !["Preparing", "Staging", "Replacing", "between the two"].includes(place);
  expect(tell(world, "Completed")?.message).toMatch(
    wasMade ? /wrote since it was made, at .* is lost/ : /nothing is lost/,
  );
  expect(tell(world, "PutBack")?.status).toBe("True");
  expect(tell(world, "CutOver")?.status ?? "False").toBe("False");
});

const POLICIES = BEFORE_THE_END.flatMap((place) =>
  (["Retain", "Discard"] as const).map((policy) => [policy, ...place] as const),
);

test.each(POLICIES)(
  "deleted with %s while %s: the old machine or the restored one is left",
  async (policy, place, when) => {
    const world = await playCourse({
      name: `deleted while ${place}`,
      spec: { ...REPLACE, relocation: relocationUpTo(place), deletionPolicy: policy },
      deeds: [
        ...(place === "Starting" ? [SLOW_START] : []),
        {
          when,
          what: (seen) => {
            seen.guestReady = true;
            seen.cluster.erase(VM_RESTORES, TENANT, "orders-db");
          },
        },
      ],
      before: withTpm,
      until: (restore) => restore === undefined || reasonIs("TornDown", "MachineDependsOnAgent")(restore),
    });
    const machine = machineIn(world);
    expect(machine).toBeDefined();
    expect(oldClaims(world)).toHaveLength(2);
    const isRestored = machine?.metadata.labels?.["vmrestore.io/restore-uid"] !== undefined;
    const survives = ["Halting", "FinalPass", "Switching", "Starting", "TearingDown"].includes(place);
    const depends = ["Launching", "Running", "Relocating", "AwaitingCutover"].includes(place) && policy === "Retain";
    expect({ place, isRestored }).toEqual({ place, isRestored: survives || depends });
    if (isRestored) expect(kept(world)).toHaveLength(1);
    else {
      expectOld(world, place);
      expect(kept(world)).toEqual([]);
    }
    if (restoreIn(world) === undefined)
      expect(world.cluster.keys().filter((key) => key.includes(`/${OWN}/`))).toEqual([]);
  },
);

test("undo in the middle of a live migration, and one whose disks were moved live", async () => {
  const world = new World();
  world.volumeMigrations.install();
  world.existing();
  world.restore({ ...REPLACE, relocation: { target: { storageClassName: "fast" } } });
  world.volumeMigrations.stalls = true;
  await play(world, () => world.cluster.all(MIGRATIONS).some(({ status }) => status?.phase === "Running"));
  changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } });
  await play(world, phaseIs("Completed"));
  expectOld(world);
  expect(kept(world)).toEqual([]);

  const moved = new World();
  moved.volumeMigrations.install();
  moved.existing();
  moved.restore({ ...REPLACE, relocation: { target: { storageClassName: "fast" } } });
  await play(moved, phaseIs("Completed"));
  expect(restoreIn(moved)?.status).toMatchObject({ strategy: "LiveMigration", replaced: { uid: OLD_UID } });
  expect(oldClaims(moved)).toHaveLength(2);
});

test("an old disk is no target, and is not said to be in the way", async () => {
  const target = { storageClassName: "fast", perDisk: [{ name: "root", claimName: "orders-db-root" }] };
  const world = started({ ...REPLACE, relocation: { target } });
  await play(world, reasonIs("TargetReady", "ClaimExists"));
  expect(tell(world, "TargetReady")?.message).not.toContain("Delete");
  expectOld(world);
});

test("a machine that turns out not to be replaceable when it is halted already is started again", async () => {
  const world = started();
  await play(world, () => machineIn(world)?.spec?.runStrategy === "Halted");
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ metadata }) => {
    metadata.ownerReferences = [{ kind: "VirtualMachinePool", name: "pool", uid: "1" }];
  });
  await play(world, reasonIs("VirtualMachineCreated", "ReplacedIsOwned"));
  expectOld(world);
  expect(machineIn(world)?.metadata.uid).toBe(OLD_UID);
  world.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ metadata }) => {
    metadata.ownerReferences = [];
  });
  await play(world, phaseIs("Completed"));
  expect(machineIn(world)?.metadata.uid).not.toBe(OLD_UID);
});

test("a machine that people start themselves is put back, and not started", async () => {
  const world = started({ ...REPLACE, relocation: { ...COPY, begin: "Manual" } }, (fresh) => {
    fresh.cluster.change(VIRTUAL_MACHINES, TENANT, "orders-db", ({ spec }) => {
      if (spec !== undefined) spec.runStrategy = "Manual";
    });
  });
  await play(world, reasonIs("Relocated", "AwaitingBegin"));
  changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } });
  await play(world, phaseIs("Completed"));
  expect(machineIn(world)?.spec?.runStrategy).toBe("Manual");
  expect(tell(world, "PutBack")?.message).toContain("start it yourself");
});

test("a live mount that is discarded gives the place back", async () => {
  const world = started({
    ...REPLACE,
    relocation: { strategy: "None" },
    liveMount: { expiresAfter: "20s", onExpiry: "Discard" },
  });
  await play(world, phaseIs("Completed"));
  expectOld(world);
});

test("a kept manifest that somebody changed makes no machine; one that people make themselves ends the waiting", async () => {
  const world = started({ ...REPLACE, relocation: { ...COPY, begin: "Manual" } });
  await play(world, reasonIs("Relocated", "AwaitingBegin"));
  const [secret] = kept(world);
  world.cluster.change(SECRETS, TENANT, secret?.metadata.name ?? "", (changed) => {
    changed.data = { "virtualmachine.json": Buffer.from("{}").toString("base64") };
  });
  changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } });
  await play(world, reasonIs("PutBack", "ManifestLost"));
  expect(machineIn(world)).toBeUndefined();
  expect(restoreIn(world)?.status?.phase).toBe("Failed");
  expect(oldClaims(world)).toHaveLength(2);
  world.existing("01de0000-0000-4000-8000-000000000003");
  await play(world, phaseIs("Completed"));
  expect(machineIn(world)?.metadata.uid).toBe("01de0000-0000-4000-8000-000000000003");
});

test("a namespace that is being deleted is not held up by a machine that cannot be put back", async () => {
  const world = started({ ...REPLACE, deletionPolicy: "Discard", relocation: { ...COPY, begin: "Manual" } });
  await play(world, reasonIs("Relocated", "AwaitingBegin"));
  const deletionTimestamp = new Date(world.clock.now()).toISOString();
  world.cluster.put(NAMESPACES, {
    apiVersion: "v1",
    kind: "Namespace",
    metadata: { name: TENANT, deletionTimestamp },
  });
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
  await play(world, (restore) => restore === undefined);
  expect(machineIn(world)).toBeUndefined();
});

test("each of the two machines starts with the TPM state of its own, and the old one's is kept", async () => {
  const world = started(REPLACE, (fresh) => {
    fresh.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db");
    fresh.cluster.erase(INSTANCES, TENANT, "orders-db");
    withTpm(fresh);
  });
  const [old] = world.stateUsed;
  world.cluster.onWrite = ({ type, verb }, moment) => {
    if (type !== VIRTUAL_MACHINES || verb !== "create" || moment !== "before") return;
    const labelled = stateClaims(world).filter(
      ({ metadata }) => metadata.labels?.["persistent-state-for"] !== undefined,
    );
    expect(labelled.map(({ metadata }) => metadata.name)).not.toContain(old);
    expect(labelled).toHaveLength(1);
  };
  await play(world, phaseIs("Completed"));
  const others = world.stateUsed.slice(1);
  expect(others.length).toBeGreaterThan(0);
  expect(new Set(others).size).toBe(1);
  expect(others).not.toContain(old);
  const kept = stateClaims(world).find(({ metadata }) => metadata.name === old);
  expect(kept?.metadata.labels).toEqual({ "vmrestore.io/state-set-aside-by": restoreIn(world)?.metadata.uid });
  expect(restoreIn(world)?.status?.replaced?.stateClaims).toEqual([old]);
  expect(restoreIn(world)?.status?.message).toContain(`its TPM and firmware state (${old})`);
  expect(world.faults).toEqual([]);
});

test("a claim that somebody put into the place of the old machine's state is waited for, not guessed about", async () => {
  const world = new World();
  withTpm(world);
  world.restore({ ...REPLACE, relocation: relocationUpTo("Running") });
  await play(world, phaseIs("Running"));
  const name = "persistent-state-for-orders-db-xyz";
  changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } });
  const metadata = { name, namespace: TENANT, labels: { "persistent-state-for": "orders-db" } };
  world.cluster.put(CLAIMS, { apiVersion: "v1", kind: "PersistentVolumeClaim", metadata, spec: {} });
  await play(world, (restore) => conditionOf(restore?.status?.conditions, "PutBack")?.message.includes(name) === true);
  expect(machineIn(world)).toBeUndefined();
  world.cluster.erase(CLAIMS, TENANT, name);
  await play(world, phaseIs("Completed"));
  expectOld(world);
});

const stateJobs = (world: World) =>
  world.cluster.writes.filter(({ type, name, verb }) => type === JOBS && verb === "create" && name.endsWith("-state"));

test("where the backup holds no TPM state, the machine begins with a copy of the old one's, made when neither is there", async () => {
  const world = new World();
  withTpm(world);
  const [old] = world.stateUsed;
  world.restore(REPLACE);
  let pod = "";
  world.cluster.onWrite = ({ type, name, verb }, moment) => {
    if (type === VIRTUAL_MACHINES && verb === "create" && moment === "before") {
      expect(restoreIn(world)?.status?.machine?.stateRestored).toBe(true);
      expect(world.cluster.all(JOBS).filter(({ metadata }) => metadata.name.endsWith("-state"))).toEqual([]);
    }
    if (type !== JOBS || verb !== "create" || !name.endsWith("-state") || moment !== "after") return;
    expect(machineIn(world)).toBeUndefined();
    pod = JSON.stringify(world.cluster.peek(JOBS, TENANT, name));
  };
  await play(world, phaseIs("Completed"));
  expect(stateJobs(world)).toHaveLength(1);
  expect(pod).toContain(`"claimName":"${old}","readOnly":true`);
  expect(pod).toContain(`"claimName":"persistent-state-for-orders-db-${restoreIn(world)?.metadata.uid}"`);
  expect(pod).toContain('"copy-state","--from","/old-state","--into","/state"');
  expect(tell(world, "VirtualMachineCreated")?.message).toContain(`a copy of what the old one had (${old})`);
});

test.each([
  [
    "the backup holds some",
    (world: World) => {
      world.stateFiles = [{ path: "nvram/a_VARS.fd", size: 1 }];
    },
    REPLACE,
  ],
  [
    "it gets another firmware UUID",
    () => undefined,
    { ...REPLACE, virtualMachine: { name: "orders-db", firmwareIdentity: "Regenerate" } },
  ],
] as const)("the old machine's TPM state is not copied where %s", async (_, change, spec) => {
  const world = new World();
  withTpm(world);
  change(world);
  world.restore(spec);
  let copies = 0;
  world.cluster.onWrite = ({ type, name }, moment) => {
    if (type === JOBS && moment === "after" && name.endsWith("-state"))
      copies += JSON.stringify(world.cluster.peek(JOBS, TENANT, name) ?? {}).includes("copy-state") ? 1 : 0;
  };
  await play(world, phaseIs("Completed"));
  expect(copies).toBe(0);
  expect(tell(world, "VirtualMachineCreated")?.message).not.toContain("what the old one had");
});

test("the old machine does not come back before the Job that copies its TPM state is gone", async () => {
  const world = new World();
  withTpm(world);
  world.stateJobFails = true;
  world.restore(REPLACE);
  await play(world, reasonIs("VirtualMachineCreated", "StateNotRestored"));
  world.cluster.onWrite = ({ type, verb }, moment) => {
    if (type === VIRTUAL_MACHINES && verb === "create" && moment === "before")
      expect(world.cluster.all(JOBS).filter(({ metadata }) => metadata.name.endsWith("-state"))).toEqual([]);
  };
  changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } });
  await play(world, phaseIs("Completed"));
  expectOld(world);
});
