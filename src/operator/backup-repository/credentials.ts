import { REPOSITORY_FILES } from "../../api/agent-config.ts";
import type { BackupRepository, BackupRepositorySpec } from "../../api/backup-repository.ts";
import type { Secret } from "../kinds.ts";
import type { Manifest } from "../runtime/objects.ts";
import type { OperatorSettings } from "../settings.ts";
import { mountLabels, mountName } from "./mount.ts";

/** Secrets of the tenant's namespace that a repository names. */
export interface NamedSecrets {
  readonly password: Secret | undefined;
  /** What a REST server or S3 is reached with. */
  readonly access: Secret | undefined;
}

/** Files and their content in base64, as a Secret's `data` has it; or what is wrong. */
export type Credentials =
  | { readonly data: Record<string, string> }
  | { readonly reason: string; readonly problem: string };

/** The name of the Secret with which a repository's server is reached; undefined where none is named. */
export function accessSecretName({ rest, s3 }: BackupRepositorySpec): string | undefined {
  return (rest ?? s3)?.credentialsSecretRef?.name;
}

/** Everything secret that the operator's pods need to read a repository. */
export function credentialsOf(
  spec: BackupRepositorySpec,
  secrets: NamedSecrets,
  { s3ServiceAccount }: Pick<OperatorSettings, "s3ServiceAccount">,
): Credentials {
  const { name, key } = spec.credentialsSecretRef;
  const password = keyOf(secrets.password, name, key, "the repository's password");
  if ("problem" in password) return password;
  const data: Record<string, string> = { [REPOSITORY_FILES.password]: password.value };
  const { caBundle } = spec.rest ?? spec.s3 ?? {};
  if (caBundle !== undefined) data[REPOSITORY_FILES.caBundle] = Buffer.from(caBundle).toString("base64");

  const access = accessSecretName(spec);
  if (access === undefined) {
    if (spec.s3 === undefined || s3ServiceAccount !== undefined) return { data };
    return {
      reason: "CredentialsRequired",
      problem:
        "Name a Secret with S3 keys in spec.s3.credentialsSecretRef: this operator has no service account to read S3 with (--s3-service-account).",
    };
  }
  for (const [file, wanted, what] of spec.rest === undefined ? S3_KEYS : REST_KEYS) {
    const found = keyOf(secrets.access, access, wanted, what);
    if (!("problem" in found)) data[file] = found.value;
    else if (file !== REPOSITORY_FILES.s3SessionToken) return found;
  }
  return { data };
}

const REST_KEYS = [
  [REPOSITORY_FILES.httpUsername, "username", "the server's user name"],
  [REPOSITORY_FILES.httpPassword, "password", "the user's password"],
] as const;

/** The names that restic, and Secrets made for it, know them by. */
const S3_KEYS = [
  [REPOSITORY_FILES.s3AccessKeyId, "AWS_ACCESS_KEY_ID", "the access key"],
  [REPOSITORY_FILES.s3SecretAccessKey, "AWS_SECRET_ACCESS_KEY", "the secret key"],
  [REPOSITORY_FILES.s3SessionToken, "AWS_SESSION_TOKEN", "the session's token"],
] as const;

/** The copy in the operator's namespace. */
export function credentialsSecret(
  repository: BackupRepository,
  namespace: string,
  data: Record<string, string>,
): Manifest {
  return {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: mountName(repository), namespace, labels: mountLabels(repository) },
    type: "Opaque",
    data,
  };
}

function keyOf(
  secret: Secret | undefined,
  name: string,
  key: string,
  what: string,
): { readonly value: string } | { readonly reason: string; readonly problem: string } {
  if (secret === undefined) {
    return {
      reason: "SecretNotFound",
      problem: `There is no Secret ${name} in this namespace. Create it with ${what} under the key ${key}.`,
    };
  }
  const value = secret.data?.[key];
  if (value === undefined || value === "") {
    return {
      reason: what === "the repository's password" ? "PasswordMissing" : "CredentialsMissing",
      problem: `Secret ${name} has no key ${key}. Put ${what} there.`,
    };
  }
  return { value };
}
