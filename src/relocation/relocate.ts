import type { AgentStatus } from "../api/agent-control.ts";
import { AgentControlClient } from "../api/agent-control-client.ts";
import { type Clock, systemClock } from "../base/clock.ts";
import type { Logger } from "../base/logging.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import { AgentSession } from "./agent-session.ts";
import { BufferPool } from "./buffer-pool.ts";
import { DATA_PIECE } from "./copy-pieces.ts";
import { DiskRelocation, type RelocatedDisk } from "./disk-relocation.ts";
import { FairSlots } from "./fair-slots.ts";
import { rateLimit } from "./rate-limit.ts";
import { TokenBucket } from "./token-bucket.ts";

/** Reads under way for all disks together, each of 1 MiB at most. */
const SLOTS = 16;

export interface RelocationOptions {
  readonly agent: {
    /** Address or name, which the agent's certificate bears. */
    readonly host: string;
    readonly controlPort: number;
    readonly nbdPort: number;
    /** PEM: our certificate and key, and the authority of the agent's. */
    readonly tls: TlsFiles;
  };
  /** Each `path` is a block device, or the directory where a claim is mounted (then `disk.img` in it). */
  readonly disks: readonly { readonly name: string; readonly path: string }[];
  /** Compares source and target by SHA-256 before the disks are said to be done. */
  readonly verify: boolean;
  readonly log: Logger;
  readonly clock?: Clock;
}

/**
 * Copies disks from a media agent to their targets while the VM runs from the agent, and ends when each disk was sealed and
 * its last changes are durable at the target. An agent that is away is waited for without end.
 *
 * @throws RelocationError, or the signal's reason; whatever it throws, another run goes on where this one ended
 */
export async function runRelocation(options: RelocationOptions, signal: AbortSignal): Promise<RelocatedDisk[]> {
  const { agent, disks, verify, log, clock = systemClock } = options;
  const client = new AgentControlClient({ host: agent.host, port: agent.controlPort, tls: agent.tls });
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  // The agent tells the limit, so that it can be changed while this runs.
  const bucket = new TokenBucket(Number.POSITIVE_INFINITY, clock);
  const hear = (status: AgentStatus): void => {
    bucket.rate = rateLimit(
      status,
      disks.map(({ name }) => name),
    );
  };
  const shared = {
    verify,
    source: { host: agent.host, port: agent.nbdPort, tls: agent.tls, clock, log },
    session: new AgentSession(client, clock, log, hear),
    slots: new FairSlots(SLOTS),
    buffers: new BufferPool(DATA_PIECE),
    bucket,
    clock,
    log,
  };
  try {
    const outcomes = await Promise.allSettled(
      disks.map(({ name, path }) =>
        new DiskRelocation({ ...shared, name, path }).run(both).catch((error: unknown) => {
          failed.abort(error);
          throw error;
        }),
      ),
    );
    both.throwIfAborted();
    return outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
  } finally {
    client.close();
  }
}
