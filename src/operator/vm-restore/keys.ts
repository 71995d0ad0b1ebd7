import { CLIENT_ROLES } from "../../api/agent-control.ts";
import type { VMRestore } from "../../api/vm-restore.ts";
import { createAuthority, type KeyPair } from "../../base/certificates.ts";
import type { Secret } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { restoreLabels, restoreNames } from "./names.ts";

/** A live mount may last; the authority's key is gone, so nothing can be renewed. */
const VALIDITY_MS = 5 * 365 * 24 * 3600 * 1000;
const EARLIER_MS = 3600 * 1000;

/** PEM. Everything that mutual TLS of one restore needs. */
export interface RestoreKeys {
  readonly ca: string;
  readonly agent: KeyPair;
  readonly operator: KeyPair;
  readonly relocation: KeyPair;
}

/** Makes the certificates of one restore, in a Secret that only the operator reads. */
export async function generateKeys(options: {
  readonly restore: VMRestore;
  readonly settings: OperatorSettings;
  /** The Service's address; clients connect to it, not to a name. */
  readonly address: string;
  readonly now: number;
}): Promise<Manifest> {
  const { restore, settings, address, now } = options;
  const names = restoreNames(restore, "");
  const host = `${names.agent}.${settings.namespace}.svc`;
  const validity = { from: new Date(now - EARLIER_MS), to: new Date(now + VALIDITY_MS) };
  const authority = await createAuthority(`vmrestore ${restore.metadata.uid}`, validity);
  const pairs = {
    agent: await authority.issue("agent", [address, host]),
    operator: await authority.issue(CLIENT_ROLES.operator, []),
    relocation: await authority.issue(CLIENT_ROLES.relocation, []),
  };
  const data: Record<string, string> = { "ca.crt": encode(authority.ca) };
  for (const [name, pair] of Object.entries(pairs)) {
    data[`${name}.crt`] = encode(pair.cert);
    data[`${name}.key`] = encode(pair.key);
  }
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: names.keys, namespace: settings.namespace, labels: restoreLabels(restore) },
    type: "Opaque",
    data,
  };
}

export function readKeys(secret: Secret): RestoreKeys {
  const read = (name: string): string => Buffer.from(secret.data?.[name] ?? "", "base64").toString();
  const pair = (name: string): KeyPair => ({ cert: read(`${name}.crt`), key: read(`${name}.key`) });
  return { ca: read("ca.crt"), agent: pair("agent"), operator: pair("operator"), relocation: pair("relocation") };
}

/** A Secret as pods mount it: `tls.crt`, `tls.key` and `ca.crt`. */
export function tlsSecret(
  name: string,
  namespace: string,
  labels: Record<string, string>,
  ca: string,
  pair: KeyPair,
): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, namespace, labels },
    type: "Opaque",
    data: { "tls.crt": encode(pair.cert), "tls.key": encode(pair.key), "ca.crt": encode(ca) },
  };
}

function encode(text: string): string {
  return Buffer.from(text).toString("base64");
}
