import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "@jest/globals";
import { KubeConfig } from "@kubernetes/client-node";
import { systemClock } from "../../base/clock.ts";
import { silentLogger } from "../../base/logging.ts";
import { ApiError } from "./errors.ts";
import type { KubernetesObject, ResourceType } from "./objects.ts";
import { Reflector } from "./reflector.ts";
import { Transport } from "./transport.ts";

const PODS: ResourceType = { apiVersion: "v1", kind: "Pod", plural: "pods", namespaced: true };
type Script = (url: URL, response: ServerResponse, request: IncomingMessage) => void;

const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** An API server that answers the nth request with the nth part of a script, and the last one from then on. */
async function serve(script: Script[]): Promise<{ transport: Transport; asked: URL[]; answers: string[] }> {
  const asked: URL[] = [];
  const server: Server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://server");
    const part = script[Math.min(asked.length, script.length - 1)];
    asked.push(url);
    part?.(url, response, request);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const config = new KubeConfig();
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  config.loadFromClusterAndUser({ name: "c", server: address, skipTLSVerify: true }, { name: "u", token: "secret" });
  const answers: string[] = [];
  const transport = new Transport(config, {
    onAnswer: ({ verb, resource }, status) => answers.push(`${verb} ${resource} ${status}`),
  });
  ends.push(
    () => new Promise<void>((resolve) => server.close(() => resolve())),
    () => server.closeAllConnections(),
    () => transport.close(),
  );
  return { transport, asked, answers };
}

function pod(name: string, version: string): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: "default", uid: `uid-${name}`, resourceVersion: version },
  };
}

function list(version: string, ...items: KubernetesObject[]): Script {
  return (_, response) => {
    response.end(JSON.stringify({ items, metadata: { resourceVersion: version } }));
  };
}

function events(...lines: object[]): string {
  return lines.map((line) => `${JSON.stringify(line)}\n`).join("");
}

async function until(what: () => boolean): Promise<void> {
  const end = Date.now() + 10_000;
  while (!what()) {
    if (Date.now() > end) throw new Error("it never came to that");
    await systemClock.sleep(5);
  }
}

function reflect(transport: Transport) {
  const seen: string[] = [];
  const over = new AbortController();
  const reflector = new Reflector({
    transport,
    type: PODS,
    labelSelector: "app=x",
    fieldSelector: "spec.nodeName=n",
    onChange: ({ metadata }) => seen.push(`${metadata.name}@${metadata.resourceVersion}`),
    clock: systemClock,
    logger: silentLogger,
  });
  const running = reflector.run(over.signal);
  ends.push(async () => {
    over.abort();
    await running;
  });
  return { seen, reflector };
}

test("lists, then watches from there, asking for bookmarks, and takes a lost watch up where it was", async () => {
  const { transport, asked } = await serve([
    list("5", pod("a", "3")),
    (_, response) => {
      response.write(
        events(
          { type: "ADDED", object: pod("b", "6") },
          { type: "BOOKMARK", object: { metadata: { resourceVersion: "9" } } },
        ),
      );
      // A reset in the middle of a line.
      response.write('{"type":"MODI', () => setTimeout(() => response.socket?.resetAndDestroy(), 20));
    },
    (_, response) => response.write(events({ type: "DELETED", object: pod("a", "11") })),
  ]);
  const { seen, reflector } = reflect(transport);
  await until(() => seen.length === 3);
  expect(seen).toEqual(["a@3", "b@6", "a@11"]);
  expect(reflector.synced).toBe(true);
  expect(asked[1]?.searchParams.get("allowWatchBookmarks")).toBe("true");
  expect(asked.map((url) => url.searchParams.get("resourceVersion"))).toEqual([null, "5", "9"]);
  expect(asked.map((url) => url.searchParams.get("labelSelector"))).toEqual(["app=x", "app=x", "app=x"]);
  expect(new Set(asked.map((url) => url.searchParams.get("fieldSelector")))).toEqual(new Set(["spec.nodeName=n"]));
});

