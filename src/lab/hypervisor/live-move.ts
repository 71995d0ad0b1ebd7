import { join } from "node:path";
import { HypervisorError } from "./errors.ts";
import type { QmpClient, QmpEvent } from "./qmp.ts";
import { QmpEvents } from "./qmp-events.ts";

/** What QEMU aims at: it goes on copying memory that changes until the rest takes no longer. Its own default is 300. */
const DOWNTIME_LIMIT_MS = 40;
const UNLIMITED = 2 ** 40;

/** A QEMU that takes part. */
interface Side {
  readonly qmp: QmpClient;
  /** For sockets. */
  readonly directory: string;
}

interface LiveMoveOptions {
  readonly source: Side;
  /** Started as one that waits for a guest, with the same devices. */
  readonly target: Side;
  /** Block nodes of the disks that are copied; the others are the same image on both sides. */
  readonly nodes: readonly string[];
  /** Bytes a second that the disks and the memory may each take; by default as many as there are. */
  readonly bandwidth?: number | undefined;
  /** Ends it. Has no effect any more once the guest is handed over. */
  readonly signal: AbortSignal;
  /** The guest's memory and the disks' last bytes are over there; from here on there is no way back. */
  readonly onHandOver?: () => void;
}

/** The guest runs on the other side. */
interface Moved {
  /** For how long it ran nowhere, by the clocks of both QEMUs, which are this machine's. */
  readonly pauseMs: number;
}

/**
 * Moves a running guest with its disks from one QEMU to another, in the order in which libvirt does it for KubeVirt's volume
 * migration: NBD exports of the target's images → a mirror of each disk until it is in step → memory → guest stopped → mirrors
 * ended → device states → exports closed → guest goes on over there. Until the guest is handed over, whatever fails leaves it running
 * where it is; then the source is stopped, and the caller ends it.
 *
 * @throws HypervisorError QMP_COMMAND_FAILED, QEMU_UNREACHABLE, LAB_MOVE_FAILED; the signal's reason
 */
export async function moveGuest(options: LiveMoveOptions): Promise<Moved> {
  const { source, target, nodes, signal } = options;
  signal.throwIfAborted();
  const here = new QmpEvents(source.qmp, signal);
  // What is told after the hand-over is waited for, whatever anybody wishes by then.
  const there = new QmpEvents(target.qmp, new AbortController().signal);
  let isHandedOver = false;
  try {
    const sockets = { nbd: join(target.directory, "nbd"), memory: join(target.directory, "memory") };
    await openTarget(target.qmp, nodes, sockets);
    await mirror(source.qmp, here, options, sockets.nbd);
    await copyMemory(source.qmp, here, sockets.memory, options.bandwidth ?? UNLIMITED);
    const stopped = await here.next(({ event }) => event === "STOP");
    for (const node of nodes) {
      await source.qmp.execute("block-job-cancel", { device: jobOf(node) });
      await jobEnd(here, node);
    }
    signal.throwIfAborted();
    isHandedOver = true;
    options.onHandOver?.();
    const after = new QmpEvents(source.qmp, new AbortController().signal);
    await source.qmp.execute("migrate-continue", { state: "pre-switchover" });
    await migrationIs(after, "completed").finally(() => after.close());
    await migrationIs(there, "completed");
    await target.qmp.execute("nbd-server-stop");
    await target.qmp.execute("cont");
    const resumed = await there.next(({ event }) => event === "RESUME");
    return { pauseMs: resumed.at - stopped.at };
  } catch (error) {
    if (!isHandedOver) await takeBack(source.qmp, nodes);
    throw error;
  } finally {
    here.close();
    there.close();
  }
}

function jobOf(node: string): string {
  return `move-${node}`;
}

async function openTarget(
  qmp: QmpClient,
  nodes: readonly string[],
  sockets: { readonly nbd: string; readonly memory: string },
): Promise<void> {
  // The images belong to the exports until those are closed; the guest's devices take them over when it goes on.
  await setCapabilities(qmp, "events", "late-block-activate");
  const addr = { type: "unix", data: { path: sockets.nbd } };
  await qmp.execute("nbd-server-start", { addr });
  for (const node of nodes)
    await qmp.execute("block-export-add", {
      ...{ type: "nbd", id: `export-${node}`, "node-name": node, name: node, writable: true },
    });
  await qmp.execute("migrate-incoming", { uri: `unix:${sockets.memory}` });
}

