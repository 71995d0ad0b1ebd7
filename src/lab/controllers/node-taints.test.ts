import { expect, test } from "@jest/globals";
import { wantedTaints } from "./node-taints.ts";

const cordoned = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
const notReady = { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" };
const other = { key: "dedicated", effect: "NoExecute" };
const ready = (status: string) => ({ conditions: [{ type: "Ready", status }] });

test.each([
  ["a node that registers loses the taint when it is ready", { taints: [notReady, other] }, ready("True"), [other]],
  ["one that is not ready any more gets it", { taints: [other] }, ready("Unknown"), [other, notReady]],
  ["one that has told nothing keeps it", { taints: [notReady] }, undefined, undefined],
  ["cordoned", { unschedulable: true }, ready("True"), [cordoned]],
  ["cordoned already", { unschedulable: true, taints: [cordoned] }, ready("True"), undefined],
  ["not cordoned any more", { taints: [cordoned, other] }, ready("True"), [other]],
])("%s", (_, spec, status, wanted) => {
  expect(wantedTaints({ spec, ...(status === undefined ? {} : { status }) })).toEqual(wanted);
});
