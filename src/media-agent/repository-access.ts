import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { type BackendConfig, REPOSITORY_FILES } from "../api/agent-config.ts";
import type { Clock } from "../base/clock.ts";
import { readIfThere } from "../base/durable-file.ts";
import type { Backend } from "../repository/backends/backend.ts";
import { LocalBackend } from "../repository/backends/local.ts";
import { type BasicCredentials, RestBackend } from "../repository/backends/rest.ts";
import { S3Backend } from "../repository/backends/s3.ts";
import type { S3Credentials } from "../repository/backends/s3-signature.ts";
import { RepositoryError } from "../repository/errors.ts";
import { AgentError } from "./errors.ts";

/** How old credentials may be; those that are refused are read again at once. */
const KEEP_MS = 60_000;
/** Who lends credentials answers within that, or is asked anew: AWS's own client waits for good where an answer was lost. */
const LENT_WITHIN_MS = 30_000;

/** What pods are given to reach a repository. */
export interface RepositoryAccess {
  readonly repositoryDir?: string;
  readonly repositoryPasswordFile: string;
  readonly repositoryCredentialsDir?: string;
}

/** Options in which each value says, by an index before it, to which repository it belongs. */
export interface OtherRepositoryOptions {
  readonly otherRepositoryDir?: readonly string[];
  readonly otherRepositoryPasswordFile?: readonly string[];
  readonly otherRepositoryCredentialsDir?: readonly string[];
}

/**
 * What was given to reach the repository of that index, from 1 on.
 *
 * @throws AgentError CONFIG_INVALID where it has no password
 */
export function otherAccess(options: OtherRepositoryOptions, index: number): RepositoryAccess {
  const of = (values: readonly string[] = []): string | undefined =>
    values.find((value) => value.startsWith(`${index}=`))?.slice(`${index}=`.length);
  const repositoryPasswordFile = of(options.otherRepositoryPasswordFile);
  if (repositoryPasswordFile === undefined) {
    throw new AgentError("CONFIG_INVALID", `repository ${index} has no password`, {
      hint: `Give --other-repository-password-file ${index}=<file>.`,
    });
  }
  const repositoryDir = of(options.otherRepositoryDir);
  const repositoryCredentialsDir = of(options.otherRepositoryCredentialsDir);
  return {
    repositoryPasswordFile,
    ...(repositoryDir === undefined ? {} : { repositoryDir }),
    ...(repositoryCredentialsDir === undefined ? {} : { repositoryCredentialsDir }),
  };
}

export async function readPassword(access: RepositoryAccess): Promise<string> {
  return withoutNewline(await readFile(access.repositoryPasswordFile, "utf8"));
}

/**
 * The backend of a repository; nothing is asked of it yet. Credentials, and the authority that the server's certificate is signed by, are
 * read from their files again and again, so that new ones are taken up while the process runs.
 *
 * @throws AgentError CONFIG_INVALID where the place and what was given to reach it do not fit
 */
export async function openBackend(config: BackendConfig, access: RepositoryAccess, clock: Clock): Promise<Backend> {
  const { local, rest, s3 } = config;
  if (local !== undefined && rest === undefined && s3 === undefined && access.repositoryDir !== undefined) {
    return new LocalBackend(access.repositoryDir);
  }
  const files = (name: keyof typeof REPOSITORY_FILES): Promise<string | undefined> => credential(access, name);
  const ca = kept(clock, () => files("caBundle"));
  if (rest !== undefined && s3 === undefined && local === undefined) {
    return new RestBackend(rest.url, { ca, clock, credentials: kept(clock, () => basicCredentials(files)) });
  }
  if (s3 !== undefined && rest === undefined && local === undefined) {
    return new S3Backend(s3, {
      ca,
      clock,
      credentials: kept(clock, (renew) =>
        s3.podIdentity === true ? environmentCredentials(clock, renew) : s3Credentials(files),
      ),
    });
  }
  throw new AgentError("CONFIG_INVALID", "it is not said where the repository lies", {
    hint: "Exactly one of local (with --repository-dir), rest and s3 has to be given.",
  });
}

type Files = (name: keyof typeof REPOSITORY_FILES) => Promise<string | undefined>;

async function credential(access: RepositoryAccess, name: keyof typeof REPOSITORY_FILES): Promise<string | undefined> {
  if (access.repositoryCredentialsDir === undefined) return undefined;
  const text = await readIfThere(join(access.repositoryCredentialsDir, REPOSITORY_FILES[name]));
  return text === undefined ? undefined : withoutNewline(text);
}

async function basicCredentials(files: Files): Promise<BasicCredentials | undefined> {
  const username = await files("httpUsername");
  const password = await files("httpPassword");
  return username === undefined || password === undefined ? undefined : { username, password };
}

async function s3Credentials(files: Files): Promise<S3Credentials> {
  const accessKeyId = await files("s3AccessKeyId");
  const secretAccessKey = await files("s3SecretAccessKey");
  if (accessKeyId === undefined || secretAccessKey === undefined) {
    throw new RepositoryError("REPOSITORY_FORBIDDEN", "there are no keys for S3", {
      hint: "Name a Secret with them in spec.s3.credentialsSecretRef.",
    });
  }
  return { accessKeyId, secretAccessKey, sessionToken: await files("s3SessionToken") };
}

type Chain = (options?: { forceRefresh?: boolean }) => Promise<S3Credentials>;
let chain: Promise<Chain> | undefined;

/** What AWS's own clients find in a pod: variables, a web identity, the container's or the node's. Loaded only where needed. */
async function environmentCredentials(clock: Clock, renew: boolean): Promise<S3Credentials> {
  chain ??= import("@aws-sdk/credential-provider-node").then(({ defaultProvider }) => defaultProvider() as Chain);
  const own = chain;
  const answered = new AbortController();
  const late = clock.sleep(LENT_WITHIN_MS, answered.signal).then(() => {
    // Who asks it again would wait for the same answer.
    if (chain === own) chain = undefined;
    throw new RepositoryError("REPOSITORY_UNREACHABLE", "credentials for S3 are not given in time", {
      hint: "See whether the pods reach who lends their role: AWS's token service, or the node's agent.",
    });
  });
  const asked = own.then((provider) => provider({ forceRefresh: renew }));
  try {
    return await Promise.race([asked, late]);
  } catch (cause) {
    if (cause instanceof RepositoryError) throw cause;
    throw new RepositoryError("REPOSITORY_FORBIDDEN", "there are no credentials for S3", {
      cause,
      hint: "Name a Secret in spec.s3.credentialsSecretRef, or give the pods' service account a role.",
    });
  } finally {
    answered.abort();
  }
}

/** Reads at most once a minute, unless what was read is refused. Who asks meanwhile shares the reading. */
function kept<T>(clock: Clock, read: (renew: boolean) => Promise<T>): (renew: boolean) => Promise<T> {
  let last: Promise<T> | undefined;
  let isReading = false;
  let since = 0;
  return (renew) => {
    const isOld = renew || clock.monotonic() - since > KEEP_MS;
    if (last === undefined || (isOld && !isReading)) {
      since = clock.monotonic();
      isReading = true;
      const reading = read(renew);
      last = reading;
      reading
        .catch(() => {
          last = undefined;
        })
        .finally(() => {
          isReading = false;
        });
    }
    return last;
  };
}

/** Editors and `echo` put one at the end of a file. */
function withoutNewline(text: string): string {
  return text.replace(/\r?\n$/, "");
}
