import {
  type AgentPhase,
  type AgentStatus,
  busRequest,
  limitRequest,
  phaseRequest,
  relocationProgress,
  sealRequest,
} from "../api/agent-control.ts";
import type { BootProfile } from "../api/boot-profile.ts";
import type { MachineState, StateListing } from "../api/machine-state.ts";
import { type PeersRequest, peersRequest } from "../api/peers.ts";
import { AgentError } from "./errors.ts";
import type { ExportedDisk } from "./exported-disk.ts";

/** One row of the control API's table (api/agent-control.ts). */
export interface ControlRoute {
  readonly method: string;
  /** Its groups are the parameters. */
  readonly path: RegExp;
  /** Whether the relocation Job may ask it; the operator may ask everything. */
  readonly forRelocation: boolean;
  /** Resolves with the answer, or undefined for 204. */
  readonly handle: (parameters: readonly string[], body: unknown) => Promise<unknown>;
}

/** What the control API asks of the agent. */
export interface ControlledAgent {
  status(): AgentStatus;
  /** Undefined where the snapshot holds none. */
  manifest(): Promise<unknown>;
  /** Objects that the manifest refers to, as far as the snapshot carries them. */
  objects(): Promise<unknown[]>;
  /** Files of the machine's TPM and firmware, and the same with their content. */
  stateFiles(): Promise<StateListing>;
  machineState(): Promise<MachineState>;
  readonly profile: BootProfile | undefined;
  setPhase(phase: AgentPhase): Promise<void>;
  /** Bytes a second; null: no limit. */
  setRelocationLimit(bytesPerSecond: number | null): Promise<void>;
  setPeers(request: PeersRequest): Promise<void>;
  /** @throws AgentError NOT_FOUND; NOT_SERVING while it starts */
  disk(name: string): ExportedDisk;
  unpin(): Promise<void>;
}

export function controlRoutes(agent: ControlledAgent): ControlRoute[] {
  const orNotFound = (value: unknown, what: string): unknown => {
    if (value === undefined) throw new AgentError("NOT_FOUND", `there is no ${what}`);
    return value;
  };
  const disk = ([name = ""]: readonly string[]): ExportedDisk => agent.disk(name);
  return [
    route("GET", /^\/v1\/status$/, true, async () => agent.status()),
    route("GET", /^\/v1\/manifest$/, false, async () => orNotFound(await agent.manifest(), "manifest in the snapshot")),
    route("GET", /^\/v1\/objects$/, false, () => agent.objects()),
    route("GET", /^\/v1\/state\/files$/, false, () => agent.stateFiles()),
    route("GET", /^\/v1\/state$/, true, () => agent.machineState()),
    route("GET", /^\/v1\/profile$/, false, async () => orNotFound(agent.profile, "profile: no boot became ready yet")),
    route("PUT", /^\/v1\/phase$/, false, (_, body) => agent.setPhase(phaseRequest.parse(body).phase)),
    route("PUT", /^\/v1\/relocation-limit$/, false, (_, body) =>
      agent.setRelocationLimit(limitRequest.parse(body).bytesPerSecond),
    ),
    route("PUT", /^\/v1\/peers$/, false, (_, body) => agent.setPeers(peersRequest.parse(body))),
    route("DELETE", /^\/v1\/pin$/, false, () => agent.unpin()),
    route("PUT", /^\/v1\/disks\/([^/]+)\/seal$/, false, (at, body) => disk(at).seal(sealRequest.parse(body).epoch)),
    route("DELETE", /^\/v1\/disks\/([^/]+)\/seal$/, false, (at, body) =>
      disk(at).unseal(sealRequest.parse(body).epoch),
    ),
    route("PUT", /^\/v1\/disks\/([^/]+)\/bus$/, false, (at, body) => disk(at).setBus(busRequest.parse(body).bus)),
    route("POST", /^\/v1\/disks\/([^/]+)\/generation$/, true, (at) => disk(at).freezeGeneration()),
    route("DELETE", /^\/v1\/disks\/([^/]+)\/generation\/(\d{1,15})$/, true, (at) =>
      disk(at).dropGeneration(Number(at[1])),
    ),
    route("PUT", /^\/v1\/disks\/([^/]+)\/relocation$/, true, (at, body) =>
      disk(at).reportRelocation(relocationProgress.parse(body)),
    ),
  ];
}

function route(
  method: string,
  path: RegExp,
  forRelocation: boolean,
  handle: (parameters: readonly string[], body: unknown) => Promise<unknown>,
): ControlRoute {
  return { method, path, forRelocation, handle };
}
