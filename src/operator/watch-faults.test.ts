import { isDeepStrictEqual } from "node:util";
import { expect, test } from "@jest/globals";
import { playByEvents } from "./testing/event-driven.ts";
import { COURSES, type Course, created, DELETIONS, endState } from "./vm-restore/testing/courses.ts";
import { randomFrom } from "./vm-restore/testing/random.ts";
import { playCourse } from "./vm-restore/testing/run.ts";

// Whole courses of an operator whose watches lag behind, each kind by another time, and break off.

const SEEDS = Array.from({ length: Number(process.env.VMRESTORE_CHAOS_RUNS ?? 2) }, (_, seed) => seed + 1);

test.each([...COURSES, ...DELETIONS].map((course): [string, Course] => [course.name, course]))(
  "what watches tell late, or not at all for a while, changes nothing: %s",
  async (_, course) => {
    const wanted = endState(await playCourse(course));
    const afterAll = endState(await playCourse(DELETIONS.at(-1) ?? course));
    for (const seed of SEEDS) {
      const random = randomFrom(seed * 104_729 + course.name.length);
      const heldUp = new Map<string, number>();
      let second = 0;
      const { world } = await playByEvents(course, ({ transport }) => {
        second++;
        transport.isHeldUp = ({ kind }) => second < 150 && (heldUp.get(kind) ?? 0) > second;
        for (const kind of ["VMRestore", "VirtualMachine", "VirtualMachineInstance", "Pod", "Job", "Secret"])
          if (random() < 0.1) heldUp.set(kind, second + Math.floor(random() * 8));
        for (const kind of ["PersistentVolume", "PersistentVolumeClaim", "StatefulSet", "Service"])
          if (random() < 0.1) heldUp.set(kind, second + Math.floor(random() * 8));
        if (random() < 0.05) transport.cut();
        transport.release();
      });
      // A place that was passed within a second was not seen by those who would have deleted the restore there.
      const isLate = DELETIONS.includes(course) && isDeepStrictEqual(endState(world), afterAll);
      if (!isLate) expect({ seed, ...endState(world) }).toEqual({ seed, ...wanted });
      const again = course.again ?? [];
      const twice = created(world).filter((key, index, all) => all.indexOf(key) !== index && !again.includes(key));
      expect({ seed, twice: course.name.includes("begun anew") ? [] : twice }).toEqual({ seed, twice: [] });
    }
  },
);
