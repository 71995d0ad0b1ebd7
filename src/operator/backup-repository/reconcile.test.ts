import { expect, test } from "@jest/globals";
import type { BackupRepository } from "../../api/backup-repository.ts";
import { LABELS } from "../../api/group.ts";
import type { Inspection } from "../../api/inspection.ts";
import { silentLogger } from "../../base/logging.ts";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { conditionOf } from "../conditions.ts";
import { BACKUP_REPOSITORIES, CLAIMS, JOBS, PODS, SECRETS, VOLUMES } from "../kinds.ts";
import type { ClusterReads } from "../runtime/cluster.ts";
import { ApiError } from "../runtime/errors.ts";
import { EVENTS, EventRecorder } from "../runtime/event-recorder.ts";
import { matchesLabels } from "../runtime/label-selector.ts";
import { FakeCluster } from "../runtime/testing/fake-cluster.ts";
import { reconcileRepository } from "./reconcile.ts";

const OWN = "vmrestore-system";
const TENANT = "default";
const FOUND: Inspection = {
  repository: { id: "f".repeat(64), version: 2, snapshots: 1, latest: "2026-01-01T00:00:00Z" },
};

/** A repository, what an administrator made for it, and a cluster that binds claims and runs Jobs. */
class Place {
  readonly clock = new ManualClock();
  readonly cluster = new FakeCluster(this.clock);
  found: Inspection = FOUND;
  /** Whether Jobs come to an end. */
  jobsEnd = true;
  readonly #events = new EventRecorder(this.cluster, this.clock, silentLogger);

  constructor() {
    this.volume("pv", { nfs: { server: "192.0.2.1", path: "/backups" } });
    this.claim("backups", "pv");
    this.password({ password: "c2VjcmV0" });
    this.cluster.put(BACKUP_REPOSITORIES, {
      apiVersion: "vmrestore.io/v1alpha1",
      kind: "BackupRepository",
      metadata: { name: "nightly", namespace: TENANT },
      spec: { local: { claimName: "backups" }, credentialsSecretRef: { name: "pw" } },
    });
  }

  volume(name: string, spec: object): void {
    this.cluster.put(VOLUMES, { apiVersion: "v1", kind: "PersistentVolume", metadata: { name }, spec });
  }

  /** A claim of the tenant, bound to that volume. */
  claim(name: string, volumeName: string, spec: object = {}): void {
    const metadata = { name, namespace: TENANT };
    this.cluster.put(CLAIMS, {
      apiVersion: "v1",
      kind: "PersistentVolumeClaim",
      metadata,
      spec: { volumeName, ...spec },
    });
    const uid = this.cluster.peek(CLAIMS, TENANT, name)?.metadata.uid ?? "";
    this.cluster.change(VOLUMES, undefined, volumeName, (volume) => {
      volume.spec = { ...volume.spec, claimRef: { ...metadata, uid } };
    });
  }

  password(data: Record<string, string>): void {
    this.cluster.put(SECRETS, { apiVersion: "v1", kind: "Secret", metadata: { name: "pw", namespace: TENANT }, data });
  }

  spec(change: object): void {
    this.cluster.change(BACKUP_REPOSITORIES, TENANT, "nightly", (repository) => {
      repository.spec = { ...(repository.spec as object), ...change };
    });
  }

  /** As a media agent's plan counts: somebody reads from the repository. */
  user(name: string): void {
    const labels = { [LABELS.repositoryUid]: this.repository?.metadata.uid ?? "", [LABELS.restoreUid]: "r" };
    this.cluster.put(SECRETS, { apiVersion: "v1", kind: "Secret", metadata: { name, namespace: OWN, labels } });
  }

  get repository(): BackupRepository | undefined {
    return this.cluster.peek(BACKUP_REPOSITORIES, TENANT, "nightly");
  }

  get ready() {
    return conditionOf(this.repository?.status?.conditions, "Ready");
  }

  get mounted(): string {
    return `repository-${this.repository?.metadata.uid}`;
  }