test("lists anew where the server no longer knows the place, and tells what vanished meanwhile", async () => {
  const { transport, asked } = await serve([
    list("5", pod("a", "3"), pod("b", "4")),
    (_, response) =>
      response.end(events({ type: "ERROR", object: { code: 410, reason: "Expired", message: "too old" } })),
    list("20", pod("b", "4"), pod("c", "15")),
    () => undefined,
  ]);
  const { seen } = reflect(transport);
  await until(() => asked.length === 4);
  // b did not change: it is not told again; a is gone: it is.
  expect(seen).toEqual(["a@3", "b@4", "a@3", "c@15"]);
  expect(asked[3]?.searchParams.get("resourceVersion")).toBe("20");
});

test("a server that refuses is asked again", async () => {
  const { transport } = await serve([
    (_, response) => response.writeHead(503).end("proxy says no"),
    list("1", pod("a", "1")),
    () => undefined,
  ]);
  const { seen } = reflect(transport);
  await until(() => seen.length === 1);
});

test("a refusal is an error with the server's own reason, and never bears the token", async () => {
  const { transport, asked } = await serve([
    (_, response) => response.writeHead(409).end(JSON.stringify({ message: "it was changed", reason: "Conflict" })),
  ]);
  const error = await transport
    .request({ method: "PUT", path: "/api/v1/namespaces/a/pods/b?x=1", body: {} })
    .catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(ApiError);
  expect(error).toMatchObject({
    status: 409,
    reason: "Conflict",
    code: "KUBERNETES_API",
    message: "PUT /api/v1/namespaces/a/pods/b: it was changed",
  });
  expect(JSON.stringify(error)).not.toContain("secret");
  expect(asked).toHaveLength(1);
});

test("a server that is too busy is asked again when it says, a few times, and only where that is soon", async () => {
  const busy = (seconds: string): Script => {
    return (_, response) => response.writeHead(429, { "retry-after": seconds }).end("{}");
  };
  const { transport, asked } = await serve([busy("0"), busy("0"), list("1")]);
  expect(await transport.request({ method: "GET", path: "/api/v1/pods" })).toMatchObject({ items: [] });
  expect(asked).toHaveLength(3);
  const never = await serve([busy("0")]);
  await expect(never.transport.request({ method: "GET", path: "/api/v1/pods" })).rejects.toMatchObject({ status: 429 });
  expect(never.asked).toHaveLength(4);
  const later = await serve([busy("60")]);
  await expect(later.transport.request({ method: "GET", path: "/api/v1/pods" })).rejects.toMatchObject({
    status: 429,
    retryAfterMs: 60_000,
  });
  expect(later.asked).toHaveLength(1);
});

test("every answer is counted in RBAC's words", async () => {
  const { transport, answers } = await serve([list("1")]);
  const ask = (method: "GET" | "POST" | "PATCH" | "DELETE", path: string) => transport.request({ method, path });
  await ask("GET", "/api/v1/namespaces/a/pods?limit=500");
  await ask("GET", "/api/v1/namespaces/a/pods/b");
  await ask("GET", "/api/v1/namespaces/a");
  await ask("GET", "/api/v1/persistentvolumes/v");
  await ask("POST", "/apis/batch/v1/namespaces/a/jobs?fieldManager=x");
  await ask("PATCH", "/apis/vmrestore.io/v1alpha1/namespaces/a/vmrestores/b/status?force=true");
  await ask("DELETE", "/apis/apps/v1/namespaces/a/statefulsets/b");
  for await (const _ of transport.watch("/api/v1/pods?watch=true", new AbortController().signal)) break;
  expect(answers).toEqual([
    "list pods 200",
    "get pods 200",
    "get namespaces 200",
    "get persistentvolumes 200",
    "create jobs 200",
    "patch vmrestores/status 200",
    "delete statefulsets 200",
    "watch pods 200",
  ]);
});
