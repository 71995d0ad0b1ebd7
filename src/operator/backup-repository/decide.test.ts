import { describe, expect, test } from "@jest/globals";
import type { BackupRepository } from "../../api/backup-repository.ts";
import type { Action } from "../actions.ts";
import type { Secret } from "../kinds.ts";
import { decideRepository, type ObservedRepository, REPOSITORY_FINALIZER } from "./decide.ts";

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const secret = (name: string, data: Record<string, string>): Secret =>
  ({
    kind: "Secret",
    metadata: { name },
    data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, base64(value)])),
  }) as unknown as Secret;
const password = secret("password", { password: "p4ss" });
const keys = { AWS_ACCESS_KEY_ID: "AKIA", AWS_SECRET_ACCESS_KEY: "s3cret" };

function observe(spec: object, change: Partial<ObservedRepository> = {}): ObservedRepository {
  const repository = {
    apiVersion: "vmrestore.io/v1alpha1",
    kind: "BackupRepository",
    metadata: { name: "nightly", namespace: "tenant", uid: "uid", generation: 1, finalizers: [REPOSITORY_FINALIZER] },
    spec: { credentialsSecretRef: { name: "password" }, ...spec },
  } as BackupRepository;
  return {
    now: Date.UTC(2026, 0, 1),
    settings: { namespace: "operator", image: "vmrestore" },
    repository,
    claim: undefined,
    volume: undefined,
    secrets: { password, access: undefined },
    mounted: { claim: undefined, volume: undefined, secret: undefined },
    job: undefined,
    pods: [],
    users: 0,
    ...change,
  };
}

function onlyAction(actions: readonly Action[]): Action {
  expect(actions).toHaveLength(1);
  const [action] = actions;
  if (action === undefined) throw new Error("no action");
  return action;
}

/** Lets the first step be done: what is asked for next is the Job. */
function second(observed: ObservedRepository): { pod: Record<string, unknown>; args: string[]; copy: Secret } {
  const action = onlyAction(decideRepository(observed).actions);
  if (action.do !== "apply") throw new Error(`not applied but ${action.do}`);
  const copy = action.object as unknown as Secret;
  const next = onlyAction(decideRepository({ ...observed, mounted: { ...observed.mounted, secret: copy } }).actions);
  if (next.do !== "create") throw new Error(`not created but ${next.do}`);
  const pod = (next.object as unknown as { spec: { template: { spec: Record<string, unknown> } } }).spec.template.spec;
  const [container] = pod.containers as { args: string[] }[];
  return { pod, args: container?.args ?? [], copy };
}