/** Until every mirror is in step. From then on a write of the guest goes to both sides. */
async function mirror(
  qmp: QmpClient,
  events: QmpEvents,
  { nodes, bandwidth = 0 }: Pick<LiveMoveOptions, "nodes" | "bandwidth">,
  path: string,
): Promise<void> {
  for (const node of nodes) {
    const remote = { driver: "nbd", "node-name": `${node}-move`, server: { type: "unix", path }, export: node };
    await qmp.execute("blockdev-add", remote);
    await qmp.execute("blockdev-mirror", {
      ...{ "job-id": jobOf(node), device: node, target: `${node}-move`, sync: "full", speed: bandwidth },
    });
  }
  const about = (node: string) => (event: QmpEvent) => event.data.device === jobOf(node);
  for (const node of nodes) {
    const told = await events.next(
      (event) =>
        about(node)(event) && ["BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"].includes(event.event),
    );
    if (told.event !== "BLOCK_JOB_READY") throw failed(`the copy of ${node} ended: ${told.data.error ?? "cancelled"}`);
  }
}

async function copyMemory(qmp: QmpClient, events: QmpEvents, path: string, bandwidth: number): Promise<void> {
  await setCapabilities(qmp, "events", "pause-before-switchover");
  await qmp.execute("migrate-set-parameters", { "downtime-limit": DOWNTIME_LIMIT_MS, "max-bandwidth": bandwidth });
  await qmp.execute("migrate", { uri: `unix:${path}` });
  await migrationIs(events, "pre-switchover");
}

async function migrationIs(events: QmpEvents, wanted: string): Promise<void> {
  const told = await events.next(
    ({ event, data }) => event === "MIGRATION" && [wanted, "failed", "cancelled"].includes(String(data.status)),
  );
  if (told.data.status !== wanted) throw failed(`the guest's memory was not handed over: ${told.data.status}`);
}

async function jobEnd(events: QmpEvents, node: string): Promise<void> {
  const told = await events.next(
    ({ event, data }) => data.device === jobOf(node) && ["BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"].includes(event),
  );
  if (told.event !== "BLOCK_JOB_COMPLETED" || told.data.error !== undefined)
    throw failed(`the copy of ${node} did not end well: ${told.data.error ?? "cancelled"}`);
}

/** The guest goes on where it was. Refusals are of no interest: what was not begun need not be ended. */
async function takeBack(qmp: QmpClient, nodes: readonly string[]): Promise<void> {
  const attempt = (command: string, argumentsOf?: object): Promise<unknown> =>
    qmp.execute(command, argumentsOf).catch(() => undefined);
  const events = new QmpEvents(qmp, AbortSignal.timeout(5000));
  const { status } = ((await attempt("query-migrate")) ?? {}) as { status?: string };
  if (status !== undefined && !["none", "completed", "failed", "cancelled"].includes(status)) {
    await attempt("migrate_cancel");
    await events
      .next(({ event, data }) => event === "MIGRATION" && ["cancelled", "failed"].includes(String(data.status)))
      .catch(() => undefined);
  }
  for (const node of nodes) {
    const jobs = ((await attempt("query-block-jobs")) ?? []) as { device: string }[];
    if (jobs.some(({ device }) => device === jobOf(node))) {
      await attempt("block-job-cancel", { device: jobOf(node), force: true });
      await events
        .next(({ event, data }) => data.device === jobOf(node) && /^BLOCK_JOB_(CANCELLED|COMPLETED)$/.test(event))
        .catch(() => undefined);
    }
    await attempt("blockdev-del", { "node-name": `${node}-move` });
  }
  events.close();
  const run = ((await attempt("query-status")) ?? {}) as { running?: boolean; status?: string };
  if (run.running === false && run.status !== "io-error") await attempt("cont");
}

function setCapabilities(qmp: QmpClient, ...names: readonly string[]): Promise<unknown> {
  const capabilities = names.map((capability) => ({ capability, state: true }));
  return qmp.execute("migrate-set-capabilities", { capabilities });
}

function failed(message: string): HypervisorError {
  return new HypervisorError("LAB_MOVE_FAILED", message);
}
