import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import type { NodeReport } from "../api/node-report.ts";
import { systemClock } from "../base/clock.ts";
import { type NodeFiles, readNode } from "./read-node.ts";

const ATTEMPTS = 3;
const ATTEMPT_MS = 3000;
const PAUSE_MS = 1000;

export interface CheckNodeOptions extends NodeFiles {
  /** File that the report goes to. */
  readonly result: string;
}

interface Service {
  readonly host: string;
  readonly port: number;
}

/** Looks at the node it runs on and writes what it found. What is wrong with the node is data, and no failure. */
export async function checkNode({ result, ...files }: CheckNodeOptions): Promise<void> {
  const [facts, network] = await Promise.all([readNode(files), tryService(serviceOf(process.env), connectOnce)]);
  const report: NodeReport = { ...facts, ...network };
  await writeFile(result, JSON.stringify(report));
}

/** The API server's Service: the one cluster IP that every pod is told, and that always has something behind it. */
export function serviceOf(env: Readonly<Record<string, string | undefined>>): Service | undefined {
  const port = Number(env.KUBERNETES_SERVICE_PORT);
  const host = env.KUBERNETES_SERVICE_HOST ?? "";
  return host === "" || !Number.isInteger(port) || port < 1 || port > 65_535 ? undefined : { host, port };
}

/** One lost packet says nothing of a network: it is tried some times. */
export async function tryService(
  service: Service | undefined,
  attempt: (service: Service) => Promise<string | undefined>,
  pause: () => Promise<void> = () => systemClock.sleep(PAUSE_MS),
): Promise<Pick<NodeReport, "serviceNetwork" | "serviceNetworkError">> {
  if (service === undefined) return { serviceNetwork: "Unknown" };
  let problem: string | undefined;
  for (let count = 0; count < ATTEMPTS; count++) {
    if (count > 0) await pause();
    problem = await attempt(service);
    if (problem === undefined) return { serviceNetwork: "Reached" };
  }
  const address = `${service.host} port ${service.port}`;
  return { serviceNetwork: "Unreachable", serviceNetworkError: `${address}: ${problem}`.slice(0, 200) };
}

/** Why there was no connection; undefined where there was one. */
async function connectOnce({ host, port }: Service): Promise<string | undefined> {
  const socket = connect({ host, port, timeout: ATTEMPT_MS });
  try {
    return await new Promise<string | undefined>((resolve) => {
      socket.once("connect", () => resolve(undefined));
      socket.once("timeout", () => resolve("no answer"));
      socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    });
  } finally {
    socket.destroy();
  }
}
