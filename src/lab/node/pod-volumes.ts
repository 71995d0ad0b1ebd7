import { mkdir, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join, normalize } from "node:path";
import type { Cluster } from "../../operator/runtime/cluster.ts";
import type { KubernetesObject, ResourceType } from "../../operator/runtime/objects.ts";
import { VOLUME_CLAIMS, VOLUMES } from "../controllers/kinds.ts";
import { BLOCK_FILE } from "../controllers/volume-binder.ts";
import { type PathMapping, PodRefusedError } from "./command-line.ts";
import type { Container, EnvVariable, NodePod, PodVolume } from "./pod-spec.ts";

interface Secret extends KubernetesObject {
  data?: Record<string, string>;
}

interface ConfigMap extends KubernetesObject {
  data?: Record<string, string>;
  binaryData?: Record<string, string>;
}

const SECRETS: ResourceType<Secret> = { apiVersion: "v1", kind: "Secret", plural: "secrets", namespaced: true };
const CONFIG_MAPS: ResourceType<ConfigMap> = {
  apiVersion: "v1",
  kind: "ConfigMap",
  plural: "configmaps",
  namespaced: true,
};

/** Something that a pod needs is not there yet: tried again, and told in the pod's status. */
export class NotReadyError extends PodRefusedError {}

/** Puts a pod's volumes in place, below a directory of its own. */
export class PodVolumes {
  readonly #cluster: Cluster;
  readonly #directory: string;
  readonly #hostRoot: string;

  /** @param hostRoot the folder that stands for the node's own files */
  constructor(cluster: Cluster, directory: string, hostRoot: string) {
    this.#cluster = cluster;
    this.#directory = directory;
    this.#hostRoot = hostRoot;
  }

