import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { playByEvents } from "../../src/operator/testing/event-driven.ts";
import { COURSES } from "../../src/operator/vm-restore/testing/courses.ts";
import { measureOperator, type Requests } from "../scenario/operator-load.ts";
import { renderTable } from "./table.ts";

const MANY = { completed: 900, live: 100, idleSeconds: 60 };

/** What the operator asks of the API server: in the whole life of one restore, and while a thousand of them need nothing. */
export async function benchOperator(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "vmrestore-operator-"));
  try {
    const lives = await Promise.all(
      COURSES.map(async (course) => [course.name, await requestsOfLife(course)] as const),
    );
    const load = await measureOperator({ directory, ...MANY });
    const mib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
    return [
      "Requests to the API server in the whole life of one restore, in memory, woken by watches only",
      renderTable(
        ["course", "get, list", "create, update, delete", "status", "events", "all"],
        lives.map(([name, life]) => [name, ...life.map(String)]),
      ),
      `One operator beside the lab's API server, ${MANY.completed} restores completed and ${MANY.live} live mounts`,
      renderTable(
        ["", "requests", "resident"],
        [
          ["from its start until nothing more came", String(sum(load.atStart)), `${mib(load.peakBytes)} at most`],
          [
            `${load.idleSeconds} s idle: ${[...load.idle.keys()].join(", ")}`,
            String(sum(load.idle)),
            mib(load.idleBytes),
          ],
        ],
      ),
    ].join("\n\n");
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function requestsOfLife(course: (typeof COURSES)[number]): Promise<number[]> {
  const { world } = await playByEvents(course);
  const { reads, writes } = world.cluster;
  const events = writes.filter(({ type }) => type.kind === "Event").length;
  const status = writes.filter(({ subresource }) => subresource === "status").length;
  return [reads.length, writes.length - events - status, status, events, reads.length + writes.length];
}

function sum(requests: Requests): number {
  return [...requests.values()].reduce((total, count) => total + count, 0);
}
