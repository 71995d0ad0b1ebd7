import type { AgentStatus, DiskStatus } from "../api/agent-control.ts";
import { type AgentControlClient, AgentControlError } from "../api/agent-control-client.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logging.ts";
import { Backoff } from "./backoff.ts";
import { RelocationError } from "./errors.ts";
import { patientRequest } from "./patient-request.ts";

/** The control API as the Job needs it: an agent that is away is waited for, and what it refuses for good is an error. */
export class AgentSession {
  readonly #client: AgentControlClient;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #hear: (status: AgentStatus) => void;

  /** @param hear called with each status that the agent gives */
  constructor(client: AgentControlClient, clock: Clock, log: Logger, hear: (status: AgentStatus) => void) {
    this.#client = client;
    this.#clock = clock;
    this.#log = log;
    this.#hear = hear;
  }

  async status(signal: AbortSignal): Promise<AgentStatus> {
    const status = await this.ask((client) => client.status(signal), signal);
    this.#hear(status);
    return status;
  }

  /**
   * Waits for an agent that starts: until it serves, it may not know its disks.
   *
   * @throws RelocationError RELOCATION_DISK_UNKNOWN
   */
  async disk(name: string, signal: AbortSignal): Promise<DiskStatus> {
    const backoff = new Backoff(this.#clock);
    for (;;) {
      const { serving, disks } = await this.status(signal);
      const disk = disks.find((candidate) => candidate.name === name);
      if (disk !== undefined) return disk;
      if (serving) {
        throw new RelocationError("RELOCATION_DISK_UNKNOWN", `the media agent serves no disk ${name}`, {
          hint: `it serves ${disks.map((other) => other.name).join(", ") || "none"}`,
        });
      }
      this.#log.warn({ disk: name }, "the media agent does not serve yet; waiting");
      await backoff.wait(signal);
    }
  }

  /**
   * Repeats a request until it is answered; each one of the control API may be.
   *
   * @throws RelocationError RELOCATION_REFUSED; AgentControlError with a status of 409, which the caller has to judge
   */
  async ask<T>(request: (client: AgentControlClient) => Promise<T>, signal: AbortSignal): Promise<T> {
    try {
      return await patientRequest(() => request(this.#client), this.#clock, this.#log, signal);
    } catch (error) {
      if (!(error instanceof AgentControlError) || error.status === 409) throw error;
      throw new RelocationError("RELOCATION_REFUSED", `the media agent refused: ${error.message}`, {
        cause: error,
        ...(error.hint === undefined ? {} : { hint: error.hint }),
      });
    }
  }
}
