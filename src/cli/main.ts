#!/usr/bin/env node
import { keepYoungHeapSmall } from "./young-heap.ts";

/** What has to come before any other module is loaded, then the `vmrestore` command. */
if (process.argv[2] === "relocate") keepYoungHeapSmall();
await import("./program.ts");
