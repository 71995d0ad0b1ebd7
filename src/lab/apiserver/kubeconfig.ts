import { rename, writeFile } from "node:fs/promises";
import { stringify } from "yaml";

export interface Credentials {
  readonly url: string;
  /** PEM. */
  readonly ca: string;
  readonly token: string;
}

/** Writes a kubeconfig that only its owner can read; whoever reads it meanwhile sees the old one or the new one. */
export async function writeKubeconfig(path: string, { url, ca, token }: Credentials): Promise<void> {
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [
      { name: "lab", cluster: { server: url, "certificate-authority-data": Buffer.from(ca).toString("base64") } },
    ],
    users: [{ name: "lab-admin", user: { token } }],
    contexts: [{ name: "lab", context: { cluster: "lab", user: "lab-admin", namespace: "default" } }],
    "current-context": "lab",
  };
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, stringify(config), { mode: 0o600 });
  await rename(temporary, path);
}