const plain = ({ data = {} }: Secret): Record<string, string> =>
  Object.fromEntries(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64").toString()]));

describe("a repository behind a server", () => {
  const s3 = {
    bucket: "backups",
    prefix: "a/$(HOME)",
    endpoint: "https://minio:9000",
    credentialsSecretRef: { name: "keys" },
  };

  test("S3: everything secret is copied, and only the place is an argument", () => {
    const observed = observe({ s3 }, { secrets: { password, access: secret("keys", keys) } });
    const { pod, args, copy } = second(observed);
    expect(copy.metadata).toMatchObject({
      name: "repository-uid",
      namespace: "operator",
      labels: { "vmrestore.io/repository-uid": "uid" },
    });
    expect(plain(copy)).toEqual({ password: "p4ss", "s3-access-key-id": "AKIA", "s3-secret-access-key": "s3cret" });
    const place = args[args.indexOf("--repository") + 1] ?? "";
    expect(JSON.parse(place)).toEqual({
      s3: { bucket: "backups", prefix: "a/$(HOME)", region: "us-east-1", endpoint: "https://minio:9000" },
    });
    // Kubernetes puts variables in where arguments hold this.
    expect(place).not.toContain("$(");
    expect(args).toContain("--repository-credentials-dir");
    expect(JSON.stringify(pod)).not.toMatch(/s3cret|AKIA|p4ss/);
    expect(pod.serviceAccountName).toBeUndefined();
  });

  test("REST: user, password and authority", () => {
    const rest = {
      url: "https://backup:8000/me/",
      credentialsSecretRef: { name: "login" },
      caBundle: "-----BEGIN CERTIFICATE-----\nx",
    };
    const login = secret("login", { username: "me", password: "s3cret" });
    const { copy, args } = second(observe({ rest }, { secrets: { password, access: login } }));
    expect(plain(copy)).toEqual({
      password: "p4ss",
      "http-username": "me",
      "http-password": "s3cret",
      "ca.crt": rest.caBundle,
    });
    expect(JSON.parse(args[args.indexOf("--repository") + 1] ?? "")).toEqual({ rest: { url: rest.url } });
  });

  test("the operators' identity is lent only where that was allowed", () => {
    const observed = observe({ s3: { bucket: "backups" } });
    expect(decideRepository(observed)).toMatchObject({
      actions: [],
      status: { conditions: [{ type: "Ready", status: "False", reason: "CredentialsRequired" }] },
    });
    const settings = { ...observed.settings, s3ServiceAccount: "reader" };
    const lent = second({ ...observed, settings });
    expect(lent.pod.serviceAccountName).toBe("reader");
    expect(JSON.parse(lent.args[lent.args.indexOf("--repository") + 1] ?? "")).toEqual({
      s3: { bucket: "backups", region: "us-east-1", podIdentity: true },
    });
    // With keys of its own, a repository's pods get no identity beside them.
    const own = observe({ s3 }, { settings, secrets: { password, access: secret("keys", keys) } });
    expect(second(own).pod.serviceAccountName).toBeUndefined();
  });

  test("a repository that is ready is looked at every minute, for keys that were changed; it is checked when that is due", () => {
    const observed = observe({ s3 }, { secrets: { password, access: secret("keys", keys) } });
    const { copy } = second(observed);
    const lastCheckTime = new Date(observed.now).toISOString();
    const conditions = [
      { type: "Ready", status: "True" as const, lastTransitionTime: lastCheckTime, reason: "Checked", message: "" },
    ];
    const repository = { ...observed.repository, status: { observedGeneration: 1, lastCheckTime, conditions } };
    const mounted = { claim: undefined, volume: undefined, secret: copy };
    expect(decideRepository({ ...observed, repository, mounted })).toEqual({ actions: [], againMs: 60_000 });
    const later = observed.now + 3_600_000;
    expect(decideRepository({ ...observed, repository, mounted, now: later }).actions).toMatchObject([
      { do: "create" },
    ]);
  });

  test("changed keys are copied again, and one that is gone goes", () => {
    const session = secret("keys", { ...keys, AWS_SESSION_TOKEN: "token" });
    const { copy } = second(observe({ s3 }, { secrets: { password, access: session } }));
    expect(plain(copy)["s3-session-token"]).toBe("token");
    const mounted = { claim: undefined, volume: undefined, secret: copy };
    const action = onlyAction(
      decideRepository(observe({ s3 }, { mounted, secrets: { password, access: secret("keys", keys) } })).actions,
    );
    expect(action).toMatchObject({
      do: "apply",
      object: { data: expect.not.objectContaining({ "s3-session-token": expect.anything() }) },
    });
  });

  test.each<[string, object, Partial<ObservedRepository["secrets"]>, string]>([
    ["no password", { s3 }, { password: undefined }, "SecretNotFound"],
    ["an empty password", { s3 }, { password: secret("password", { password: "" }) }, "PasswordMissing"],
    ["no keys", { s3 }, { access: undefined }, "SecretNotFound"],
    ["half of the keys", { s3 }, { access: secret("keys", { AWS_ACCESS_KEY_ID: "AKIA" }) }, "CredentialsMissing"],
    ["two places", { s3, rest: { url: "http://backup/" } }, {}, "InvalidSpec"],
    ["no place", {}, {}, "InvalidSpec"],
  ])("%s: said, and nothing is made", (_what, spec, secrets, reason) => {
    const found = { password, access: secret("keys", keys), ...secrets };
    expect(decideRepository(observe(spec, { secrets: found }))).toMatchObject({
      actions: [],
      status: { conditions: [{ type: "Ready", status: "False", reason }] },
    });
  });
});
