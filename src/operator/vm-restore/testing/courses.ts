import type { VMRestore } from "../../../api/vm-restore.ts";
import { INSTANCES, VIRTUAL_MACHINES, VM_RESTORES } from "../../kinds.ts";
import { EVENTS } from "../../runtime/event-recorder.ts";
import { changeSpec, reasonIs } from "./course.ts";
import { OLD_UID, TENANT, type World } from "./world.ts";

type Seen = VMRestore | undefined;

/** Something that people do once, when it has come so far. */
export interface Deed {
  readonly when: (restore: Seen, world: World) => boolean;
  readonly what: (world: World) => void;
}

/** A restore from its beginning to its end, with what people do meanwhile. */
export interface Course {
  readonly name: string;
  readonly spec: object;
  /** What is there before it. */
  readonly before?: (world: World) => void;
  readonly deeds: readonly Deed[];
  readonly until: (restore: Seen, world: World) => boolean;
  /** What has to be made once more on the way. */
  readonly again?: readonly string[];
  /** Up to here it goes as every other; absent: up to what people do first. */
  readonly differsFrom?: (restore: Seen) => boolean;
}

export const COPY = { target: { storageClassName: "fast" }, cutover: { when: "Automatic" } };

const GOING_BACK = { ...COPY, trial: { period: "1h", decision: "RollBack" } };

const phaseIs = (phase: string) => (restore: Seen) => restore?.status?.phase === phase;
const isGone = (restore: Seen) => restore === undefined;

function remove(world: World): void {
  world.guestReady = true;
  world.cluster.erase(VM_RESTORES, TENANT, "orders-db");
}

const removeMachine: Deed = {
  when: (restore) => reasonIs("TornDown", "MachineDependsOnAgent")(restore),
  what: (world) => world.cluster.erase(VIRTUAL_MACHINES, TENANT, "orders-db"),
};

/** Where a course can be when something happens to it. */
export const PLACES: readonly (readonly [string, (restore: Seen, world: World) => boolean])[] = [
  ["Pending", reasonIs("SourceReady", "Inspecting")],
  ["Preparing", phaseIs("Preparing")],
  ["Staging", phaseIs("Staging")],
  ["Launching", reasonIs("GuestReady", "Booting")],
  ["Running", reasonIs("Relocated", "AwaitingBegin")],
  ["Relocating", phaseIs("Relocating")],
  ["AwaitingCutover", reasonIs("CutOver", "AwaitingApproval")],
  ["Halting", reasonIs("CutOver", "Halting")],
  ["FinalPass", reasonIs("CutOver", "FinalPass")],
  ["Switching", reasonIs("CutOver", "Switching")],
  ["Starting", reasonIs("CutOver", "Starting")],
  ["TearingDown", reasonIs("TornDown", "TearingDown")],
  ["Completed", phaseIs("Completed")],
];

/** A spec with which a course stays at that place for as long as it is left alone. */
export function relocationUpTo(place: string): object {
  if (place === "Running") return { ...COPY, begin: "Manual" };
  return place === "AwaitingCutover" ? { ...COPY, cutover: {} } : COPY;
}

/** The guest takes its time where the course has to be met while it starts on the target. */
export const SLOW_START: Deed = {
  when: (seen) => reasonIs("CutOver", "FinalPass")(seen) || phaseIs("Completed")(seen),
  what: (world) => {
    world.guestReady = false;
  },
};

function deletedAt([place, when]: (typeof PLACES)[number], deletionPolicy: "Retain" | "Discard"): Course {
  const keeps =
    deletionPolicy === "Retain" && ["Launching", "Running", "Relocating", "AwaitingCutover"].includes(place);
  return {
    name: `deleted while ${place}, ${deletionPolicy}`,
    spec: { relocation: relocationUpTo(place), deletionPolicy },
    deeds: [
      ...(place === "Starting" ? [SLOW_START] : []),
      { when: (seen, world) => when(seen, world) || phaseIs("Completed")(seen), what: remove },
      ...(keeps ? [removeMachine] : []),
    ],
    until: isGone,
  };
}

