import { each, type Fields, fields, flag, list, marker, quantity, text, whole } from "./shape.ts";

/** Of an object in the machine's namespace. */
const objectName = text(253, /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/);
const reference = fields({ name: objectName });
/** KubeVirt's own limits are lower; with an encoding of base64 they are reached later. */
const userData = text(65536);
const cloudInit = fields({
  ...each(userData, "userData", "userDataBase64", "networkData", "networkDataBase64"),
  secretRef: reference,
  networkDataSecretRef: reference,
});
const image = text(1024);

/**
 * Volumes that are taken over: they lead to nothing but Secrets and ConfigMaps of the machine's own namespace, container images, or
 * nowhere. Not among them: a node's disk (`hostDisk`), a path of the launcher (`containerPath`), another claim
 * (`persistentVolumeClaim`, `dataVolume`, `ephemeral`, `memoryDump`), and, unless asked for, a ServiceAccount's token.
 */
export const VOLUME_FIELDS: Fields = {
  ...each(cloudInit, "cloudInitNoCloud", "cloudInitConfigDrive"),
  sysprep: fields({ secret: reference, configMap: reference }),
  configMap: fields({ name: objectName, optional: flag, volumeLabel: text(32) }),
  secret: fields({ secretName: objectName, optional: flag, volumeLabel: text(32) }),
  containerDisk: fields({ image, imagePullPolicy: text(16), imagePullSecret: objectName, path: text(1024) }),
  emptyDisk: fields({ capacity: quantity }),
  downwardAPI: fields({
    volumeLabel: text(32),
    fields: list(
      fields({
        path: text(1024),
        mode: whole,
        fieldRef: fields({ apiVersion: text(63), fieldPath: text(1024) }),
        resourceFieldRef: fields({ containerName: text(63), resource: text(63), divisor: quantity }),
      }),
    ),
  }),
  downwardMetrics: marker,
};

/** With it the guest acts in the cluster as that account. */
export const SERVICE_ACCOUNT_VOLUME: Fields = { serviceAccount: fields({ serviceAccountName: objectName }) };

export const ACCESS_CREDENTIALS = list(
  fields({
    sshPublicKey: fields({
      source: fields({ secret: fields({ secretName: objectName }) }),
      propagationMethod: fields({
        configDrive: marker,
        noCloud: marker,
        qemuGuestAgent: fields({ users: list(text(64)) }),
      }),
    }),
    userPassword: fields({
      source: fields({ secret: fields({ secretName: objectName }) }),
      propagationMethod: fields({ qemuGuestAgent: marker }),
    }),
  }),
);

/** Devices that the cluster hands out by claims of their own (dynamic resource allocation). */
export const RESOURCE_CLAIMS = list(
  fields({ name: text(63), resourceClaimName: objectName, resourceClaimTemplateName: objectName }),
);
