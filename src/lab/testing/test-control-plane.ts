import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { type ControlPlane, startControlPlane } from "../control-plane.ts";

/** A control plane of a test's own. Closing it leaves nothing behind. */
export interface TestControlPlane extends ControlPlane {
  /** For the test's files; the kubeconfig lies in it. */
  readonly folder: string;
  /** For clients of this control plane. */
  readonly config: KubeConfig;
}

export async function startTestControlPlane(): Promise<TestControlPlane> {
  const folder = await mkdtemp(join(tmpdir(), "vmrestore-plane-"));
  const discard = () => rm(folder, { recursive: true, force: true });
  try {
    const plane = await startControlPlane({ kubeconfigPath: join(folder, "kubeconfig") });
    const config = new KubeConfig();
    config.loadFromFile(plane.kubeconfigPath);
    const close = () => plane.close().finally(discard);
    return { ...plane, folder, config, close };
  } catch (error) {
    await discard();
    throw error;
  }
}
