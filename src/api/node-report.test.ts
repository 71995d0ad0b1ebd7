import { expect, test } from "@jest/globals";
import fc from "fast-check";
import { type NodeReport, parseNodeReport } from "./node-report.ts";

const REPORT: NodeReport = {
  kernel: "6.12.0-1.el10.x86_64",
  nfs: "Present",
  nfsv3: "Present",
  mountHelper: "Missing",
  selinux: "Enforcing",
  virtUseNfs: "Off",
  serviceNetwork: "Unreachable",
  serviceNetworkError: "10.96.0.1 port 443: no answer",
};

test("a report comes back as it was written, and the longest one fits a termination message", () => {
  expect(parseNodeReport(JSON.stringify(REPORT))).toEqual(REPORT);
  const longest = { ...REPORT, kernel: "\u0001".repeat(128), serviceNetworkError: "\u0001".repeat(200) };
  expect(Buffer.byteLength(JSON.stringify(longest))).toBeLessThan(4096);
  expect(parseNodeReport(JSON.stringify(longest))).toEqual(longest);
});

test.each([
  undefined,
  "",
  "null",
  "{}",
  JSON.stringify({ ...REPORT, nfs: "Yes" }),
  JSON.stringify({ ...REPORT, extra: 1 }),
  JSON.stringify({ ...REPORT, kernel: "k".repeat(129) }),
  JSON.stringify(REPORT).slice(0, -1),
  `${JSON.stringify(REPORT)}${" ".repeat(4096)}`,
])("what the command does not write is no report: %#", (message) => {
  expect(parseNodeReport(message)).toBeUndefined();
});

test("whatever a node says, it is a report of the known shape or none", () => {
  const mangled = fc.tuple(fc.nat(400), fc.string({ maxLength: 8 }), fc.nat(20)).map(([at, text, gone]) => {
    const whole = JSON.stringify(REPORT);
    return whole.slice(0, at) + text + whole.slice(at + gone);
  });
  fc.assert(
    fc.property(
      fc.oneof(
        mangled,
        fc.json(),
        fc.string(),
        fc.object().map((value) => JSON.stringify(value)),
      ),
      (message) => {
        const report = parseNodeReport(message);
        if (report === undefined) return;
        expect(Object.keys(REPORT)).toEqual(expect.arrayContaining(Object.keys(report)));
        expect(report.kernel.length).toBeLessThanOrEqual(128);
      },
    ),
    { numRuns: 1000 },
  );
});
