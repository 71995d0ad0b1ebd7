import { expect, test } from "@jest/globals";
import { CLAIMS, INSTANCES, VIRTUAL_MACHINES } from "../kinds.ts";
import { isConflict } from "../runtime/errors.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { changeSpec } from "./testing/course.ts";
import { GuestWrites } from "./testing/guest-writes.ts";
import { randomFrom } from "./testing/random.ts";
import { Crash, operatorIn, phaseIs, restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

// People change their mind all the time, about everything, while the operator is killed now and then. Whatever they did: when they let
// it go on, the restore comes to its end, and the guest has lost nothing but what it was told to lose by going back.

const NAME = "orders-db";
const TARGET = { storageClassName: "fast" };
const SEEDS = Array.from({ length: 8 * Number(process.env.VMRESTORE_CHAOS_RUNS ?? 3) }, (_, seed) => seed + 1);

interface Wishes {
  strategy: string;
  paused: boolean;
  cutover: object;
  begin: string;
  trial: object | undefined;
  claimName: string;
}

const TRIALS = [
  undefined,
  { period: "1h" },
  { period: "10s" },
  { period: "1h", decision: "RollBack" },
  { period: "1h", decision: "Commit" },
  { period: "10s", onExpiry: "RollBack" },
  { period: "5s", onExpiry: "Wait" },
];

function tell(world: World, { trial, claimName, ...wishes }: Wishes): void {
  const perDisk = claimName === "orders-db-root" ? {} : { perDisk: [{ name: "root", claimName }] };
  changeSpec(world, {
    relocation: { ...wishes, target: { ...TARGET, ...perDisk }, ...(trial === undefined ? {} : { trial }) },
  });
}

/** Deletes a target that no machine has, and nobody runs on. */
function dropTarget({ cluster }: World): void {
  const machine = cluster.peek(VIRTUAL_MACHINES, TENANT, NAME);
  const instance = cluster.peek(INSTANCES, TENANT, NAME);
  const used = [...(machine?.spec?.template?.spec?.volumes ?? []), ...(instance?.spec?.volumes ?? [])].map(
    ({ persistentVolumeClaim: claim }) => claim?.claimName,
  );
  for (const claim of ["orders-db-root", "another"]) if (!used.includes(claim)) cluster.erase(CLAIMS, TENANT, claim);
}

/** The deeds of one seed; the last are what people do who want it to end. */
async function wander(seed: number): Promise<{ world: World; writes: GuestWrites; log: string[] }> {
  const random = randomFrom(seed);
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const world = new World();
  const writes = new GuestWrites(world);
  world.volumeMigrations.install();
  const wishes: Wishes = {
    strategy: oneOf(["Auto", "Copy", "LiveMigration"]),
    paused: false,
    cutover: { when: "Automatic" },
    begin: "GuestReady",
    trial: oneOf(TRIALS),
    claimName: "orders-db-root",
  };
  world.restore();
  tell(world, wishes);
  const log: string[] = [];
  const runs = (runStrategy: string): void =>
    world.cluster.change(VIRTUAL_MACHINES, TENANT, NAME, (machine) => {
      machine.spec = { ...machine.spec, runStrategy };
    });
  const deeds: readonly (readonly [string, () => void])[] = [
    ["strategy", () => (wishes.strategy = oneOf(["Auto", "Copy", "LiveMigration", "None"]))],
    ["paused", () => (wishes.paused = !wishes.paused)],
    ["cutover", () => (wishes.cutover = { when: oneOf(["Automatic", "Manual"]) })],
    ["trial", () => (wishes.trial = oneOf(TRIALS))],
    ["trial", () => (wishes.trial = oneOf(TRIALS))],
    ["claim", () => (wishes.claimName = oneOf(["orders-db-root", "another"]))],
    ["halt", () => runs("Halted")],
    ["start", () => runs("Always")],
    ["start", () => runs("Always")],
    ["end", () => world.cluster.erase(INSTANCES, TENANT, NAME)],
    ["guest", () => (world.guestReady = random() < 0.7)],
    ["agent", () => world.restartAgent()],
    ["stall", () => (world.volumeMigrations.stalls = random() < 0.5)],
    ["lose", () => (world.volumeMigrations.losesSource = true)],
    ["drop", () => dropTarget(world)],
    ["fail", () => world.volumeMigrations.failures.push("no room")],
  ];
  let operator = operatorIn(world);
  const crash = (): void => {
    if (random() < 0.02) throw new Crash();
  };
  world.cluster.onWrite = ({ type }) => {
    if (type !== EVENTS) crash();
  };
  world.onTell = crash;
  const round = async (): Promise<void> => {
    try {
      await operator.reconcile(TENANT, NAME);
    } catch (error) {
      if (error instanceof Crash) operator = operatorIn(world);
      else if (!isConflict(error)) throw error;
    }
    world.step();
    await world.clock.advance(1000);
  };
  const isOver = (): boolean => phaseIs("Completed")(restoreIn(world));
  for (let n = 0; n < 150 && !isOver(); n++) {
    if (n > 15 && random() < 0.2) {
      const [name, deed] = oneOf(deeds);
      deed();
      tell(world, wishes);
      log.push(`${n} ${name} ${JSON.stringify(wishes)} ${restoreIn(world)?.status?.message}`);
    }
    await round();
  }
  world.guestReady = true;
  world.volumeMigrations.stalls = false;
  if (!isOver()) {
    tell(world, {
      ...wishes,
      paused: false,
      strategy: "Auto",
      cutover: { when: "Automatic" },
      trial: { period: "5s" },
    });
    for (let n = 0; n < 5; n++) await round();
    log.push(`end ${restoreIn(world)?.status?.message}`);
    for (let n = 0; n < 250 && !isOver(); n++) {
      if (n % 40 === 0 && world.cluster.peek(INSTANCES, TENANT, NAME) === undefined) runs("Always");
      await round();
    }
  }
  return { world, writes, log };
}

test.each(SEEDS)(
  "whatever people change their mind about, no write is lost and the end is reached (%s)",
  async (seed) => {
    const { world, writes, log } = await wander(seed);
    const { phase, message } = restoreIn(world)?.status ?? {};
    expect({ seed, faults: [...writes.faults, ...world.faults].slice(0, 5), phase, message, log }).toMatchObject({
      seed,
      faults: [],
      phase: "Completed",
    });
  },
);
