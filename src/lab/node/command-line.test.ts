import { expect, test } from "@jest/globals";
import { commandLine, expand } from "./command-line.ts";

test("mounted paths become this machine's folders, and only where a path begins", () => {
  const container = {
    name: "agent",
    command: ["vmrestore", "media-agent"],
    args: [
      "--overlay-dir=/state/overlay",
      "--cache-dir",
      "/state",
      "--disk",
      "root=/target/root",
      "--note",
      "a/state",
      "/stateful",
      "--listen-address=$(POD_IP)",
    ],
  };
  const mappings = [
    { inside: "/state", outside: "/lab/volumes/state" },
    { inside: "/state/overlay", outside: "/lab/volumes/overlay" },
    { inside: "/target/root", outside: "/lab/volumes/target" },
  ];
  expect(commandLine(container, { POD_IP: "127.97.0.2", STATE: "/state/x" }, mappings)).toEqual({
    args: [
      "media-agent",
      "--overlay-dir=/lab/volumes/overlay",
      "--cache-dir",
      "/lab/volumes/state",
      "--disk",
      "root=/lab/volumes/target",
      "--note",
      "a/state",
      "/stateful",
      "--listen-address=127.97.0.2",
    ],
    env: { POD_IP: "127.97.0.2", STATE: "/lab/volumes/state/x" },
  });
  expect(() => commandLine({ name: "x", command: ["sleep", "1"] }, {}, [])).toThrow(
    expect.objectContaining({ code: "LAB_POD_REFUSED" }),
  );
});

test("variables are expanded as Kubernetes does", () => {
  expect(expand("$(A)-$$(A)-$(B)-$A", { A: "1" })).toBe("1-$(A)-$(B)-$A");
});
