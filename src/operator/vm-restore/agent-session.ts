import type { AgentPhase } from "../../api/agent-control.ts";
import { AgentControlClient, type AgentControlOptions } from "../../api/agent-control-client.ts";
import { type Clock, systemClock } from "../../base/clock.ts";
import type { AgentControl } from "../actions.ts";
import { CopyMeter } from "./copy-meter.ts";

export type AgentConnector = (options: AgentControlOptions) => AgentControl & { close(): void };

/** The operator waits for an agent no longer than for a lost packet or two: a reconcile holds a worker. */
const TIMEOUT_MS = 5_000;

/**
 * Our side of one restore's agent: the connection, and which phase the running process was told. Lost with the operator, and
 * nothing is lost with it: a phase told again is the same phase.
 */
export class AgentSession {
  readonly #connector: AgentConnector;
  #connection: { key: string; control: ReturnType<AgentConnector> } | undefined;
  #told: { instance: string; phase: AgentPhase } | undefined;
  #instance = "";
  /** Of a live migration's copy. Measured anew by an operator that comes next. */
  readonly copyMeter: CopyMeter;

  constructor(
    connector: AgentConnector = (options) => new AgentControlClient({ ...options, timeoutMs: TIMEOUT_MS }),
    clock: Clock = systemClock,
  ) {
    this.#connector = connector;
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

  close(): void {
    this.#connection?.control.close();
    this.#connection = undefined;
  }
}
