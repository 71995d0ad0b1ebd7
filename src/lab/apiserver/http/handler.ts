import type { IncomingMessage, ServerResponse } from "node:http";
import { errorMessage } from "../../../base/errors.ts";
import type { Logger } from "../../../base/logging.ts";
import { aggregated, coreVersions, groupList, groupOf, resourceList } from "../discovery/discovery.ts";
import { VERSION } from "../discovery/version.ts";
import type { OpenApiDocuments } from "../openapi/documents.ts";
import type { Registry } from "../registry/registry.ts";
import { noSuchResource, StatusError } from "../status-error.ts";
import type { ApiHandler } from "./api-handler.ts";
import { authenticate } from "./authenticate.ts";
import { sendBytes, sendJson, sendText } from "./respond.ts";

export interface HandlerOptions {
  readonly registry: Registry;
  readonly api: ApiHandler;
  readonly openApi: OpenApiDocuments;
  readonly token: string;
  readonly logger: Logger;
}

/** Answers one request, whatever it is; every error becomes a Status. */
export async function handleRequest(
  options: HandlerOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const url = new URL(request.url ?? "/", "https://127.0.0.1");
    if (isProbe(url.pathname)) return sendText(response, 200, "ok");
    const user = authenticate(request, options.token);
    if (url.pathname.startsWith("/openapi/")) {
      const document = options.openApi.find(url.pathname, request.headers.accept ?? "");
      if (document === undefined) throw noSuchResource();
      sendBytes(response, 200, document.bytes, document.contentType);
      return;
    }
    if (serveDiscovery(options.registry, request, response, url)) return;
    await options.api.handle(request, response, url, user);
  } catch (error) {
    const status =
      error instanceof StatusError
        ? error
        : new StatusError(500, "InternalError", `Internal error occurred: ${errorMessage(error)}`);
    if (!(error instanceof StatusError)) options.logger.error({ err: error, url: request.url }, "request failed");
    if (response.headersSent) response.destroy();
    else sendJson(response, status.httpStatus, status.status);
  }
}

function isProbe(path: string): boolean {
  return /^\/(healthz|livez|readyz)(\/.*)?$/.test(path);
}

/** @returns false where the path is none of discovery */
function serveDiscovery(registry: Registry, request: IncomingMessage, response: ServerResponse, url: URL): boolean {
  const parts = url.pathname.split("/").filter((part) => part !== "");
  const [root, first, second] = parts;
  if (root === "version" && parts.length === 1) sendJson(response, 200, VERSION);
  else if (root === "api" && parts.length === 1) {
    if (!serveAggregated(registry, request, response, true)) {
      sendJson(response, 200, coreVersions(request.headers.host ?? ""));
    }
  } else if (root === "apis" && parts.length === 1) {
    if (!serveAggregated(registry, request, response, false)) sendJson(response, 200, groupList(registry));
  } else if (root === "api" && parts.length === 2) sendFound(response, resourceList(registry, "", first ?? ""));
  else if (root === "apis" && parts.length === 2) sendFound(response, groupOf(registry, first ?? ""));
  else if (root === "apis" && parts.length === 3)
    sendFound(response, resourceList(registry, first ?? "", second ?? ""));
  else return false;
  return true;
}

function sendFound(response: ServerResponse, found: ReturnType<typeof groupOf>): void {
  if (found === undefined) throw noSuchResource();
  sendJson(response, 200, found);
}

function serveAggregated(
  registry: Registry,
  request: IncomingMessage,
  response: ServerResponse,
  core: boolean,
): boolean {
  const asked = /g=apidiscovery\.k8s\.io;v=(v2beta1|v2);as=APIGroupDiscoveryList/.exec(request.headers.accept ?? "");
  const version = (request.headers.accept ?? "").includes("v=v2;") ? "v2" : asked?.[1];
  if (version === undefined) return false;
  const contentType = `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`;
  sendJson(response, 200, aggregated(registry, core, version), contentType);
  return true;
}
