import type { Schema } from "./schema.ts";

/**
 * What the client library's models do not tell about the built-in types, one line a type, as the API's Go types are
 * tagged (k8s.io/api and k8s.io/apimachinery):
 *
 * - `@atomic`: the whole type is owned as one by server-side apply;
 * - `field!` is required; `field[a,b]` is a list keyed by a and b; `field[]` is a set; `field{}` is an atomic map;
 * - `field(key|strategy)` is merged by strategic merge patches, by that key (primitives: no key);
 * - `field#` is a quantity, or a map of them; `field=value` is the default.
 */
const TYPES: Readonly<Record<string, string>> = {
  CoreV1EndpointPort: "@atomic port!",
  CoreV1Event: "involvedObject! metadata!",
  CoreV1ResourceClaim: "name!",
  DiscoveryV1EndpointPort: "@atomic",
  EventsV1Event: "eventTime!",
  EventsV1EventSeries: "count! lastObservedTime!",
  RbacV1Subject: "@atomic kind! name!",
  StorageV1TokenRequest: "audience!",
  V1AWSElasticBlockStoreVolumeSource: "volumeID!",
  V1AppArmorProfile: "type!",
  V1AttachedVolume: "devicePath! name!",
  V1AzureDiskVolumeSource: "diskName! diskURI!",
  V1AzureFilePersistentVolumeSource: "secretName! shareName!",
  V1AzureFileVolumeSource: "secretName! shareName!",
  V1Binding: "target!",
  V1CSIDriver: "spec!",
  V1CSIDriverSpec: "volumeLifecycleModes[]",
  V1CSINode: "spec!",
  V1CSINodeDriver: "name! nodeID!",
  V1CSINodeSpec: "drivers![name](name)",
  V1CSIPersistentVolumeSource: "driver! volumeHandle!",
  V1CSIVolumeSource: "driver!",
  V1CephFSPersistentVolumeSource: "monitors!",
  V1CephFSVolumeSource: "monitors!",
  V1CinderPersistentVolumeSource: "volumeID!",
  V1CinderVolumeSource: "volumeID!",
  V1ClusterRoleBinding: "roleRef!",
  V1ClusterTrustBundleProjection: "path!",
  V1Condition: "lastTransitionTime! message! reason! status! type!",
  V1ConfigMapKeySelector: "@atomic key!",
  V1ConfigMapNodeConfigSource: "kubeletConfigKey! name! namespace!",
  V1Container:
    "name! env[name](name) ports[containerPort,protocol](containerPort) volumeDevices[devicePath](devicePath) volumeMounts[mountPath](mountPath)",
  V1ContainerExtendedResourceRequest: "containerName! requestName! resourceName!",
  V1ContainerPort: "containerPort! protocol=TCP",
  V1ContainerResizePolicy: "resourceName! restartPolicy!",
  V1ContainerRestartRuleOnExitCodes: "values[]",
  V1ContainerStateTerminated: "exitCode!",
  V1ContainerStatus:
    "image! imageID! name! ready! restartCount! allocatedResources# allocatedResourcesStatus[name](name) volumeMounts[mountPath](mountPath)",
  V1ControllerRevision: "data!",
  V1CronJobSpec: "jobTemplate! schedule!",
  V1DaemonEndpoint: "Port!",
  V1DaemonSetSpec: "selector! template!",
  V1DaemonSetStatus:
    "currentNumberScheduled! desiredNumberScheduled! numberMisscheduled! numberReady! conditions[type](type)",
  V1DeploymentSpec: "selector! template! strategy(|retainKeys)",
  V1DeploymentStatus: "conditions[type](type)",
  V1DownwardAPIVolumeFile: "path!",
  V1EmptyDirVolumeSource: "sizeLimit#",
  V1Endpoint: "addresses![]",
  V1EndpointAddress: "@atomic ip!",
  V1EndpointSlice: "addressType!",
  V1EnvVar: "name!",
  V1EphemeralContainer:
    "name! env[name](name) ports[containerPort,protocol](containerPort) volumeDevices[devicePath](devicePath) volumeMounts[mountPath](mountPath)",
  V1FieldSelectorRequirement: "key! operator!",
  V1FileKeySelector: "@atomic key! path! volumeName!",
  V1FlexPersistentVolumeSource: "driver!",
  V1FlexVolumeSource: "driver!",
  V1ForNode: "name!",
  V1ForZone: "name!",
  V1GCEPersistentDiskVolumeSource: "pdName!",
  V1GRPCAction: "port!",
  V1GitRepoVolumeSource: "repository!",
  V1GlusterfsPersistentVolumeSource: "endpoints! path!",
  V1GlusterfsVolumeSource: "endpoints! path!",
  V1HTTPGetAction: "port!",
  V1HTTPHeader: "name! value!",
  V1HostAlias: "ip!",
  V1HostIP: "ip!",
  V1HostPathVolumeSource: "path!",
  V1IPBlock: "cidr!",
  V1ISCSIPersistentVolumeSource: "iqn! lun! targetPortal!",
  V1ISCSIVolumeSource: "iqn! lun! targetPortal!",
  V1JobCondition: "status! type!",
  V1JobSpec: "template!",
  V1JobStatus: "conditions(type)",
  V1KeyToPath: "key! path!",
  V1LabelSelector: "@atomic",
  V1LabelSelectorRequirement: "key! operator!",
  V1LimitRangeItem: "type! default# defaultRequest# max# maxLimitRequestRatio# min#",
  V1LimitRangeSpec: "limits!",
  V1LinuxContainerUser: "gid! uid!",
  V1LocalObjectReference: "@atomic",
  V1LocalSubjectAccessReview: "spec!",
  V1LocalVolumeSource: "path!",
  V1ModifyVolumeStatus: "status!",
  V1NFSVolumeSource: "path! server!",
  V1NamespaceCondition: "status! type!",
  V1NamespaceStatus: "conditions[type](type)",
  V1NodeAddress: "address! type!",
  V1NodeAllocatableResourceClaimStatus: "resourceClaimName! containers[]",
  V1NodeCondition: "status! type!",
  V1NodeSelector: "@atomic nodeSelectorTerms!",
  V1NodeSelectorRequirement: "key! operator!",
  V1NodeSelectorTerm: "@atomic",
  V1NodeSpec: "podCIDRs[]()",
  V1NodeStatus: "addresses[type](type) allocatable# capacity# conditions[type](type)",
  V1NodeSystemInfo:
    "architecture! bootID! containerRuntimeVersion! kernelVersion! kubeProxyVersion! kubeletVersion! machineID! operatingSystem! osImage! systemUUID!",
  V1NonResourceRule: "verbs!",
  V1ObjectFieldSelector: "@atomic fieldPath!",
  V1ObjectMeta: "finalizers[]() ownerReferences[uid](uid)",
  V1ObjectReference: "@atomic",
  V1OwnerReference: "@atomic apiVersion! kind! name! uid!",
  V1PersistentVolumeClaimCondition: "status! type!",
  V1PersistentVolumeClaimStatus: "allocatedResources# capacity# conditions[type](type)",
  V1PersistentVolumeClaimTemplate: "spec!",
  V1PersistentVolumeClaimVolumeSource: "claimName!",
  V1PersistentVolumeSpec: "capacity#",
  V1PhotonPersistentDiskVolumeSource: "pdID!",
  V1PodAffinityTerm: "topologyKey!",
  V1PodCondition: "status! type!",
  V1PodDisruptionBudgetSpec: "selector(|replace)",
  V1PodDisruptionBudgetStatus: "conditions[type](type)",
  V1PodExtendedResourceClaimStatus: "requestMappings! resourceClaimName!",
  V1PodFailurePolicy: "rules!",
  V1PodFailurePolicyOnExitCodesRequirement: "operator! values![]",
  V1PodFailurePolicyOnPodConditionsPattern: "type!",
  V1PodFailurePolicyRule: "action!",
  V1PodIP: "ip!",
  V1PodOS: "name!",
  V1PodReadinessGate: "conditionType!",
  V1PodResourceClaim: "name!",
  V1PodResourceClaimStatus: "name!",
  V1PodSchedulingGate: "name!",
  V1PodSpec:
    "containers![name](name) ephemeralContainers[name](name) hostAliases[ip](ip) imagePullSecrets[name](name) initContainers[name](name) nodeSelector{} overhead# resourceClaims[name](name|retainKeys) schedulingGates[name](name) topologySpreadConstraints[topologyKey,whenUnsatisfiable](topologyKey) volumes[name](name|retainKeys)",
  V1PodStatus:
    "allocatedResources# conditions[type](type) hostIPs(ip) nodeAllocatableResourceClaimStatuses[resourceClaimName](resourceClaimName) podIPs[ip](ip) resourceClaimStatuses[name](name|retainKeys)",
  V1PolicyRule: "verbs!",
  V1PortStatus: "port! protocol!",
  V1PortworxVolumeSource: "volumeID!",
  V1PreferredSchedulingTerm: "preference! weight!",
  V1QuobyteVolumeSource: "registry! volume!",
  V1RBDPersistentVolumeSource: "image! monitors!",
  V1RBDVolumeSource: "image! monitors!",
  V1ReplicaSetSpec: "selector!",
  V1ReplicaSetStatus: "replicas! conditions[type](type)",
  V1ReplicationControllerCondition: "status! type!",
  V1ReplicationControllerSpec: "selector{}",
  V1ReplicationControllerStatus: "replicas! conditions[type](type)",
  V1ResourceFieldSelector: "@atomic resource! divisor#",
  V1ResourceHealth: "resourceID!",
  V1ResourceQuotaSpec: "hard#",
  V1ResourceQuotaStatus: "hard# used#",
  V1ResourceRequirements: "claims[name] limits# requests#",
  V1ResourceRule: "verbs!",
  V1ResourceStatus: "name! resources[resourceID]",
  V1RoleBinding: "roleRef!",
  V1RoleRef: "@atomic kind! name!",
  V1ScaleIOPersistentVolumeSource: "gateway! secretRef! system!",
  V1ScaleIOVolumeSource: "gateway! secretRef! system!",
  V1ScopeSelector: "@atomic",
  V1ScopedResourceSelectorRequirement: "operator! scopeName!",
  V1SeccompProfile: "type!",
  V1SecretKeySelector: "@atomic key!",
  V1SecretReference: "@atomic",
  V1SelfSubjectAccessReview: "spec!",
  V1SelfSubjectRulesReview: "spec!",
  V1ServiceAccount: "secrets[name](name)",
  V1ServiceAccountTokenProjection: "path!",
  V1ServicePort: "port! protocol=TCP",
  V1ServiceSpec: "ports[port,protocol](port) selector{}",
  V1ServiceStatus: "conditions[type](type)",
  V1SleepAction: "seconds!",
  V1StatefulSetSpec: "selector! template!",
  V1StatefulSetStatus: "replicas! conditions[type](type)",
  V1StorageClass: "provisioner!",
  V1SubjectAccessReview: "spec!",
  V1SubjectAccessReviewStatus: "allowed!",
  V1SubjectRulesReviewStatus: "incomplete! nonResourceRules! resourceRules!",
  V1SuccessPolicy: "rules!",
  V1Sysctl: "name! value!",
  V1TCPSocketAction: "port!",
  V1Taint: "effect! key!",
  V1TopologySelectorLabelRequirement: "key! values!",
  V1TopologySelectorTerm: "@atomic",
  V1TopologySpreadConstraint: "maxSkew! topologyKey! whenUnsatisfiable!",
  V1TypedLocalObjectReference: "@atomic kind! name!",
  V1TypedObjectReference: "kind! name!",
  V1UncountedTerminatedPods: "failed[] succeeded[]",
  V1Volume: "name!",
  V1VolumeAttachment: "spec!",
  V1VolumeAttachmentSpec: "attacher! nodeName! source!",
  V1VolumeAttachmentStatus: "attached!",
  V1VolumeDevice: "devicePath! name!",
  V1VolumeMount: "mountPath! name!",
  V1VolumeMountStatus: "mountPath! name!",
  V1VolumeResourceRequirements: "limits# requests#",
  V1VsphereVirtualDiskVolumeSource: "volumePath!",
  V1WeightedPodAffinityTerm: "podAffinityTerm! weight!",
};

