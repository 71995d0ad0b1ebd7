import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { createAuthority } from "../../src/base/certificates.ts";
import { TestAgent } from "../../src/media-agent/testing/agent-process.ts";
import { NfsFile } from "../../src/media-agent/testing/nfs-file.ts";
import { noise, ResticRepository } from "../../src/repository/testing/restic.ts";

const run = promisify(execFile);
const MIB = 1024 * 1024;
const ROFS = "NFS status 30";

const root = Buffer.concat([noise(9 * MIB, 1), Buffer.alloc(30 * MIB), noise(5 * MIB, 2)]);
const data = Buffer.concat([noise(3 * MIB, 3), noise(MIB, 1), Buffer.alloc(MIB)]);
const disks = [
  { name: "root", path: "/disks/root.img", size: root.length },
  { name: "data", path: "/disks/data.img", size: data.length },
];
const manifest = { kind: "VirtualMachine", metadata: { name: "db" }, spec: { template: { spec: { volumes: [] } } } };

let repository: ResticRepository;
let scratch: string;
let agent: TestAgent;

beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), "agent-test-"));
  repository = await ResticRepository.create(2);
  const snapshot = await repository.backUp({
    "disks/root.img": root,
    "disks/data.img": data,
    "virtualmachine.json": Buffer.from(JSON.stringify(manifest)),
    "state/nvram/db_VARS.fd": Buffer.from("efi"),
    "objects/init.yaml": Buffer.from("{apiVersion: v1, kind: Secret, metadata: {name: init}, data: {a: eA==}}"),
  });
  agent = await TestAgent.create({ repository, snapshot, disks, pin: true, uid: "1234" });
  await agent.start();
}, 180_000);

afterAll(async () => {
  await agent?.remove();
  await repository?.remove();
  await rm(scratch, { recursive: true, force: true });
});

async function exportPath(disk: string): Promise<string> {
  return (await agent.operator.status()).disks.find(({ name }) => name === disk)?.exportPath ?? "";
}

/** The whole disk as the relocation would copy it. */
async function merged(disk: string): Promise<Buffer> {
  const copy = join(scratch, "copy");
  await rm(copy, { force: true });
  await run("nbdcopy", [agent.nbdUri(disk), copy]);
  return readFile(copy);
}

test("the merged image is the original, over NBD and over NFS", async () => {
  for (const [disk, content] of [
    ["root", root],
    ["data", data],
  ] as const) {
    expect((await merged(disk)).equals(content)).toBe(true);
    const copy = join(scratch, `nfs-${disk}`);
    await run("nfs-cp", [await agent.nfsUrl(disk), copy]);
    expect((await readFile(copy)).equals(content)).toBe(true);
  }
  const original = join(scratch, "original");
  await writeFile(original, root);
  const tls = `tls-creds-x509,id=tls0,dir=${join(agent.directory, "client")},endpoint=client,verify-peer=yes`;
  const image = `driver=nbd,server.type=inet,server.host=${agent.address},server.port=10809,export=root,tls-creds=tls0`;
  const compare = ["compare", "--object", tls, "--image-opts", `driver=raw,file.filename=${original}`, image];
  expect((await run("qemu-img", compare)).stdout).toContain("Images are identical");
}, 180_000);

test("holes are known to an NBD client", async () => {
  const { stdout } = await run("nbdinfo", ["--map", "--json", agent.nbdUri("root")]);
  const extents = JSON.parse(stdout) as { length: number; type: number }[];
  const holes = extents.filter(({ type }) => type === 3).reduce((sum, { length }) => sum + length, 0);
  expect(holes).toBeGreaterThan(16 * MIB);
  expect(holes).toBeLessThanOrEqual(30 * MIB);
});

test("tells its state, and hands the manifest over", async () => {
  const status = await agent.operator.status();
  expect(status).toMatchObject({
    epoch: 1,
    serving: true,
    bootSet: { source: "Structure" },
    repository: { reachable: true, message: "" },
    overlay: { full: false },
  });
  expect(status.overlay.bytesFree).toBeGreaterThan(0);
  expect(status.disks.map(({ name, size }) => [name, size])).toEqual(disks.map(({ name, size }) => [name, size]));
  expect(status.repository.bytesFetched).toBeGreaterThan(MIB);
  expect(await agent.operator.manifest()).toEqual(manifest);
  expect(await agent.operator.stateFiles()).toEqual([{ path: "nvram/db_VARS.fd", size: 3 }]);
  expect(await agent.relocation.state()).toEqual({ files: [{ path: "nvram/db_VARS.fd", data: "ZWZp" }] });
  expect(await agent.operator.objects()).toMatchObject([{ kind: "Secret", data: { a: "eA==" } }]);
  // The operator asks at every look, until there is a machine: the repository is read once.
  const { repository: before } = await agent.operator.status();
  await Promise.all([agent.operator.manifest(), agent.operator.stateFiles(), agent.operator.objects()]);
  expect((await agent.operator.status()).repository.bytesFetched).toBe(before.bytesFetched);
  expect(await agent.operator.profile()).toBeUndefined();
});

