import { execFile } from "node:child_process";
import { mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { SmallFileSystem } from "../../src/media-agent/testing/small-file-system.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";
import { ClaimFaults } from "./claim-faults.ts";
import { random } from "./random.ts";
import { RecordWriter } from "./record-writer.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const WRITERS = 4;
/** Records of a run. */
const ENOUGH = 20;
/** Two journals, the map, what is kept for the agent, and a few of the disk's 12 MiB. */
const SMALL_CLAIM = 23 * MIB;
/** `Date` jumps by days, to and fro, several times a second. Timers and the monotonic clock do not: no kernel lets them. */
const JUMPING_CLOCK = `
const Real = Date;
const now = () => Real.now() + ((Math.floor(Real.now() / 170) * 7) % 11 - 5) * 86_400_000;
globalThis.Date = class extends Real { constructor(...given) { super(...(given.length === 0 ? [now()] : given)); } static now = now; };`;

/** What a run does beside killing the agent. */
const TROUBLES = [
  ...(["none", "claim full", "cache damaged", "cache lost", "repository damaged", "clock jumps"] as const),
  ...(["power losses", "claim fails", "short writes"] as const),
] as const;
/** With these, the power goes too when the agent is killed, at times. */
const CLAIM_TROUBLES: readonly Trouble[] = ["power losses", "claim fails", "short writes"];
type Trouble = (typeof TROUBLES)[number];

/** A backup of one disk, for many runs. */
export class Backup {
  readonly repository: ResticRepository;
  readonly snapshot: string;
  readonly content: Buffer;

  private constructor(repository: ResticRepository, snapshot: string, content: Buffer) {
    this.repository = repository;
    this.snapshot = snapshot;
    this.content = content;
  }

  static async create(): Promise<Backup> {
    // The last page is cut off, as with a disk that was 4 KiB larger than it says.
    const content = Buffer.concat([noise(5 * MIB, 1), Buffer.alloc(4 * MIB), noise(3 * MIB - 1536, 2)]);
    const repository = await ResticRepository.create(2);
    return new Backup(repository, await repository.backUp({ "disks/root.img": content }), content);
  }
}

/** What happened in a run, for a message. */
export interface ChaosReport {
  readonly trouble: Trouble;
  readonly kills: number;
  readonly acknowledged: number;
  /** Only where the claim has faults. */
  readonly powerLosses?: number;
  readonly failures?: number;
}

/**
 * One life of a disk: four clients write records and read them back, the agent is killed at random moments, its claim fills up, fails
 * or loses power, bits flip, clocks jump. After every kill and at the end all of the image is read, over NFS and by libnbd, and compared.
 *
 * @throws Error that says which bytes are wrong
 */
export async function agentRun(seed: number, backup: Backup): Promise<ChaosReport> {
  const next = random(seed);
  const trouble = TROUBLES[seed % TROUBLES.length] as Trouble;
  const claim = trouble === "claim full" ? await SmallFileSystem.create(SMALL_CLAIM) : undefined;
  const scratch = await mkdtemp(join(tmpdir(), "agent-chaos-"));
  const clock = join(scratch, "clock.mjs");
  const faults = CLAIM_TROUBLES.includes(trouble) ? await ClaimFaults.create(scratch, seed) : undefined;
  const { repository, snapshot, content } = backup;
  const agent = await TestAgent.create({
    ...{ repository, snapshot, disks: [{ name: "root", path: "/disks/root.img", size: content.length }] },
    ...(claim === undefined ? {} : { overlayDirectory: claim.path }),
    ...(faults === undefined ? {} : { overlayDirectory: faults.claim, env: faults.env }),
    ...(trouble === "clock jumps" ? { env: { NODE_OPTIONS: `--import=${clock}` } } : {}),
  });
  try {
    await writeFile(clock, JUMPING_CLOCK);
    // Node itself goes on after a short write, but where an error comes after it: then it tells that less was taken.
    if (trouble === "short writes") await faults?.writeShort(400);
    if (trouble === "claim fails") await faults?.writeShort(100);
    const power = faults === undefined ? undefined : new Power(faults, next, trouble);
    const life = new Life(agent, backup, next, scratch, power);
    const kills = 1 + Math.floor(next() * 3);
    for (let kill = 0; kill <= kills; kill++) {
      await life.start();
      if (trouble === "repository damaged") await life.readFromDamaged();
      const isLast = kill === kills;
      const growth = claim === undefined || !isLast ? undefined : () => claim.resize(64 * MIB);
      await life.write(isLast, growth);
      if (trouble === "cache damaged") await life.damageCache();
      if (trouble === "cache lost") await rm(join(agent.directory, "cache"), { recursive: true });
    }
    if (power !== undefined) await life.outlastPowerLoss();
    return { trouble, kills, acknowledged: life.acknowledged, ...power?.report };
  } catch (error) {
    throw new Error(`seed ${seed} (${trouble}): ${error instanceof Error ? error.message : error}\n${agent.log}`, {
      cause: error,
    });
  } finally {
    await agent.remove();
    await claim?.remove();
    await rm(scratch, { recursive: true });
  }
}

/** What becomes of a claim with faults when its agent ends. */
class Power {
  readonly #faults: ClaimFaults;
  readonly #next: () => number;
  readonly #trouble: Trouble;
  #failedBefore = 0;
  #losses = 0;

  constructor(faults: ClaimFaults, next: () => number, trouble: Trouble) {
    this.#faults = faults;
    this.#next = next;
    this.#trouble = trouble;
  }

  get report(): { powerLosses: number; failures: number } {
    return { powerLosses: this.#losses, failures: this.#failedBefore };
  }

  /** One of the next writes or syncs fails. @param most of the writes; of syncs there are fewer */
  async arm(most: number): Promise<void> {
    if (this.#trouble !== "claim fails") return;
    const place = this.#next();
    if (this.#next() < 0.5) await this.#faults.failWrite(1 + Math.floor(place * most));
    else await this.#faults.failSync(1 + Math.floor((place * most) / 4));
  }

  async disarm(): Promise<void> {
    await this.#faults.failWrite(0);
    await this.#faults.failSync(0);
  }

  /** The agent is gone; the power may go too. What a failed sync had to write is gone with the power only, so then it always goes. */
  async ended(): Promise<void> {
    await this.disarm();
    const failed = await this.#faults.failed();
    const isCertain = failed > this.#failedBefore;
    this.#failedBefore = failed;
    if (isCertain || this.#next() < (this.#trouble === "power losses" ? 0.8 : 0.4)) await this.lose();
    else await this.#faults.processEnded();
  }

  /** At times all that was not synced, else any part of it. */
  async lose(): Promise<void> {
    const share = this.#next() < 0.4 ? 0 : this.#next();
    await this.#faults.powerLoss(() => this.#next() < share);
    this.#losses++;
  }
}

class Life {
  readonly #agent: TestAgent;
  readonly #backup: Backup;
  readonly #next: () => number;
  readonly #scratch: string;
  readonly #power: Power | undefined;
  /** Of the disk, once it was served. */
  #exportPath: string | undefined;
  /** The limits for relocation that the agent may know: the one that it acknowledged last, and one that it did not. */
  #limits: readonly (number | undefined)[] = [undefined];
  readonly #writers: readonly RecordWriter[];
  #handle: Buffer | undefined;
  /** The image, as it was read last. */
  #last: Buffer = Buffer.alloc(0);

  constructor(agent: TestAgent, backup: Backup, next: () => number, scratch: string, power: Power | undefined) {
    this.#agent = agent;
    this.#backup = backup;
    this.#next = next;
    this.#scratch = scratch;
    this.#power = power;
    // What is left over at the end belongs to nobody, and must stay what the backup holds.
    const stripe = 6 * 512 * Math.floor(backup.content.length / (WRITERS + 1) / (6 * 512));
    this.#writers = Array.from({ length: WRITERS }, (_, index) => {
      const start = index * stripe + 512 * index;
      return new RecordWriter(start, backup.content.subarray(start, start + stripe), next);
    });
  }

  get acknowledged(): number {
    return this.#writers.reduce((sum, writer) => sum + writer.acknowledged, 0);
  }

  /** Starts the agent, at times killing it while it starts, and compares everything with what may be there. */
  async start(): Promise<void> {
    while (this.#next() < 0.25) {
      await this.#power?.arm(20);
      await this.#agent.spawn();
      if (this.#power === undefined) await delay(this.#next() * 900);
      else await this.#untilReady(this.#next() * 4000);
      await this.#kill();
    }
    await this.#agent.start();
    await this.#checkState();
    const disk = await this.#readAll();
    for (const writer of this.#writers) writer.check(disk, "after a start");
    if (this.#next() < 0.5) for (const writer of this.#writers) writer.adopt(disk);
  }

  /**
   * Lets the clients write for a while.
   *
   * @param isLast whether the agent lives on: then everything is made durable, and compared; else it is killed in the middle
   * @param grow called when it has said for a while that the claim is full
   */
  async write(isLast: boolean, grow: (() => Promise<void>) | undefined): Promise<void> {
    // One machine, which mounts once, with several connections.
    const first = await this.#open();
    const files = [first, ...(await Promise.all(this.#writers.slice(1).map(() => this.#open())))];
    const over = new AbortController();
    const writing = Promise.all(this.#writers.map((writer, index) => writer.run(files[index] as NfsFile, over.signal)));
    writing.catch(() => undefined);
    const setting = this.#power === undefined ? undefined : this.#setLimits(over.signal);
    if (!isLast) await this.#power?.arm(40);
    await Promise.race([delay(100 + this.#next() * 900), writing]);
    if (!isLast) await this.#kill();
    else {
      // However slow the machine is, there is something to lose; a claim that is full takes nothing for now.
      const isOver = writing.then(() => true);
      while (grow === undefined && this.acknowledged < ENOUGH && !(await Promise.race([isOver, delay(50)])));
      over.abort();
      await grow?.();
    }
    await writing;
    await setting;
    if (isLast) {
      for (const [index, writer] of this.#writers.entries()) await writer.finish(files[index] as NfsFile);
      await this.#compareAtTheEnd(files[0] as NfsFile);
    }
    for (const file of files) file.close();
  }

  /** All that was made durable last is there after a power loss, too. */
  async outlastPowerLoss(): Promise<void> {
    await this.#agent.stop("SIGKILL");
    await this.#power?.lose();
    await this.#agent.start();
    await this.#checkState();
    const disk = await this.#readAll();
    for (const writer of this.#writers) writer.check(disk, "after the last power loss");
  }

  /** Not longer than so many milliseconds: the claim's files are made anew in between. */
  async #untilReady(limit: number): Promise<void> {
    const end = performance.now() + limit;
    while (performance.now() < end) {
      const probe = await this.#agent.metricsPort("/readyz").catch(() => undefined);
      if (probe?.status === 200) return;
      await delay(20);
    }
  }

  async #kill(): Promise<void> {
    await this.#agent.stop("SIGKILL");
    await this.#power?.ended();
  }

  /** The agent's own file: mounted clients find their disk, and nothing goes that the operator was told is kept. */
  async #checkState(): Promise<void> {
    const { disks, relocationLimit } = await this.#agent.operator.status();
    const path = disks[0]?.exportPath;
    this.#exportPath ??= path;
    if (path !== this.#exportPath) throw new Error("the export has another path than before");
    if (!this.#limits.includes(relocationLimit)) {
      throw new Error(`the limit for relocation is ${relocationLimit}, it may be ${this.#limits.join(" or ")}`);
    }
    this.#limits = [relocationLimit];
  }

  /** One limit after the other, until one is not acknowledged. */
  async #setLimits(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [known] = this.#limits;
      const limit = (known ?? 0) + 1;
      this.#limits = [known, limit];
      try {
        await this.#agent.operator.setRelocationLimit(limit);
      } catch {
        return;
      }
      this.#limits = [limit];
      await delay(20);
    }
  }

  /** Bits flip in the packs that hold the disk: what is read is right, or an error that says which object it is. */
  async readFromDamaged(): Promise<void> {
    const packs = await this.#backup.repository.files("data");
    const sizes = await Promise.all(packs.map(async (pack) => ({ pack, size: (await stat(pack)).size })));
    // The small one holds the snapshot's tree, without which there is nothing to serve.
    const flips = sizes
      .filter(({ size }) => size > MIB / 4)
      .map(({ pack, size }) => ({ pack, at: Math.floor(this.#next() * size) }));
    await this.#agent.stop("SIGKILL");
    await rm(join(this.#agent.directory, "cache"), { recursive: true });
    for (const { pack, at } of flips) await flip(pack, at);
    try {
      await this.#agent.start();
      await this.#readDamaged();
    } finally {
      for (const { pack, at } of flips) await flip(pack, at);
    }
  }

  async #readDamaged(): Promise<void> {
    const file = await this.#open();
    let errors = 0;
    const disk = this.#last;
    // Large pieces: each error takes as long as the repository is asked again for what is damaged.
    for (let at = 0; at < disk.length; at += MIB / 2) {
      const length = Math.min(MIB / 2, disk.length - at);
      const found = await file.read(at, length).catch((error: unknown) => {
        if (String(error).includes("NFS status 5")) return undefined;
        throw error;
      });
      if (found === undefined) errors++;
      else if (!found.equals(disk.subarray(at, at + length))) throw new Error(`a damaged blob was served at ${at}`);
    }
    const { message } = (await this.#agent.operator.status()).repository;
    if (errors > 0 && !/[0-9a-f]{8}/.test(message)) throw new Error(`no object is named: ${message}`);
    file.close();
  }

  /** While nobody runs, bits flip in the cache, and a file is cut off. */
  async damageCache(): Promise<void> {
    const directory = join(this.#agent.directory, "cache");
    const entries = await readdir(directory, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    for (const path of files) {
      const { size } = await stat(path);
      if (size === 0) continue;
      if (this.#next() < 0.1) await truncate(path, Math.floor(this.#next() * size));
      else await flip(path, Math.floor(this.#next() * size));
    }
  }

  async #open(): Promise<NfsFile> {
    const [disk] = (await this.#agent.operator.status()).disks;
    // The handle of before serves after a restart too.
    const file = await NfsFile.open(this.#agent.address, disk?.exportPath ?? "", this.#handle);
    this.#handle = Buffer.from(file.handle);
    return file;
  }

  async #readAll(): Promise<Buffer> {
    const copy = join(this.#scratch, "copy");
    await rm(copy, { force: true });
    await run("nbdcopy", [this.#agent.nbdUri("root"), copy]);
    this.#last = await readFile(copy);
    this.#compareUnwritten(this.#last);
    return this.#last;
  }

  /** What lies in nobody's stripe. */
  #compareUnwritten(disk: Buffer): void {
    const { content } = this.#backup;
    if (disk.length !== content.length) throw new Error(`the image has ${disk.length} bytes`);
    for (const [index, { end: from }] of this.#writers.entries()) {
      const to = this.#writers[index + 1]?.start ?? content.length;
      if (!disk.subarray(from, to).equals(content.subarray(from, to))) {
        throw new Error(`bytes ${from} to ${to}, which nobody wrote, are not those of the backup`);
      }
    }
  }

  async #compareAtTheEnd(file: NfsFile): Promise<void> {
    const disk = await this.#readAll();
    for (const writer of this.#writers) writer.check(disk, "at the end");
    for (let at = 0; at < disk.length; at += MIB) {
      const length = Math.min(MIB, disk.length - at);
      const found = await file.read(at, length);
      if (!found.equals(disk.subarray(at, at + length))) throw new Error(`NFS and NBD differ in the MiB at ${at}`);
    }
  }
}

async function flip(path: string, at: number): Promise<void> {
  const handle = await open(path, "r+");
  try {
    const byte = Buffer.alloc(1);
    await handle.read(byte, 0, 1, at);
    byte.writeUInt8(byte.readUInt8(0) ^ 0x40, 0);
    await handle.write(byte, 0, 1, at);
  } finally {
    await handle.close();
  }
}
