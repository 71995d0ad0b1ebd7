import type { IncomingMessage } from "node:http";
import { Agent, request } from "node:https";
import * as z from "zod";
import { withEither } from "../base/either-signal.ts";
import { errorCode, errorMessage, VmRestoreError } from "../base/errors.ts";
import type { TlsFiles } from "../base/tls-files.ts";
import {
  type AgentPhase,
  type AgentStatus,
  agentStatus,
  controlError,
  type DiskBus,
  type Generation,
  generation,
  type RelocationProgress,
} from "./agent-control.ts";
import { type BootProfile, bootProfile } from "./boot-profile.ts";
import { type MachineState, machineState, type StateListing, stateListing } from "./machine-state.ts";
import type { PeersRequest } from "./peers.ts";

const TIMEOUT_MS = 30_000;
/** The largest answers: a profile of 64 disks with 256 KiB of extents each, and a manifest. */
const ANSWER_LIMIT = 20 * 1024 * 1024;

/**
 * The agent could not be asked, or refused. `code` is the agent's own where it gave one; else AGENT_UNREACHABLE (no
 * connection, TLS refused, connection lost), AGENT_TIMEOUT, AGENT_ANSWER_INVALID or AGENT_REFUSED (a status without a reason).
 */
export class AgentControlError extends VmRestoreError {
  /** The HTTP status, where there was an answer. */
  readonly status: number | undefined;

  constructor(
    code: string,
    message: string,
    options: { status?: number; cause?: unknown; hint?: string | undefined } = {},
  ) {
    super(code, message, {
      ...(options.cause === undefined ? {} : { cause: options.cause }),
      ...(options.hint === undefined ? {} : { hint: options.hint }),
    });
    this.status = options.status;
  }

  /** Whether the same request may succeed later without anybody doing anything: no answer, or a 5xx one. */
  get isTransient(): boolean {
    if (this.status === undefined) return true;
    return this.status >= 500 || this.status === 429;
  }
}

export interface AgentControlOptions {
  /** Address or name of the agent. */
  readonly host: string;
  readonly port: number;
  /** PEM: who we are, and the authority whose certificate the agent must show. */
  readonly tls: TlsFiles;
  /** The name that the agent's certificate must bear; `host` unless given. */
  readonly serverName?: string;
  /** Milliseconds for a whole request, 30,000 unless given. */
  readonly timeoutMs?: number;
}

interface Answer {
  readonly status: number;
  readonly body: Buffer;
}

/**
 * A client of the media agent's control API over mutual TLS. Each request of that API is idempotent, so a request may be
 * repeated after any error. Errors are {@link AgentControlError}; an aborted signal rejects with its reason.
 */
export class AgentControlClient {
  readonly #options: AgentControlOptions;
  readonly #agent: Agent;