export const WHOLE: Course = { name: "copied", spec: {}, deeds: [], until: phaseIs("Completed") };

export const COURSES: readonly Course[] = [
  WHOLE,
  {
    name: "copied, with leave asked for each step",
    spec: { relocation: { ...COPY, begin: "Manual", cutover: {} } },
    deeds: [
      {
        when: reasonIs("Relocated", "AwaitingBegin"),
        what: (world) => changeSpec(world, { relocation: { ...COPY, cutover: {} } }),
      },
      { when: reasonIs("CutOver", "AwaitingApproval"), what: (world) => changeSpec(world, { relocation: COPY }) },
    ],
    until: phaseIs("Completed"),
  },
  {
    name: "live mount that expires and is discarded",
    spec: { relocation: { strategy: "None" }, liveMount: { expiresAfter: "20s", onExpiry: "Discard" } },
    deeds: [],
    differsFrom: reasonIs("Expired", "NotYet"),
    until: phaseIs("Completed"),
  },
  {
    name: "live mount that expires and is kept",
    spec: { relocation: { strategy: "None" }, liveMount: { expiresAfter: "20s", onExpiry: "Keep" } },
    deeds: [],
    differsFrom: phaseIs("Launching"),
    until: reasonIs("Expired", "Kept"),
  },
  {
    name: "copy that is called off, begun anew and done",
    spec: { relocation: { ...COPY, cutover: {} } },
    deeds: [
      {
        when: reasonIs("CutOver", "AwaitingApproval"),
        what: (world) => changeSpec(world, { relocation: { strategy: "None" } }),
      },
      { when: reasonIs("Expired", "Never"), what: (world) => changeSpec(world, { relocation: COPY }) },
    ],
    until: phaseIs("Completed"),
    again: ["Job/vmr-UID-copy", "PersistentVolumeClaim/orders-db-root", "Secret/vmr-UID-copy"],
  },
  {
    name: "copied, taken back from its trial",
    spec: { relocation: { ...COPY, trial: { period: "1h" } } },
    deeds: [{ when: phaseIs("OnTrial"), what: (world) => changeSpec(world, { relocation: GOING_BACK }) }],
    until: reasonIs("Relocated", "RolledBack"),
    again: ["PersistentVolume/vmr-UID-root", "PersistentVolumeClaim/orders-db-root-restoring"],
  },
  {
    name: "started by hand, copied, taken back from its trial",
    before: (world) => world.start(),
    spec: {
      virtualMachine: { name: "orders-db", runStrategy: "Manual" },
      relocation: { ...COPY, trial: { period: "1h" } },
    },
    deeds: [{ when: phaseIs("OnTrial"), what: (world) => changeSpec(world, { relocation: GOING_BACK }) }],
    differsFrom: reasonIs("CutOver", "Halting"),
    until: (restore, { cluster }) =>
      reasonIs("Relocated", "RolledBack")(restore) &&
      cluster.all(VIRTUAL_MACHINES)[0]?.spec?.runStrategy === "Manual" &&
      cluster.all(INSTANCES).length > 0,
    again: ["PersistentVolume/vmr-UID-root", "PersistentVolumeClaim/orders-db-root-restoring"],
  },
  {
    name: "migrated live, on trial, and committed by time",
    before: ({ volumeMigrations }) => volumeMigrations.install(),
    spec: { relocation: { ...COPY, trial: { period: "5s" } } },
    deeds: [],
    differsFrom: reasonIs("Relocated", "Preparing"),
    until: phaseIs("Completed"),
  },
  {
    name: "migrated live, taken back from its trial",
    before: ({ volumeMigrations }) => volumeMigrations.install(),
    spec: { relocation: { ...COPY, trial: { period: "1h" } } },
    deeds: [{ when: phaseIs("OnTrial"), what: (world) => changeSpec(world, { relocation: GOING_BACK }) }],
    until: reasonIs("Relocated", "RolledBack"),
  },
  {
    name: "migrated live, paused on the way, and copied then",
    before: ({ volumeMigrations }) => {
      volumeMigrations.install();
      volumeMigrations.stalls = true;
    },
    spec: { relocation: COPY },
    deeds: [
      {
        when: reasonIs("Relocated", "Migrating"),
        what: (world) => changeSpec(world, { relocation: { ...COPY, paused: true } }),
      },
      {
        when: reasonIs("Relocated", "Paused"),
        what: (world) => changeSpec(world, { relocation: { ...COPY, strategy: "Copy" } }),
      },
    ],
    until: phaseIs("Completed"),
  },
];

