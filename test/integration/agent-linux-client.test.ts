import { expect, test } from "@jest/globals";
import { exerciseAgent } from "../uml/exercise-agent.ts";

test("the media agent on a repository, killed, ended and killed again under a hard mount, loses nothing and shows the backup below", async () => {
  const { operations, ends, sentAgain, console } = await exerciseAgent({
    ...{ seed: 21, seconds: 120, mountOptions: "nconnect=4", isSlow: false },
    trouble: ["KILL-SERVER", "END-SERVER", "HANG-SERVER"].map((what) => `sleep 3; echo ${what}; answered`).join("; "),
  });
  expect(ends).toEqual(["SIGKILL", "0", "SIGKILL"]);
  // They did come in the middle of something.
  expect(sentAgain).toBeGreaterThan(0);
  for (const count of operations) expect(count).toBeGreaterThan(10);
  expect(console).not.toMatch(/Stale|I\/O error/i);
}, 600_000);
