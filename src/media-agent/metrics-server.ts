import { createServer } from "node:http";
import type { Registry } from "prom-client";
import { listen } from "./listen.ts";

export interface MetricsServerOptions {
  readonly address: string;
  readonly port: number;
  readonly registry: Registry;
  /** Why exports are not served yet; undefined once they are. */
  readonly notReady: () => string | undefined;
}

/**
 * `/metrics`, `/healthz` (the process answers) and `/readyz` (every export is served), in the clear: nothing secret goes here.
 *
 * @returns a function that closes it
 */
export async function serveMetrics(options: MetricsServerOptions): Promise<() => Promise<void>> {
  const server = createServer((request, response) => {
    const answer = (status: number, text: string, type = "text/plain; charset=utf-8"): void => {
      response.writeHead(status, { "content-type": type }).end(text);
    };
    request.resume();
    if (request.method !== "GET" && request.method !== "HEAD") return answer(405, "only GET\n");
    switch (request.url) {
      case "/healthz":
        return answer(200, "ok\n");
      case "/readyz": {
        const reason = options.notReady();
        return reason === undefined ? answer(200, "ok\n") : answer(503, `${reason}\n`);
      }
      case "/metrics":
        options.registry.metrics().then(
          (text) => answer(200, text, options.registry.contentType),
          () => answer(500, "the metrics cannot be collected\n"),
        );
        return;
      default:
        return answer(404, "there are /metrics, /healthz and /readyz\n");
    }
  });
  server.maxConnections = 64;
  server.requestTimeout = 10_000;
  return listen(server, options.address, options.port);
}
