import { chmod, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { parse } from "yaml";
import { startControlPlane } from "./control-plane.ts";

// Stand-ins for the two programs, which are in no Debian package: what is tested here is how they are started, reached and ended.
// The suites run on the real ones where KUBEBUILDER_ASSETS names them.

const API_SERVER = `#!${process.execPath}
const { readFileSync } = require("node:fs");
const flag = (name) => process.argv.find((arg) => arg.startsWith("--" + name + "=")).split("=").slice(1).join("=");
const [token] = readFileSync(flag("token-auth-file"), "utf8").split(",");
readFileSync(flag("service-account-signing-key-file"));
if (flag("service-cluster-ip-range") !== "127.96.0.0/16") process.exit(1);
const options = { cert: readFileSync(flag("tls-cert-file")), key: readFileSync(flag("tls-private-key-file")) };
require("node:https").createServer(options, (asked, answer) => {
  answer.writeHead(asked.headers.authorization === "Bearer " + token ? 200 : 401).end(String(process.pid));
}).listen(Number(flag("secure-port")), "127.0.0.1");
`;

let assets: string;

beforeEach(async () => {
  assets = await mkdtemp(join(tmpdir(), "assets-"));
});

afterEach(() => rm(assets, { recursive: true, force: true }));

async function install(name: string, content: string): Promise<void> {
  await writeFile(join(assets, name), content);
  await chmod(join(assets, name), 0o755);
}

interface Kubeconfig {
  clusters: { cluster: { server: string; "certificate-authority-data": string } }[];
  users: { user: { token: string } }[];
}

test("starts both programs, is reached with the kubeconfig it wrote, and leaves no process", async () => {
  await install("etcd", "#!/bin/sh\nexec sleep 600\n");
  await install("kube-apiserver", API_SERVER);
  const kubeconfigPath = join(assets, "kubeconfig");
  const plane = await startControlPlane({ kubeconfigPath }, assets);
  expect(plane.kind).toBe("real");
  const config = parse(await readFile(kubeconfigPath, "utf8")) as Kubeconfig;
  const { server, "certificate-authority-data": ca = "" } = config.clusters[0]?.cluster ?? { server: "" };
  const pid = await new Promise<number>((resolve, reject) => {
    const headers = { authorization: `Bearer ${config.users[0]?.user.token}` };
    const asked = request(`${server}/x`, { ca: Buffer.from(ca, "base64"), headers, agent: false }, (answer) => {
      answer.setEncoding("utf8").on("data", (text: string) => resolve(Number(text)));
    });
    asked.once("error", reject).end();
  });
  await plane.close();
  expect(() => process.kill(pid, 0)).toThrow("ESRCH");
});

test("a program that is missing, or that ends at once, is named", async () => {
  const options = { kubeconfigPath: join(assets, "kubeconfig") };
  await expect(startControlPlane(options, assets)).rejects.toMatchObject({
    code: "LAB_CONTROL_PLANE",
    message: expect.stringContaining("no etcd"),
  });
  await install("etcd", "#!/bin/sh\nexec sleep 600\n");
  await install("kube-apiserver", "#!/bin/sh\nexit 3\n");
  await expect(startControlPlane(options, assets)).rejects.toMatchObject({
    code: "LAB_CONTROL_PLANE",
    message: expect.stringContaining("did not come up"),
  });
});
