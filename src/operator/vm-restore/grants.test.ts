import { expect, test } from "@jest/globals";
import { ManualClock } from "../../base/testing/manual-clock.ts";
import { Grants } from "./grants.ts";

test("what was granted is seen at once by those who asked before, and forgotten after half a minute", async () => {
  const clock = new ManualClock();
  const grants = new Grants(clock);
  const view = grants.recent;
  expect(view.has("u")).toBe(false);
  grants.add("u");
  expect(view.has("u")).toBe(true);
  await clock.advance(29_000);
  expect(grants.recent.has("u")).toBe(true);
  await clock.advance(2000);
  expect(grants.recent.has("u")).toBe(false);
});