  /** What watches would know: repositories, and what bears the operator's label. */
  readonly known: ClusterReads = {
    get: async (type, namespace, name) => {
      const object = this.cluster.peek(type, namespace, name);
      const isSeen = type.kind === "BackupRepository" || object?.metadata.labels?.[LABELS.repositoryUid] !== undefined;
      return isSeen ? object : undefined;
    },
    list: async (type, namespace, selector) =>
      this.cluster
        .all(type)
        .filter(({ metadata }) => metadata.namespace === namespace && matchesLabels(metadata.labels, selector)),
  };

  async turn(): Promise<number | undefined> {
    const { cluster, clock, known } = this;
    const settings = { namespace: OWN, image: "vmrestore" };
    const again = await reconcileRepository(
      { cluster, settings, clock, events: this.#events, known },
      TENANT,
      "nightly",
    );
    for (const { metadata } of cluster.all(CLAIMS)) {
      cluster.change(CLAIMS, metadata.namespace, metadata.name, (claim) => {
        claim.status = { phase: "Bound" };
      });
    }
    for (const job of this.jobsEnd ? cluster.all(JOBS) : []) {
      const { name, namespace = "", uid = "" } = job.metadata;
      const metadata = { name, namespace, labels: { "job-name": name }, ownerReferences: [{ uid }] };
      const terminated = { exitCode: 0, message: JSON.stringify(this.found) };
      const status = { phase: "Succeeded", containerStatuses: [{ name: "inspect", state: { terminated } }] };
      cluster.put(PODS, { apiVersion: "v1", kind: "Pod", metadata, status });
    }
    await clock.advance(1000);
    return again;
  }

  /** Takes turns until the condition has that reason. */
  async until(reason: string, turns = 60): Promise<void> {
    for (let turn = 0; turn < turns && this.ready?.reason !== reason; turn++) await this.turn();
    expect(this.ready?.reason).toBe(reason);
  }
}

interface Case {
  readonly name: string;
  readonly reason: string;
  readonly advice: RegExp;
  readonly spoil: (place: Place) => void;
  readonly mend: (place: Place) => void;
}

const fails = (code: string, message: string, hint: string) => ({
  spoil: (place: Place): void => {
    place.found = { error: { code, message, hint } };
  },
  mend: (place: Place): void => {
    place.found = FOUND;
  },
});

const cases: Case[] = [
  {
    name: "a claim that is not there",
    reason: "ClaimNotFound",
    advice: /Create it, or correct spec\.local\.claimName/,
    spoil: (place) => place.spec({ local: { claimName: "backup" } }),
    mend: (place) => place.spec({ local: { claimName: "backups" } }),
  },
  {
    name: "a claim that is not bound",
    reason: "ClaimNotBound",
    advice: /kubectl describe pvc backups/,
    spoil: ({ cluster }) =>
      cluster.change(CLAIMS, TENANT, "backups", (claim) => {
        claim.spec = {};
      }),
    mend: (place) => place.claim("backups", "pv"),
  },
  {
    name: "a claim that names a volume which is bound to another",
    reason: "ClaimNotBound",
    advice: /is not bound to a volume yet/,
    spoil: ({ cluster }) =>
      cluster.change(VOLUMES, undefined, "pv", (volume) => {
        volume.spec = { ...volume.spec, claimRef: { namespace: "other", name: "theirs", uid: "u" } };
      }),
    mend: (place) => place.claim("backups", "pv"),
  },
  {
    name: "a volume of a driver",
    reason: "UnsupportedVolume",
    advice: /Serve the repository over NFS/,
    spoil: (place) => {
      place.volume("pv", { csi: { driver: "d" } });
      place.claim("backups", "pv");
    },
    mend: (place) => {
      place.volume("pv", { nfs: { server: "192.0.2.1", path: "/backups" } });
      place.claim("backups", "pv");
    },
  },
  {
    name: "a block volume",
    reason: "UnsupportedVolume",
    advice: /needs a filesystem/,
    spoil: (place) => place.claim("backups", "pv", { volumeMode: "Block" }),
    mend: (place) => place.claim("backups", "pv"),
  },
  {
    name: "a Secret that is not there",
    reason: "SecretNotFound",
    advice: /Create it with the repository's password under the key password/,
    spoil: ({ cluster }) => cluster.erase(SECRETS, TENANT, "pw"),
    mend: (place) => place.password({ password: "c2VjcmV0" }),
  },
  {
    name: "a Secret without the password",
    reason: "PasswordMissing",
    advice: /Put the repository's password there/,
    spoil: (place) => place.password({ passwort: "c2VjcmV0" }),
    mend: (place) => place.password({ password: "c2VjcmV0" }),
  },
  {
    name: "a spec that says nothing of where",
    reason: "InvalidSpec",
    advice: /set exactly one of `local`/,
    spoil: (place) => place.spec({ local: undefined }),
    mend: (place) => place.spec({ local: { claimName: "backups" } }),
  },
  {
    name: "a wrong password",
    reason: "RepositoryWrongPassword",
    advice: /Correct the password/,
    ...fails("REPOSITORY_WRONG_PASSWORD", "no key opens", "Correct the password in the credentials Secret."),
  },
  {
    name: "a repository that cannot be reached",
    reason: "RepositoryNotFound",
    advice: /Check the path/,
    ...fails("REPOSITORY_NOT_FOUND", "there is no repository", "Check the path, and that its volume is mounted."),
  },
];

test.each(cases)("$name: a condition says what to do, and it recovers", async ({ reason, advice, spoil, mend }) => {
  const place = new Place();
  spoil(place);
  const tenants = place.cluster.keys().filter((key) => key.includes(`/${TENANT}/`));
  await place.until(reason);
  expect(place.ready?.status).toBe("False");
  expect(place.ready?.message).toMatch(advice);
  expect(place.ready?.message).toMatch(/[.!?]$/);
  mend(place);
  await place.until("Checked");
  expect(place.repository?.status).toMatchObject({ formatVersion: 2, snapshots: 1 });
  // Nothing of the tenant's was written or deleted.
  const written = place.cluster.writes.filter(({ namespace, type }) => namespace === TENANT && type !== EVENTS);
  expect(new Set(written.map(({ type }) => type.kind))).toEqual(new Set(["BackupRepository"]));
  expect(tenants.filter((key) => !place.cluster.keys().includes(key))).toEqual([]);
});

test("a check that looked at an earlier spec or password says nothing about the present one", async () => {
  for (const change of [
    (place: Place) => place.spec({ local: { claimName: "backups", path: "elsewhere" } }),
    (place: Place) => place.password({ password: "YW5vdGhlcg==" }),
  ]) {
    const place = new Place();
    place.jobsEnd = false;
    await place.until("Checking");
    const before = place.cluster.peek(JOBS, OWN, place.mounted)?.metadata.uid;
    change(place);
    place.jobsEnd = true;
    await place.until("Checked");
    // The Job that found it is deleted already: it was another one.
    const jobs = place.cluster.writes.filter(({ type, verb }) => type === JOBS && verb === "create");
    expect(jobs).toHaveLength(2);
    expect(before).toBeDefined();
  }
});

test("a repository of which snapshots are damaged is ready for the others, and says so", async () => {
  const place = new Place();
  place.found = { repository: { id: "f".repeat(64), version: 2, snapshots: 3, damagedSnapshots: 1 } };
  await place.until("Checked");
  expect(place.ready?.message).toBe(
    "restic repository of format 2 with 3 snapshots, and 1 that cannot be read: run `restic check`.",
  );
});

test("while it is used, a repository that moves says so, and moves when nobody reads from it any more", async () => {
  const place = new Place();
  await place.until("Checked");
  place.user("vmr-1-plan");
  place.volume("pv-2", { nfs: { server: "192.0.2.2", path: "/backups" } });
  place.claim("moved", "pv-2");
  place.spec({ local: { claimName: "moved" } });
  await place.until("VolumeInUse");
  expect(place.ready?.message).toMatch(
    /1 restored machine still reads from the volume that this repository had before/,
  );
  for (let turn = 0; turn < 5; turn++) await place.turn();
  expect(place.cluster.peek(VOLUMES, undefined, place.mounted)?.spec?.nfs?.server).toBe("192.0.2.1");
  place.cluster.erase(SECRETS, OWN, "vmr-1-plan");
  await place.until("Checked");
  expect(place.cluster.peek(VOLUMES, undefined, place.mounted)?.spec?.nfs?.server).toBe("192.0.2.2");
});

test("a second volume whose claim somebody deleted is made anew", async () => {
  const place = new Place();
  await place.until("Checked");
  const claim = place.cluster.peek(CLAIMS, OWN, place.mounted);
  place.cluster.change(VOLUMES, undefined, place.mounted, (volume) => {
    volume.spec = { ...volume.spec, claimRef: { ...volume.spec?.claimRef, uid: claim?.metadata.uid ?? "" } };
  });
  place.cluster.erase(CLAIMS, OWN, place.mounted);
  for (let turn = 0; turn < 5; turn++) await place.turn();
  expect(place.cluster.peek(CLAIMS, OWN, place.mounted)).toBeDefined();
  expect(place.cluster.peek(VOLUMES, undefined, place.mounted)?.spec?.claimRef?.uid).toBeUndefined();
});

test("it stays for as long as a machine reads from it, then everything that was made for it goes", async () => {
  const place = new Place();
  await place.until("Checked");
  place.user("vmr-1-plan");
  place.cluster.erase(BACKUP_REPOSITORIES, TENANT, "nightly");
  await place.until("InUse");
  expect(place.cluster.peek(VOLUMES, undefined, place.mounted)).toBeDefined();
  place.cluster.erase(SECRETS, OWN, "vmr-1-plan");
  for (let turn = 0; turn < 15; turn++) await place.turn();
  expect(place.repository).toBeUndefined();
  expect(
    place.cluster.keys().filter((key) => /\/(vmrestore-system)?\/?repository-/.test(key) && !/^Pod/.test(key)),
  ).toEqual([]);
});

test("what is under way is told as such, what is wrong as a warning", async () => {
  const place = new Place();
  place.found = { error: { code: "REPOSITORY_WRONG_PASSWORD", message: "no key opens" } };
  place.jobsEnd = false;
  await place.until("Checking");
  place.jobsEnd = true;
  await place.until("RepositoryWrongPassword");
  const events = place.cluster.all(EVENTS) as unknown as { reason: string; type: string }[];
  const types = Object.fromEntries(events.map(({ reason, type }) => [reason, type]));
  expect(types).toMatchObject({ Checking: "Normal", RepositoryWrongPassword: "Warning" });
});

test("what the API server refuses to make is told, and a repository that is ready stays so", async () => {
  const place = new Place();
  const refuse = () => {
    place.cluster.onWrite = ({ type, verb }, moment) => {
      if (moment === "before" && ["PersistentVolume", "Secret"].includes(type.kind) && verb !== "delete")
        throw new ApiError("ValidatingAdmissionPolicy denied request: the operator may only make NFS volumes", {
          status: 422,
        });
    };
  };
  refuse();
  for (let round = 0; round < 4; round++) await place.turn().catch(() => undefined);
  expect(place.ready).toMatchObject({ status: "False", reason: "ActionFailed" });
  expect(place.ready?.message).toMatch(/may only make NFS volumes/);
  place.cluster.onWrite = () => undefined;
  await place.until("Checked");
  refuse();
  place.password({ password: "YW5vdGhlcg==" });
  await expect(place.turn()).rejects.toThrow("denied");
  expect(place.ready?.status).toBe("True");
});

test("a look at a repository that is ready reads what the tenant made, once a minute, and nothing else", async () => {
  const place = new Place();
  await place.until("Checked");
  for (let turn = 0; turn < 5; turn++) await place.turn();
  const { reads, writes } = place.cluster;
  const before = writes.length;
  reads.length = 0;
  expect(await place.turn()).toBeGreaterThan(50_000);
  expect(reads.map(({ verb, type }) => `${verb} ${type.plural}`).sort()).toEqual([
    "get persistentvolumeclaims",
    "get persistentvolumes",
    "get secrets",
  ]);
  expect(writes).toHaveLength(before);
  place.password({ password: "YW5vdGhlcg==" });
  await place.turn();
  expect(place.cluster.peek(SECRETS, OWN, place.mounted)?.data?.password).toBe("YW5vdGhlcg==");
});
