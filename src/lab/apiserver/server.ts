import { randomBytes, randomUUID } from "node:crypto";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { createAuthority } from "../../base/certificates.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import { type Logger, silentLogger } from "../../base/logging.ts";
import { bootstrapObjects } from "./bootstrap.ts";
import { CrdController } from "./custom/crd-controller.ts";
import { crdDefinition } from "./custom/crd-resource.ts";
import { ApiHandler } from "./http/api-handler.ts";
import { handleRequest } from "./http/handler.ts";
import type { PodLogs } from "./http/pod-log.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { OpenApiDocuments } from "./openapi/documents.ts";
import { builtInDefinitions } from "./registry/built-in.ts";
import { Registry } from "./registry/registry.ts";
import { FileJournal } from "./store/journal.ts";
import { Store } from "./store/store.ts";

const YEAR_MS = 365 * 24 * 3600 * 1000;
const DAY_MS = 24 * 3600 * 1000;

export interface ApiServerOptions {
  /** Where the kubeconfig is written, for the owner only. */
  readonly kubeconfigPath: string;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free one. */
  readonly port?: number;
  /** Objects are kept in this folder and found again at the next start. Default: in memory only. */
  readonly dataDir?: string;
  /** Where Services get their addresses from, in CIDR notation. Default 127.96.0.0/16. */
  readonly serviceClusterIpRange?: string;
  /** Serves `kubectl logs`. */
  readonly podLogs?: PodLogs;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface RunningApiServer {
  readonly kubeconfigPath: string;
  readonly url: string;
  /** Ends all connections, watches included. What was written is on disk, where there is a `dataDir`. */
  close(): Promise<void>;
}

/** Starts the lab's own API server: an HTTPS server with an authority and a token of its own. */
export async function startApiServer(options: ApiServerOptions): Promise<RunningApiServer> {
  const { kubeconfigPath, host = "127.0.0.1", clock = systemClock, logger = silentLogger } = options;
  const now = clock.now();
  const authority = await createAuthority("vmrestore-lab", {
    from: new Date(now - DAY_MS),
    to: new Date(now + YEAR_MS),
  });
  const serving = await authority.issue("kube-apiserver", [
    host,
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default.svc",
  ]);
  const token = randomBytes(32).toString("base64url");
  const { store, closeStore } = openStore(options.dataDir);
  const registry = new Registry([...builtInDefinitions(options.serviceClusterIpRange), crdDefinition()]);
  const cluster = { store, registry, clock, newUid: randomUUID };
  bootstrapObjects(cluster);
  const crds = new CrdController(cluster, logger);
  crds.start();
  const stop = new AbortController();
  const api = new ApiHandler(cluster, options.podLogs, stop.signal);
  const shared = { registry, api, openApi: new OpenApiDocuments(registry), token, logger };
  const server = createServer(
    { key: serving.key, cert: serving.cert, ca: authority.ca, requestCert: true, rejectUnauthorized: false },
    (request, response) => void handleRequest(shared, request, response),
  );
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port ?? 0, host, resolve);
  });
  const url = `https://${host}:${(server.address() as AddressInfo).port}`;
  await writeKubeconfig(kubeconfigPath, { url, ca: authority.ca, token });
  return {
    kubeconfigPath,
    url,
    async close() {
      stop.abort();
      crds.stop();
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
      closeStore();
    },
  };
}

function openStore(dataDir: string | undefined): { readonly store: Store; readonly closeStore: () => void } {
  if (dataDir === undefined) return { store: new Store(), closeStore: () => {} };
  const { journal, kept } = FileJournal.open(dataDir);
  const store = new Store({ journal });
  store.load(kept.objects, kept.revision);
  return { store, closeStore: () => journal.close() };
}
