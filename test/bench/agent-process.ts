import type { ChildProcess } from "node:child_process";
import { openSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AGENT_PORTS, type AgentConfig } from "../../src/api/agent-config.ts";
import type { AgentStatus } from "../../src/api/agent-control.ts";
import { AgentControlClient } from "../../src/api/agent-control-client.ts";
import type { BootProfile } from "../../src/api/boot-profile.ts";
import { createAuthority } from "../../src/base/certificates.ts";
import { launch } from "./commands.ts";
import type { SharingGroup } from "./sharing.ts";

const READY_WITHIN_MS = 60_000;

export interface AgentProcessOptions {
  readonly cliEntry: string;
  /** Its claims, keys and log lie below it. */
  readonly directory: string;
  readonly address: string;
  readonly config: Omit<AgentConfig, "restore" | "epoch" | "repositorySlots"> & { readonly repositorySlots?: number };
  readonly repositoryDir: string;
  readonly password: string;
  readonly profile?: BootProfile;
  /** With whom it shares what it fetches; nobody unless given. */
  readonly sharing?: SharingGroup | undefined;
}

/** A media agent as a process of its own, as its pod would run it, without a cluster around it. */
export class AgentProcess {
  readonly control: AgentControlClient;
  readonly address: string;
  readonly tlsDir: string;
  readonly #child: ChildProcess;
  readonly #sharing: SharingGroup | undefined;

  private constructor(
    child: ChildProcess,
    control: AgentControlClient,
    { address, sharing }: AgentProcessOptions,
    tlsDir: string,
  ) {
    this.#child = child;
    this.#sharing = sharing;
    this.control = control;
    this.address = address;
    this.tlsDir = tlsDir;
  }

  static async start(options: AgentProcessOptions): Promise<AgentProcess> {
    const { directory, address } = options;
    const now = Date.now();
    const authority = await createAuthority("bench", {
      from: new Date(now - 3_600_000),
      to: new Date(now + 86_400_000),
    });
    const place = (...parts: string[]): string => join(directory, ...parts);
    for (const folder of ["tls", "relocation-tls", "overlay", "cache"]) await mkdir(place(folder), { recursive: true });
    const server = await authority.issue("agent", [address]);
    const operator = await authority.issue("operator", []);
    const relocation = await authority.issue("relocation", []);
    const files: [string, string][] = [
      ["tls/tls.key", server.key],
      ["tls/tls.crt", server.cert],
      ["tls/ca.crt", authority.ca],
      ["relocation-tls/tls.key", relocation.key],
      ["relocation-tls/tls.crt", relocation.cert],
      ["relocation-tls/ca.crt", authority.ca],
      // What libnbd wants the same files to be called.
      ["relocation-tls/client-key.pem", relocation.key],
      ["relocation-tls/client-cert.pem", relocation.cert],
      ["relocation-tls/ca-cert.pem", authority.ca],
      ["password", options.password],
      [
        "config.json",
        JSON.stringify({ restore: { namespace: "bench", name: "bench", uid: address }, epoch: 1, ...options.config }),
      ],
    ];
    for (const [name, content] of files) await writeFile(place(name), content, { mode: 0o600 });
    if (options.profile !== undefined) await writeFile(place("profile.json"), JSON.stringify(options.profile));
    const log = openSync(place("agent.log"), "a");
    const [program = "", ...args] = AgentProcess.command(options);
    const child = launch(program, args, {
      stdio: ["ignore", log, log],
      env: { ...process.env, NODE_OPTIONS: "", MALLOC_ARENA_MAX: "2" },
    });
    const tls = { ...operator, ca: authority.ca };
    const control = new AgentControlClient({ host: address, port: AGENT_PORTS.control, tls });
    const agent = new AgentProcess(child, control, options, place("relocation-tls"));
    options.sharing?.join({ address, ca: authority.ca, key: server.key, control });
    await agent.until((status) => status.serving, READY_WITHIN_MS);
    return agent;
  }

  /** The command that serves, perhaps at another address, what was {@link start}ed in the same directory before. */
  static command({ cliEntry, directory, address, repositoryDir, profile }: AgentProcessOptions): readonly string[] {
    const place = (name: string): string => join(directory, name);
    return [
      process.execPath,
      ...[cliEntry, "media-agent", "--config", place("config.json"), "--repository-dir", repositoryDir],
      ...["--repository-password-file", place("password"), "--tls-dir", place("tls")],
      ...["--overlay-dir", place("overlay"), "--cache-dir", place("cache")],
      ...["--listen-address", address, "--portmapper"],
      ...(profile === undefined ? [] : ["--profile-file", place("profile.json")]),
    ];
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Waits until the agent's status is as wanted. */
  async until(wanted: (status: AgentStatus) => boolean, withinMs: number): Promise<AgentStatus> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      const status = await this.control.status().catch(() => undefined);
      if (status !== undefined && wanted(status)) return status;
      if (this.#child.exitCode !== null || performance.now() > deadline)
        throw new Error("the media agent did not come so far; see its log");
      await delay(20);
    }
  }

  async stop(): Promise<void> {
    this.#sharing?.leave(this.address);
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    if (this.#child.exitCode !== null) return;
    this.#child.kill("SIGTERM");
    const hard = setTimeout(() => this.#child.kill("SIGKILL"), 5000);
    await ended;
    clearTimeout(hard);
  }
}
