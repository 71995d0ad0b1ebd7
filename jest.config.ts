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
  testTimeout: 30_000,
  reporters: ["default", "<rootDir>/test/summary-reporter.ts"],
};

export default config;