  /** Where the container's mounts and devices lie on this machine. */
  async mappings(pod: NodePod, container: Container): Promise<PathMapping[]> {
    const mappings: PathMapping[] = [];
    for (const { name, mountPath, subPath } of container.volumeMounts ?? []) {
      const outside = await this.#place(pod, name);
      mappings.push({
        inside: mountPath,
        outside: subPath === undefined ? outside : join(outside, normalize(`/${subPath}`)),
      });
    }
    for (const { name, devicePath } of container.volumeDevices ?? []) {
      mappings.push({ inside: devicePath, outside: join(await this.#place(pod, name), BLOCK_FILE) });
    }
    return mappings;
  }

  /** The container's variables with their values. */
  async environment(pod: NodePod, container: Container, podIP: string): Promise<Record<string, string>> {
    const env: Record<string, string> = {};
    const namespace = pod.metadata.namespace;
    for (const { prefix = "", secretRef, configMapRef } of container.envFrom ?? []) {
      const data =
        secretRef === undefined
          ? await this.#configMap(namespace, configMapRef)
          : await this.#secret(namespace, secretRef);
      for (const [key, value] of Object.entries(data)) env[prefix + key] = value.toString("utf8");
    }
    for (const variable of container.env ?? []) env[variable.name] = await this.#value(pod, variable, podIP);
    return env;
  }

  async remove(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #value(pod: NodePod, { value = "", valueFrom }: EnvVariable, podIP: string): Promise<string> {
    if (valueFrom === undefined) return value;
    const { fieldRef, secretKeyRef, configMapKeyRef } = valueFrom;
    const { namespace = "", name, uid = "" } = pod.metadata;
    if (fieldRef !== undefined) {
      const fields: Record<string, string> = {
        "metadata.name": name,
        "metadata.namespace": namespace,
        "metadata.uid": uid,
        "status.podIP": podIP,
        "status.hostIP": "127.0.0.1",
        "spec.nodeName": pod.spec?.nodeName ?? "",
      };
      const found = fields[fieldRef.fieldPath];
      if (found === undefined) throw new PodRefusedError(`the lab does not know the field ${fieldRef.fieldPath}`);
      return found;
    }
    const reference = secretKeyRef ?? configMapKeyRef;
    if (reference === undefined) throw new PodRefusedError("a variable whose value comes from nowhere");
    const data =
      secretKeyRef === undefined
        ? await this.#configMap(namespace, reference)
        : await this.#secret(namespace, reference);
    const found = data[reference.key];
    if (found === undefined && reference.optional !== true)
      throw new NotReadyError(`${reference.name} has no key ${reference.key}`);
    return found?.toString("utf8") ?? "";
  }

  async #place(pod: NodePod, name: string): Promise<string> {
    const volume = pod.spec?.volumes?.find((other) => other.name === name);
    if (volume === undefined) throw new PodRefusedError(`there is no volume ${name}`);
    const { namespace } = pod.metadata;
    if (volume.persistentVolumeClaim !== undefined)
      return this.#claim(namespace, volume.persistentVolumeClaim.claimName);
    if (volume.hostPath !== undefined) return this.#hostPath(volume.hostPath);
    const folder = join(this.#directory, "volumes", name);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { secret, configMap, emptyDir } = volume;
    if (secret !== undefined)
      await this.#fill(folder, await this.#secret(namespace, { ...secret, name: secret.secretName }), secret.items);
    else if (configMap !== undefined)
      await this.#fill(folder, await this.#configMap(namespace, configMap), configMap.items);
    else if (emptyDir === undefined) throw new PodRefusedError(`the lab has no volumes of the kind that ${name} is`);
    return folder;
  }

  /** Never anything of this machine: a node's files are made up. */
  async #hostPath({ path, type = "" }: NonNullable<PodVolume["hostPath"]>): Promise<string> {
    const place = join(this.#hostRoot, normalize(`/${path}`));
    if (type !== "Directory") throw new PodRefusedError(`the lab has hostPath volumes of the type Directory only`);
    const found = await stat(place).catch(() => undefined);
    if (found?.isDirectory() !== true)
      throw new NotReadyError(`hostPath type check failed: ${path} is not a directory`);
    return place;
  }

  async #claim(namespace: string | undefined, name: string): Promise<string> {
    const claim = await this.#cluster.get(VOLUME_CLAIMS, namespace, name);
    if (claim === undefined) throw new NotReadyError(`persistentvolumeclaim "${name}" not found`);
    const volume =
      claim.spec.volumeName === undefined
        ? undefined
        : await this.#cluster.get(VOLUMES, undefined, claim.spec.volumeName);
    if (claim.status?.phase !== "Bound" || volume === undefined)
      throw new NotReadyError(`persistentvolumeclaim "${name}" is not bound`);
    const path = volume.spec.hostPath?.path;
    if (path === undefined)
      throw new PodRefusedError(`the lab mounts folders only into pods, and ${volume.metadata.name} is none`);
    return path;
  }

  async #fill(
    folder: string,
    data: Record<string, Buffer>,
    items: PodVolume["secret"] extends undefined ? never : { key: string; path: string }[] | undefined,
  ): Promise<void> {
    const files = items?.map(({ key, path }) => [path, data[key]] as const) ?? Object.entries(data);
    for (const [path, content] of files) {
      if (content === undefined) continue;
      const file = join(folder, normalize(`/${path}`));
      await mkdir(dirname(file), { recursive: true });
      await writeFile(file, content, { mode: 0o600 });
    }
  }

  async #secret(
    namespace: string | undefined,
    reference: { name: string; optional?: boolean } | undefined,
  ): Promise<Record<string, Buffer>> {
    const found = await this.#cluster.get(SECRETS, namespace, reference?.name ?? "");
    if (found === undefined && reference?.optional !== true)
      throw new NotReadyError(`secret "${reference?.name}" not found`);
    return decode(found?.data);
  }

  async #configMap(
    namespace: string | undefined,
    reference: { name: string; optional?: boolean } | undefined,
  ): Promise<Record<string, Buffer>> {
    const found = await this.#cluster.get(CONFIG_MAPS, namespace, reference?.name ?? "");
    if (found === undefined && reference?.optional !== true)
      throw new NotReadyError(`configmap "${reference?.name}" not found`);
    const text = Object.entries(found?.data ?? {}).map(([key, value]) => [key, Buffer.from(value)]);
    return { ...Object.fromEntries(text), ...decode(found?.binaryData) };
  }
}

function decode(data: Record<string, string> | undefined): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64")]));
}
