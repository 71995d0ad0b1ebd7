import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";
import { SlowRepository } from "../bench/slow-repository.ts";
import { runInUml, UmlFault } from "./run-in-uml.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const PART = 12 * MIB;
const PARTS = 4;
/** What fio writes all the time as QEMU does, many pieces at once, each durable before its reply, follows the exercisers' parts. */
const WRITTEN = 8 * MIB;
const UNTOUCHED = 8 * MIB;
/** With a hole. */
const IMAGE = Buffer.concat([
  noise(16 * MIB, 1),
  Buffer.alloc(8 * MIB),
  noise(PARTS * PART + WRITTEN + UNTOUCHED - 24 * MIB, 2),
]);
const FIO = `fio --name=x --filename=/run/mnt/disk.img --allow_file_create=0 --rw=randwrite --bs=4k --direct=1 --ioengine=libaio \\
  --iodepth=16 --offset=${PARTS * PART} --size=${WRITTEN} --io_size=1M --randrepeat=0 --verify=crc32c --verify_fatal=1`;
const NFS_ADDRESS = "10.77.0.1";
const FAST = { delayMs: 0, bytesPerSecond: 1024 * MIB };
/** For the boot, what is under way at the end, and reading all of the disk. */
const MARGIN_MS = 180_000;
const UML_ATTEMPTS = 3;

export interface AgentExercise {
  readonly seed: number;
  /** At most; it ends sooner when the trouble is over. */
  readonly seconds: number;
  /**
   * Shell commands of the guest, beside the exercisers: they say `KILL-SERVER` and the like, see `runInUml`, and may wait until a server
   * has `answered`.
   */
  readonly trouble: string;
  readonly mountOptions: string;
  /** The repository lies behind a link that is slow at times, and the cache is lost with every other process. */
  readonly isSlow: boolean;
}

/** What came of it. */
export interface Exercised {
  readonly console: string;
  /** Of each exerciser. */
  readonly operations: readonly number[];
  /** How each server ended, in turn: an exit code, or a signal's name. */
  readonly ends: readonly string[];
  /** Calls that the client sent again: their answer was lost with a connection, or was late. */
  readonly sentAgain: number;
}

/**
 * The media agent as it is in production, over a backup in a repository, under a real Linux client whose mount is hard: random I/O of
 * four programs, each of which knows what the backup holds where it has not written, and fio's, while the agent is killed or asked to
 * end and started again. Afterwards the agent runs once more, and all of the disk is read from it over NBD.
 *
 * @throws Error where a byte is not what was written last, or else the backup's; where the agent ends by itself
 */
export async function exerciseAgent(exercise: AgentExercise): Promise<Exercised> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await exerciseNewAgent(exercise);
    } catch (error) {
      // All begins anew: another agent, over another backup.
      if (!(error instanceof UmlFault) || attempt === UML_ATTEMPTS) throw error;
    }
  }
}

async function exerciseNewAgent(exercise: AgentExercise): Promise<Exercised> {
  const { seed, seconds, trouble, mountOptions, isSlow } = exercise;
  const scratch = await mkdtemp(join(tmpdir(), "exercise-"));
  const repository = await ResticRepository.create(2);
  const link = await SlowRepository.start(repository.directory, FAST);
  let agent: TestAgent | undefined;
  try {
    const original = join(scratch, "original.img");
    await writeFile(original, IMAGE);
    const snapshot = await repository.backUp({ "disks/root.img": IMAGE });
    agent = await TestAgent.create({
      ...{ repository, snapshot, pin: true, cacheBytes: 64 * MIB },
      disks: [{ name: "root", path: "/disks/root.img", size: IMAGE.length }],
      ...(isSlow ? { remote: { place: { rest: { url: link.url } }, credentials: {} } } : {}),
    });
    // Once outside of the namespace, so that its export has a path and its machine runs.
    await agent.start();
    await agent.operator.setPhase("Booting");
    await agent.operator.setPhase("Ready");
    const exportPath = (await agent.operator.status()).disks[0]?.exportPath ?? "";
    await agent.stop();
    const { port } = new URL(link.url);
    const repositoryProgram = join(import.meta.dirname, "serve-repository.ts");
    const command = await agent.command({}, NFS_ADDRESS);
    const forgetful = ["sh", "-c", `[ $(($$ % 2)) = 0 ] || rm -rf "$0"; exec "$@"`, join(agent.directory, "cache")];
    const console = await runInUml({
      exportPath,
      mountOptions,
      server: isSlow ? [...forgetful, ...command] : command,
      beside: isSlow ? [[process.execPath, repositoryProgram, repository.directory, port]] : [],
      limitMs: seconds * 1000 + MARGIN_MS,
      script: `
        exercise() { $UML_DIR/exerciser /run/mnt/disk.img $1 ${PART} $2 ${seconds} ${original} || echo EXERCISER-FAILED; }
        ${Array.from({ length: PARTS }, (_, part) => `exercise ${part * PART} ${seed + part} &`).join("\n")}
        # Pages leave soon, and stand at the server uncommitted: a kill must have them sent again.
        echo 10 > /proc/sys/vm/dirty_expire_centisecs
        echo 10 > /proc/sys/vm/dirty_writeback_centisecs
        answered() { sleep 1; dd if=/run/mnt/disk.img of=/run/answer bs=4k count=1 iflag=direct 2> /dev/null; }
        (${trouble}; pkill -x exerciser) &
        trouble=$!
        while pgrep -x exerciser > /dev/null; do
          ${FIO} > /run/fio 2>&1 || { cat /run/fio; exit 1; }
        done
        kill $trouble 2> /dev/null || true
        sed -n 's/^\\s*\\(READ\\|WRITE\\|COMMIT\\): \\([0-9]*\\) \\([0-9]*\\) .*/CALLS \\1 \\2 SENT \\3/p' /proc/self/mountstats
        echo "IMAGE $(dd if=/run/mnt/disk.img bs=1M iflag=direct 2> /dev/null | sha256sum)"
      `,
    });
    const operations = [...console.matchAll(/^EXERCISED (\d+)/gm)].map((match) => Number(match[1]));
    if (operations.length !== PARTS) {
      const why = [...console.matchAll(/^EXERCISER.*/gm)].join("\n");
      throw new Error(`an exerciser failed:\n${why}\n${console.slice(-6000)}`);
    }
    await agent.start();
    const left = await readDisk(agent, join(scratch, "left.img"));
    const seen = /IMAGE ([0-9a-f]{64})/.exec(console)?.[1];
    if (createHash("sha256").update(left).digest("hex") !== seen) {
      throw new Error("the disk is not the one that the Linux client saw last");
    }
    if (!left.subarray(-UNTOUCHED).equals(IMAGE.subarray(-UNTOUCHED))) {
      throw new Error("what nobody wrote is not what the backup holds");
    }
    const ends = [...console.matchAll(/^SERVER-ENDED (\w+)/gm)].map((match) => match[1] ?? "");
    const calls = [...console.matchAll(/^CALLS \w+ (\d+) SENT (\d+)/gm)];
    const sentAgain = calls.reduce((sum, [, made, sent]) => sum + Number(sent) - Number(made), 0);
    return { console, operations, ends, sentAgain };
  } finally {
    await agent?.remove();
    await link.close();
    await repository.remove();
    await rm(scratch, { recursive: true, force: true });
  }
}

async function readDisk(agent: TestAgent, path: string): Promise<Buffer> {
  await run("nbdcopy", [agent.nbdUri("root"), path]);
  return readFile(path);
}
