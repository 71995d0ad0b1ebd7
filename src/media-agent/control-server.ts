import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { TLSSocket } from "node:tls";
import * as z from "zod";
import type { ControlError } from "../api/agent-control.ts";
import { errorCode, errorMessage, VmRestoreError } from "../base/errors.ts";
import type { Logger } from "../base/logging.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import type { ControlRoute } from "./control-routes.ts";
import { AgentError } from "./errors.ts";
import { listen } from "./listen.ts";

/** Requests are a few numbers. */
const BODY_LIMIT = 16 * 1024;

/** HTTP status of refusals; every other code is 500. */
const STATUS: Readonly<Record<string, number>> = {
  REQUEST_INVALID: 400,
  FORBIDDEN: 403,
  NOT_FOUND: 404,
  PATH_NOT_FOUND: 404,
  STALE_EPOCH: 409,
  STALE_GENERATION: 409,
  DISK_SEALED: 409,
  DISK_NOT_SEALED: 409,
  REQUEST_TOO_LARGE: 413,
  MANIFEST_INVALID: 422,
  NOT_SERVING: 503,
  REPOSITORY_UNREACHABLE: 503,
  REPOSITORY_LOCKED: 503,
};

export interface ControlServerOptions {
  readonly address: string;
  readonly port: number;
  readonly tls: TlsFiles;
  readonly routes: readonly ControlRoute[];
  readonly log: Logger;
}

/**
 * The control API: HTTPS that asks every client for a certificate of the restore's authority. The certificate's common name says
 * who it is.
 *
 * @returns a function that closes it
 */
export async function serveControl(options: ControlServerOptions): Promise<() => Promise<void>> {
  const server = createServer(
    { ...options.tls, requestCert: true, rejectUnauthorized: true, minVersion: "TLSv1.2", handshakeTimeout: 10_000 },
    (request, response) => {
      answer(options, request).then(
        (body) => send(response, body === undefined ? 204 : 200, body),
        (error: unknown) => refuse(options.log, request, response, error),
      );
    },
  );
  server.maxConnections = 256;
  server.requestTimeout = 30_000;
  server.headersTimeout = 10_000;
  return listen(server, options.address, options.port);
}

async function answer(options: ControlServerOptions, request: IncomingMessage): Promise<unknown> {
  const pathname = URL.parse(request.url ?? "/", "https://agent")?.pathname ?? "/";
  const matching = options.routes
    .map((route) => ({ route, match: route.path.exec(pathname) }))
    .filter(({ match }) => match !== null);
  const found = matching.find(({ route }) => route.method === request.method);
  if (found === undefined) {
    throw new AgentError("NOT_FOUND", `there is no ${request.method} ${pathname.slice(0, 100)}`);
  }
  const name = (request.socket as TLSSocket).getPeerCertificate().subject?.CN;
  if (name !== "operator" && !(name === "relocation" && found.route.forRelocation)) {
    throw new AgentError("FORBIDDEN", `${name ?? "a client without a name"} may not do this`);
  }
  const body = await readBody(request);
  const parameters = (found.match ?? []).slice(1).map((part) => decodeURIComponent(part ?? ""));
  return found.route.handle(parameters, body);
}

/** The request's JSON; undefined where it has no body. */
async function readBody(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > BODY_LIMIT) throw new AgentError("REQUEST_TOO_LARGE", `a body is at most ${BODY_LIMIT} bytes long`);
    pieces.push(piece);
  }
  if (length === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(pieces).toString());
  } catch (cause) {
    throw new AgentError("REQUEST_INVALID", "the body is no JSON", { cause });
  }
}

function refuse(log: Logger, request: IncomingMessage, response: ServerResponse, error: unknown): void {
  const refusal = toControlError(error);
  const status = STATUS[refusal.code] ?? 500;
  if (status >= 500) log.error({ method: request.method, url: request.url, ...refusal }, "a control request failed");
  // What was not read of a body would be taken for the next request.
  if (!request.complete) response.setHeader("connection", "close");
  send(response, status, refusal);
}

function toControlError(error: unknown): ControlError {
  if (error instanceof z.ZodError) {
    return { code: "REQUEST_INVALID", message: z.prettifyError(error).slice(0, 500) };
  }
  if (error instanceof URIError) {
    return { code: "REQUEST_INVALID", message: errorMessage(error) };
  }
  const hint = error instanceof VmRestoreError ? error.hint : undefined;
  const code = error instanceof VmRestoreError ? error.code : (errorCode(error) ?? "INTERNAL");
  return { code, message: errorMessage(error), ...(hint === undefined ? {} : { hint }) };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  if (response.destroyed) return;
  if (body === undefined) {
    response.writeHead(status).end();
    return;
  }
  const text = Buffer.from(JSON.stringify(body));
  response.writeHead(status, { "content-type": "application/json", "content-length": text.length }).end(text);
}