/** Where the deletion policy makes a difference: the machine is there and depends on the agent. */
const DEPENDING = ["Launching", "Running", "Relocating", "AwaitingCutover"];

const MIGRATING: Omit<Course, "name" | "until"> = {
  spec: { relocation: COPY },
  before: ({ volumeMigrations }) => {
    volumeMigrations.install();
    volumeMigrations.stalls = true;
  },
  deeds: [{ when: reasonIs("Relocated", "Migrating"), what: remove }],
};
const ON_TRIAL = { relocation: { ...COPY, trial: { period: "1h" } } };
const TAKEN_BACK: readonly Deed[] = [
  { when: phaseIs("OnTrial"), what: (world) => changeSpec(world, { relocation: GOING_BACK }) },
  { when: (seen) => phaseIs("RollingBack")(seen) || phaseIs("Running")(seen), what: remove },
];

/** Where there is more than one way to the target, and on the way back from there. */
const FURTHER_DELETIONS: readonly Course[] = [
  {
    ...MIGRATING,
    name: "deleted while Migrating, Retain",
    deeds: [...MIGRATING.deeds, removeMachine],
    until: isGone,
  },
  {
    ...MIGRATING,
    name: "deleted while Migrating, Discard",
    spec: { ...MIGRATING.spec, deletionPolicy: "Discard" },
    until: isGone,
  },
  {
    name: "deleted while OnTrial, Discard",
    spec: { ...ON_TRIAL, deletionPolicy: "Discard" },
    deeds: [{ when: phaseIs("OnTrial"), what: remove }],
    until: isGone,
  },
  {
    name: "deleted while RollingBack, Retain",
    spec: ON_TRIAL,
    deeds: [...TAKEN_BACK, removeMachine],
    until: isGone,
    again: ["PersistentVolume/vmr-UID-root", "PersistentVolumeClaim/orders-db-root-restoring"],
  },
  {
    name: "deleted while RollingBack, Discard",
    spec: { ...ON_TRIAL, deletionPolicy: "Discard" },
    deeds: TAKEN_BACK,
    until: isGone,
    again: ["PersistentVolume/vmr-UID-root", "PersistentVolumeClaim/orders-db-root-restoring"],
  },
];

export const DELETIONS: readonly Course[] = [
  ...FURTHER_DELETIONS,
  ...PLACES.flatMap((place) => [
    deletedAt(place, "Discard"),
    ...(DEPENDING.includes(place[0]) ? [deletedAt(place, "Retain")] : []),
  ]),
];

const REPLACE = { replace: { confirmUid: OLD_UID } };
const before = (world: World): void => {
  world.hasTpm = true;
  world.existing();
};
const isBegun = reasonIs("VirtualMachineCreated", "Creating");

/** People want the old machine back when it has come so far. */
function undoneAt(place: string, when: Deed["when"]): Course {
  return {
    name: `replaced, undone while ${place}`,
    spec: { ...REPLACE, relocation: relocationUpTo(place) },
    before,
    deeds: [
      ...(place === "Starting" ? [SLOW_START] : []),
      { when, what: (world) => changeSpec(world, { replace: { confirmUid: OLD_UID, undo: true } }) },
    ],
    until: phaseIs("Completed"),
  };
}

