import { join } from "node:path";
import { type ApiServerOptions, type RunningApiServer, startApiServer } from "./apiserver/server.ts";
import { startRealControlPlane } from "./real-control-plane.ts";

const DEFAULT_SERVICE_RANGE = "127.96.0.0/16";

export interface ControlPlane extends RunningApiServer {
  /** `real`: kube-apiserver and etcd; `own`: the lab's embedded API server. */
  readonly kind: "real" | "own";
}

/**
 * Starts the lab's control plane: kube-apiserver and etcd where KUBEBUILDER_ASSETS names a folder with them, else the embedded one.
 * Either way it is an API server alone: what a controller manager does, the lab's own controllers do through the ordinary client.
 */
export async function startControlPlane(
  options: ApiServerOptions,
  assets = process.env.KUBEBUILDER_ASSETS,
): Promise<ControlPlane> {
  if (assets === undefined || assets === "") return { kind: "own", ...(await startApiServer(options)) };
  const { kubeconfigPath, serviceClusterIpRange = DEFAULT_SERVICE_RANGE, dataDir } = options;
  const real = await startRealControlPlane({
    ...{ assets, kubeconfigPath, serviceClusterIpRange },
    ...(dataDir === undefined ? {} : { dataDir: join(dataDir, "etcd") }),
  });
  return { kind: "real", ...real };
}
