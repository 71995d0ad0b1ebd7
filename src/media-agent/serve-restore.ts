import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { AGENT_PORTS, type AgentConfig } from "../api/agent-config.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import { createLogger, type Logger } from "../base/logging.ts";
import { readTls } from "../base/tls-files.ts";
import { lockDirectory } from "../disk/overlay/lock.ts";
import { Portmapper } from "../nfs/portmapper.ts";
import { MediaAgent } from "./agent.ts";
import { AgentState } from "./agent-state.ts";
import { readProfile } from "./configuration.ts";
import { controlRoutes } from "./control-routes.ts";
import { serveControl } from "./control-server.ts";
import { KeptDisks } from "./kept-disks.ts";
import { AgentMetrics } from "./metrics.ts";
import { serveMetrics } from "./metrics-server.ts";
import type { MediaAgentOptions } from "./options.ts";
import { servePeers } from "./peers/peer-server.ts";
import type { RepositoryPlace } from "./repository-place.ts";
import { openSource, snapshotIdentity } from "./repository-source.ts";
import { RunRecord } from "./run-record.ts";

/** An agent that was killed lets go of the overlay at once, one that was asked to end within its grace period. */
const LOCK_WAIT_MS = 30_000;
const LOCK_RETRY_MS = 250;
/** After a failure of the claim the next process must come, whatever this one still waits for. */
const FATAL_GRACE_MS = 10_000;

/** What was prepared while this module was loaded. */
interface Prepared {
  readonly config: AgentConfig;
  readonly places: readonly RepositoryPlace[];
}

/** @see runMediaAgent */
export async function serveRestore(
  options: MediaAgentOptions,
  { config, places }: Prepared,
  signal: AbortSignal,
): Promise<void> {
  const log = createLogger("media-agent");
  const tls = await readTls(options.tlsDir);
  const profile =
    options.profileFile === undefined
      ? undefined
      : await readProfile(options.profileFile).catch((error: unknown) => {
          log.warn({ code: errorCode(error) }, "the boot profile is of no use; looking at the disks instead");
          return undefined;
        });

  await Promise.all([options.overlayDir, options.cacheDir].map((path) => mkdir(path, { recursive: true })));
  /** What was begun, to be ended in the opposite order. */
  const endings: (() => Promise<void>)[] = [];
  const fatal = new AbortController();
  const ending = AbortSignal.any([signal, fatal.signal]);
  try {
    endings.push(await lockOverlay(options.overlayDir, systemClock, ending));
    const state = await AgentState.open(options.overlayDir, {
      restore: config.restore.uid,
      snapshot: snapshotIdentity(config),
      epoch: config.epoch,
      disks: config.disks.map(({ name }) => name),
    });
    const { node, overlayDir } = options;
    const run = node === undefined ? undefined : await RunRecord.open(overlayDir, node, log, systemClock.now());
    const metrics = new AgentMetrics();
    const agent = new MediaAgent({
      config,
      state,
      run,
      profile,
      overlayDirectory: options.overlayDir,
      cacheDirectory: options.cacheDir,
      tls,
      clock: systemClock,
      log,
      metrics,
      onFatal: (error) => {
        log.fatal({ code: errorCode(error), reason: errorMessage(error) }, "ending, to be started anew");
        // A read that hangs in the kernel would keep the process for good, exit or not.
        setTimeout(() => process.kill(process.pid, "SIGKILL"), FATAL_GRACE_MS).unref();
        fatal.abort(error);
      },
    });
    endings.push(() => agent.close());
    const address = options.listenAddress;
    const { registry } = metrics;
    endings.push(
      await serveMetrics({ address, port: AGENT_PORTS.metrics, registry, notReady: () => agent.notReady }),
      await serveControl({ address, port: AGENT_PORTS.control, tls, routes: controlRoutes(agent), log }),
      await servePeers({
        ...{ address, port: AGENT_PORTS.peers, tls, log },
        tokenOf: (asker) => agent.tokenOf(asker),
        blobs: () => agent.sharedBlobs,
        onGiven: (bytes) => metrics.given(bytes),
      }),
    );
    // From here on clients are not refused: they wait until the disks are open.
    agent.nfs.hold();
    await agent.nfs.listen(address, AGENT_PORTS.nfs);
    const keptDisks = new KeptDisks(join(options.cacheDir, "disks"));
    const onWait = (message: string): void => agent.waitFor(message);
    await agent.serve(await openSource({ config, places, keptDisks, clock: systemClock, log, onWait }, ending));
    agent.observeMetrics();
    await agent.nbd.listen({ address, port: AGENT_PORTS.nbd });
    agent.nfs.release();
    if (options.portmapper) {
      const portmapper = await Portmapper.listen(address, AGENT_PORTS.nfs);
      endings.push(() => portmapper.close());
    }
    agent.listening();
    log.info({ instance: agent.instance, disks: config.disks.length, epoch: config.epoch }, "serving");
    await aborted(ending);
  } catch (error) {
    // Being asked to end while it starts is no failure.
    if (!signal.aborted) throw error;
  } finally {
    await endAll(endings, log);
  }
  fatal.signal.throwIfAborted();
  log.info("ended");
}

/** Waits until an agent before this one has let go. */
async function lockOverlay(directory: string, clock: Clock, signal: AbortSignal): Promise<() => Promise<void>> {
  const deadline = clock.monotonic() + LOCK_WAIT_MS;
  for (;;) {
    try {
      return await lockDirectory(directory);
    } catch (error) {
      if (errorCode(error) !== "OVERLAY_LOCKED" || clock.monotonic() > deadline) throw error;
    }
    await clock.sleep(LOCK_RETRY_MS, signal);
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function endAll(endings: readonly (() => Promise<void>)[], log: Logger): Promise<void> {
  for (const end of [...endings].reverse()) {
    await end().catch((error: unknown) => {
      log.error({ code: errorCode(error), reason: errorMessage(error) }, "did not end in order");
    });
  }
}
