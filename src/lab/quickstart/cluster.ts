import { CustomObjectsApi, KubeConfig } from "@kubernetes/client-node";
import type { VMRestoreStatus } from "../../api/vm-restore-status.ts";
import { errorCode } from "../../base/errors.ts";
import { runCommand } from "./command.ts";

const NAMESPACE = "default";

interface VirtualMachineInstance {
  readonly status?: {
    readonly phase?: string;
    readonly interfaces?: readonly { readonly ipAddress?: string }[];
  };
}

interface VirtualMachine {
  readonly spec?: {
    readonly template?: {
      readonly spec?: {
        readonly volumes?: readonly { readonly persistentVolumeClaim?: { readonly claimName?: string } }[];
      };
    };
  };
}

/** What the quickstart looks at in the cluster, with an ordinary client. */
export class Cluster {
  readonly kubeconfig: string;
  readonly #custom: CustomObjectsApi;

  constructor(kubeconfig: string) {
    this.kubeconfig = kubeconfig;
    const config = new KubeConfig();
    config.loadFromFile(kubeconfig);
    this.#custom = config.makeApiClient(CustomObjectsApi);
  }

  /** Runs kubectl against this cluster; gives back what it printed. */
  kubectl(args: readonly string[], signal: AbortSignal): Promise<string> {
    return runCommand("kubectl", args, { env: { KUBECONFIG: this.kubeconfig }, signal });
  }

  async restoreStatus(name: string): Promise<VMRestoreStatus | undefined> {
    const object = await this.#get<{ status?: VMRestoreStatus }>("vmrestore.io", "v1alpha1", "vmrestores", name);
    return object?.status;
  }

  /** Where the machine is reached, once it runs. */
  async machineAddress(name: string): Promise<string | undefined> {
    const instance = await this.#get<VirtualMachineInstance>("kubevirt.io", "v1", "virtualmachineinstances", name);
    return instance?.status?.phase === "Running" ? instance.status.interfaces?.[0]?.ipAddress : undefined;
  }

  /** The claim that the machine's first volume is. */
  async machineClaim(name: string): Promise<string | undefined> {
    const machine = await this.#get<VirtualMachine>("kubevirt.io", "v1", "virtualmachines", name);
    return machine?.spec?.template?.spec?.volumes?.[0]?.persistentVolumeClaim?.claimName;
  }

  async #get<T>(group: string, version: string, plural: string, name: string): Promise<T | undefined> {
    try {
      return (await this.#custom.getNamespacedCustomObject({
        group,
        version,
        namespace: NAMESPACE,
        plural,
        name,
      })) as T;
    } catch (error) {
      const status = (error as { code?: unknown }).code;
      if (status === 404 || errorCode(error) === "ECONNREFUSED") return undefined;
      throw error;
    }
  }
}
