import type { VMRestore } from "../../src/api/vm-restore.ts";
import * as kinds from "../../src/operator/kinds.ts";
import { VM_RESTORES } from "../../src/operator/kinds.ts";
import type { Cluster } from "../../src/operator/runtime/cluster.ts";
import type { Manifest, ResourceType } from "../../src/operator/runtime/objects.ts";
import { reasonIs } from "../../src/operator/vm-restore/testing/course.ts";
import { phaseIs, play, restoreIn } from "../../src/operator/vm-restore/testing/run.ts";
import { World } from "../../src/operator/vm-restore/testing/world.ts";

const TYPES = Object.values(kinds) as ResourceType[];
const AT_ONCE = 8;

/** What one restore leaves in a cluster when it has come so far: itself, and everything that bears its label. */
interface Left {
  readonly restore: VMRestore;
  readonly others: readonly (readonly [ResourceType, Manifest])[];
}

async function leftBy(spec: object, until: Parameters<typeof play>[1]): Promise<Left> {
  const world = new World();
  world.restore(spec);
  await play(world, until, 300);
  const restore = restoreIn(world);
  if (restore === undefined) throw new Error("the restore is gone");
  const ours = ({ metadata }: Manifest) =>
    metadata.labels?.["vmrestore.io/restore-uid"] === restore.metadata.uid || metadata.annotations !== undefined;
  const others = TYPES.filter(({ kind }) => !["VMRestore", "BackupRepository", "StorageClass"].includes(kind)).flatMap(
    (type) => (world.cluster.all(type) as Manifest[]).filter(ours).map((object) => [type, object] as const),
  );
  return { restore, others };
}

/** Puts restores that are over, and live mounts that run, into a cluster, as an operator would have left them. */
export async function putRestores(cluster: Cluster, counts: { completed: number; live: number }): Promise<void> {
  const completed = await leftBy({}, phaseIs("Completed"));
  const live = await leftBy({ relocation: { strategy: "None" } }, reasonIs("Expired", "Never"));
  const jobs = [
    ...Array.from({ length: counts.completed }, (_, index) => () => put(cluster, completed, `done-${index}`)),
    ...Array.from({ length: counts.live }, (_, index) => () => put(cluster, live, `live-${index}`)),
  ];
  const work = async (): Promise<void> => {
    for (let job = jobs.pop(); job !== undefined; job = jobs.pop()) await job();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}

async function put(cluster: Cluster, left: Left, name: string): Promise<void> {
  const rename = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll("orders-db", name)) as T;
  const before = left.restore.metadata.uid ?? "";
  const { restore, others } = rename(left);
  await cluster.create(VM_RESTORES, fresh(restore as unknown as Manifest));
  const made = await cluster.get(VM_RESTORES, restore.metadata.namespace, restore.metadata.name);
  const owned = <T>(value: T): T => JSON.parse(JSON.stringify(value).replaceAll(before, made?.metadata.uid ?? "")) as T;
  for (const [type, object] of owned(others)) {
    await cluster.create(type, fresh(renamedSecret(object, name)));
    if (object.status !== undefined) await cluster.applyStatus(type, statusOf(object));
  }
  await cluster.applyStatus(VM_RESTORES, statusOf(owned(restore) as unknown as Manifest));
}

/** As it is sent to be made: a server gives uid, version and address. */
function fresh({ status: _, ...object }: Manifest): Manifest {
  const { name, namespace, labels, annotations, finalizers } = object.metadata;
  const spec = { ...(object.spec as Record<string, unknown> | undefined) };
  if (object.kind === "Service") delete spec.clusterIP;
  if (object.kind === "Pod") spec.containers = [{ name: "main", image: "main" }];
  const given = { labels, annotations, finalizers, namespace };
  return {
    ...object,
    metadata: { name, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) },
    ...(object.spec === undefined ? {} : { spec }),
  };
}

/** The plan tells the machine's name, in base64. */
function renamedSecret(object: Manifest, name: string): Manifest {
  if (object.kind !== "Secret") return object;
  const data = Object.entries(object.data as Record<string, string>).map(([key, value]) => {
    const text = Buffer.from(value, "base64").toString().replaceAll("orders-db", name);
    return [key, Buffer.from(text).toString("base64")];
  });
  return { ...object, data: Object.fromEntries(data) };
}

function statusOf({ apiVersion, kind, metadata: { name, namespace }, status }: Manifest): Manifest {
  return { apiVersion, kind, metadata: { name, ...(namespace === undefined ? {} : { namespace }) }, status };
}
