import { isObject, type JsonObject } from "../json.ts";

export interface User {
  readonly name: string;
  readonly groups: readonly string[];
}

/**
 * Kinds that are asked, not stored. Every user of the lab is a cluster administrator: roles and bindings are stored but
 * not evaluated, so every review says yes.
 */
export const REVIEWS = [
  review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", false),
  review("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", true),
  review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
  review("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
  review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", false),
] as const;

function review(group: string, resource: string, kind: string, namespaced: boolean) {
  return { group, version: "v1", resource, kind, namespaced };
}

export function answerReview(kind: string, body: unknown, user: User): JsonObject {
  const asked: JsonObject = isObject(body) ? body : {};
  return {
    ...asked,
    metadata: { ...(isObject(asked.metadata) ? asked.metadata : {}), creationTimestamp: null },
    status: statusOf(kind, user),
  };
}

function statusOf(kind: string, user: User): JsonObject {
  switch (kind) {
    case "SelfSubjectReview":
      return { userInfo: { username: user.name, groups: [...user.groups] } };
    case "SelfSubjectRulesReview":
      return {
        resourceRules: [{ verbs: ["*"], apiGroups: ["*"], resources: ["*"] }],
        nonResourceRules: [{ verbs: ["*"], nonResourceURLs: ["*"] }],
        incomplete: false,
      };
    default:
      return { allowed: true, reason: "the lab does not evaluate RBAC: every user is a cluster administrator" };
  }
}
