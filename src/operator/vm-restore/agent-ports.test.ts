import { readFileSync } from "node:fs";
import { expect, test } from "@jest/globals";
import { AGENT_PORTS } from "../../api/agent-config.ts";

// Where nothing may be reached unless a policy says so, people open what this page names.

test.each(Object.entries(AGENT_PORTS))("port %s of media agents is told to people who write policies", (_, port) => {
  const page = readFileSync(new URL("../../../docs/network.md", import.meta.url), "utf8");
  expect(page).toMatch(new RegExp(`^\\| media agents \\| ${port} \\|`, "m"));
  expect(page).toMatch(new RegExp(`\\{port: ${port}\\}`));
});