test("metrics and probes answer in the clear, without secrets", async () => {
  expect(await agent.metricsPort("/healthz")).toEqual({ status: 200, text: "ok\n" });
  expect((await agent.metricsPort("/readyz")).status).toBe(200);
  expect((await agent.metricsPort("/none")).status).toBe(404);
  const { text } = await agent.metricsPort("/metrics");
  expect(text).toMatch(/vmrestore_agent_disk_read_bytes_total\{disk="root",class="relocation"\} \d+/);
  expect(text).toMatch(/vmrestore_agent_repository_reachable 1/);
  expect(text).toMatch(/vmrestore_agent_repository_fetch_seconds_count\{reason="\w+"\} \d+/);
  const state = JSON.parse(await readFile(join(agent.directory, "overlay/agent.json"), "utf8")) as {
    disks: Record<string, { exportPath: string; handleKey: string }>;
  };
  for (const { exportPath: path, handleKey } of Object.values(state.disks)) {
    for (const secret of [path.slice(1), handleKey]) expect(text + agent.log).not.toContain(secret);
  }
  expect(agent.log).not.toContain(repository.password);
});

test("the relocation Job may do its own part only, a stranger nothing", async () => {
  const job = agent.relocation;
  expect((await job.status()).serving).toBe(true);
  for (const refused of [
    job.setPhase("Ready"),
    job.seal("root", 1),
    job.setRelocationLimit(1),
    job.unpin(),
    job.manifest(),
    job.objects(),
    job.stateFiles(),
  ]) {
    await expect(refused).rejects.toMatchObject({ code: "FORBIDDEN", status: 403 });
  }
  const now = Date.now();
  const other = await createAuthority("other", { from: new Date(now - 60_000), to: new Date(now + 60_000) });
  const stranger = agent.client(await other.issue("operator", []));
  await expect(stranger.status()).rejects.toMatchObject({ code: "AGENT_UNREACHABLE" });
});

test("bad requests are refused with a reason", async () => {
  const send = (method: string, path: string, body: string): Promise<{ status: number; code: string }> =>
    new Promise((resolve, reject) => {
      const { ca, operator } = agent.tls;
      const outgoing = request({ host: agent.address, port: 8443, method, path, ca, ...operator }, async (incoming) => {
        let text = "";
        for await (const piece of incoming) text += piece;
        resolve({ status: incoming.statusCode ?? 0, code: (JSON.parse(text) as { code: string }).code });
      });
      outgoing.on("error", reject);
      outgoing.end(body);
    });
  expect(await send("PUT", "/v1/phase", "{")).toEqual({ status: 400, code: "REQUEST_INVALID" });
  expect(await send("PUT", "/v1/phase", '{"phase":"Flying"}')).toEqual({ status: 400, code: "REQUEST_INVALID" });
  expect(await send("PUT", "/v1/phase", " ".repeat(20_000))).toEqual({ status: 413, code: "REQUEST_TOO_LARGE" });
  expect(await send("GET", "/v2/status", "")).toEqual({ status: 404, code: "NOT_FOUND" });
  expect(await send("GET", "//", "")).toEqual({ status: 404, code: "NOT_FOUND" });
  expect(await send("PUT", "/v1/disks/none/seal", '{"epoch":1}')).toEqual({ status: 404, code: "NOT_FOUND" });
  expect(await send("PUT", "/v1/disks/%zz/seal", '{"epoch":1}')).toEqual({ status: 400, code: "REQUEST_INVALID" });
  expect(await send("DELETE", "/v1/disks/root/generation/77", "")).toEqual({ status: 409, code: "STALE_GENERATION" });
});

