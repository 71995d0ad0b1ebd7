import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { noise } from "../../src/repository/testing/restic.ts";
import { exerciseAgent } from "../uml/exercise-agent.ts";
import { runInUml } from "../uml/run-in-uml.ts";
import type { Slowness } from "../uml/serve-overlay.ts";

/**
 * `make chaos`: a real Linux client reads, writes, maps, truncates and syncs at random, while the server is killed again and again
 * and some of its answers come later than the client waits. VMRESTORE_CHAOS_NFS_SECONDS says how long, all in all; an hour unless
 * given. Half of it goes to the media agent as it is in production, half of that with a repository that is slow at times; the other
 * half to a server whose own answers are late, writes too.
 */
const SECONDS = Number(process.env.VMRESTORE_CHAOS_NFS_SECONDS ?? 3600);
const SEED = Number(process.env.VMRESTORE_CHAOS_SEED ?? Date.now() % 1_000_000);
const MIB = 1024 * 1024;
const SIZE = 64 * MIB;
const PATH = "/0123456789abcdef0123456789abcdef";
/** For the boot, and for what is under way at the end. */
const MARGIN_MS = 180_000;
const LIMIT_MS = SECONDS * 1000 + MARGIN_MS;
const SLOWNESS: Slowness = { write: 4000, writeOf: 100, read: 4000, readOf: 100, patience: 900 };
const MOUNT_OPTIONS = "timeo=10,retrans=3,nconnect=4";

test.each([
  ["a repository at hand", false],
  ["a slow repository", true],
])(
  `seed ${SEED}: for ${SECONDS / 4} seconds every byte of the agent on %s is what was written last, or the backup's`,
  async (_, isSlow) => {
    const { ends, sentAgain } = await exerciseAgent({
      ...{ seed: SEED, seconds: SECONDS / 4, mountOptions: MOUNT_OPTIONS, isSlow },
      trouble: "while sleep $(shuf -i 5-40 -n 1); do shuf -n 1 -e KILL-SERVER HANG-SERVER END-SERVER; done",
    });
    process.stderr.write(`seed ${SEED}: ended ${ends.join(", ")}, ${sentAgain} calls sent again\n`);
    expect(ends.length).toBeGreaterThan(0);
    expect(sentAgain).toBeGreaterThan(0);
    // A signal that comes before it looks out for one ends it too.
    for (const end of ends) expect(["0", "SIGKILL", "SIGTERM"]).toContain(end);
  },
  LIMIT_MS + MARGIN_MS,
);

test(
  `seed ${SEED}: for ${SECONDS / 2} seconds every byte of a late server is what was written last`,
  async () => {
    const state = await mkdtemp(join(tmpdir(), "overlay-"));
    const program = join(import.meta.dirname, "../uml/serve-overlay.ts");
    const original = join(state, "original.img");
    const parts = [0, 1, 2, 3];
    try {
      await writeFile(original, noise(SIZE, 1));
      const console = await runInUml({
        exportPath: PATH,
        server: [process.execPath, program, state, PATH, original, JSON.stringify(SLOWNESS)],
        mountOptions: MOUNT_OPTIONS,
        limitMs: LIMIT_MS,
        script: `
          ${parts.map((part) => `($UML_DIR/exerciser /run/mnt/disk.img ${part * 16 * MIB} ${4 * MIB} ${SEED + part} ${SECONDS / 2} ${original} || echo FAILED) &`).join("\n")}
          (while sleep $(shuf -i 5-40 -n 1); do echo KILL-SERVER; done) &
          killer=$!
          while pgrep -x exerciser > /dev/null; do sleep 1; done
          kill $killer
        `,
      });
      expect(console).not.toContain("FAILED");
      expect(console.match(/^EXERCISED \d+/gm)?.length).toBe(parts.length);
      // It was as hard as it was meant to be.
      expect(console.match(/DUPLICATES [1-9]/)).not.toBeNull();
    } finally {
      await rm(state, { recursive: true, force: true });
    }
  },
  LIMIT_MS + MARGIN_MS,
);
