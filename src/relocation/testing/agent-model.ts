import { randomUUID } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import {
  type AgentStatus,
  type Generation,
  type RelocationProgress,
  relocationProgress,
} from "../../api/agent-control.ts";
import type { Authority, KeyPair } from "../../base/certificates.ts";
import { deferred } from "../../base/deferred.ts";
import type { NbdExport, NbdExtent } from "../../nbd/export.ts";
import { NbdServer } from "../../nbd/server.ts";

const PAGE = 4096;
const DIRTY = "qemu:dirty-bitmap:relocation";

/** One disk of the model: what a media agent keeps durably about it, and its NBD export. */
export class ModelDisk implements NbdExport {
  readonly name: string;
  readonly description = "a model";
  readonly readOnly = true;
  readonly content: Buffer;
  current: Set<number> = new Set();
  frozen: { id: number; pages: Set<number>; final: boolean } | undefined;
  sealed = false;
  progress: RelocationProgress | undefined;
  /** Everything that was told, in order. */
  readonly told: RelocationProgress[] = [];
  /** Called before each read; may wait or throw. */
  beforeRead: (offset: number, length: number) => Promise<void> = async () => undefined;
  bytesRead = 0;
  flushes = 0;
  #generations = 0;
  /** What {@link crash} takes back: pages as they were, and whether they were dirty already. */
  readonly #volatile = new Map<number, { readonly bytes: Buffer; readonly wasDirty: boolean }>();

  constructor(name: string, content: Buffer) {
    this.name = name;
    this.content = content;
  }

  get size(): number {
    return this.content.length;
  }

  /** A guest's write; refused (false) once sealed. */
  guestWrite(offset: number, data: Buffer): boolean {
    if (this.sealed) return false;
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + data.length; page++) {
      if (!this.#volatile.has(page)) {
        const bytes = Buffer.from(this.content.subarray(page * PAGE, (page + 1) * PAGE));
        this.#volatile.set(page, { bytes, wasDirty: this.current.has(page) });
      }
      this.current.add(page);
    }
    data.copy(this.content, offset);
    return true;
  }

  /** The machine dies: guest writes since the last commit are gone, and so are their dirty marks. */
  crash(): void {
    for (const [page, { bytes, wasDirty }] of this.#volatile) {
      bytes.copy(this.content, page * PAGE);
      if (!wasDirty) this.current.delete(page);
    }
    this.#volatile.clear();
  }

  seal(): void {
    this.#volatile.clear();
    this.sealed = true;
  }

  freeze(): Generation {
    this.#volatile.clear();
    this.frozen ??= { id: ++this.#generations, pages: this.#takeCurrent(), final: this.sealed };
    return { id: this.frozen.id, bytes: this.frozen.pages.size * PAGE, final: this.frozen.final };
  }

  /** @returns whether that generation is the frozen one */
  drop(id: number): boolean {
    this.#volatile.clear();
    if (this.frozen?.id !== id) return false;
    this.frozen = undefined;
    return true;
  }

  /** What a restart may do: the frozen generation goes back into the current one, durably. */
  mergeGenerations(): void {
    this.#volatile.clear();
    for (const page of this.frozen?.pages ?? []) this.current.add(page);
    this.frozen = undefined;
  }

  async read(offset: number, length: number): Promise<Buffer> {
    await this.beforeRead(offset, length);
    this.bytesRead += length;
    return Buffer.from(this.content.subarray(offset, offset + length));
  }

  async write(): Promise<void> {
    throw new Error("read-only");
  }

  async writeZeroes(): Promise<void> {
    throw new Error("read-only");
  }

  async trim(): Promise<void> {
    throw new Error("read-only");
  }

  async flush(): Promise<void> {
    this.flushes++;
    this.#volatile.clear();
  }

  metaContexts(): string[] {
    return [DIRTY];
  }

  blockStatus(context: string, offset: number, length: number): NbdExtent[] {
    const zeros = Buffer.alloc(PAGE);
    const extents: { length: number; flags: number }[] = [];
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / PAGE);
      const end = Math.min((page + 1) * PAGE, offset + length);
      const bytes = this.content.subarray(page * PAGE, Math.min(this.size, (page + 1) * PAGE));
      const isZero = bytes.equals(zeros.subarray(0, bytes.length));
      const flags = context === DIRTY ? Number(this.frozen?.pages.has(page) ?? false) : isZero ? 3 : 0;
      const last = extents.at(-1);
      if (last?.flags === flags) last.length += end - at;
      else extents.push({ length: end - at, flags });
      at = end;
    }
    return extents;
  }

  #takeCurrent(): Set<number> {
    const taken = this.current;
    this.current = new Set();
    return taken;
  }
}

