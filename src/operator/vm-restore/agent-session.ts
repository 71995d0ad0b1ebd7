import type { AgentPhase } from "../../api/agent-control.ts";
import { AgentControlClient, type AgentControlOptions } from "../../api/agent-control-client.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { AgentControl } from "../actions.ts";
import { CopyMeter } from "./copy-meter.ts";

export type AgentConnector = (options: AgentControlOptions) => AgentControl & { close(): void };

/** The operator waits for an agent no longer than for a lost packet or two: a reconcile holds a worker. */
const TIMEOUT_MS = 5_000;

/** An agent that was told with whom it shares, and does not say so, is told again no sooner. */
const PEERS_AGAIN_MS = 10_000;

/**
 * Our side of one restore's agent: the connection, and which phase the running process was told. Lost with the operator, and
 * nothing is lost with it: a phase told again is the same phase.
 */
export class AgentSession {
  readonly #connector: AgentConnector;
  #connection: { key: string; control: ReturnType<AgentConnector> } | undefined;
  #told: { instance: string; phase: AgentPhase } | undefined;
  #peersTold: { instance: string; digest: string; at: number } | undefined;
  #instance = "";
  readonly #clock: Clock;
  /** Of a live migration's copy. Measured anew by an operator that comes next. */
  readonly copyMeter: CopyMeter;

  constructor(
    connector: AgentConnector = (options) => new AgentControlClient({ ...options, timeoutMs: TIMEOUT_MS }),
    clock: Clock = systemClock,
  ) {
    this.#connector = connector;
    this.#clock = clock;
    this.copyMeter = new CopyMeter(clock);
  }

  /** The connection made last, if any. Phases told through it are remembered. */
  get control(): AgentControl | undefined {
    const control = this.#connection?.control;
    if (control === undefined) return undefined;
    return {
      status: () => control.status(),
      manifest: () => control.manifest(),
      objects: () => control.objects(),
      stateFiles: () => control.stateFiles(),
      profile: () => control.profile(),
      seal: (disk, epoch) => control.seal(disk, epoch),
      unseal: (disk, epoch) => control.unseal(disk, epoch),
      setRelocationLimit: (bytesPerSecond) => control.setRelocationLimit(bytesPerSecond),
      reportRelocation: (disk, progress) => control.reportRelocation(disk, progress),
      setPeers: async (request) => {
        const { digest } = request;
        this.#peersTold = { instance: this.#instance, digest, at: this.#clock.monotonic() };
        // Without it, it only reads more than it would have to.
        await control.setPeers(request).catch(() => undefined);
      },
      setBus: (disk, bus) => control.setBus(disk, bus),
      unpin: () => control.unpin(),
      setPhase: async (phase) => {
        await control.setPhase(phase);
        this.#told = { instance: this.#instance, phase };
      },
    };
  }

  connect(options: AgentControlOptions): AgentControl {
    const key = `${options.host}:${options.port}/${options.tls.cert}`;
    if (this.#connection?.key !== key) {
      this.close();
      this.#connection = { key, control: this.#connector(options) };
    }
    return this.#connection.control;
  }

  /** What the process of that instance was told last. */
  told(instance: string): AgentPhase | undefined {
    this.#instance = instance;
    return this.#told?.instance === instance ? this.#told.phase : undefined;
  }

  /** The digest of the peers that the process of that instance was told a moment ago. */
  peersTold(instance: string): string | undefined {
    const told = this.#peersTold;
    const isRecent = told !== undefined && this.#clock.monotonic() - told.at < PEERS_AGAIN_MS;
    return isRecent && told.instance === instance ? told.digest : undefined;
  }

  close(): void {
    this.#connection?.control.close();
    this.#connection = undefined;
  }
}
