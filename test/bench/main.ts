import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchNbd } from "./nbd.ts";
import { benchRelocation } from "./relocation.ts";
import { benchTimeToUsable } from "./time-to-usable.ts";
import { prepareNoise, prepareWorkplace } from "./workplace.ts";

/** `make bench`: speed, with the peers beside, in one run. `BENCH_FLAGS="--only usable --rounds 5"` chooses. */
const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    "delay-ms": { type: "string", default: "5" },
    "megabytes-per-second": { type: "string", default: "50" },
  },
});
const root = join(import.meta.dirname, "../..");
const place = join(root, ".cache/bench");
const rounds = Number(values.rounds);
const sections: Record<string, () => Promise<string>> = {
  nbd: async () => benchNbd(await prepareNoise(place), rounds),
  relocation: async () => benchRelocation(await prepareNoise(place), join(root, "dist/cli/main.js"), rounds),
  usable: async () =>
    benchTimeToUsable({
      workplace: await prepareWorkplace(root, place),
      rounds,
      delayMs: Number(values["delay-ms"]),
      bytesPerSecond: Number(values["megabytes-per-second"]) * 1e6,
    }),
};
process.stdout.write(
  `${new Date().toISOString()}  ${cpus().length} × ${cpus()[0]?.model}, ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.version}\n`,
);
for (const [name, section] of Object.entries(sections)) {
  if (values.only !== undefined && values.only !== name) continue;
  process.stdout.write(`\n${await section()}\n`);
}
