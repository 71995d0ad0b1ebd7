import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { ReviewedRules } from "./access-rules.ts";
import { ApiError } from "./errors.ts";
import type { ApiRequest } from "./transport.ts";

function reviewed(status: object) {
  const clock = new ManualClock();
  const asked: ApiRequest[] = [];
  const transport = {
    request: async (request: ApiRequest): Promise<unknown> => {
      asked.push(request);
      return { kind: "SelfSubjectRulesReview", status };
    },
  };
  return { clock, asked, rules: new ReviewedRules(transport, clock) };
}

const RULE = { verbs: ["create"], apiGroups: [""], resources: ["secrets"] };

test("a namespace is asked about once a minute", async () => {
  const { clock, asked, rules } = reviewed({ resourceRules: [RULE], incomplete: false });
  expect(await rules.in("shop")).toEqual([RULE]);
  await clock.advance(59_000);
  expect(await rules.in("shop")).toEqual([RULE]);
  expect(asked.map(({ method, path, body }) => [method, path, body])).toEqual([
    [
      "POST",
      "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
      { apiVersion: "authorization.k8s.io/v1", kind: "SelfSubjectRulesReview", spec: { namespace: "shop" } },
    ],
  ]);
  await rules.in("other");
  await clock.advance(1000);
  await rules.in("shop");
  expect(asked).toHaveLength(3);
});

test.each([
  [{ resourceRules: [RULE], incomplete: true }, undefined],
  [{ resourceRules: null }, []],
  [{ resourceRules: "all" }, undefined],
])("an answer %j is known to be no more than it is", async (status, known) => {
  expect(await reviewed(status).rules.in("shop")).toEqual(known);
});

test("an operator that may not ask knows nothing, and any other failure is one", async () => {
  const clock = new ManualClock();
  const failing = (status: number) =>
    new ReviewedRules({ request: () => Promise.reject(new ApiError("refused", { status })) }, clock);
  expect(await failing(403).in("shop")).toBeUndefined();
  await expect(failing(500).in("shop")).rejects.toThrow("refused");
});