interface TypeFacts {
  readonly required?: readonly string[];
  readonly mapType?: "atomic";
  readonly fields: Readonly<Record<string, Partial<Schema>>>;
}

const FIELD =
  /^(?<name>\w+)(?<required>!)?(?:\[(?<keys>[\w,]*)\])?(?:\((?<patch>[^)]*)\))?(?<atomic>\{\})?(?<quantity>#)?(?:=(?<value>.*))?$/;

/** @param type the model's name in the client library, e.g. `V1PodSpec` */
export function typeFacts(type: string): TypeFacts {
  const required: string[] = [];
  const fields: Record<string, Partial<Schema>> = {};
  const words = (TYPES[type] ?? "").split(" ").filter((word) => word !== "" && word !== "@atomic");
  for (const word of words) {
    const groups = FIELD.exec(word)?.groups;
    if (groups?.name === undefined) throw new Error(`bad facts of ${type}: ${word}`);
    if (groups.required !== undefined) required.push(groups.name);
    fields[groups.name] = fieldFacts(groups);
  }
  return {
    ...(required.length === 0 ? {} : { required }),
    ...(TYPES[type]?.startsWith("@atomic") ? { mapType: "atomic" as const } : {}),
    fields,
  };
}

function fieldFacts(groups: Record<string, string | undefined>): Partial<Schema> {
  const { keys, patch, atomic, quantity, value } = groups;
  const [mergeKey, ...strategies] = patch?.split("|") ?? [];
  return {
    ...(keys === undefined
      ? {}
      : keys === ""
        ? { listType: "set" }
        : { listType: "map", listMapKeys: keys.split(",") }),
    ...(patch === undefined ? {} : { patchStrategies: ["merge", ...strategies] }),
    ...(mergeKey === undefined || mergeKey === "" ? {} : { patchMergeKey: mergeKey }),
    ...(atomic === undefined ? {} : { mapType: "atomic" }),
    ...(quantity === undefined ? {} : { quantity: true }),
    ...(value === undefined ? {} : { default: value }),
  };
}
