import type { Config } from "jest";

/** Unit tests lie beside the code; integration and conformance tests under test/. */
const config: Config = {
  testEnvironment: "node",
  extensionsToTreatAsEsm: [".ts"],
  transform: {
    "^.+\\.ts$": [
      "@swc/jest",
      { jsc: { target: "es2024", parser: { syntax: "typescript" } }, module: { type: "es6" } },
    ],
  },
  testMatch: ["<rootDir>/src/**/*.test.ts", "<rootDir>/test/integration/**/*.test.ts"],
  // A hang ends; a slow machine does not.
  testTimeout: 120_000,
  // Much of the time goes to QEMU, restic and waiting: one worker for two processors leaves half of them idle. Module registries of
  // hundreds of files add up to gigabytes: a worker that has grown so far is started anew.
  maxWorkers: 2,
  workerIdleMemoryLimit: "1500MB",
  testSequencer: "<rootDir>/test/sequencer.ts",
  reporters: ["default", "<rootDir>/test/summary-reporter.ts"],
};

export default config;
