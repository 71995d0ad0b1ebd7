import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { AGENT_PORTS, type AgentConfig } from "../../api/agent-config.ts";
import { AgentControlClient } from "../../api/agent-control-client.ts";
import type { BootProfile } from "../../api/boot-profile.ts";
import { type Peer, peerFor, peersDigest } from "../../api/peers.ts";
import { createAuthority, type KeyPair } from "../../base/certificates.ts";
import type { ResticRepository } from "../../repository/testing/restic.ts";

const MAIN = fileURLToPath(new URL("../../cli/main.ts", import.meta.url));
const READY_MS = 60_000;

export interface TestDisk {
  readonly name: string;
  readonly path: string;
  readonly size: number;
  /** Raw unless given. */
  readonly format?: AgentConfig["disks"][number]["format"];
  /** From 1 on, which of `others` it is of. */
  readonly snapshot?: number;
}

export interface TestAgentOptions {
  readonly repository: ResticRepository;
  readonly snapshot: string;
  readonly disks: readonly TestDisk[];
  /** Further repositories, each with one snapshot. */
  readonly others?: readonly { readonly repository: ResticRepository; readonly snapshot: string }[];
  readonly pin?: boolean;
  readonly cacheBytes?: number;
  readonly uid?: string;
  /** Milliseconds. */
  readonly answerLimitMs?: number;
  /** By default a folder of its own. */
  readonly overlayDirectory?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Where a copy of the repository lies that is to be read instead, and files with what it is reached with. */
  readonly remote?: {
    readonly place: AgentConfig["repository"];
    readonly credentials: Readonly<Record<string, string>>;
  };
}

/** How it is started, if not as before. */
interface AgentChange {
  readonly epoch?: number;
  readonly disks?: readonly TestDisk[];
  readonly profile?: BootProfile;
  readonly node?: string;
}

/** A media agent as a child process on a loopback address of its own, with its claims as folders. */
export class TestAgent {
  /** All of its ports are the real ones: the address is its own. */
  readonly address = `127.${randomInt(64, 255)}.${randomInt(1, 255)}.${randomInt(2, 255)}`;
  readonly directory: string;
  readonly #options: TestAgentOptions;
  readonly #ca: string;
  /** Its own private key, PEM. */
  #key = "";
  readonly #operator: KeyPair;
  readonly #relocation: KeyPair;
  readonly #clients: AgentControlClient[] = [];
  readonly operator: AgentControlClient;
  readonly relocation: AgentControlClient;
  #process: ChildProcess | undefined;
  #epoch = 1;
  log = "";

  private constructor(
    options: TestAgentOptions,
    directory: string,
    ca: string,
    operator: KeyPair,
    relocation: KeyPair,
  ) {
    this.#options = options;
    this.directory = directory;
    this.#ca = ca;
    this.#operator = operator;
    this.#relocation = relocation;
    this.operator = this.client(operator);
    this.relocation = this.client(relocation);
  }

  static async create(options: TestAgentOptions): Promise<TestAgent> {
    const directory = await mkdtemp(join(tmpdir(), "agent-"));
    const now = Date.now();
    const validity = { from: new Date(now - 3_600_000), to: new Date(now + 86_400_000) };
    const authority = await createAuthority("test", validity);
    const [operator, relocation] = await Promise.all([
      authority.issue("operator", []),
      authority.issue("relocation", []),
    ]);
    const agent = new TestAgent(options, directory, authority.ca, operator, relocation);
    const server = await authority.issue("agent", [agent.address]);
    agent.#key = server.key;
    await mkdir(join(directory, "tls"));
    await mkdir(join(directory, "client"));
    await Promise.all([
      writeFile(join(directory, "tls/tls.crt"), server.cert),
      writeFile(join(directory, "tls/tls.key"), server.key),
      writeFile(join(directory, "tls/ca.crt"), authority.ca),
      // The names that libnbd looks for.
      writeFile(join(directory, "client/client-cert.pem"), relocation.cert),
      writeFile(join(directory, "client/client-key.pem"), relocation.key),
      writeFile(join(directory, "client/ca-cert.pem"), authority.ca),
      writeFile(join(directory, "password"), options.repository.password),
    ]);
    await mkdir(join(directory, "credentials"));
    for (const [name, content] of Object.entries(options.remote?.credentials ?? {})) {
      await writeFile(join(directory, "credentials", name), content);
    }
    return agent;
  }

