/** One built-in kind: what discovery tells about it, and the client library's model that is its schema. */
export interface CatalogEntry {
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly kind: string;
  readonly model: string;
  readonly namespaced: boolean;
  readonly shortNames: readonly string[];
  readonly all: boolean;
  readonly status: boolean;
  readonly scale: boolean;
  readonly generation: boolean;
  readonly returnsDeleted: boolean;
  readonly subresources: readonly string[];
}

/**
 * `resource Kind short,names flags`. Flags: `c` cluster-scoped, `a` in the category `all`, `s` status subresource,
 * `S` scale subresource, `g` has a generation, `d` DELETE answers with the object; then further subresources.
 */
const CATALOG: Readonly<Record<string, readonly string[]>> = {
  "/v1": [
    "configmaps ConfigMap cm -",
    "endpoints Endpoints ep -",
    "events Event ev -",
    "limitranges LimitRange limits -",
    "namespaces Namespace ns csd finalize",
    "nodes Node no cs",
    "persistentvolumeclaims PersistentVolumeClaim pvc sd",
    "persistentvolumes PersistentVolume pv csd",
    "pods Pod po asdg log eviction binding",
    "podtemplates PodTemplate - -d",
    "replicationcontrollers ReplicationController rc asSg",
    "resourcequotas ResourceQuota quota sd",
    "secrets Secret - -",
    "serviceaccounts ServiceAccount sa d",
    "services Service svc asd",
  ],
  "apps/v1": [
    "controllerrevisions ControllerRevision - -",
    "daemonsets DaemonSet ds asg",
    "deployments Deployment deploy asSg",
    "replicasets ReplicaSet rs asSg",
    "statefulsets StatefulSet sts asSg",
  ],
  "batch/v1": ["cronjobs CronJob cj asg", "jobs Job - asg"],
  "coordination.k8s.io/v1": ["leases Lease - -"],
  "discovery.k8s.io/v1": ["endpointslices EndpointSlice - g"],
  "events.k8s.io/v1": ["events Event ev -"],
  "networking.k8s.io/v1": ["networkpolicies NetworkPolicy netpol g"],
  "policy/v1": ["poddisruptionbudgets PodDisruptionBudget pdb sg"],
  "rbac.authorization.k8s.io/v1": [
    "clusterroles ClusterRole - c",
    "clusterrolebindings ClusterRoleBinding - c",
    "roles Role - -",
    "rolebindings RoleBinding - -",
  ],
  "scheduling.k8s.io/v1": ["priorityclasses PriorityClass pc cg"],
  "storage.k8s.io/v1": [
    "csidrivers CSIDriver - cd",
    "csinodes CSINode - cd",
    "storageclasses StorageClass sc cd",
    "volumeattachments VolumeAttachment - csd",
  ],
};

const MODELS: Readonly<Record<string, string>> = {
  "/v1 Event": "CoreV1Event",
  "events.k8s.io/v1 Event": "EventsV1Event",
};

export function* catalogEntries(): Generator<CatalogEntry> {
  for (const [groupVersion, lines] of Object.entries(CATALOG)) {
    const [group = "", version = ""] = groupVersion.split("/");
    for (const line of lines) {
      const [resource = "", kind = "", shortNames = "-", flags = "-", ...subresources] = line.split(" ");
      yield {
        group,
        version,
        resource,
        kind,
        model: MODELS[`${groupVersion} ${kind}`] ?? `V1${kind}`,
        namespaced: !flags.includes("c"),
        shortNames: shortNames === "-" ? [] : shortNames.split(","),
        all: flags.includes("a"),
        status: flags.includes("s"),
        scale: flags.includes("S"),
        generation: flags.includes("g"),
        returnsDeleted: flags.includes("d"),
        subresources,
      };
    }
  }
}
