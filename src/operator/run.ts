import { randomUUID } from "node:crypto";
import type { AddressInfo } from "node:net";
import { hostname } from "node:os";
import { KubeConfig } from "@kubernetes/client-node";
import { type Clock, systemClock } from "../base/clock.ts";
import { createLogger, type Logger } from "../base/logging.ts";
import { collectLeftBehind, LEFT_BEHIND_KEY } from "./backup-repository/left-behind.ts";
import { reconcileRepository } from "./backup-repository/reconcile.ts";
import { NodeChecks } from "./node-check/node-checks.ts";
import { ReviewedRules } from "./runtime/access-rules.ts";
import { CachedReads } from "./runtime/cached-reads.ts";
import { ClusterClock } from "./runtime/cluster-clock.ts";
import { runController } from "./runtime/controller.ts";
import { EventRecorder } from "./runtime/event-recorder.ts";
import { FencedCluster } from "./runtime/fenced-cluster.ts";
import { serveHealth } from "./runtime/health-server.ts";
import { LeaderElector } from "./runtime/leader-elector.ts";
import { OperatorMetrics } from "./runtime/metrics.ts";
import { PodEvents } from "./runtime/pod-events.ts";
import { RestCluster } from "./runtime/rest-cluster.ts";
import { Transport } from "./runtime/transport.ts";
import { WorkQueue } from "./runtime/work-queue.ts";
import type { AgentConnector } from "./vm-restore/agent-session.ts";
import { RestoreReconciler } from "./vm-restore/reconcile.ts";
import { Watches } from "./watches.ts";

const LEASE = "vmrestore-operator";
const SYNC_LIMIT_MS = 20_000;
const WORKERS = { restores: 8, repositories: 2 } as const;

export interface OperatorOptions {
  /** Where the operator, the media agents, their claims and their keys live. */
  readonly namespace: string;
  /** The image of the pods that it makes. */
  readonly image: string;
  /** See `OperatorSettings`. */
  readonly s3ServiceAccount?: string;
  /** See `OperatorSettings`. */
  readonly maxRestoresPerNamespace?: number;
  /** See `OperatorSettings`. */
  readonly shareBlobs?: boolean;
  /** Whether nodes are looked at, by a short pod on each, before machines are started; default: no. */
  readonly checkNodes?: boolean;
  /** Default: the pod's service account. */
  readonly kubeconfig?: string;
  /** IP address (every one unless given) and port of `/healthz`, `/readyz` and `/metrics`; port 0 is any free one. */
  readonly listen: { readonly host?: string; readonly port: number };
  readonly logger?: Logger;
  readonly connector?: AgentConnector;
  /** This node's; default: the system's. */
  readonly clock?: Clock;
}

/** Runs the operator until the signal. Rejects when leadership is lost: then the process has to start anew. */
export async function runOperator(options: OperatorOptions, signal: AbortSignal): Promise<void> {
  const {
    namespace,
    image,
    s3ServiceAccount,
    maxRestoresPerNamespace,
    shareBlobs,
    checkNodes = false,
    logger = createLogger("operator"),
    clock: own = systemClock,
  } = options;
  const clock = new ClusterClock(own, (apartMs) =>
    logger.warn({ apartMs }, "this node's clock and the API server's do not agree: going by the latter"),
  );
  const config = new KubeConfig();
  if (options.kubeconfig === undefined) config.loadFromDefault();
  else config.loadFromFile(options.kubeconfig);
  const metrics = new OperatorMetrics();
  const transport = new Transport(config, {
    onAnswer: (request, status, date) => {
      metrics.asked(request, status);
      clock.heard(date);
    },
  });
  let watches: Watches | undefined;
  const server = await serveHealth({
    ...options.listen,
    registry: metrics.registry,
    // A replica that waits to lead does its part.
    isReady: () => watches?.synced ?? true,
  });
  const { address, port } = server.address() as AddressInfo;
  logger.info({ address, port, namespace }, "health and metrics served");
  const elector = new LeaderElector({
    cluster: new RestCluster(transport, new AbortController().signal),
    namespace,
    name: LEASE,
    identity: `${hostname()}_${randomUUID()}`,
    // A Lease is a span of time as this process lives it (decision 0029).
    clock: own,
    logger,
  });
  try {
    await elector.run(signal, async (leading, term) => {
      metrics.leading(true);
      // Requests under way at an orderly end are let finish: a write cut off is done half as far as anybody knows. They are cut
      // off when leadership is lost, because another may act then.
      const cluster = new FencedCluster(new RestCluster(transport, term.lost), () => term.check());
      const restores = new WorkQueue(clock);
      const repositories = new WorkQueue(clock);
      const nodes = new WorkQueue(clock);
      let nodeChecks: NodeChecks | undefined;
      const onNodeCheck = checkNodes ? () => nodeChecks?.changed() : undefined;
      watches = new Watches({ transport, clock, logger, namespace, restores, repositories, onNodeCheck });
      const events = new EventRecorder(cluster, clock, logger);
      const settings = {
        namespace,
        image,
        ...(s3ServiceAccount === undefined ? {} : { s3ServiceAccount }),
        ...(maxRestoresPerNamespace === undefined ? {} : { maxRestoresPerNamespace }),
        ...(shareBlobs === undefined ? {} : { shareBlobs }),
      };
      const podEvents = new PodEvents({ transport, clock, logger, queue: restores, signal: leading });
      const { known } = new CachedReads(watches.watched, cluster, clock);
      nodeChecks = checkNodes ? new NodeChecks({ cluster, known, settings, clock, queue: nodes }) : undefined;
      const reconciler = new RestoreReconciler({
        cluster,
        settings,
        clock,
        events,
        metrics,
        logger,
        mayAct: () => term.check(),
        watched: watches.watched,
        access: new ReviewedRules(transport, clock),
        nodeChecks,
        podEvents,
        ...(options.connector === undefined ? {} : { connector: options.connector }),
      });
      const common = { clock, logger, metrics };
      const watching = watches.run(leading);
      // Before the watches know everything, each reconcile would ask the API server instead.
      await watches.untilTried(SYNC_LIMIT_MS, leading);
      await Promise.all([
        watching,
        runController(
          {
            ...common,
            name: "vmrestore",
            queue: restores,
            reconcile: (space, name) => reconciler.reconcile(space, name),
            workers: WORKERS.restores,
          },
          leading,
        ),
        runController(
          {
            ...common,
            name: "backuprepository",
            queue: repositories,
            reconcile: (space, name) =>
              `${space}/${name}` === LEFT_BEHIND_KEY
                ? collectLeftBehind({ cluster, settings, logger })
                : reconcileRepository({ cluster, settings, clock, events, known }, space, name),
            workers: WORKERS.repositories,
          },
          leading,
        ),
        runController(
          { ...common, name: "node", queue: nodes, reconcile: async () => nodeChecks?.reconcile(), workers: 1 },
          leading,
        ),
      ]);
      reconciler.close();
    });
  } finally {
    metrics.leading(false);
    server.close();
    server.closeAllConnections();
    transport.close();
  }
}
