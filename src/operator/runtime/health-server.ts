import { createServer, type Server } from "node:http";
import type { Registry } from "prom-client";

export interface HealthServerOptions {
  /** Every address of the machine unless given. */
  readonly host?: string | undefined;
  /** 0: any free one. */
  readonly port: number;
  readonly registry: Registry;
  /** Whether this replica does its part: leads, or waits to. */
  readonly isReady: () => boolean;
}

/** `/healthz` (the process answers), `/readyz` and `/metrics` over plain HTTP. Resolves when it listens. */
export async function serveHealth(options: HealthServerOptions): Promise<Server> {
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = "text/plain"): void => {
      response.writeHead(status, { "content-type": type }).end(text);
    };
    if (request.method !== "GET") answer(405, "only GET\n");
    else if (request.url === "/healthz") answer(200, "ok\n");
    else if (request.url === "/readyz") answer(options.isReady() ? 200 : 503, options.isReady() ? "ok\n" : "not yet\n");
    else if (request.url === "/metrics") {
      options.registry.metrics().then(
        (text) => answer(200, text, options.registry.contentType),
        () => answer(500, "metrics failed\n"),
      );
    } else answer(404, "no such page\n");
  });
  server.headersTimeout = 5_000;
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: options.port, ...(options.host === undefined ? {} : { host: options.host }) }, resolve);
  });
  return server;
}
