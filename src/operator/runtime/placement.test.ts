import { expect, test } from "@jest/globals";
import { matchesNodeTerms, untoleratedTaint } from "./placement.ts";

const node = { metadata: { name: "one", labels: { zone: "a", slots: "5" } } };
const labelled = (key: string, operator: string, ...values: string[]) => ({
  nodeSelectorTerms: [{ matchExpressions: [{ key, operator, values }] }],
});

test.each([
  ["no terms at all", undefined, true],
  ["an empty list of terms", { nodeSelectorTerms: [] }, false],
  ["a term that asks for nothing", { nodeSelectorTerms: [{}] }, false],
  ["In", labelled("zone", "In", "a", "b"), true],
  ["NotIn", labelled("zone", "NotIn", "a"), false],
  ["NotIn of a label that is not there", labelled("rack", "NotIn", "a"), true],
  ["Exists", labelled("zone", "Exists"), true],
  ["DoesNotExist", labelled("zone", "DoesNotExist"), false],
  ["Gt", labelled("slots", "Gt", "4"), true],
  ["Lt", labelled("slots", "Lt", "4"), false],
  [
    "its name",
    { nodeSelectorTerms: [{ matchFields: [{ key: "metadata.name", operator: "In", values: ["one"] }] }] },
    true,
  ],
  [
    "another field",
    { nodeSelectorTerms: [{ matchFields: [{ key: "spec.x", operator: "In", values: ["one"] }] }] },
    false,
  ],
  [
    "one term of two",
    {
      nodeSelectorTerms: [
        ...labelled("zone", "In", "b").nodeSelectorTerms,
        ...labelled("zone", "In", "a").nodeSelectorTerms,
      ],
    },
    true,
  ],
])("%s", (_, terms, fits) => {
  expect(matchesNodeTerms(terms, node)).toBe(fits);
});

test("a taint keeps a pod off that does not tolerate it", () => {
  const taint = { key: "dedicated", value: "db", effect: "NoSchedule" };
  expect(untoleratedTaint([{ ...taint, effect: "PreferNoSchedule" }])).toBeUndefined();
  expect(untoleratedTaint([taint])).toBe(taint);
  for (const toleration of [
    { operator: "Exists" },
    { key: "dedicated", operator: "Exists" },
    { key: "dedicated", value: "db" },
    { key: "dedicated", value: "db", effect: "NoSchedule" },
  ])
    expect(untoleratedTaint([taint], [toleration])).toBeUndefined();
  for (const toleration of [
    { value: "db" },
    { key: "dedicated", value: "web" },
    { operator: "Exists", effect: "NoExecute" },
  ])
    expect(untoleratedTaint([taint], [toleration])).toBe(taint);
});
