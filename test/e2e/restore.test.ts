import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, afterEach, beforeAll, expect, test } from "@jest/globals";
import { parse, stringify } from "yaml";
import type { VMRestore } from "../../src/api/vm-restore.ts";
import { RestoreScenario } from "../scenario/restore-scenario.ts";

const run = promisify(execFile);
const EXAMPLES = join(import.meta.dirname, "../../examples");
const NAME = "orders-db";
const LIMIT_MS = 10 * 60_000;

let lab: RestoreScenario | undefined;
let environment = process.env;

beforeAll(async () => {
  if (process.env.VMRESTORE_E2E_CLUSTER !== "1") {
    lab = await RestoreScenario.prepare(AbortSignal.timeout(LIMIT_MS * 4));
    environment = { ...process.env, KUBECONFIG: lab.cluster.kubeconfig };
  }
  await kubectl("apply", "-f", join(EXAMPLES, "backuprepository.yaml"));
  await kubectl("wait", "--for=condition=Ready", "--timeout=120s", "backuprepository/nightly");
}, LIMIT_MS);

afterEach(async () => {
  await kubectl("delete", "virtualmachine", NAME, "--ignore-not-found", "--timeout=180s");
  await kubectl("delete", "vmrestore", NAME, "--ignore-not-found", "--timeout=180s");
  await kubectl("delete", "persistentvolumeclaim", `${NAME}-root`, "--ignore-not-found", "--timeout=180s");
}, LIMIT_MS);

afterAll(() => lab?.close());

async function kubectl(...args: string[]): Promise<string> {
  return (await run("kubectl", args, { env: environment })).stdout;
}

async function put(object: object): Promise<void> {
  const child = run("kubectl", ["apply", "-f", "-"], { env: environment });
  child.child.stdin?.end(stringify(object));
  await child;
}

async function apply(change: (restore: { spec: Record<string, unknown> }) => void): Promise<void> {
  const restore = parse(await readFile(join(EXAMPLES, "vmrestore.yaml"), "utf8")) as { spec: Record<string, unknown> };
  change(restore);
  await put(restore);
}

async function until(wanted: (restore: VMRestore) => boolean): Promise<VMRestore> {
  const deadline = performance.now() + LIMIT_MS / 2;
  for (;;) {
    const restore = JSON.parse(await kubectl("get", "vmrestore", NAME, "-o", "json")) as VMRestore;
    if (wanted(restore)) return restore;
    if (performance.now() > deadline) throw new Error(`it stayed at ${JSON.stringify(restore.status, undefined, 1)}`);
    await delay(300);
  }
}

const isGuestReady = ({ status }: VMRestore): boolean =>
  status?.conditions?.some(({ type, status: is }) => type === "GuestReady" && is === "True") === true;

async function claimOfMachine(): Promise<string> {
  const path = "jsonpath={.spec.template.spec.volumes[0].persistentVolumeClaim.claimName}";
  return kubectl("get", "virtualmachine", NAME, "-o", path);
}

test(
  "a machine comes back from its backup, relocates, and runs from its target without the agent",
  async () => {
    await apply(() => {});
    await until(isGuestReady);
    const { status } = await until((restore) => restore.status?.phase === "Completed");
    expect(status?.relocation?.percent).toBe(100);
    expect(status?.timeToGuestReady).toMatch(/s$/);
    expect(await claimOfMachine()).toBe(`${NAME}-root`);
    const machines = "app.kubernetes.io/name=vmrestore-media-agent";
    expect((await kubectl("get", "pods", "--all-namespaces", "-l", machines, "-o", "name")).trim()).toBe("");
    // The machine and its target stay when the restore is deleted.
    await kubectl("delete", "vmrestore", NAME, "--timeout=60s");
    expect(await kubectl("get", "virtualmachine", NAME, "-o", "jsonpath={.status.printableStatus}")).toBe("Running");
  },
  LIMIT_MS,
);

test(
  "a live mount runs without relocation, keeps its agent while the machine needs it, and is discarded when it expires",
  async () => {
    await apply(({ spec }) => {
      spec.relocation = { strategy: "None" };
      spec.liveMount = { expiresAfter: "45s", onExpiry: "Discard" };
    });
    await until(isGuestReady);
    expect(await claimOfMachine()).toBe(`${NAME}-root-restoring`);
    await until(({ status }) => status?.phase === "Completed");
    expect((await kubectl("get", "virtualmachine", NAME, "--ignore-not-found")).trim()).toBe("");
    expect((await kubectl("get", "persistentvolumeclaim", `${NAME}-root-restoring`, "--ignore-not-found")).trim()).toBe(
      "",
    );
  },
  LIMIT_MS,
);

test(
  "what is wrong is said with what to do, and the restore goes on by itself when it is mended",
  async () => {
    await apply(({ spec }) => {
      spec.relocation = { target: { storageClassName: "no-such-class" } };
    });
    const waiting = await until(({ status }) => status?.message?.includes("no-such-class") === true);
    expect(waiting.status?.phase).not.toBe("Failed");
    expect((await kubectl("get", "virtualmachine", NAME, "--ignore-not-found")).trim()).toBe("");
    const storageClass = JSON.parse(await kubectl("get", "storageclass", "fast", "-o", "json")) as Record<
      string,
      unknown
    >;
    await put({ ...storageClass, metadata: { name: "no-such-class" } });
    try {
      await until(isGuestReady);
    } finally {
      await kubectl("patch", "vmrestore", NAME, "--type", "merge", "-p", '{"spec":{"deletionPolicy":"Discard"}}');
      await kubectl("delete", "storageclass", "no-such-class");
    }
  },
  LIMIT_MS,
);

test(
  "a machine that is there is replaced, with its disks and its TPM state kept, and comes back when people want it",
  async () => {
    await apply(() => {});
    await until(({ status }) => status?.phase === "Completed");
    await kubectl("delete", "vmrestore", NAME, "--timeout=60s");
    const state = `persistent-state-for-${NAME}-e2e`;
    const labels = async (): Promise<unknown> =>
      JSON.parse(await kubectl("get", "persistentvolumeclaim", state, "-o", "json")).metadata.labels ?? {};
    await put({
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata: { name: state, namespace: "default", labels: { "persistent-state-for": NAME } },
      spec: { storageClassName: "fast", accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "10Mi" } } },
    });
    try {
      const confirmUid = await kubectl("get", "virtualmachine", NAME, "-o", "jsonpath={.metadata.uid}");
      await apply(({ spec }) => {
        spec.replace = { confirmUid };
        spec.relocation = { strategy: "None" };
      });
      const { metadata, status } = await until(isGuestReady);
      expect(await claimOfMachine()).toBe(`${NAME}-root-restoring`);
      expect(status?.replaced).toMatchObject({ uid: confirmUid, claims: [`${NAME}-root`], stateClaims: [state] });
      expect(await labels()).toEqual({ "vmrestore.io/state-set-aside-by": metadata.uid });
      await kubectl("patch", "vmrestore", NAME, "--type", "merge", "-p", '{"spec":{"replace":{"undo":true}}}');
      await until((restore) => restore.status?.phase === "Completed");
      expect(await claimOfMachine()).toBe(`${NAME}-root`);
      expect(await labels()).toEqual({ "persistent-state-for": NAME });
      await kubectl("wait", "--for=condition=Ready", "--timeout=120s", `virtualmachine/${NAME}`);
    } finally {
      await kubectl("delete", "persistentvolumeclaim", state, "--wait=false");
    }
  },
  LIMIT_MS,
);
