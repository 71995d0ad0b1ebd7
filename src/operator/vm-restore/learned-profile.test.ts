import { expect, test } from "@jest/globals";
import type { VMRestore } from "../../api/vm-restore.ts";
import type { KubernetesObject } from "../runtime/objects.ts";
import { teaches } from "./learned-profile.ts";

function restore(uid: string, readyAt?: string): VMRestore {
  const condition = { type: "GuestReady", status: "True", reason: "X", message: "", lastTransitionTime: readyAt };
  return {
    metadata: { uid },
    status: { conditions: readyAt === undefined ? [] : [condition] },
  } as unknown as VMRestore;
}

function learned(from: string, at?: string): KubernetesObject {
  const annotations = {
    "vmrestore.io/learned-from": from,
    ...(at === undefined ? {} : { "vmrestore.io/learned-at": at }),
  };
  return { metadata: { name: "x", annotations } } as unknown as KubernetesObject;
}

const EARLY = "2026-01-01T00:00:00.000Z";
const LATE = "2026-01-01T00:01:00.000Z";

test.each<[string, string | undefined, KubernetesObject | undefined, boolean]>([
  ["a guest that is not ready yet", undefined, undefined, false],
  ["the first boot there was", EARLY, undefined, true],
  ["a profile that its user made", EARLY, { metadata: { name: "x" } } as KubernetesObject, true],
  ["its own boot", EARLY, learned("b", EARLY), false],
  ["its own boot, kept by an earlier version", EARLY, learned("b"), false],
  ["an earlier boot of another restore", LATE, learned("a", EARLY), true],
  ["a boot of another restore, kept by an earlier version", EARLY, learned("z"), true],
  ["a later boot of another restore", EARLY, learned("a", LATE), false],
  ["one at the same time, of the lesser uid", EARLY, learned("a", EARLY), true],
  ["one at the same time, of the greater uid", EARLY, learned("c", EARLY), false],
])("%s", (_what, readyAt, profile, expected) => {
  expect(teaches(restore("b", readyAt), profile)).toBe(expected);
});