  get tls(): { readonly ca: string; readonly operator: KeyPair; readonly relocation: KeyPair } {
    return { ca: this.#ca, operator: this.#operator, relocation: this.#relocation };
  }

  /** Its restore's. */
  get uid(): string {
    return this.#options.uid ?? "uid";
  }

  /** As an agent of its group is told of it. */
  asPeer(asker: TestAgent): Peer {
    return peerFor(asker.uid, { id: this.uid, host: this.address, ca: this.#ca, key: this.#key });
  }

  /** As the operator does: with these, itself left out, it shares blobs from now on. */
  tellPeers(group: readonly TestAgent[]): Promise<void> {
    const peers = group.filter((other) => other !== this).map((other) => other.asPeer(this));
    return this.operator.setPeers({ digest: peersDigest(peers), peers });
  }

  client(pair: KeyPair): AgentControlClient {
    const tls = { ...pair, ca: this.#ca };
    const client = new AgentControlClient({ host: this.address, port: AGENT_PORTS.control, tls, timeoutMs: 10_000 });
    this.#clients.push(client);
    return client;
  }

  /** For libnbd's and QEMU's tools. */
  nbdUri(disk: string): string {
    return `nbds://${this.address}/${disk}?tls-certificates=${join(this.directory, "client")}`;
  }

  async nfsUrl(disk: string): Promise<string> {
    const { disks } = await this.operator.status();
    const path = disks.find(({ name }) => name === disk)?.exportPath;
    const port = AGENT_PORTS.nfs;
    return `nfs://${this.address}${path}/disk.img?nfsport=${port}&mountport=${port}&version=3`;
  }

  /**
   * Writes its configuration and gives back the command that runs it.
   *
   * @param listenAddress where it serves, if not on its own address; nobody can speak TLS to it there
   */
  async command(change: AgentChange = {}, listenAddress = this.address): Promise<readonly [string, ...string[]]> {
    this.#epoch = change.epoch ?? this.#epoch;
    const { repository, remote, snapshot, pin = false, cacheBytes = 256 * 1024 * 1024 } = this.#options;
    const { answerLimitMs, overlayDirectory, others = [] } = this.#options;
    const config: AgentConfig = {
      restore: { namespace: "default", name: "test", uid: this.uid },
      epoch: this.#epoch,
      repository: remote?.place ?? { local: {} },
      snapshot: { id: snapshot, pin },
      otherRepositories: others.map(() => ({ local: {} })),
      otherSnapshots: others.map(({ snapshot: id }, at) => ({ id, repository: at + 1 })),
      disks: (change.disks ?? this.#options.disks).map((disk) => ({ format: "raw", ...disk })),
      cache: { sizeBytes: cacheBytes },
      repositorySlots: 4,
      ...(answerLimitMs === undefined ? {} : { answerLimitMs }),
    };
    const at = (name: string): string => join(this.directory, name);
    await writeFile(at("config.json"), JSON.stringify(config));
    if (change.profile !== undefined) await writeFile(at("profile.json"), JSON.stringify(change.profile));
    return [
      ...([process.execPath, MAIN, "media-agent", "--config", at("config.json")] as const),
      ...(remote === undefined
        ? ["--repository-dir", repository.directory]
        : ["--repository-credentials-dir", at("credentials")]),
      ...others.flatMap(({ repository: { directory } }, index) => [
        ...["--other-repository-dir", `${index + 1}=${directory}`],
        ...["--other-repository-password-file", `${index + 1}=${at("password")}`],
      ]),
      ...["--repository-password-file", at("password"), "--cache-dir", at("cache")],
      ...["--overlay-dir", overlayDirectory ?? at("overlay")],
      ...["--tls-dir", at("tls"), "--profile-file", at("profile.json"), "--listen-address", listenAddress],
      ...(change.node === undefined ? [] : ["--node", change.node]),
    ];
  }

  /** Starts it without waiting for anything. */
  async spawn(change: AgentChange = {}): Promise<void> {
    const [program, ...args] = await this.command(change);
    const env = { ...process.env, NODE_OPTIONS: "", ...this.#options.env };
    this.#process = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"], env });
    this.#process.stderr?.on("data", (piece: Buffer) => {
      this.log = (this.log + piece.toString()).slice(-100_000);
    });
  }

  /** Starts it and waits until it serves. */
  async start(change: AgentChange = {}): Promise<void> {
    await this.spawn(change);
    await this.ready();
  }

  /** Waits until it serves. */
  async ready(): Promise<void> {
    const deadline = performance.now() + READY_MS;
    while (performance.now() < deadline) {
      if (this.#process?.exitCode !== null) break;
      if ((await this.metricsPort("/readyz").catch(() => undefined))?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`the agent does not serve:\n${this.log}`);
  }

  /** What the port for metrics and probes answers. */
  metricsPort(path: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const request = get({ host: this.address, port: AGENT_PORTS.metrics, path, agent: false }, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (piece: string) => {
          text += piece;
        });
        response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      });
      request.on("error", reject);
    });
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Resolves with its exit code, or the name of the signal that ended it. */
  async exited(): Promise<number | string | null> {
    const child = this.#process;
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child.exitCode ?? child.signalCode;
  }

  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<number | string | null> {
    this.#process?.kill(signal);
    return this.exited();
  }

  async remove(): Promise<void> {
    await this.stop("SIGKILL");
    for (const client of this.#clients) client.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