/** The control API and NBD of a media agent over disks in memory, which survive {@link kill}. */
export class AgentModel {
  readonly disks: readonly ModelDisk[];
  /** What the Job shows, and asks of the agent. */
  readonly job: KeyPair & { readonly ca: string };
  controlPort = 0;
  nbdPort = 0;
  instance = randomUUID();
  /** Bytes a second, as the operator told it. */
  relocationLimit: number | undefined;
  /** While false it knows no disks, as an agent that starts. */
  serving = true;
  /** Looks at each request first; what it gives is answered with that status instead. */
  intercept: (request: { method: string; path: string; body: unknown }) => number | "lose" | undefined = () =>
    undefined;
  readonly #identity: KeyPair & { readonly ca: string };
  #control: Server | undefined;
  #nbd: NbdServer | undefined;

  readonly #address: string;

  private constructor(disks: readonly ModelDisk[], address: string, ca: string, identity: KeyPair, job: KeyPair) {
    this.disks = disks;
    this.#address = address;
    this.#identity = { ...identity, ca };
    this.job = { ...job, ca };
  }

  /** @param at the address, and ports other than free ones */
  static async start(
    authority: Authority,
    disks: readonly ModelDisk[],
    at: { readonly address: string; readonly controlPort: number; readonly nbdPort: number } = {
      address: "127.0.0.1",
      controlPort: 0,
      nbdPort: 0,
    },
  ): Promise<AgentModel> {
    const [identity, job] = [await authority.issue("agent", [at.address]), await authority.issue("relocation", [])];
    const model = new AgentModel(disks, at.address, authority.ca, identity, job);
    model.controlPort = at.controlPort;
    model.nbdPort = at.nbdPort;
    await model.restart();
    return model;
  }

  /** The process dies: every connection breaks. */
  async kill(): Promise<void> {
    const control = this.#control;
    await this.#nbd?.close();
    if (control !== undefined) {
      control.closeAllConnections();
      await new Promise((resolve) => control.close(resolve));
    }
    this.#control = undefined;
    this.#nbd = undefined;
  }

  /** It comes back behind the same address. */
  async restart(): Promise<void> {
    this.instance = randomUUID();
    const nbd = new NbdServer({ tls: this.#identity });
    for (const disk of this.disks) nbd.addExport(disk);
    this.nbdPort = await nbd.listen({ address: this.#address, port: this.nbdPort });
    this.#nbd = nbd;
    const tls = { ...this.#identity, requestCert: true, rejectUnauthorized: true };
    const control = createServer(tls, (incoming, outgoing) => void this.#answer(incoming, outgoing));
    const listening = deferred();
    control.once("error", listening.reject);
    control.listen(this.controlPort, this.#address, () => listening.resolve());
    await listening.promise;
    this.controlPort = (control.address() as AddressInfo).port;
    this.#control = control;
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of incoming) pieces.push(piece as Buffer);
    const text = Buffer.concat(pieces).toString();
    const request = {
      method: incoming.method ?? "",
      path: incoming.url ?? "",
      body: text === "" ? undefined : (JSON.parse(text) as unknown),
    };
    const instead = this.intercept(request);
    const [status, body] = typeof instead === "number" ? [instead, undefined] : this.#carryOut(request);
    if (instead === "lose") {
      incoming.socket.destroy(); // it was done, but nobody hears of it
      return;
    }
    outgoing.writeHead(status);
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  }

  #carryOut({ method, path, body }: { method: string; path: string; body: unknown }): [number, unknown] {
    if (path === "/v1/status") return [200, this.#status()];
    const [, name, what, id] = /^\/v1\/disks\/([^/]+)\/([a-z]+)(?:\/(\d+))?$/.exec(path) ?? [];
    const disk = this.disks.find((candidate) => candidate.name === name);
    if (disk === undefined) return [404, { code: "DISK_UNKNOWN", message: `no disk ${name}` }];
    if (method === "POST" && what === "generation") return [200, disk.freeze()];
    if (method === "DELETE" && what === "generation") {
      return disk.drop(Number(id)) ? [204, undefined] : [409, { code: "STALE_GENERATION", message: "another one" }];
    }
    if (method === "PUT" && what === "relocation") {
      disk.progress = relocationProgress.parse(body);
      disk.told.push(disk.progress);
      return [204, undefined];
    }
    return [404, { code: "NOT_FOUND", message: path }];
  }

  #status(): AgentStatus {
    return {
      instance: this.instance,
      epoch: 1,
      snapshot: "0".repeat(64),
      serving: this.serving,
      bootSet: {
        source: "Structure",
        complete: true,
        launchable: true,
        bytes: 0,
        staged: 0,
        guestReads: 0,
        guestHits: 0,
      },
      repository: { reachable: true, message: "", bytesFetched: 0, pinned: false, pinMessage: "" },
      ...(this.relocationLimit === undefined ? {} : { relocationLimit: this.relocationLimit }),
      overlay: { full: false, bytesUsed: 0, bytesFree: 0 },
      connections: { nfs: 0, nbd: 0 },
      disks: (this.serving ? this.disks : []).map((disk) => ({
        name: disk.name,
        size: disk.size,
        exportPath: "/capability",
        sealed: disk.sealed,
        overlayBytes: 0,
        dirtyBytes: disk.current.size * PAGE,
        bootSetStaged: 0,
        bootSetTotal: 0,
        ...(disk.progress === undefined ? {} : { relocation: disk.progress }),
      })),
    };
  }
}
