import { expect, test } from "@jest/globals";
import { conditionOf } from "../conditions.ts";
import { PODS, type Pod } from "../kinds.ts";
import { EVENTS, type Event } from "../runtime/event-recorder.ts";
import { runByEvents } from "../testing/event-driven.ts";
import { launcherTrouble } from "./launcher-trouble.ts";
import type { Observed } from "./observed.ts";
import { changeSpec, reasonIs, relocation } from "./testing/course.ts";
import { restoreIn } from "./testing/run.ts";
import { TENANT, World } from "./testing/world.ts";

const EXPORT = `/${"p".repeat(43)}`;
const MOUNT_FAILED = `MountVolume.SetUp failed for volume "vmr-1-root" : mount failed: exit status 32
Mounting command: mount
Mounting arguments: -t nfs -o hard,nolock 10.0.0.7:${EXPORT} /var/lib/kubelet/pods/1/volumes/kubernetes.io~nfs/vmr-1-root
Output: mount.nfs: Connection refused for 10.0.0.7:${EXPORT} on /var/lib/kubelet/pods/1
`;

function event(reason: string, message: string, second: number, more: Partial<Event> = {}): Event {
  const at = `2026-01-01T00:00:${String(second).padStart(2, "0")}Z`;
  return {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `e${second}` },
    reason,
    message,
    lastTimestamp: at,
    ...more,
  };
}

function told(status: Pod["status"], events: readonly Event[] = [], exportPath = EXPORT): string | undefined {
  const metadata = { name: "virt-launcher-orders-db-x", namespace: TENANT };
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: { nodeName: "n1" },
    status: { phase: "Pending", ...status },
  };
  const agent = { status: { disks: [{ name: "root", exportPath }] } };
  return launcherTrouble({ launcher: { pod, events }, agent, disks: [] } as unknown as Observed);
}

const waiting = (reason: string, message?: string) => ({
  name: "compute",
  state: { waiting: { reason, ...(message === undefined ? {} : { message }) } },
});
const WAITS = "The machine's launcher pod virt-launcher-orders-db-x waits: ";