  constructor(options: AgentControlOptions) {
    this.#options = options;
    this.#agent = new Agent({
      ...options.tls,
      keepAlive: true,
      maxSockets: 4,
      minVersion: "TLSv1.2",
      ...(options.serverName === undefined ? {} : { servername: options.serverName }),
    });
  }

  status(signal?: AbortSignal): Promise<AgentStatus> {
    return this.#get("/v1/status", agentStatus, signal);
  }

  /** The snapshot's VirtualMachine manifest (hostile until checked); undefined where it holds none. */
  manifest(signal?: AbortSignal): Promise<unknown> {
    return this.#getOptional("/v1/manifest", z.unknown(), signal);
  }

  /** What the snapshot holds beside the manifest (hostile until checked); empty where the agent knows of none. */
  async objects(signal?: AbortSignal): Promise<unknown[]> {
    return (await this.#getOptional("/v1/objects", z.array(z.unknown()).max(64), signal)) ?? [];
  }

  /** Files of the machine's TPM and firmware in the snapshot; none where the agent knows of none. */
  async stateFiles(signal?: AbortSignal): Promise<StateListing> {
    return (await this.#getOptional("/v1/state/files", stateListing, signal)) ?? [];
  }

  /** The same with their content: hostile, but for their paths. */
  state(signal?: AbortSignal): Promise<MachineState> {
    return this.#get("/v1/state", machineState, signal);
  }

  /** Undefined until a boot became ready. */
  profile(signal?: AbortSignal): Promise<BootProfile | undefined> {
    return this.#getOptional("/v1/profile", bootProfile, signal);
  }

  setPhase(phase: AgentPhase, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", "/v1/phase", { phase }, signal);
  }

  /** Durable when it resolves: no write is acknowledged after it. */
  seal(disk: string, epoch: number, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", `${diskPath(disk)}/seal`, { epoch }, signal);
  }

  unseal(disk: string, epoch: number, signal?: AbortSignal): Promise<void> {
    return this.#change("DELETE", `${diskPath(disk)}/seal`, { epoch }, signal);
  }

  /** Durable at the agent when it resolves. */
  setBus(disk: string, bus: DiskBus, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", `${diskPath(disk)}/bus`, { bus }, signal);
  }

  /** Freezes the pages dirty now, or gives the generation that is frozen already. */
  async freezeGeneration(disk: string, signal?: AbortSignal): Promise<Generation> {
    const path = `${diskPath(disk)}/generation`;
    return parse(path, generation, await this.#send("POST", path, undefined, signal));
  }

  /** Call it when everything that the generation names is durable at the target. */
  dropGeneration(disk: string, id: number, signal?: AbortSignal): Promise<void> {
    return this.#change("DELETE", `${diskPath(disk)}/generation/${id}`, undefined, signal);
  }

  /** Durable at the agent when it resolves. */
  reportRelocation(disk: string, progress: RelocationProgress, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", `${diskPath(disk)}/relocation`, progress, signal);
  }

  /**
   * Durable at the agent when it resolves.
   *
   * @param bytesPerSecond whole, above 0; undefined: no limit
   */
  setRelocationLimit(bytesPerSecond: number | undefined, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", "/v1/relocation-limit", { bytesPerSecond: bytesPerSecond ?? null }, signal);
  }

  /** With whom it shares what it fetches; forgotten with the process. */
  setPeers(request: PeersRequest, signal?: AbortSignal): Promise<void> {
    return this.#change("PUT", "/v1/peers", request, signal);
  }

  /** Removes the pin snapshot from the repository, for good. */
  unpin(signal?: AbortSignal): Promise<void> {
    return this.#change("DELETE", "/v1/pin", undefined, signal);
  }

  /** Gives the connections up; requests under way fail. */
  close(): void {
    this.#agent.destroy();
  }

  async #get<T>(path: string, schema: z.ZodType<T>, signal?: AbortSignal): Promise<T> {
    return parse(path, schema, await this.#send("GET", path, undefined, signal));
  }

  async #getOptional<T>(path: string, schema: z.ZodType<T>, signal?: AbortSignal): Promise<T | undefined> {
    try {
      return await this.#get(path, schema, signal);
    } catch (error) {
      if (error instanceof AgentControlError && error.status === 404) return undefined;
      throw error;
    }
  }

  async #change(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<void> {
    await this.#send(method, path, body, signal);
  }

  async #send(method: string, path: string, body: unknown, signal: AbortSignal | undefined): Promise<Answer> {
    signal?.throwIfAborted();
    const limit = AbortSignal.timeout(this.#options.timeoutMs ?? TIMEOUT_MS);
    const signals = signal === undefined ? [limit] : [signal, limit];
    try {
      const answer = await withEither(signals, (both) => this.#exchange(method, path, body, both, true));
      if (answer.status >= 200 && answer.status < 300) return answer;
      throw refusal(method, path, answer);
    } catch (error) {
      if (error instanceof AgentControlError) throw error;
      if (signal?.aborted) throw signal.reason;
      if (limit.aborted) {
        throw new AgentControlError("AGENT_TIMEOUT", `${method} ${path}: no answer in time`, { cause: error });
      }
      throw new AgentControlError("AGENT_UNREACHABLE", `${method} ${path}: ${errorMessage(error)}`, {
        cause: error,
        hint: "see whether the media agent's pod runs and its Service resolves",
      });
    }
  }

  #exchange(method: string, path: string, body: unknown, signal: AbortSignal, mayRepeat: boolean): Promise<Answer> {
    const { host, port } = this.#options;
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers =
      payload === undefined ? {} : { "content-type": "application/json", "content-length": payload.length };
    return new Promise((resolve, reject) => {
      let isToldElsewhere = false;
      const outgoing = request({ host, port, method, path, headers, agent: this.#agent, signal }, (incoming) => {
        isToldElsewhere = true;
        readAnswer(path, incoming).then(resolve, reject);
      });
      outgoing.on("error", (error) => {
        isToldElsewhere = true;
        // A kept connection that the agent closed meanwhile says nothing about the agent.
        const isStale = outgoing.reusedSocket && ["ECONNRESET", "EPIPE"].includes(errorCode(error) ?? "");
        if (isStale && mayRepeat) this.#exchange(method, path, body, signal, false).then(resolve, reject);
        else reject(error);
      });
      // Where the agent begins to speak something else, Node closes the connection and tells nobody, nor that time is up.
      outgoing.once("close", () => {
        if (!isToldElsewhere) reject(new Error("the connection was closed without an answer"));
      });
      outgoing.end(payload);
    });
  }
}

function diskPath(disk: string): string {
  return `/v1/disks/${encodeURIComponent(disk)}`;
}

async function readAnswer(path: string, incoming: IncomingMessage): Promise<Answer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of incoming as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length > ANSWER_LIMIT) {
      incoming.destroy();
      throw new AgentControlError("AGENT_ANSWER_INVALID", `${path}: an answer of over ${ANSWER_LIMIT} bytes`);
    }
    pieces.push(piece);
  }
  return { status: incoming.statusCode ?? 0, body: Buffer.concat(pieces) };
}

function parse<T>(path: string, schema: z.ZodType<T>, { status, body }: Answer): T {
  try {
    return schema.parse(JSON.parse(body.toString()));
  } catch (cause) {
    // The cause may quote what was sent, capabilities included: only where it was wrong is told.
    const where =
      cause instanceof z.ZodError ? cause.issues.map((issue) => issue.path.join(".")).join(", ") : "no JSON";
    throw new AgentControlError("AGENT_ANSWER_INVALID", `${path}: not the answer expected (${where.slice(0, 200)})`, {
      status,
      hint: "operator, relocation Job and media agent must be of one version",
    });
  }
}

function refusal(method: string, path: string, { status, body }: Answer): AgentControlError {
  let reason: unknown;
  try {
    reason = JSON.parse(body.toString());
  } catch {
    reason = undefined;
  }
  const { success, data } = controlError.safeParse(reason);
  if (!success) return new AgentControlError("AGENT_REFUSED", `${method} ${path}: status ${status}`, { status });
  return new AgentControlError(data.code, data.message, { status, hint: data.hint });
}
