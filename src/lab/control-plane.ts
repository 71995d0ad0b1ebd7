import { type ApiServerOptions, type RunningApiServer, startApiServer } from "./apiserver/server.ts";

export interface ControlPlane extends RunningApiServer {
  /** `real`: kube-apiserver and etcd; `own`: the lab's embedded API server. */
  readonly kind: "real" | "own";
}

/**
 * Starts the lab's control plane. Either way it is an API server alone: what a controller manager does, the lab's own
 * controllers do through the ordinary client.
 */
export async function startControlPlane(options: ApiServerOptions): Promise<ControlPlane> {
  return { kind: "own", ...(await startApiServer(options)) };
}
