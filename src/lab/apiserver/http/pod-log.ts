import type { ServerResponse } from "node:http";
import type { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { arrayAt, isObject, stringAt } from "../json.ts";
import { badRequest, notFound } from "../status-error.ts";
import type { Store } from "../store/store.ts";
import type { RequestInfo } from "./request-info.ts";

/** Where the API server gets a pod's log from: the node that runs it. */
export type PodLogs = (request: {
  readonly namespace: string;
  readonly name: string;
  /** "" where the pod has only one. */
  readonly container: string;
  readonly follow: boolean;
  readonly previous: boolean;
  readonly tailLines: number | undefined;
  /** Aborts when the client goes. */
  readonly signal: AbortSignal;
}) => Promise<Readable> | Readable;

/**
 * Streams a pod's log as plain text.
 *
 * @throws StatusError NotFound, BadRequest where the container is not named and there are several
 */
export async function servePodLog(
  call: { readonly info: RequestInfo; readonly query: URLSearchParams; readonly response: ServerResponse },
  store: Store,
  podLogs: PodLogs,
): Promise<void> {
  const { info, query, response } = call;
  const pod = store.get("/pods", info.namespace, info.name);
  if (pod === undefined) throw notFound({ group: "", resource: "pods", name: info.name });
  const names = ["initContainers", "containers"]
    .flatMap((list) => arrayAt(pod, "spec", list))
    .flatMap((container) => (isObject(container) ? [stringAt(container, "name")] : []));
  const asked = query.get("container") ?? "";
  if (asked === "" && names.length > 1) {
    throw badRequest(`a container name must be specified for pod ${info.name}, choose one of: [${names.join(" ")}]`);
  }
  if (asked !== "" && !names.includes(asked)) {
    throw badRequest(`container ${asked} is not valid for pod ${info.name}`);
  }
  const tailLines = query.get("tailLines");
  const gone = new AbortController();
  response.on("close", () => gone.abort());
  const log = await podLogs({
    namespace: info.namespace,
    name: info.name,
    container: asked === "" ? (names[0] ?? "") : asked,
    follow: query.get("follow") === "true",
    previous: query.get("previous") === "true",
    tailLines: tailLines === null ? undefined : Number(tailLines),
    signal: gone.signal,
  });
  response.writeHead(200, { "content-type": "text/plain" });
  response.flushHeaders();
  try {
    await pipeline(log, response);
  } catch {
    // The client went away, or the log ended badly: the connection is closed either way and the client sees it.
    response.destroy();
  }
}