test.each<[string, Pod["status"], readonly Event[], string | undefined]>([
  ["nothing is said", {}, [], undefined],
  ["it is in order", { containerStatuses: [waiting("PodInitializing")] }, [event("Scheduled", "to n1", 1)], undefined],
  [
    "no node takes it",
    {
      conditions: [
        {
          type: "PodScheduled",
          status: "False",
          reason: "Unschedulable",
          message: "0/2 nodes are available: 2 Insufficient memory.",
        },
      ],
    },
    [],
    "no node takes it: 0/2 nodes are available: 2 Insufficient memory.",
  ],
  [
    "an image is not there",
    {
      containerStatuses: [
        waiting("ErrImagePull", 'failed to pull "quay.io/x:1": Get "https://quay.io/v2/": no such host'),
      ],
    },
    [],
    'the image of its container compute cannot be pulled (ErrImagePull): failed to pull "quay.io/x:1": Get "https://quay.io/v2/": no such host.',
  ],
  [
    "an image of an init container is not there",
    { initContainerStatuses: [waiting("ImagePullBackOff")] },
    [],
    "the image of its container compute cannot be pulled (ImagePullBackOff).",
  ],
  [
    "a container is not made",
    { containerStatuses: [waiting("CreateContainerConfigError", 'secret "init" not found')] },
    [],
    'its container compute does not start (CreateContainerConfigError): secret "init" not found.',
  ],
  [
    "a volume is held elsewhere",
    {},
    [event("Scheduled", "to n1", 1), event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1"', 2)],
    'node n1 cannot get a volume attached: Multi-Attach error for volume "pvc-1".',
  ],
  [
    "a volume was held elsewhere",
    {},
    [event("SuccessfulAttachVolume", "", 3), event("FailedAttachVolume", "Multi-Attach error", 2)],
    undefined,
  ],
  [
    "a mount failed, and then did not",
    {},
    [event("FailedMount", MOUNT_FAILED, 2), event("Pulling", "the image", 3)],
    undefined,
  ],
  [
    "the last of several troubles counts, whoever wrote its time where",
    {},
    [
      event("FailedMount", "second", 1, {
        lastTimestamp: null,
        series: { lastObservedTime: "2026-01-01T00:00:09.000000Z" },
      }),
      event("FailedAttachVolume", "first", 5),
    ],
    "node n1 cannot mount a volume: second.",
  ],
  ["a trouble of no known kind is none", {}, [event("NodeNotReady", "Node is not ready", 2)], undefined],
])("what a launcher pod waits for is said in words: %s", (_, status, events, what) => {
  expect(told(status, events)).toBe(what === undefined ? undefined : `${WAITS}${what}`);
});

test("no export path and no password gets into a status, nor mount's command line", () => {
  const message = told({}, [event("FailedMount", MOUNT_FAILED, 1)]);
  expect(message).toBe(
    `${WAITS}node n1 cannot mount a volume: MountVolume.SetUp failed for volume "vmr-1-root" : mount failed: exit status 32 mount.nfs: Connection refused for 10.0.0.7:/… on /var/lib/kubelet/pods/1.`,
  );
  // The agent has another path meanwhile, or is not asked.
  const other = told({}, [event("FailedMount", MOUNT_FAILED, 1)], "/another");
  expect(other).toBe(message);
  const options = "mount -o username=a,password=hunter2 //a:hunter2@nas/x failed; token=hunter2";
  expect(told({}, [event("FailedMount", options, 1)])).not.toContain("hunter2");
  const long = told({}, [event("FailedMount", `${"a-".repeat(300_000)}10.0.0.7:${EXPORT}`, 1)]);
  expect(long?.length).toBeLessThan(700);
});

test("a node without an NFS client is told how to get one", () => {
  const output =
    "bad option; for several filesystems (e.g. nfs, cifs) you might need a /sbin/mount.<type> helper program.";
  expect(told({}, [event("FailedMount", output, 1)])).toContain("dnf install nfs-utils");
});

test("the events of the launcher pod alone are watched, until the machine runs, and the status says what they say", async () => {
  const world = new World();
  world.launcherWaits = true;
  world.restore(relocation({ cutover: {} }));
  const driven = await runByEvents(world);
  const launcher = () => world.cluster.peek(PODS, TENANT, "virt-launcher-orders-db");
  const say = (uid: string | undefined, message: string, second: number) =>
    world.cluster.put(EVENTS, {
      ...event("FailedMount", message, second),
      metadata: { name: `${uid}.${second}`, namespace: TENANT },
      involvedObject: { kind: "Pod", uid },
    });
  const status = () => restoreIn(world)?.status;
  for (let second = 0; launcher() === undefined && second < 60; second++) await driven.seconds(1);
  await driven.seconds(3);
  expect(reasonIs("GuestReady", "Booting")(restoreIn(world))).toBe(true);
  expect(driven.transport.watching.filter((plural) => plural === "events")).toHaveLength(1);
  say(launcher()?.metadata.uid, MOUNT_FAILED, 1);
  say("another", "of another pod", 2);
  await driven.seconds(2);
  expect(status()?.message).toMatch(/^The machine's launcher pod virt-launcher-orders-db waits: .*Connection refused/);
  expect(status()?.waiting).toMatchObject({ condition: "GuestReady", reason: "Booting" });
  world.launcherWaits = false;
  await driven.seconds(5);
  expect(conditionOf(status()?.conditions, "GuestReady")?.status).toBe("True");
  expect(driven.transport.watching).not.toContain("events");
  expect(driven.transport.lists.filter((path) => path.includes("/events"))).toHaveLength(1);
  // The same on the target.
  for (let second = 0; !reasonIs("CutOver", "AwaitingApproval")(restoreIn(world)) && second < 60; second++)
    await driven.seconds(1);
  world.launcherWaits = true;
  changeSpec(world, relocation());
  for (let second = 0; !reasonIs("CutOver", "Starting")(restoreIn(world)) && second < 60; second++)
    await driven.seconds(1);
  await driven.seconds(2);
  say(launcher()?.metadata.uid, "Unable to attach or mount volumes: unmounted volumes=[root]", 3);
  await driven.seconds(2);
  expect(status()?.message).toContain("waits: its node cannot mount a volume: Unable to attach");
  await driven.end();
  expect(driven.transport.watching).toEqual([]);
});

test("while the machine moves live, what is said of its second launcher pod is told", async () => {
  const world = new World();
  world.volumeMigrations.install();
  world.volumeMigrations.targetWaits = true;
  world.restore(relocation({ target: { storageClassName: "fast" } }));
  const driven = await runByEvents(world);
  const second = () =>
    world.cluster.all<Pod>(PODS).find(({ metadata }) => metadata.name.startsWith("virt-launcher-orders-db-"));
  for (let seconds = 0; second() === undefined && seconds < 120; seconds++) await driven.seconds(1);
  await driven.seconds(3);
  const uid = second()?.metadata.uid;
  expect(uid).toBeDefined();
  world.cluster.put(EVENTS, {
    ...event("FailedAttachVolume", "Multi-Attach error for volume", 1),
    metadata: { name: "said", namespace: TENANT },
    involvedObject: { kind: "Pod", uid: uid ?? "" },
  });
  await driven.seconds(12);
  expect(conditionOf(restoreIn(world)?.status?.conditions, "Relocated")?.message).toMatch(
    /^The machine's second launcher pod virt-launcher-\S+ waits: its node cannot get a volume attached: Multi-Attach error/,
  );
  world.volumeMigrations.targetWaits = false;
  for (let seconds = 0; restoreIn(world)?.status?.phase !== "Completed" && seconds < 120; seconds++)
    await driven.seconds(1);
  expect(restoreIn(world)?.status?.phase).toBe("Completed");
  expect(driven.transport.watching).not.toContain("events");
  await driven.end();
});
