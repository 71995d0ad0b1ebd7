import { generateKeyPairSync, randomBytes } from "node:crypto";
import { access, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createAuthority } from "../base/certificates.ts";
import { VmRestoreError } from "../base/errors.ts";
import { writeKubeconfig } from "./apiserver/kubeconfig.ts";
import type { RunningApiServer } from "./apiserver/server.ts";
import { Child } from "./node/child.ts";

const READY_WITHIN_MS = 120_000;
const STOP_WITHIN_MS = 10_000;
const DAY_MS = 24 * 3600 * 1000;

interface RealControlPlaneOptions {
  /** Holds `etcd` and `kube-apiserver`, as envtest's assets do. */
  readonly assets: string;
  readonly kubeconfigPath: string;
  readonly serviceClusterIpRange: string;
  /** etcd's data; default: a directory of its own, removed at the end. */
  readonly dataDir?: string;
}

/**
 * A real etcd and kube-apiserver, and nothing else of a control plane. Everything that the lab does on it, it does through the
 * ordinary client, as on its own API server.
 *
 * @throws VmRestoreError LAB_CONTROL_PLANE where a program is missing or does not come up; its log is named
 */
export async function startRealControlPlane(options: RealControlPlaneOptions): Promise<RunningApiServer> {
  const { assets, kubeconfigPath, serviceClusterIpRange } = options;
  for (const program of ["etcd", "kube-apiserver"]) {
    await access(join(assets, program)).catch((cause: unknown) => {
      throw new VmRestoreError("LAB_CONTROL_PLANE", `there is no ${program} in KUBEBUILDER_ASSETS (${assets})`, {
        cause,
      });
    });
  }
  const scratch = await mkdtemp(join(tmpdir(), "control-plane-"));
  const dataDir = options.dataDir ?? join(scratch, "etcd");
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const children: Child[] = [];
  const close = async (): Promise<void> => {
    for (const child of children.reverse()) await child.stop(STOP_WITHIN_MS);
    await rm(scratch, { recursive: true, force: true });
  };
  try {
    const [client, peer, secure] = [await freePort(), await freePort(), await freePort()];
    const start = (program: string, args: readonly string[]): Child => {
      const child = new Child(
        join(assets, program),
        args,
        { PATH: process.env.PATH ?? "", HOME: scratch },
        join(scratch, `${program}.log`),
      );
      children.push(child);
      return child;
    };
    start("etcd", etcdArguments(dataDir, client, peer));
    const url = `https://127.0.0.1:${secure}`;
    const credentials = await writeCredentials(scratch);
    const server = start("kube-apiserver", apiServerArguments(scratch, client, secure, serviceClusterIpRange));
    await writeKubeconfig(kubeconfigPath, { url, ...credentials });
    await untilReady(url, credentials, server, join(scratch, "kube-apiserver.log"));
    return { kubeconfigPath, url, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function etcdArguments(dataDir: string, client: number, peer: number): string[] {
  const [clientUrl, peerUrl] = [`http://127.0.0.1:${client}`, `http://127.0.0.1:${peer}`];
  return [
    `--data-dir=${dataDir}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
  ];
}

function apiServerArguments(folder: string, etcd: number, secure: number, range: string): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcd}`,
    "--bind-address=127.0.0.1",
    "--advertise-address=127.0.0.1",
    `--secure-port=${secure}`,
    `--tls-cert-file=${join(folder, "serving.crt")}`,
    `--tls-private-key-file=${join(folder, "serving.key")}`,
    `--cert-dir=${folder}`,
    `--token-auth-file=${join(folder, "tokens.csv")}`,
    `--service-cluster-ip-range=${range}`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${join(folder, "service-accounts.key")}`,
    `--service-account-signing-key-file=${join(folder, "service-accounts.key")}`,
    "--authorization-mode=RBAC",
    "--allow-privileged=true",
    // Nobody makes service accounts here, and pods would wait for theirs.
    "--disable-admission-plugins=ServiceAccount",
  ];
}

async function writeCredentials(folder: string): Promise<{ ca: string; token: string }> {
  const now = Date.now();
  const authority = await createAuthority("vmrestore-lab", {
    from: new Date(now - DAY_MS),
    to: new Date(now + 365 * DAY_MS),
  });
  const serving = await authority.issue("kube-apiserver", ["127.0.0.1", "localhost"]);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const token = randomBytes(32).toString("base64url");
  const files = {
    "serving.crt": serving.cert,
    "serving.key": serving.key,
    "service-accounts.key": privateKey.export({ type: "pkcs1", format: "pem" }).toString(),
    "tokens.csv": `${token},lab-admin,lab-admin,"system:masters"\n`,
  };
  for (const [name, content] of Object.entries(files)) await writeFile(join(folder, name), content, { mode: 0o600 });
  return { ca: authority.ca, token };
}

async function untilReady(
  url: string,
  credentials: { ca: string; token: string },
  server: Child,
  log: string,
): Promise<void> {
  let ended = false;
  void server.exited.then(() => {
    ended = true;
  });
  const deadline = performance.now() + READY_WITHIN_MS;
  while (!ended && performance.now() < deadline) {
    if (await isReady(`${url}/readyz`, credentials)) return;
    await delay(200);
  }
  throw new VmRestoreError("LAB_CONTROL_PLANE", "kube-apiserver did not come up", { hint: `Its log was ${log}.` });
}

function isReady(url: string, { ca, token }: { ca: string; token: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const asked = request(
      url,
      { ca, headers: { authorization: `Bearer ${token}` }, agent: false, timeout: 5000 },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode === 200);
      },
    );
    asked.once("timeout", () => asked.destroy(new Error("timeout")));
    asked.once("error", () => resolve(false));
    asked.end();
  });
}

/** A port that was free a moment ago: neither program can be given port 0 and asked which it took. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