const hasMachine = (world: World) => world.cluster.all(VIRTUAL_MACHINES).length > 0;
const atPlace = (place: string): Deed["when"] => PLACES.find(([name]) => name === place)?.[1] ?? isGone;

/** Courses in which a machine is there already, and its place is taken. */
export const REPLACEMENTS: readonly Course[] = [
  { name: "replaced", spec: REPLACE, before, deeds: [], differsFrom: isBegun, until: phaseIs("Completed") },
  undoneAt("Running", atPlace("Running")),
  undoneAt("AwaitingCutover", atPlace("AwaitingCutover")),
  {
    name: "replaced by a live mount that is discarded",
    spec: { ...REPLACE, relocation: { strategy: "None" }, liveMount: { expiresAfter: "20s", onExpiry: "Discard" } },
    before,
    deeds: [],
    differsFrom: reasonIs("Expired", "NotYet"),
    until: phaseIs("Completed"),
  },
];

/** Those that are met only where nothing but the operator fails. */
export const SHORT_MOMENTS: readonly Course[] = [
  undoneAt("Replacing", reasonIs("VirtualMachineCreated", "Replacing")),
  undoneAt("Starting", atPlace("Starting")),
  ...(
    [
      ["Staging", atPlace("Staging")],
      ["Replacing", reasonIs("VirtualMachineCreated", "Replacing")],
      ["neither is there", (restore, world) => restore?.status?.replaced !== undefined && !hasMachine(world)],
    ] as [string, Deed["when"]][]
  ).map(
    ([place, when]): Course => ({
      name: `replaced, deleted while ${place}`,
      spec: REPLACE,
      before,
      deeds: [{ when, what: remove }],
      until: isGone,
    }),
  ),
  { ...deletedAt(["Running", atPlace("Running")], "Discard"), name: "replaced, discarded while Running", before },
].map((course) => ({ ...course, spec: { ...course.spec, ...REPLACE } }));

const UID = /[0-9a-f]{8}-[0-9a-f-]{27}/g;

/** What must be the same at the end, whatever happened on the way: objects, the machine, and what the status claims. */
export function endState(world: World) {
  // Whoever collects the pods of what is gone comes once more. What was learned of a boot is kept when there was time for it.
  world.step();
  const keys = world.cluster.keys().filter((key) => !/^(Event|VMProfile|VirtualMachineInstanceMigration)\//.test(key));
  const machine = world.cluster.peek(VIRTUAL_MACHINES, TENANT, "orders-db");
  const status = world.cluster.peek(VM_RESTORES, TENANT, "orders-db")?.status;
  return {
    keys: keys.map((key) => key.replace(UID, "UID").replace(/-workload-update-\d+$/, "-workload-update")),
    machine: machine === undefined ? undefined : JSON.parse(JSON.stringify(machine.spec).replace(UID, "UID")),
    annotations: Object.keys(machine?.metadata.annotations ?? {}),
    runs: world.cluster.all(INSTANCES).length,
    state: world.stateUsed.at(-1)?.replace(UID, "UID"),
    faults: world.faults,
    phase: status?.phase,
    // That nothing is wrong is only said after something was; the agent's two are as they were seen last.
    conditions: status?.conditions
      ?.filter(({ type, status: value }) => type !== "AgentReady" && (type !== "Degraded" || value !== "False"))
      .filter(({ type, status: value }) => type !== "PinRemoved" || value !== "True")
      .map(({ type, status: value, reason }) => `${type}=${value} ${reason}`)
      .sort(),
    snapshot: status?.snapshot,
    percent: status?.relocation?.percent,
  };
}

/** Every object that was made, as often as it was. */
export function created(world: World): string[] {
  return world.cluster.writes
    .filter(({ verb, type }) => verb === "create" && type !== EVENTS)
    .map(({ type, name }) => `${type.kind}/${name.replace(UID, "UID")}`)
    .sort();
}
