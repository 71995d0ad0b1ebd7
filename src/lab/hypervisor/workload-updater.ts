import { randomBytes } from "node:crypto";
import { type LabContext, ownKey, runLabController } from "../controllers/lab-controller.ts";
import { hasCondition, INSTANCES, isOver, MIGRATIONS, type Migration, type VirtualMachineInstance } from "./kinds.ts";
import { migrationSettings } from "./kubevirt-resources.ts";
import { VOLUMES_CHANGE } from "./volume-update.ts";

const ANNOTATION = "kubevirt.io/workloadUpdateMigration";
const LABEL = "kubevirt.io/volume-update-migration";
const LABEL_LIMIT = 63;

/** What KubeVirt's workload updater does for volumes: a migration while they change, another one after one that failed, none once it was called off. */
export function runWorkloadUpdater(context: LabContext, signal: AbortSignal): Promise<void> {
  const { cluster } = context;
  const reconcile = async (namespace: string, name: string): Promise<undefined> => {
    const instance = await cluster.get(INSTANCES, namespace, name);
    if (instance?.status?.phase !== "Running" || instance.metadata.deletionTimestamp !== undefined) return;
    const all = await cluster.list(MIGRATIONS, namespace);
    const open = all.filter((migration) => migration.spec.vmiName === name && !isOver(migration));
    if (hasCondition(instance, VOLUMES_CHANGE)) {
      const { updates } = await migrationSettings(cluster);
      if (open.length === 0 && updates) await cluster.create(MIGRATIONS, migrationOf(instance) as never);
      return;
    }
    const { migrationState } = instance.status;
    for (const migration of open) {
      const isOurs = migration.metadata.annotations?.[ANNOTATION] !== undefined;
      const isThere =
        migrationState?.migrationUid === migration.metadata.uid &&
        migrationState?.targetNodeDomainReadyTimestamp !== undefined;
      if (isOurs && !isThere && migration.metadata.deletionTimestamp === undefined)
        await cluster.delete(MIGRATIONS, migration);
    }
  };
  const watches = [
    { type: INSTANCES, keys: ownKey },
    { type: MIGRATIONS, keys: (object: object) => instanceOf(object as Migration) },
  ];
  return runLabController({ name: "workload-updater", watches, reconcile }, context, signal);
}

function instanceOf({ metadata, spec }: Migration): string[] {
  return [`${metadata.namespace}/${spec.vmiName}`];
}

function migrationOf({ metadata }: VirtualMachineInstance): object {
  const { name, namespace, uid } = metadata;
  return {
    apiVersion: MIGRATIONS.apiVersion,
    kind: MIGRATIONS.kind,
    metadata: {
      name: `kubevirt-workload-update-${randomBytes(3).toString("hex").slice(0, 5)}`,
      namespace,
      annotations: { [ANNOTATION]: "" },
      labels: { [LABEL]: name.length > LABEL_LIMIT ? uid : name },
    },
    spec: { vmiName: name },
  };
}
