import { get } from "node:http";
import { connect } from "node:net";
import type { Container, Probe } from "./pod-spec.ts";

/** Whether a probe succeeds now. */
export function probeOnce(probe: Probe, container: Container, address: string): Promise<boolean> {
  const port = (wanted: number | string): number =>
    typeof wanted === "number"
      ? wanted
      : (container.ports?.find(({ name }) => name === wanted)?.containerPort ?? Number(wanted));
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  const { httpGet, tcpSocket } = probe;
  if (httpGet !== undefined) return httpSucceeds(address, port(httpGet.port), httpGet.path ?? "/", timeout);
  if (tcpSocket !== undefined) return connectSucceeds(address, port(tcpSocket.port), timeout);
  return Promise.resolve(true);
}

function httpSucceeds(host: string, port: number, path: string, timeout: number): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host, port, path, timeout, agent: false }, (response) => {
      response.resume();
      const status = response.statusCode ?? 0;
      resolve(status >= 200 && status < 400);
    });
    request.once("timeout", () => request.destroy(new Error("timeout")));
    request.once("error", () => resolve(false));
  });
}

function connectSucceeds(host: string, port: number, timeout: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout });
    const end = (succeeded: boolean): void => {
      socket.destroy();
      resolve(succeeded);
    };
    socket.once("connect", () => end(true));
    socket.once("timeout", () => end(false));
    socket.once("error", () => end(false));
  });
}

/** Counts successes and failures in a row, as a probe's thresholds ask for. */
export class ProbeState {
  readonly #probe: Probe;
  #successes = 0;
  #failures = 0;
  /** Undefined until one of the thresholds was reached. */
  outcome: boolean | undefined;

  constructor(probe: Probe) {
    this.#probe = probe;
  }

  add(succeeded: boolean): void {
    this.#successes = succeeded ? this.#successes + 1 : 0;
    this.#failures = succeeded ? 0 : this.#failures + 1;
    if (this.#successes >= (this.#probe.successThreshold ?? 1)) this.outcome = true;
    if (this.#failures >= (this.#probe.failureThreshold ?? 3)) this.outcome = false;
  }
}
