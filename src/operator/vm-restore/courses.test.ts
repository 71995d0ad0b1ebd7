import { isDeepStrictEqual } from "node:util";
import { expect, test } from "@jest/globals";
import { VM_RESTORES } from "../kinds.ts";
import { ApiError } from "../runtime/errors.ts";
import { EVENTS } from "../runtime/event-recorder.ts";
import { type Around, AroundCluster, type Call } from "../runtime/testing/around-cluster.ts";
import {
  COURSES,
  type Course,
  created,
  DELETIONS,
  endState,
  REPLACEMENTS,
  SHORT_MOMENTS,
  WHOLE,
} from "./testing/courses.ts";
import { randomFrom } from "./testing/random.ts";
import { Crash, playCourse, restoreIn } from "./testing/run.ts";
import type { World } from "./testing/world.ts";

// Whole courses of a restore, and of its deletion at every place: with the operator killed at each step, and with an API server and
// an agent that fail at random. Whatever happens, the end is that of an undisturbed course, and nothing is made twice.

const ALL = [...COURSES, ...DELETIONS, ...REPLACEMENTS];
const named = (courses: readonly Course[]) => courses.map((course) => [course.name, course] as const);

interface Undisturbed {
  readonly end: ReturnType<typeof endState>;
  readonly created: readonly string[];
  /** Writes to the cluster and words to the agent. */
  readonly steps: number;
  /** How many of them every course has. */
  readonly common: number;
}

const known = new Map<string, Undisturbed>();

async function undisturbed(course: Course): Promise<Undisturbed> {
  const before = known.get(course.name);
  if (before !== undefined) return before;
  let steps = 0;
  let common: number | undefined;
  const differs = course.differsFrom ?? course.deeds[0]?.when ?? (() => true);
  const world = await playCourse(course, {
    prepare: (fresh) => atEachStep(fresh, "after", () => steps++),
    round: (fresh) => {
      // People have just done what made the difference, or are about to.
      if (differs(restoreIn(fresh), fresh) || isBeingDeleted(fresh)) common ??= steps;
    },
  });
  const made = { end: endState(world), created: created(world), steps, common: common ?? 0 };
  known.set(course.name, made);
  return made;
}

function isBeingDeleted({ cluster }: World): boolean {
  return cluster.all(VM_RESTORES).some(({ metadata }) => metadata.deletionTimestamp !== undefined);
}

function atEachStep(world: World, when: "before" | "after", step: () => void): void {
  world.cluster.onWrite = ({ type }, moment) => {
    // The recorder of events swallows errors, as it should.
    if (type !== EVENTS && moment === when) step();
  };
  world.onTell = (_, moment) => {
    if (moment === when) step();
  };
}

function check(world: World, wanted: Undisturbed, how: object): void {
  expect({ ...how, ...endState(world) }).toEqual({ ...how, ...wanted.end });
  expect({ ...how, created: created(world) }).toEqual({ ...how, created: wanted.created });
}

test.each(named([...ALL, ...SHORT_MOMENTS].filter((course) => course !== WHOLE)))(
  "the operator is killed at every step: %s",
  async (_, course) => {
    const wanted = await undisturbed(course);
    expect(wanted.steps).toBeGreaterThan(wanted.common);
    // Killed before a step is killed after the one before it: all that the operator knew is gone with it.
    for (let step = wanted.common + 1; step <= wanted.steps; step++) {
      let seen = 0;
      let isDead = false;
      const world = await playCourse(course, {
        prepare: (fresh) => {
          atEachStep(fresh, "after", () => {
            if (++seen !== step) return;
            isDead = true;
            throw new Crash();
          });
        },
        // The dead write nothing down.
        reach: (fresh) => {
          isDead = false;
          return new AroundCluster(fresh.cluster, async (_call, carryOut) => {
            if (isDead) throw new Crash();
            return carryOut();
          });
        },
      });
      expect(seen).toBeGreaterThanOrEqual(step);
      check(world, wanted, { step });
    }
  },
);

class Disturbed extends Error {}

/** Refuses one request in eight, or does not answer it, carried out or not. */
function disturbances(random: () => number, isOver: () => boolean): Around {
  const kinds = ["conflict", "throttled", "failed", "lost", "late"] as const;
  return async (call: Call, carryOut) => {
    const isRead = call.verb === "get" || call.verb === "list";
    if (isOver() || random() > (isRead ? 0.02 : 0.12)) return carryOut();
    const kind = kinds[Math.floor(random() * kinds.length)];
    if (kind === "throttled") throw new ApiError("too many requests", { status: 429, retryAfterMs: 1000 });
    if (kind === "failed") throw new ApiError("internal error", { status: 500 });
    if (kind === "conflict" && !isRead) throw new ApiError("it was changed", { status: 409, reason: "Conflict" });
    if (kind === "late") await carryOut();
    throw new ApiError("no answer");
  };
}

const MACHINE = "VirtualMachine/orders-db";
const SEEDS = Array.from({ length: Number(process.env.VMRESTORE_CHAOS_RUNS ?? 2) }, (_, seed) => seed + 1);

test.each(named(ALL))("an API server and an agent that fail at random: %s", async (_, course) => {
  const wanted = await undisturbed(course);
  const afterAll = await undisturbed(DELETIONS.at(-1) ?? course);
  for (const seed of SEEDS) {
    const random = randomFrom(seed * 7919 + course.name.length);
    let rounds = 0;
    const world = await playCourse(course, {
      prepare: (fresh) => {
        fresh.onTell = () => {
          if (rounds < 100 && random() < 0.08) throw new Disturbed("connection reset");
        };
      },
      reach: (fresh) =>
        new AroundCluster(
          fresh.cluster,
          disturbances(random, () => rounds > 100),
        ),
      round: (fresh) => {
        rounds++;
        fresh.agentAnswers = rounds > 100 || random() > 0.1;
        if (random() < 0.05) fresh.restartAgent();
      },
      mayFail: (error) => error instanceof ApiError || error instanceof Disturbed,
    });
    // Where a status was never written, people did not see the place at which they would have deleted the restore.
    const isLate = DELETIONS.includes(course) && isDeepStrictEqual(endState(world), afterAll.end);
    if (!isLate) expect({ seed, ...endState(world) }).toEqual({ seed, ...wanted.end });
    const twice = created(world).filter((key, index, all) => all.indexOf(key) !== index);
    // The old machine is made again.
    const isBack = REPLACEMENTS.includes(course) && wanted.created.filter((key) => key === MACHINE).length > 1;
    const again = course.again ?? (isBack ? [MACHINE] : []);
    expect({ seed, twice }).toEqual({ seed, twice: again });
  }
});
