import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { AgentControlError } from "../api/agent-control-client.ts";
import { machineState, statePath } from "../api/machine-state.ts";
import { silentLogger } from "../base/logging.ts";
import { ManualClock } from "../base/testing/manual-clock.ts";
import { restoreState } from "./restore-state.ts";

const file = (path: string, content: string) => ({ path, data: Buffer.from(content).toString("base64") });
const FILES = [
  file("nvram/orders-db_VARS.fd", "efi"),
  file("swtpm/5d307ca9-b3ef-428c-8861-06e72d69f223/tpm2/tpm2-00.permall", "tpm"),
  file("swtpm-localca/issuercert.pem", "pem"),
];

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "state-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function restore(
  state: () => Promise<unknown>,
  is = "orders-db",
  signal = new AbortController().signal,
): Promise<void> {
  const client = { state: async () => machineState.parse(await state()) };
  const machine = { was: "orders-db", is };
  return restoreState({ client, directory, machine, log: silentLogger, clock: new ManualClock() }, signal);
}

const contents = async (): Promise<Record<string, string>> => {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const pairs = files.map(async (path) => [path.slice(directory.length + 1), await readFile(path, "utf8")] as const);
  return Object.fromEntries(await Promise.all(pairs));
};

test("every file is where KubeVirt looks for it, for nobody else to read, and again so after another run", async () => {
  for (let run = 0; run < 2; run++) {
    await restore(async () => ({ files: FILES }));
    expect(await contents()).toEqual({
      "nvram/orders-db_VARS.fd": "efi",
      "swtpm/5d307ca9-b3ef-428c-8861-06e72d69f223/tpm2/tpm2-00.permall": "tpm",
      "swtpm-localca/issuercert.pem": "pem",
    });
  }
  expect((await stat(join(directory, "nvram/orders-db_VARS.fd"))).mode & 0o007).toBe(0);
});

test("a machine of another name has its EFI variables under that name", async () => {
  await restore(async () => ({ files: FILES.slice(0, 1) }), "copy");
  expect(await contents()).toEqual({ "nvram/copy_VARS.fd": "efi" });
});

test.each([
  ...[
    "../disk.img",
    "/etc/passwd",
    "nvram/../../x",
    "nvram/.hidden",
    "cbt/root.qcow2",
    "nvram",
    "nvram//x",
    "swtpm/a/../b",
    "nvram/a b",
  ],
])("a path %p is none", async (path) => {
  expect(statePath.safeParse(path).success).toBe(false);
  await expect(restore(async () => ({ files: [file(path, "x")] }))).rejects.toThrow();
  expect(await contents()).toEqual({});
});

test("an agent that is away is waited for, one that refuses is not", async () => {
  const refused = new AgentControlError("FORBIDDEN", "no", { status: 403 });
  await expect(restore(() => Promise.reject(refused))).rejects.toBe(refused);
  const over = new AbortController();
  const away = restore(
    () => Promise.reject(new AgentControlError("AGENT_UNREACHABLE", "away")),
    "orders-db",
    over.signal,
  );
  await new Promise(setImmediate);
  over.abort(new Error("asked to end"));
  await expect(away).rejects.toThrow("asked to end");
  expect(await contents()).toEqual({});
});