test("writes, generations, seal and its undoing", async () => {
  const path = await exportPath("data");
  const file = await NfsFile.open(agent.address, path);
  const expected = Buffer.from(data);
  const write = async (target: NfsFile, offset: number, length: number, seed: number): Promise<void> => {
    const bytes = noise(length, seed);
    await target.write(offset, bytes);
    bytes.copy(expected, offset);
  };
  await write(file, 8192, 4096, 10);
  await write(file, MIB, 100_000, 11);
  const { relocation, operator } = agent;
  const first = await relocation.freezeGeneration("data");
  expect(first).toEqual({ id: 1, bytes: 26 * 4096, final: false });
  expect(await relocation.freezeGeneration("data")).toEqual(first);
  await write(file, 8192, 512, 12);
  expect(await dirty("data")).toEqual([
    { offset: 8192, length: 4096 },
    { offset: MIB, length: 25 * 4096 },
  ]);
  await relocation.dropGeneration("data", 1);

  await expect(operator.seal("data", 2)).rejects.toMatchObject({ code: "STALE_EPOCH", status: 409 });
  await operator.seal("data", 1);
  await operator.seal("data", 1);
  await expect(file.write(0, Buffer.alloc(512))).rejects.toThrow(ROFS);
  expect(await relocation.freezeGeneration("data")).toEqual({ id: 2, bytes: 4096, final: true });
  expect(await dirty("data")).toEqual([{ offset: 8192, length: 4096 }]);
  expect((await merged("data")).equals(expected)).toBe(true);

  await operator.unseal("data", 1);
  const renewed = await exportPath("data");
  expect(renewed).not.toBe(path);
  await expect(NfsFile.open(agent.address, path)).rejects.toThrow();
  const fresh = await NfsFile.open(agent.address, renewed);
  await write(fresh, 4096, 4096, 13);
  const stale = await NfsFile.open(agent.address, renewed, file.handle);
  await expect(stale.write(0, Buffer.alloc(512))).rejects.toThrow(/NFS status|connection closed/);
  expect((await merged("data")).equals(expected)).toBe(true);
  for (const each of [file, fresh, stale]) each.close();
}, 120_000);

test("a second writer is refused, counted, and told by name", async () => {
  const path = await exportPath("data");
  const [first, second] = [await NfsFile.open(agent.address, path), await NfsFile.open(agent.address, path)];
  const same = await first.read(0, 4096);
  for (const file of [first, second]) await file.write(0, same);
  for (let count = 0; count < 2; count++) await expect(first.write(0, Buffer.alloc(4096))).rejects.toThrow("status 13");
  await second.write(0, same);
  const { disks: told } = await agent.operator.status();
  const refusal = { writer: "test", refusedWrites: 2, refusedWriter: "test" };
  expect(told.find(({ name }) => name === "data")).toMatchObject(refusal);
  const { text } = await agent.metricsPort("/metrics");
  expect(text).toMatch(/^vmrestore_agent_disk_refused_writes_total\{disk="data"\} 2$/m);
  expect(agent.log.match(/another machine has taken over/g)).toHaveLength(1);
  for (const file of [first, second]) file.close();
});

/** The frozen generation as nbdinfo sees it. */
async function dirty(disk: string): Promise<{ offset: number; length: number }[]> {
  const map = "--map=qemu:dirty-bitmap:relocation";
  const { stdout } = await run("nbdinfo", [map, "--json", agent.nbdUri(disk)]);
  const extents = JSON.parse(stdout) as { offset: number; length: number; type: number }[];
  return extents.filter(({ type }) => type === 1).map(({ offset, length }) => ({ offset, length }));
}

test("pin, progress and limit are remembered across restarts until they are taken back", async () => {
  const pins = async (): Promise<number> => {
    const list = JSON.parse(await repository.restic(["snapshots", "--json"])) as { hostname: string }[];
    return list.filter(({ hostname }) => hostname === "vmrestore-pin-1234").length;
  };
  for (let tries = 0; tries < 100 && !(await agent.operator.status()).repository.pinned; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  expect(await pins()).toBe(1);
  await agent.operator.unpin();
  await agent.operator.unpin();
  expect(await pins()).toBe(0);
  const progress = { cursor: 4096, bytesTotal: 9, bytesDurable: 5, rate: 1.5, state: "FirstPass" as const };
  await agent.relocation.reportRelocation("root", progress);
  await agent.operator.setRelocationLimit(1000);
  const before = await agent.operator.status();
  expect(await agent.stop("SIGTERM")).toBe(0);
  await agent.start();
  const after = await agent.operator.status();
  expect(after.instance).not.toBe(before.instance);
  expect(after.disks[0]).toMatchObject({ exportPath: before.disks[0]?.exportPath, relocation: progress });
  expect((await agent.relocation.status()).relocationLimit).toBe(1000);
  await agent.operator.setRelocationLimit(undefined);
  expect((await agent.relocation.status()).relocationLimit).toBeUndefined();
  expect(after.repository).toMatchObject({ pinned: false, pinMessage: "the pin was removed" });
  expect(await pins()).toBe(0);
}, 120_000);

test("refuses a disk of another size, an older epoch and another snapshot's claim", async () => {
  await agent.stop();
  const wrong = [{ ...disks[0], size: root.length + 512 } as (typeof disks)[0], disks[1] as (typeof disks)[0]];
  await agent.spawn({ disks: wrong });
  expect(await agent.exited()).toBe(1);
  expect(agent.log).toContain("DISK_SIZE_MISMATCH");
  await agent.start({ epoch: 7 });
  expect((await agent.operator.status()).epoch).toBe(7);
  await agent.stop();
  await agent.spawn({ epoch: 6 });
  expect(await agent.exited()).toBe(1);
  expect(agent.log).toContain("STALE_EPOCH");
}, 120_000);
